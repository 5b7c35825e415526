"""In which order a real run of Snakemake does things: what the longest cell waits for first, then that cell."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from clones import Clone, copy_of

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from pretended_trainings import pretend_trainings, set_seconds

pytestmark = pytest.mark.long

ALONE = ("--set-resources", "train:pack_minutes=0")
ONE_AT_A_TIME = ("--profile", "profiles/local", "--configfile", "demo/config.yaml", "--cores", "1", *ALONE, "--verbose")
MODELS, TASKS = (
    ("bert-demo-small", "bert-demo-tiny"),
    ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"),
)
KINDS = [f"{model}/{task}" for model in MODELS for task in TASKS]
FORMS = {  # of the lines that say that a job begins
    "model": r"Fetching model ([\w-]+)-\w+@",
    "task": r"Fetching dataset .*--(\w+)@",
    "tokens": r"Tokenizing \S+--(\w+)@\S+ to ",
    "cell": r"Training (\S+) on (\w+), base, seed ",
}


@pytest.fixture
def clone(demo: Clone, tmp_path: Path) -> Clone:
    """The demo with nothing staged or trained; its trainings are mocks that write a result at once."""
    clone = copy_of(demo, tmp_path / "clone")
    for folder in ("results", "resources"):
        shutil.rmtree(clone.root / folder)
    pretend_trainings(clone.root)
    set_seconds(clone.root, dict.fromkeys(KINDS, 0))
    return clone


def test_the_longest_cell_goes_first_and_before_it_what_it_waits_for(clone):
    done = clone.snakemake(*ONE_AT_A_TIME)
    assert done.returncode == 0, done.stdout
    begun = [(kind, found.groups()) for line in done.stdout.splitlines() for kind, found in jobs_begun_by(line)]
    assert {kind: [one for one, _ in begun].count(kind) for kind in FORMS} == {
        "model": 2,
        "task": 9,
        "tokens": 9,
        "cell": 18,
    }
    seconds = expected_seconds(clone)
    assert len(set(seconds.values())) > 4
    # Each job is as urgent as the longest cell that needs it.
    urgencies = [urgency(kind, names, seconds) for kind, names in begun]
    assert urgencies == sorted(urgencies, reverse=True), list(zip(begun, urgencies, strict=True))


def jobs_begun_by(line: str) -> list[tuple[str, re.Match]]:
    """Return the kind of job that a line of Snakemake's says to begin, with its names; nothing for other lines."""
    return [(kind, found) for kind, form in FORMS.items() if (found := re.search(form, line))]


def expected_seconds(clone: Clone) -> dict[tuple[str, str], float]:
    """Return what the run expected of each cell when it began, by model and task."""
    (path,) = clone.root.glob("results/demo/heads/*.expected")
    cells = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    return {tuple(cell.split("/")[:2]): seconds for cell, seconds in cells.items()}


def urgency(kind: str, names: tuple[str, ...], seconds: dict[tuple[str, str], float]) -> float:
    """Return how long the longest cell is that needs what a job makes."""
    if kind == "cell":
        return seconds[names]
    # The tiny model has the small one's tokenizer.
    models = {"bert-demo-small", "bert-demo-tiny"} if names != ("bert-demo-tiny",) else {"bert-demo-tiny"}
    return max(
        taken for (model, task), taken in seconds.items() if model in models and (kind == "model" or task in names)
    )
