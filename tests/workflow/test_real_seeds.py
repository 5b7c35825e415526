"""Three seeds of two models on real GLUE: what experiments/minilm-seeds.yaml claims, and that it is verified."""

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clones import PROJECT, Clone, clone_into, job_counts

from gluegrid.common.files import read_json, write_text

FILE = "experiments/minilm-seeds.yaml"
OWN = f"../{Path(FILE).name}"  # of the same values, with local copies of model and data
CALL = ("--profile", "profiles/local", "--configfile", OWN, "--cores", "2", "--resources", "gpu=2")
TARGETS = ("--", "all", "compare", "report")
RESULTS = Path("results/minilm-seeds")
MODELS = ("minilm-l6-h384", "minilm-lora")
HOURS = 3600  # seconds
# Of the mean over seeds, lower by what other seeds may cost.
LEAST = {("minilm-l6-h384", "cola"): 0.2, ("minilm-l6-h384", "stsb"): 0.75, ("minilm-lora", "stsb"): 0.75}

HEADER = """\
# Real GLUE: three seeds of two models

Output of `make test-full` for `experiments/minilm-seeds.yaml` on {date}, on a machine with {cores} CPU
cores: `results.md`, then `comparisons.md`.

    snakemake {command}

"""


@pytest.fixture
def clone(shared: Path, tmp_path: Path) -> Clone:
    """A git clone, and beside it the experiment with the shared folder's copies."""
    subprocess.run(["git", "clone", "--quiet", PROJECT, tmp_path / "clone"], check=True)
    clone = clone_into(tmp_path / "clone")
    assert clone.with_copies(FILE, shared.resolve()) == OWN
    return clone


def test_the_experiment_is_planned_without_a_warning(clone):
    done = clone.snakemake(*CALL, "--dry-run")
    assert job_counts(done.stdout)["train"] == 18
    assert "warning:" not in done.stdout


@pytest.mark.full
def test_seeds_of_two_models_are_learnt_compared_and_verified(clone):
    done = clone.snakemake("--verbose", *CALL, *TARGETS, timeout=3 * HOURS)
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout)["train"] == 18
    means = scores_of_chosen(clone)
    assert not {cell: means[cell] for cell, least in LEAST.items() if means[cell] < least}
    compared = read_json(clone.root / RESULTS / "comparisons.json")
    assert [(each["first"], each["second"], each["tasks"]) for each in compared["tasks"]] == [
        (*MODELS, ["cola"]),
        (*MODELS, ["stsb"]),
    ]
    assert not any(each["is_of_one_seed"] for each in compared["tasks"])
    verify = [sys.executable, "scripts/commands.py", "verify", "minilm-seeds"]
    verified = subprocess.run(verify, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "report.html" in verified.stdout
    # Another seed, rate and model: only their cells.
    clone.replace(OWN, "seeds: [1, 2, 3]", "seeds: [1, 2, 3, 4]")
    assert clone.planned(*CALL)["train"] == 6
    clone.replace(OWN, "seeds: [1, 2, 3, 4]", "seeds: [1, 2, 3]")
    clone.replace(OWN, "[1e-4, 2e-4]", "[5e-5, 1e-4, 2e-4]")
    assert clone.planned(*CALL)["train"] == 6
    if kept := os.environ.get("GLUEGRID_KEEP_REAL_SEEDS"):
        write_text(PROJECT / kept, real_seeds(clone))


def scores_of_chosen(clone: Clone) -> dict[tuple[str, str], float]:
    """Return the mean score over seeds of each model's chosen variant on each task."""
    summaries = read_json(clone.root / RESULTS / "results.json")["summaries"]
    return {(each["model"], each["task"]): each["all"]["score"]["mean"] for each in summaries if each["chosen"]}


def real_seeds(clone: Clone) -> str:
    """Return the tables and the comparisons below a header that says what they are."""
    header = HEADER.format(
        date=datetime.date.today().isoformat(),
        cores=len(os.sched_getaffinity(0)),
        command=" ".join((*CALL, *TARGETS)).replace(OWN, FILE),
    )
    texts = [(clone.root / RESULTS / name).read_text(encoding="utf-8") for name in ("results.md", "comparisons.md")]
    return header + "\n".join(re.sub("^#", "##", text, flags=re.MULTILINE) for text in texts)
