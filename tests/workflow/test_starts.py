"""Cells that start from the model another cell has trained, and checkpoints that are only evaluated and predicted."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest
import yaml
from clones import Clone, copy_of, job_counts
from safetensors.numpy import load_file

from gluegrid.common.errors import ConfigError, DataError
from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.experiment.cell import run_hash, run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.run import identity_of_start, read_run

SMALL = {"experiment": "small", "models": {"bert": {"source": "org/bert"}}}
MINE = ("--profile", "profiles/local", "--configfile", "mine.yaml", "--cores", "2", "--resources", "gpu=2")
MODEL = "bert-demo-small"
QUICK = {"num_train_epochs": 1, "max_train_samples": 64, "learning_rate": 1e-3}


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(**values) -> Experiment:
    path = Path("c.yaml")
    path.write_text(yaml.safe_dump(SMALL | values, sort_keys=False))
    return load_experiment(path)


def cells(experiment: Experiment, task: str) -> dict[tuple[str, str], dict]:
    return {key: cell.run for key, cell in experiment.cells_of("bert", task).items()}


@pytest.mark.usefixtures("in_a_folder")
class TestConfig:
    def test_a_cell_names_the_run_that_it_starts_from_with_the_same_seed(self):
        experiment = load(tasks={"mnli": {}, "rte": {"init_from": "mnli"}}, seeds=[1, 2])
        for seed in ("1", "2"):
            start = experiment.cell("bert", "mnli", "base", seed)
            cell = experiment.cell("bert", "rte", "base", seed)
            assert cell.run["init_from"] == {
                "task": "mnli",
                "variant": "base",
                "run_sha256": run_hash(run_text(start)),
            }
            assert experiment.start_of_cell(cell) == start
            assert experiment.start_of_cell(start) is None

    def test_what_others_start_from_is_kept_and_nothing_else(self):
        experiment = load(tasks={"mnli": {}, "rte": {"init_from": "mnli"}, "cola": {}}, learning_rate=[2e-5, 3e-5])
        kept = {cell.name for cell in experiment.cells.values() if cell.values["save_model"] != "none"}
        assert kept == {"bert/mnli/base/seed-42"}

    def test_a_best_model_that_is_kept_anyway_stays_the_best(self):
        best = {"save_model": "best", "eval_strategy": "epoch"}
        assert cells(load(tasks={"mnli": best, "ax": {}}), "mnli")["base", "42"]["save_model"] == "best"

    def test_a_change_of_the_start_changes_what_starts_from_it(self):
        before, after = (load(tasks={"mnli": {"num_train_epochs": n}, "rte": {"init_from": "mnli"}}) for n in (2, 3))
        assert cells(before, "rte") != cells(after, "rte")

    def test_ax_is_predicted_by_each_of_mnlis_models_and_says_nothing_of_training(self):
        experiment = load(
            tasks={"ax": {}, "mnli": {}}, learning_rate=[2e-5, 3e-5], seeds=[1, 2], max_seq_length=[128, 64]
        )
        predicted, trained = cells(experiment, "ax"), experiment.cells_of("bert", "mnli")
        assert predicted.keys() == trained.keys()
        assert len(predicted) == 8
        for key, run in predicted.items():
            assert run["init_from"]["run_sha256"] == run_hash(run_text(trained[key]))
            assert run.get("max_seq_length", 128) == trained[key].values["max_seq_length"]
            assert not {"learning_rate", "num_train_epochs", "save_model"} & run.keys()
            assert run["do_train"] is False

    def test_a_finished_checkpoint_has_one_cell_whatever_the_seeds_and_rates(self):
        tasks = {"mnli": {"do_train": False}, "rte": {}}
        experiment = load(tasks=tasks, seeds=[7, 8], learning_rate=[2e-5, 3e-5], per_device_eval_batch_size=[8, 16])
        assert list(cells(experiment, "mnli")) == [("base", "7"), ("per_device_eval_batch_size-16", "7")]
        assert len(cells(experiment, "rte")) == 8

    def test_training_values_do_not_change_a_checkpoint_that_is_only_evaluated(self):
        before, after = (load(tasks={"mnli": {"do_train": False}}, weight_decay=decay) for decay in (0, 0.1))
        assert cells(before, "mnli") == cells(after, "mnli")

    @pytest.mark.parametrize(
        ("tasks", "problem"),
        [
            (
                {"rte": {"init_from": "mnl"}, "mnli": {}},
                "tasks.rte.init_from: rte starts from 'mnl', which is not a task in this file",
            ),
            ({"rte": {"init_from": "mnl"}, "mnli": {}}, "Did you mean 'mnli'?"),
            ({"rte": {"init_from": "rte"}}, "rte cannot start from itself"),
            (
                {"rte": {"init_from": "mnli"}, "mnli": {"init_from": "qnli"}, "qnli": {}},
                "mnli, which itself starts from",
            ),
            ({"rte": {"init_from": "mnli"}, "mnli": {"init_from": "rte"}}, "which itself starts from another task"),
            ({"rte": {"init_from": "mnli"}, "mnli": {"do_train": False}}, "mnli, which is not trained here"),
            (
                {"rte": {"init_from": "mnli", "seeds": [1, 2]}, "mnli": {"seeds": [2]}},
                "lacks: 1; give both tasks the same seeds",
            ),
            ({"ax": {}, "rte": {}}, "ax starts from 'mnli', which is not a task in this file; add it"),
            ({"ax": {"do_train": True, "init_from": None}}, "tasks.ax.do_train: has no train split"),
            ({"cola": {"do_train": False, "validation": {}, "test": []}}, "nothing to evaluate or predict"),
            ({"cola": {"validation": {}}}, "tasks.cola: has no validation split, so there would be no score"),
            ({"cola": {"validation": {"validation": "_holdout"}, "selection": "holdout"}}, "the suffix _holdout"),
        ],
    )
    def test_what_cannot_be_is_told_before_anything_runs(self, tasks, problem):
        with pytest.raises(ConfigError) as caught:
            load(tasks=tasks)
        assert problem in str(caught.value)
        assert re.match(r"c\.yaml:\d+: ", str(caught.value))


@pytest.fixture(scope="module")
def started(demo: Clone, tmp_path_factory) -> Clone:
    """A clone in which rte was trained from mnli's model, and ax predicted by it."""
    clone = copy_of(demo, tmp_path_factory.mktemp("starts") / "clone")
    write_ax(clone)
    write_mine(clone, {"mnli": QUICK, "rte": QUICK | {"init_from": "mnli"}, "ax": {"source": "./data"}})
    done = clone.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    return clone


def write_ax(clone: Clone) -> None:
    """Write a diagnostic set: a part of mnli's test split."""
    glue = clone.root / "demo/generated/glue/mnli"
    table = pyarrow.parquet.read_table(glue / "test_matched-00000-of-00001.parquet").slice(0, 50)
    (clone.root / "data/ax").mkdir(parents=True)
    pyarrow.parquet.write_table(table, clone.root / "data/ax/test-00000-of-00001.parquet")


def write_mine(clone: Clone, tasks: dict, **model: object) -> None:
    clone.write_experiment("mine", tasks)
    if model:
        content = yaml.safe_load((clone.root / "mine.yaml").read_text())
        (clone.root / "mine.yaml").write_text(yaml.safe_dump(content | {"models": {MODEL: model}}))


def result(clone: Clone, task: str) -> Path:
    return clone.root / f"results/mine/runs/{MODEL}/{task}/base/seed-42"


def logits(folder: Path, split: str) -> numpy.ndarray:
    return numpy.stack(pyarrow.parquet.read_table(folder / f"predictions_{split}.parquet")["logits"].to_numpy())


def scores(results: dict) -> dict:
    """Return what of an all_results.json depends on predictions alone."""
    timed = ("runtime", "per_second", "runtime_mm", "per_second_mm")
    return {
        key: value
        for key, value in results.items()
        if (key.startswith("eval_") or key == "degenerate") and not key.endswith(timed)
    }


@pytest.mark.long
def test_the_record_names_the_model_that_the_cell_started_from(started):
    model = result(started, "mnli") / "model"
    for task in ("rte", "ax"):
        record = read_json(result(started, task) / "run_record.json")
        assert record["start_files"] == {path.name: sha256(path) for path in model.iterdir()}
    assert "start_files" not in read_json(result(started, "mnli") / "run_record.json")


@pytest.mark.long
def test_a_prediction_is_what_transformers_computes_with_the_kept_model(started):
    from transformers import pipeline

    folder = result(started, "ax")
    table = pyarrow.parquet.read_table(started.root / "data/ax/test-00000-of-00001.parquet").to_pydict()
    classify = pipeline("text-classification", str(result(started, "mnli") / "model"), device="cpu", top_k=None)
    names = ["entailment", "neutral", "contradiction"]
    pairs = [
        {"text": first, "text_pair": second}
        for first, second in zip(table["premise"], table["hypothesis"], strict=True)
    ]
    expected = [
        [next(one["score"] for one in scores if one["label"] == name) for name in names] for scores in classify(pairs)
    ]
    ours = numpy.exp(logits(folder, "test"))
    assert numpy.allclose(ours / ours.sum(axis=1, keepdims=True), expected, atol=1e-5)
    assert read_json(folder / "all_results.json") == {"predict_samples": 50}


@pytest.mark.long
def test_training_starts_from_the_other_tasks_weights(started, tmp_path):
    """At a rate of nearly nothing the encoder stays what it started from."""
    clone = copy_of(started, tmp_path / "clone")
    tiny = QUICK | {"learning_rate": 1e-12, "save_model": "last"}
    write_mine(clone, {"mnli": QUICK, "rte": tiny | {"init_from": "mnli"}, "ax": {"source": "./data"}})
    done = clone.snakemake(*MINE, "--verbose")
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout) == {"write_runs_1": 1, "train": 1, "results": 1}
    before, after = (load_file(result(clone, task) / "model/model.safetensors") for task in ("mnli", "rte"))
    encoder = [name for name in before if name.startswith("bert.encoder")]
    assert encoder
    assert all(numpy.allclose(before[name], after[name], atol=1e-6) for name in encoder)


@pytest.mark.long
def test_only_a_change_of_the_start_trains_again_what_starts_from_it(started, tmp_path):
    clone = copy_of(started, tmp_path / "clone")
    assert clone.planned(*MINE) == {}
    (result(clone, "mnli") / "all_results.json").unlink()
    assert clone.planned(*MINE) == {"train": 3, "results": 1}, "its model is made anew"
    plan = subprocess.run(
        [sys.executable, "scripts/commands.py", "plan", "--configfile", "mine.yaml", "--all"],
        cwd=clone.root,
        env=clone.full_environment(),
        capture_output=True,
        text=True,
    ).stdout
    assert plan.count(f"its start {MODEL}/mnli/base/seed-42 will be trained") == 2
    clone = copy_of(started, tmp_path / "other")
    clone.replace("mine.yaml", "mnli:\n    learning_rate: 0.001", "mnli:\n    learning_rate: 0.002")
    assert clone.planned(*MINE) == {"write_runs_1": 1, "train": 3, "results": 1}


@pytest.mark.long
def test_a_finished_checkpoint_scores_what_its_training_scored(started, tmp_path):
    clone = copy_of(started, tmp_path / "clone")
    expected = read_json(result(clone, "mnli") / "all_results.json")
    of_mnli, trained = result(clone, "mnli"), tmp_path / "trained"
    expected_logits = logits(of_mnli, "test_matched")
    (of_mnli / "model").rename(trained)
    write_mine(clone, {"mnli": {"do_train": False}, "cola": {"do_train": False}}, source=str(trained))
    done = clone.snakemake(*MINE)
    found = read_json(of_mnli / "all_results.json")
    assert not [key for key in found if key.startswith("train_") or key == "epoch"]
    assert scores(found) == scores(expected)
    assert numpy.array_equal(logits(of_mnli, "test_matched"), expected_logits)
    assert done.returncode == 1, "cola's head is not there"
    assert re.search(
        rf"FAILED {MODEL}/cola/base/seed-42: .*has no head for cola: classifier\.\w+ would be initialized", done.stdout
    )


@pytest.mark.long
def test_what_starts_from_a_failed_cell_is_shown_with_that_reason(started, tmp_path):
    clone = copy_of(started, tmp_path / "clone")
    shutil.rmtree(clone.root / "results")
    broken = QUICK | {"lora": {"target_modules": ["no_such_layer"]}}
    write_mine(clone, {"mnli": broken, "rte": QUICK | {"init_from": "mnli"}, "cola": QUICK})
    done = clone.snakemake(*MINE)
    assert done.returncode == 1
    start = f"{MODEL}/mnli/base/seed-42"
    assert (
        f"FAILED {MODEL}/rte/base/seed-42: not begun, since {start}, from whose model it starts, failed" in done.stdout
    )
    assert (result(clone, "cola") / "all_results.json").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"run_sha256": "other"}, "is from another run than the one this cell starts from"),
        ({"saved_model": {"files": {"model.safetensors": "0" * 64}}}, "is missing, or differs from its record"),
        ({"saved_model": {}}, "has no saved model to start from"),
    ],
)
def test_a_start_that_is_not_what_it_should_be_is_refused(started, tmp_path, change, problem):
    clone = copy_of(started, tmp_path / "clone")
    path = result(clone, "mnli") / "run_record.json"
    write_json(path, read_json(path) | change)
    run = result(clone, "rte") / "run.json"
    with pytest.raises(DataError, match=problem):
        identity_of_start(read_run(run), run)


@pytest.mark.long
def test_everything_verifies_and_a_start_that_was_exchanged_does_not(started, tmp_path):
    clone = copy_of(started, tmp_path / "clone")

    def verify() -> str:
        command = [sys.executable, "scripts/commands.py", "verify", "mine"]
        done = subprocess.run(command, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
        return done.stdout + done.stderr

    assert verify().endswith("verified: everything fits\n")
    path = result(clone, "rte") / "run_record.json"
    record = read_json(path)
    write_json(path, record | {"start_files": record["start_files"] | {"model.safetensors": "0" * 64}})
    assert "start_files has 000000000000" in verify()
