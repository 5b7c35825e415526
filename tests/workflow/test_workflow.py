"""What is planned, what reruns when, and what a failed cell costs: real calls of snakemake in a clone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest
from clones import Clone, clone_into, copy_of, job_counts
from scipy import stats

from gluegrid.common.files import read_json, sha256
from gluegrid.experiment.loading import load_experiment

DEMO = ("--profile", "profiles/local", "--configfile", "demo/config.yaml", "--cores", "2", "--resources", "gpu=2")
MINE = ("--profile", "profiles/local", "--configfile", "mine.yaml", "--cores", "2", "--resources", "gpu=2")
ONE_CELL = {"write_runs_1": 1, "train": 1, "results": 1}


@pytest.fixture
def finished(demo: Clone, tmp_path: Path) -> Clone:
    """A copy of the finished demo, to edit."""
    return copy_of(demo, tmp_path / "copy")


def test_the_demo_again_does_nothing_and_prints_its_table(finished):
    make = ["make", "--old-file=.venv/installed", "demo"]
    done = subprocess.run(make, cwd=finished.root, env=finished.full_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    nothing, _, what, _, header, *rows = done.stdout.splitlines()
    assert nothing == "Nothing to be done: everything asked for is up to date."
    assert what == "demo: scores x 100 on validation, one seed"
    assert header.split() == ["Task", "bert-demo-small", "bert-demo-tiny"]
    assert re.fullmatch(r"CoLA +\d+\.\d\d\*? +\d+\.\d\d\*?", rows[0])
    assert [row.split()[0] for row in rows[8:10]] == ["WNLI", "Mean"]
    assert rows[-1].startswith("Next: make status")
    assert "Tables: results/demo/results.md" in rows
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr.count("\n") == 1  # Snakemake's line about the profiles


def test_config_yaml_is_planned_without_slurm_and_network(tmp_path):
    (tmp_path / "bin").mkdir()
    for program in ("bash", "sh", "git", "which"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    clone = clone_into(tmp_path / "clone", {"PATH": str(tmp_path / "bin")})
    assert clone.planned("--profile", "slurm") == {
        "fetch_model": 2,
        "fetch_task": 9,
        "tokenize_task": 9,
        "write_runs_1": 1,
        "train": 18,
        "results": 1,
    }
    assert not (clone.root / "results").exists()


def test_a_wrong_config_is_one_line_and_creates_nothing(tmp_path):
    clone = clone_into(tmp_path / "clone")
    clone.replace("config.yaml", "learning_rate: 2e-5", "learning_rat: 2e-5")
    before = sorted(clone.root.iterdir())
    done = clone.snakemake("--dry-run", "--quiet")
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Using ")]
    assert len(lines) == 1, done.stdout
    assert lines[0].startswith(
        "config.yaml:5: learning_rat: unknown key (its value is 2e-05). Did you mean 'learning_rate'?"
    )
    assert sorted(clone.root.iterdir()) == before


def test_a_wrong_file_of_references_is_told_before_anything_is_trained(finished):
    finished.replace("references/electra.yaml", "  decimals: 1", "  decimals: one")
    finished.replace("demo/config.yaml", "seeds: [42]", "seeds: [42, 43]")
    done = finished.snakemake(*DEMO)
    assert done.returncode == 1
    told, nothing = [line for line in done.stdout.splitlines() if not line.startswith("Using ")]
    assert "references/electra.yaml:11: common.decimals: " in told
    assert nothing == "nothing was started"


def test_a_config_from_elsewhere_is_not_merged_into_config_yaml(tmp_path):
    clone = clone_into(tmp_path / "clone")
    (clone.root / "mine.yaml").write_text(
        "experiment: mine\nmodels: {bert: {source: org/bert, revision: v1}}\ntasks: [rte]\n", encoding="utf-8"
    )
    counts = clone.planned("--configfile", "mine.yaml")
    assert counts == {"fetch_model": 1, "fetch_task": 1, "tokenize_task": 1, **ONE_CELL}


def test_several_seeds_are_several_cells(tmp_path):
    clone = clone_into(tmp_path / "clone")
    clone.replace("config.yaml", "seeds: [42]", "seeds: [42, 1, 2]")
    assert clone.planned()["train"] == 54


def touch_models(clone: Clone) -> None:
    """Make the models newer than their tokens, as copying without times does, and let Snakemake forget its records."""
    for manifest in clone.root.glob("resources/models/*/manifest.json"):
        manifest.touch()
    shutil.rmtree(clone.root / ".snakemake/metadata")


def test_cells_are_trained_when_their_tokens_must_be_made_again(finished):
    shutil.rmtree(finished.root / "results")
    touch_models(finished)
    counts = finished.planned(*DEMO)
    assert counts["tokenize_task"] > 0
    assert counts["train"] == 18


def test_cells_with_a_result_are_not_trained_when_their_tokens_must_be_made_again(finished):
    touch_models(finished)
    counts = finished.planned(*DEMO)
    assert counts["tokenize_task"] > 0
    assert "train" not in counts


def test_cells_of_another_task_definition_are_trained_on_tokens_in_the_same_place(finished):
    finished.replace("demo/config.yaml", "wnli:", "wnli: {test: []}")
    assert finished.planned(*DEMO) == {"tokenize_task": 1, "write_runs_1": 1, "train": 2, "results": 1}


def test_the_demo_leaves_every_result_and_learns(demo):
    experiment = load_demo(demo)
    for cell in experiment.cells.values():
        folder = demo.root / "results/demo/runs" / cell.name
        results, record = read_json(folder / "all_results.json"), read_json(folder / "run_record.json")
        assert record["run_sha256"] == sha256(folder / "run.json")
        for split, digest in record["predictions_sha256"].items():
            assert sha256(folder / f"predictions_{split}.parquet") == digest
        assert results["train_runtime"] > 0
        assert results["epoch"] == 4
    scores = {task: better_than_majority(demo, "bert-demo-small", task) for task in experiment.tasks}
    assert sum(scores.values()) >= 7, scores
    scores = {task: better_than_majority(demo, "bert-demo-tiny", task) for task in experiment.tasks}
    assert sum(scores.values()) >= 6, scores


def test_metrics_of_the_demo_follow_from_its_predictions(demo):
    experiment = load_demo(demo)
    for cell in experiment.cells.values():
        folder = demo.root / "results/demo/runs" / cell.name
        results = read_json(folder / "all_results.json")
        for split, suffix in experiment.tasks[cell.task]["validation"].items():
            labels, logits = predictions(folder, split)
            for name in experiment.tasks[cell.task]["metrics"]:
                expected = recomputed(name, labels, logits)
                assert results[f"eval_{name}{suffix}"] == pytest.approx(expected, abs=1e-6), (cell.name, name)


def test_the_tables_show_every_cell_of_the_demo(demo):
    text = (demo.root / "results/demo/results.md").read_text(encoding="utf-8")
    assert text.count("| Task   | Metric ") == 2
    for name in ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"):
        assert text.count(f"\n| {name} ") == 2
    results = read_json(demo.root / "results/demo/runs/bert-demo-tiny/mrpc/base/seed-42/all_results.json")
    assert f"{results['eval_accuracy'] * 100:.2f}/{results['eval_f1'] * 100:.2f}" in text
    assert "failed" not in text
    assert "18 of 18" in text
    columns = next(line for line in text.splitlines() if line.startswith("| Model "))
    names = [name.strip() for name in columns.strip("|").split("|")]
    assert names == ["Model", "CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI", "Mean"]


TELLING_CELLS = """
import sys
sys.path.insert(0, "scripts")
from gluegrid.experiment import experiment

make_cells = experiment.make_cells
def told(of, model, task):
    print("made the cells of", model, task, flush=True)
    return make_cells(of, model, task)

experiment.make_cells = told
from snakemake.cli import main
main(sys.argv[1:])
"""


def test_a_job_of_one_cell_makes_no_cells_of_other_tasks(demo):
    """Or each of very many would, to know of all the others."""
    (head,) = (path for path in demo.root.glob("results/demo/heads/*.json") if "." not in path.stem)
    job = ("--target-jobs", "train:model=bert-demo-tiny,task=rte,variant=base,seed=42", "--allowed-rules", "train")
    done = subprocess.run(
        [sys.executable, "-c", TELLING_CELLS, "--mode", "remote", "--dry-run", "--force", "--cores", "1", *job],
        **{"cwd": demo.root, "env": demo.full_environment() | {"GLUEGRID_HEAD": str(head)}},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True},
    )
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout) == {"train": 1}
    assert re.findall("made the cells of (.*)", done.stdout) == ["bert-demo-tiny rte"]


def test_a_second_demo_has_nothing_to_do(demo):
    done = demo.snakemake(*DEMO)
    assert "Nothing to be done" in done.stdout


def test_one_cells_learning_rate_reruns_that_cell_and_the_tables(finished):
    finished.replace("demo/config.yaml", "  mrpc:\n", "  mrpc:\n  # a comment\n")
    assert finished.planned(*DEMO) == {}
    with (finished.root / "demo/config.yaml").open("a", encoding="utf-8") as config:
        config.write("\ncells:\n  bert-demo-tiny:\n    rte: {learning_rate: 5e-4}\n")
    assert finished.planned(*DEMO) == ONE_CELL


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("demo/config.yaml", "# The demo", "# A demo"),
        ("README.md", "gluegrid", "Gluegrid"),
        ("scripts/train.py", '"""Train one cell', '"""Train just one cell'),
        ("scripts/gluegrid/training/trainer.py", '"""The training loop', '"""A training loop'),
        ("scripts/gluegrid/results/tables.py", '"""Format summaries', '"""Format the summaries'),
        ("scripts/accelerate.yaml", "debug: false", "debug: true"),
        ("envs/gluegrid.yaml", "python=3.11", "python=3.12"),
        ("profiles/local/config.yaml", "cores: all", "cores: 8"),
        ("profiles/default/config.yaml", "show-failed-logs: true", "show-failed-logs: false"),
        ("demo/config.yaml", "num_train_epochs: 4", "num_train_epochs: 4.0"),
    ],
)
def test_edits_that_change_no_run_train_nothing(finished, name, old, new):
    finished.replace(name, old, new)
    assert finished.planned(*DEMO) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  mrpc:\n", "  mrpc: {display_name: Paraphrases}\n", {"results": 1}),
        ("  wnli:\n", "", {"results": 1}),
        (
            "  rte:\n",
            "  rte: {seeds: [42, 7]}\n",
            {"write_runs_1": 1, "train": 2, "results": 1},
        ),
        ("num_train_epochs: 4", "num_train_epochs: 3", {"write_runs_1": 1, "train": 18, "results": 1}),
        (
            "  rte:\n",
            "  rte: {max_seq_length: 16}\n",
            {"tokenize_task": 1, "write_runs_1": 1, "train": 2, "results": 1},
        ),
    ],
    ids=["display name", "task removed", "seed added", "all epochs", "length"],
)
def test_an_edit_of_the_experiment_reruns_what_depends_on_it(finished, old, new, expected):
    finished.replace("demo/config.yaml", old, new)
    assert finished.planned(*DEMO) == expected


def test_removing_a_model_rebuilds_only_the_tables(finished):
    finished.replace(
        "demo/config.yaml",
        "  bert-demo-tiny:\n    source: ./demo/generated/models/bert-demo-tiny\n    tokenizer: bert-demo-small\n",
        "",
    )
    assert finished.planned(*DEMO) == {"results": 1}


def test_another_machine_trains_nothing(finished):
    shutil.rmtree(finished.root / ".snakemake")
    assert finished.planned(*DEMO) == {}


def test_changed_data_of_a_local_folder_are_staged_and_trained_again(finished):
    train = finished.root / "demo/generated/glue/rte/train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(train).slice(1), train)
    assert finished.planned(*DEMO) == {"fetch_task": 1, "tokenize_task": 1, "write_runs_1": 1, "train": 2, "results": 1}


def test_a_failed_cell_does_not_cost_the_table(demo, tmp_path):
    clone = copy_of(demo, tmp_path / "failing")
    shutil.rmtree(clone.root / "results")
    clone.write_experiment("failing", {"rte": {}, "wnli": {}})
    tokens = next(clone.root.glob("resources/tokens/*/*--wnli@*-32/train.arrow"))
    content = tokens.read_bytes()
    tokens.write_bytes(content[:1000])

    done = clone.snakemake(*MINE)
    assert done.returncode == 1
    table = (clone.root / "results/failing/results.md").read_text(encoding="utf-8")
    log = "results/failing/logs/train/bert-demo-small/wnli/base/seed-42.log"
    assert "| WNLI   | Accuracy | failed" in table
    assert f"`{log}`" in table
    assert f"{tokens.relative_to(clone.root)}: has changed since it was staged" in table
    assert (clone.root / log).exists()
    assert "| RTE    | Accuracy | failed" not in table
    lines = done.stdout.rstrip().splitlines()
    at_once, failed_line = (line for line in lines if "FAILED" in line)
    assert re.fullmatch(r"\d\d:\d\d:\d\d (.*)", at_once)[1] == failed_line == lines[-1]
    assert failed_line.startswith("FAILED bert-demo-small/wnli/base/seed-42: ")
    assert failed_line.endswith(f"; log: {log}")
    assert lines[-4] == "Tables: results/failing/results.md"
    assert "At least one job did not complete successfully." in lines
    assert "Logfile" not in done.stdout

    tokens.write_bytes(content)
    assert clone.planned(*MINE) == {"train": 1, "results": 1}
    done = clone.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    table = (clone.root / "results/failing/results.md").read_text(encoding="utf-8")
    assert "failed" not in table
    attempts = clone.root / "results/failing/state/bert-demo-small/wnli/base/seed-42/attempts.jsonl"
    assert [json.loads(line)["reason"] == "done" for line in attempts.read_text().splitlines()] == [False, True]


def test_a_gpu_job_without_cuda_fails_at_once_with_its_reason(demo, tmp_path):
    clone = copy_of(demo, tmp_path / "no-gpu")
    clone.replace("demo/config.yaml", "device: cpu", "device: cuda")
    cell = "results/demo/runs/bert-demo-tiny/wnli/base/seed-42/all_results.json"
    done = clone.snakemake(cell, *DEMO)
    assert done.returncode == 1
    using, warning, *_, line = done.stdout.rstrip().splitlines()
    assert using.startswith("Using ")
    assert warning.startswith(
        "warning: nvidia-smi lists no GPU here; without one, 1 cell with device: cuda will fail; "
    )
    assert line.startswith("FAILED bert-demo-tiny/wnli/base/seed-42: this job was given a GPU, but CUDA finds none on ")
    assert "set device: cpu in the experiment file" in line


def load_demo(clone: Clone):
    """Load the demo's experiment as its clone sees it."""
    here = Path.cwd()
    os.chdir(clone.root)
    try:
        return load_experiment(Path("demo/config.yaml"))
    finally:
        os.chdir(here)


def predictions(folder: Path, split: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Read labels and logits of a split."""
    table = pyarrow.parquet.read_table(folder / f"predictions_{split}.parquet")
    return table.column("label").to_numpy(), numpy.stack(table.column("logits").to_numpy())


def recomputed(name: str, labels: numpy.ndarray, logits: numpy.ndarray) -> float:
    """Compute a metric from saved predictions, by other code than training's."""
    if name in ("pearson", "spearmanr"):
        ranks = stats.rankdata if name == "spearmanr" else numpy.asarray
        return float(numpy.corrcoef(ranks(labels), ranks(logits[:, 0]))[0, 1])
    guesses = logits.argmax(axis=1)
    if name == "accuracy":
        return float((guesses == labels).mean())
    true, false, missed = ((guesses == a) & (labels == b) for a, b in ((1, 1), (1, 0), (0, 1)))
    if name == "f1":
        return 2 * true.sum() / (2 * true.sum() + false.sum() + missed.sum())
    # Of two binary variables, the Matthews correlation is Pearson's.
    return float(numpy.corrcoef(labels, guesses)[0, 1])


def better_than_majority(clone: Clone, model: str, task: str) -> bool:
    """Tell whether a cell of the demo clearly beats always saying the same."""
    folder = clone.root / "results/demo/runs" / model / task / "base/seed-42"
    results = read_json(folder / "all_results.json")
    if task == "stsb":
        return results["eval_pearson"] > 0.5
    if task == "cola":
        return results["eval_matthews_correlation"] > 0.3
    labels, _ = predictions(folder, "validation_matched" if task == "mnli" else "validation")
    majority = numpy.bincount(labels).max() / len(labels)
    return results["eval_accuracy"] > majority + 0.1
