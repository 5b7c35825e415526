"""`make verify` finds what does not fit, whatever it is, and nothing where everything fits."""

import contextlib
import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet
import pytest
import verifiable
from clones import Clone, copy_of
from hypothesis import given
from hypothesis import strategies as st
from verifiable import next_digit

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.common.manifests import file_identity
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.options import RECIPES
from gluegrid.experiment.task import Task, definition
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.results_md import write_tables
from gluegrid.verification import expected_texts
from gluegrid.verification.expected_groups import Group, data_of
from gluegrid.verification.file_shapes import RECORD, read_shaped
from gluegrid.verification.findings import Hashes
from gluegrid.verification.over_seeds import UNKNOWN, over_seeds
from gluegrid.verification.results import recomputed_training
from gluegrid.verification.runs import VerifiedRun
from gluegrid.verification.verify import frozen_experiment, verify_experiment

FOLDER = Path("results/small")
HEAD = FOLDER / "heads" / verifiable.HEAD
FAILED, NOT_RUN = "bert/own/base/seed-1", "bert/own/base/seed-2"
CONSTANT = "tiny/stsb/base/seed-2"
CONFIG = {
    "experiment": "small",
    "models": {
        "tiny": {"source": "./model"},
        # A model of the document, so that its numbers stand beside ours.
        "bert": {"source": "google-bert/bert-base-uncased", "revision": "1", "tokenizer": "tiny", "lora": {}},
    },
    "task_defaults": {"source": "./data", "revision": "1"},
    # Tasks of GLUE, so that the tables compare the examples with the official ones, and one without official data.
    "tasks": {
        "mrpc": {"max_train_samples": 24, "train_sampling_strategy": "group_by_length"},
        "mnli": {"num_train_epochs": 1.5, "max_eval_samples": 20},
        "stsb": {},
        "own": {
            "text_columns": ["sentence"],
            "labels": ["no", "yes"],
            "metrics": ["matthews_correlation"],
            "test": [],
            "display_name": "My *own* | task",
            "max_train_samples": 30,
        },
    },
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "seeds": [1, 2],
    "device": "cpu",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder with an experiment as if it had been run: one cell failed, one was not run. To be copied."""
    folder = tmp_path_factory.mktemp("original")
    with contextlib.chdir(folder):
        verifiable.write_experiment(CONFIG, FAILED, NOT_RUN, [CONSTANT])
    return folder


@pytest.fixture
def finished(original, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, as the working folder."""
    folder = tmp_path / "copy"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


def problems() -> list[str]:
    return verify_experiment(FOLDER, Hashes()).problems


# Whole, and damaged in one place.


def test_an_untouched_experiment_fits(finished):
    findings = verify_experiment(FOLDER, Hashes())
    assert findings.problems == []
    assert (findings.cells, findings.without_result) == (16, [FAILED, NOT_RUN])
    # Of each cell: epoch, samples, two rates and `degenerate`; of each split: loss, samples, two rates and its metrics.
    assert findings.metrics == 14 * 5 + 4 * (4 + 3) + 4 * 2 * (4 + 1) + 4 * (4 + 3) + 2 * (4 + 1)
    assert findings.table_numbers > 300
    staged = [path for path in Path("resources").rglob("*") if path.is_file() and path.name != "manifest.json"]
    predictions = list(FOLDER.rglob("predictions_*.parquet"))
    runs = list(FOLDER.rglob("run.json"))
    assert sorted(findings.hashed) == sorted([*staged, *predictions, *runs])
    assert all(findings.hashed[path] == path.stat().st_size for path in findings.hashed)


MRPC = "results/small/runs/tiny/mrpc/base/seed-1"
STAGED = {
    "weights": "resources/models/*bert*/model.safetensors",
    "config": "resources/models/model-*/config.json",
    "tokenizer": "resources/models/model-*/tokenizer_backend.json",
    "training data": "resources/tasks/*mrpc*/mrpc/train-00000-of-00001.parquet",
    "validation data": "resources/tasks/*mrpc*/mrpc/validation-00000-of-00001.parquet",
    "tokens": "resources/tokens/*/*--mrpc@*-128/train.arrow",
}
FILES = STAGED | {
    "model manifest": "resources/models/model-*/manifest.json",
    "task manifest": "resources/tasks/*mrpc*/manifest.json",
    "tokens manifest": "resources/tokens/*/*--mrpc@*-128/manifest.json",
    "run.json": f"{MRPC}/run.json",
    "record": f"{MRPC}/run_record.json",
    "results": f"{MRPC}/all_results.json",
    "predictions": f"{MRPC}/predictions_validation.parquet",
    "test predictions": f"{MRPC}/predictions_test.parquet",
    "results.md": "results/small/results.md",
    "results.csv": "results/small/results.csv",
    "results.json": "results/small/results.json",
    "head": str(HEAD),
}


def one(pattern: str) -> Path:
    """Return the one file that a pattern names."""
    (path,) = Path().glob(pattern)
    return path


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("pattern", [*STAGED.values(), FILES["predictions"], FILES["test predictions"]])
def test_a_flipped_byte_is_found_in_its_file(finished, pattern):
    path = one(pattern)
    path.write_bytes(flipped(path.read_bytes()))
    assert problems()[0].startswith(f"{path}: has the SHA-256 {sha256(path)[:12]}..., in ")


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "garbled": lambda content: b"\x00\xff{[" + content[4:],
    "another": lambda content: b"[1, 2]\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_a_damaged_file_is_named(finished, pattern, damage):
    path = one(pattern)
    path.write_bytes(damage(path.read_bytes()))
    assert [problem for problem in problems() if problem.startswith(f"{path}: ")]


@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_a_missing_file_is_named(finished, pattern):
    path = one(pattern)
    path.unlink()
    found = problems()
    if path == HEAD:
        assert found == ["results/small: has no heads/*.json, which describe the experiment; call snakemake again"]
    elif path.name == "all_results.json":
        # A cell without a result, which the tables still have.
        state = "tiny/mrpc/base/seed-1: state is 'done', it should be failed or stopped or not run"
        assert f"results/small/results.csv: {state}" in found
        assert f"results/small/results.json: {state}" in found
        assert "results/small/results.md: cells with a result: it says 14 of 16, the runs give 13 of 16" in found
    else:
        assert [problem for problem in found if problem.startswith(f"{path}: ")]


def test_missing_resources_are_named(finished):
    shutil.rmtree("resources")
    found = problems()
    assert len(found) == 2 + 4 + 4
    assert all(": is missing, so the hashes of what cells were made from cannot be checked" in line for line in found)


WRONG = [None, "x", -1, [], {"x": 1}, 10**400, math.nan]
NOT_VERIFIED = {
    "record": {"device", "driver", "precision", "versions"},
    "model manifest": {"resolved_revision"},
    "results": set(),
    "task manifest": {"resolved_revision"},
    "tokens manifest": set(),
    "results.json": set(),
    "head": {"started"},
}


@pytest.mark.parametrize("name", NOT_VERIFIED)
def test_a_value_of_another_kind_is_a_problem_of_its_file(finished, name):
    path = one(FILES[name])
    whole = read_json(path)
    for key in sorted(whole.keys() - NOT_VERIFIED[name]):
        for wrong in (value for value in WRONG if value != whole[key]):  # no optimism is []
            path.write_text(json.dumps(whole | {key: wrong}), encoding="utf-8")
            found = problems()
            assert [problem for problem in found if problem.startswith(f"{path}: ")], (key, wrong, found)


@pytest.mark.parametrize("name", NOT_VERIFIED)
def test_a_value_that_is_not_there_is_a_problem_of_its_file(finished, name):
    path = one(FILES[name])
    whole = read_json(path)
    for key in sorted(whole.keys() - NOT_VERIFIED[name]):
        path.write_text(json.dumps({other: whole[other] for other in whole if other != key}), encoding="utf-8")
        assert [problem for problem in problems() if problem.startswith(f"{path}: ")], key


def change(path: str, **values) -> None:
    """Change values of a JSON file."""
    write_json(Path(path), read_json(Path(path)) | values)


# Predictions and metrics.


def test_every_value_of_a_result_is_recomputed(finished):
    for path in [
        *FOLDER.glob("runs/tiny/*/base/seed-1/all_results.json"),
        FOLDER / "runs" / CONSTANT / "all_results.json",
    ]:
        whole = read_json(path)
        for key in whole.keys() - {"train_loss", "eval_runtime", "eval_runtime_mm"}:
            value = False if whole[key] is True else 0.5 if whole[key] is None else whole[key] * 1.000001 + 1e-6
            write_json(path, whole | {key: value})
            found = problems()
            assert [line for line in found if line.startswith(f"{path}: ") and key.split("_")[0] in line], key
        write_json(path, whole)
    assert problems() == []


def rewrite(table: pyarrow.Table, folder: Path, split: str = "validation") -> None:
    """Write other predictions, and their hash into the record, so that only what they say can be wrong."""
    path = folder / f"predictions_{split}.parquet"
    pyarrow.parquet.write_table(table, path)
    record = read_json(folder / "run_record.json")
    change(folder / "run_record.json", predictions_sha256=record["predictions_sha256"] | {split: sha256(path)})


def predictions_of(folder: str, split: str = "validation") -> pyarrow.Table:
    return pyarrow.parquet.read_table(Path(folder) / f"predictions_{split}.parquet")


def with_column(table: pyarrow.Table, name: str, values) -> pyarrow.Table:
    return table.set_column(table.column_names.index(name), name, pyarrow.array(values))


def test_changed_logits_are_found_by_the_metrics_they_give(finished):
    table = predictions_of(MRPC)
    logits = [list(reversed(row)) for row in table.column("logits").to_pylist()]
    rewrite(with_column(table, "logits", logits), Path(MRPC))
    found = "\n".join(problems())
    stored = read_json(Path(MRPC, "all_results.json"))
    right = 30 - round(30 * stored["eval_accuracy"])
    assert f"{MRPC}/all_results.json: eval_accuracy is {stored['eval_accuracy']}, it should be {right / 30}" in found
    for key in ("eval_loss", "eval_f1", "eval_combined_score"):
        assert f"{MRPC}/all_results.json: {key} is {stored[key]}, it should be " in found
    assert "results/small/results.md: tiny, MRPC, Result: is " in found
    assert "results/small/results.md: Models by tasks, tiny, MRPC: is " in found
    assert "results/small/results.md: Models by tasks, tiny, Mean: is " in found


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("column", ["idx", "label"])
def test_labels_and_numbers_must_be_those_of_the_data(finished, column, split):
    table = predictions_of(MRPC, split)
    values = table.column(column).to_pylist()
    values[3] = 1 - values[3]
    rewrite(with_column(table, column, values), Path(MRPC), split)
    problem = f"{column} is {values[3]} in row 3, in the data {1 - values[3]}"
    assert f"{MRPC}/predictions_{split}.parquet: {problem}" in problems()


def test_the_order_of_the_rows_must_be_that_of_the_data(finished):
    table = predictions_of(MRPC)
    rewrite(table.take(list(reversed(range(30)))), Path(MRPC))
    problem = "idx is 29 in row 0, in the data 0 (30 of 30 rows differ)"
    assert f"{MRPC}/predictions_validation.parquet: {problem}" in problems()


@pytest.mark.parametrize(("column", "split"), [("prediction", "validation"), ("prediction_name", "test")])
def test_a_prediction_must_be_that_of_its_logits(finished, column, split):
    table = predictions_of(MRPC, split)
    values = table.column(column).to_pylist()
    right, values[3] = values[3], next(value for value in values if value != values[3])
    rewrite(with_column(table, column, values), Path(MRPC), split)
    problem = f"{column} is {values[3]!r} in row 3, by its logits and label it is {right!r}"
    assert problems()[0] == f"{MRPC}/predictions_{split}.parquet: {problem}"


def test_a_label_must_have_its_own_name(finished):
    table = predictions_of(MRPC)
    rewrite(with_column(table, "label_name", ["equivalent"] * len(table)), Path(MRPC))
    problem, *_ = problems()
    assert "label_name is 'equivalent' in row " in problem and problem.endswith(" rows differ)")


def test_predictions_of_an_earlier_release_have_no_names_and_fit(finished):
    for path in FOLDER.glob("runs/*/*/*/*/predictions_*.parquet"):
        table = pyarrow.parquet.ParquetFile(path).read(["idx", "label", "logits"])
        rewrite(table, path.parent, path.stem.removeprefix("predictions_"))
    write_tables(frozen_experiment(FOLDER), read_outcomes(frozen_experiment(FOLDER)))
    assert problems() == []


OTHER_PREDICTIONS = {
    "fewer rows": (lambda table: table.slice(0, 29), "has 29 rows, the data give 30"),
    "no rows": (lambda table: table.slice(0, 0), "has 0 rows, the data give 30"),
    "another column": (
        lambda table: table.append_column("more", table.column("idx")),
        "has the columns idx, label, logits, prediction, label_name, prediction_name, more, not idx, label, logits",
    ),
    "no logits": (lambda table: table.drop_columns(["logits"]), "has the columns idx, label, prediction, "),
    "no names": (lambda table: table.drop_columns(["label_name"]), "has the columns idx, label, logits, prediction, "),
    "three outputs": (
        lambda table: with_column(table, "logits", [[0.5, 1.5, 2.5]] * 30),
        "column 'logits' has rows without exactly 2 numbers",
    ),
    "one number": (
        lambda table: with_column(table, "logits", [0.5] * 30),
        "column 'logits' holds double, not lists of numbers",
    ),
    "words": (
        lambda table: with_column(table, "logits", [["a", "b"]] * 30),
        "column 'logits' holds list<element: string>, not lists of numbers",
    ),
    "infinite": (
        lambda table: with_column(table, "logits", [[0.5, 1.5]] * 7 + [[0.5, math.inf]] + [[0.5, 1.5]] * 22),
        "column 'logits' has inf in row 7",
    ),
    "a gap in a row": (
        lambda table: with_column(table, "logits", [[0.5, None]] + [[0.5, 1.5]] * 29),
        "column 'logits' has no value in 1 of 60 rows",
    ),
    "a missing row": (
        lambda table: with_column(table, "logits", [None] + [[0.5, 1.5]] * 29),
        "column 'logits' has rows without exactly 2 numbers",
    ),
    "a missing label": (
        lambda table: with_column(table, "label", [None] + [1] * 29),
        "column 'label' has no value in 1 of 30 rows",
    ),
    "half a label": (lambda table: with_column(table, "label", [0.5] * 30), "column 'label' holds double, not int64"),
    "a third class": (lambda table: with_column(table, "label", [2] * 30), "has labels outside 0 to 1"),
    "a hidden label": (lambda table: with_column(table, "label", [-1] * 30), "has labels outside 0 to 1"),
}


@pytest.mark.parametrize(("other", "problem"), OTHER_PREDICTIONS.values(), ids=OTHER_PREDICTIONS)
def test_predictions_that_training_does_not_write_are_named(finished, other, problem):
    rewrite(other(predictions_of(MRPC)), Path(MRPC))
    beginning = f"{MRPC}/predictions_validation.parquet: {problem}"
    assert [line for line in problems() if line.startswith(beginning)]


def test_predictions_of_no_split_are_named(finished):
    shutil.copy(f"{MRPC}/predictions_test.parquet", f"{MRPC}/predictions_more.parquet")
    assert problems() == [f"{MRPC}/predictions_more.parquet: belongs to no split of this task"]


def test_a_value_that_nothing_gives_is_named(finished):
    change(f"{MRPC}/all_results.json", eval_recall=0.5)
    assert f"{MRPC}/all_results.json: eval_recall is 0.5, and no prediction gives it" in problems()


@pytest.mark.parametrize(
    ("settings", "samples", "epoch", "steps"),
    [
        ({}, 40, 3, 15),
        ({"num_train_epochs": 0.5}, 40, 0.6, 3),
        ({"max_train_samples": 17}, 17, 3, 9),
        ({"max_train_samples": 100}, 40, 3, 15),
        ({"global_batch_size": 16}, 40, 3, 9),
        ({"gpus": 2, "gradient_accumulation_steps": 2}, 40, 3, 6),
        ({"nodes": 3}, 40, 3, 6),
        ({"global_batch_size": 16, "gpus": 2, "gradient_accumulation_steps": 2}, 40, 3, 9),
    ],
)
def test_epochs_and_steps_follow_from_run_json(settings, samples, epoch, steps):
    values = RECIPES[1] | {"per_device_train_batch_size": 8} | settings
    found = recomputed_training(values, 40, {"train_runtime": 2})
    assert (found["train_samples"], found["epoch"]) == (samples, pytest.approx(epoch))
    assert found["train_steps_per_second"] == steps / 2
    assert found["train_samples_per_second"] == samples * values["num_train_epochs"] / 2


def test_no_rate_follows_from_a_time_that_is_none():
    for seconds in (None, 0, -1, math.nan, "2"):
        assert recomputed_training(RECIPES[1], 40, {"train_runtime": seconds}).keys() == {"train_samples", "epoch"}


def test_an_undefined_metric_must_be_null(finished):
    path = FOLDER / "runs" / CONSTANT / "all_results.json"
    assert read_json(path)["eval_pearson"] is None
    change(path, eval_pearson=0.0)
    assert f"{path}: eval_pearson is 0.0, it should be None" in problems()


@pytest.mark.parametrize(("cell", "value"), [(CONSTANT, False), ("tiny/stsb/base/seed-1", True)])
def test_degenerate_must_be_said_where_it_is_so_and_nowhere_else(finished, cell, value):
    path = FOLDER / "runs" / cell / "all_results.json"
    change(path, degenerate=value)
    found = problems()
    assert f"{path}: degenerate is {value}, it should be {not value}" in found
    assert not [line for line in found if line.startswith("results/small/results.md")]


# run.json, records and what they name.


def test_an_edited_run_json_is_found(finished):
    path = Path(MRPC, "run.json")
    change(path, learning_rate=0.5)
    recorded = read_json(Path(MRPC, "run_record.json"))["run_sha256"]
    problem = f"has the SHA-256 {sha256(path)[:12]}..., in the experiment {recorded[:12]}..."
    assert problems() == [f"{path}: {problem}"]


def test_a_result_of_another_run_json_is_found(finished):
    change(f"{MRPC}/run_record.json", run_sha256="0" * 64)
    assert [line for line in problems() if line.startswith(f"{MRPC}/run_record.json: run_sha256 is 000000000000..., ")]


@pytest.mark.parametrize("key", ["model_files", "task_files", "tokens_files"])
def test_a_record_of_other_files_is_found(finished, key):
    hashes = read_json(Path(MRPC, "run_record.json"))[key]
    name = sorted(hashes)[0]
    change(f"{MRPC}/run_record.json", **{key: hashes | {name: "1" * 64}})
    problem = f"{key} has 111111111111... for {name}, it should be {hashes[name][:12]}..."
    assert f"{MRPC}/run_record.json: {problem}" in problems()


def test_a_file_and_its_manifest_that_were_changed_together_do_not_fit_the_records(finished):
    path = one(STAGED["weights"])
    path.write_text("other weights", encoding="utf-8")
    files = read_json(path.with_name("manifest.json"))["files"]
    change(path.with_name("manifest.json"), files=files | {path.name: file_identity(path)})
    found = problems()
    assert len(found) == 6
    assert all(
        "run_record.json: model_files has " in line and line.startswith(f"{FOLDER}/runs/bert/") for line in found
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer_sha256", "0" * 64),
        ("text_columns", ["sentence2"]),
        ("labels", None),
        ("splits", ["train"]),
        ("truncated_to", 32),
    ],
)
def test_tokens_that_were_made_of_something_else_are_found(finished, key, value):
    path = one(FILES["tokens manifest"])
    made_from = read_json(path)["made_from"]
    change(path, made_from=made_from | {key: value})
    expected = f"made_from.{key} is {value!r}, the model and the task give {made_from[key]!r}"
    assert problems() == [f"{path}: {expected}"]


def test_tokens_of_other_data_are_found(finished):
    path = one(FILES["tokens manifest"])
    made_from = read_json(path)["made_from"]
    name = "mrpc/train-00000-of-00001.parquet"
    change(path, made_from=made_from | {"data_sha256": made_from["data_sha256"] | {name: "2" * 64}})
    assert [
        line for line in problems() if line.startswith(f"{path}: made_from.data_sha256 has 222222222222... for {name}")
    ]


def test_names_of_labels_in_the_data_that_contradict_the_tasks_are_found(finished):
    path = one(STAGED["validation data"])
    names = {"label": {"names": ["equivalent", "not_equivalent"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    table = pyarrow.parquet.ParquetFile(path).read().replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, path)
    said = "numbers its labels [equivalent, not_equivalent], the task's labels are [not_equivalent, equivalent]"
    assert f"{path}: {said}" in problems()


@pytest.mark.parametrize(
    ("split", "names", "is_found"),
    [
        ("train", ["equivalent", "not_equivalent"], True),
        ("validation", ["Equivalent", "Not_equivalent"], True),
        ("validation", ["other", "not_equivalent", "equivalent"], True),
        ("validation", ["NOT_equivalent", "equivalent", "other"], False),
        ("validation", ["eq", "not_eq"], True),
        ("validation", ["not_eq", "eq"], False),
        ("validation", ["no", "yes"], False),  # what results were made with before names were looked at
        ("test", ["equivalent", "not_equivalent"], False),  # of labels that are not scored
    ],
)
def test_a_cards_names_of_labels_are_compared_with_the_tasks(finished, split, names, is_found):
    manifest = one(FILES["task manifest"])
    name = f"mrpc/{split}-00000-of-00001.parquet"
    change(manifest, label_names={name: {"label": names}})
    said = f"numbers its labels [{', '.join(names)}], the task's labels are [not_equivalent, equivalent]"
    assert problems() == ([f"{manifest.parent / name}: {said}"] if is_found else [])


@pytest.mark.parametrize(("name", "key"), [("task manifest", "rows"), ("tokens manifest", "splits")])
def test_another_number_of_rows_is_found(finished, name, key):
    path = one(FILES[name])
    rows = read_json(path)[key]
    change(path, **{key: rows | {"train": 41 if key == "rows" else {"rows": 41}}})
    assert f"{path}: has 41 rows of train, the data have 40" in problems()


def test_a_manifest_that_names_a_file_elsewhere_is_refused(finished):
    path = one(FILES["model manifest"])
    files = read_json(path)["files"]
    change(path, files=files | {"../x": files["config.json"]})
    assert f"{path}: names the file '../x', which is outside its folder" in problems()


@pytest.mark.parametrize("name", ["a\0\nb", "a\ud800\x1b[31m"], ids=["null", "half a character"])
def test_a_name_that_no_file_can_have_is_one_printable_line(finished, name):
    path = one(FILES["task manifest"])
    whole = read_json(path)
    identity = whole["files"]["mrpc/train-00000-of-00001.parquet"]
    path.write_text(json.dumps(whole | {"files": whole["files"] | {name: identity}}), encoding="utf-8")
    found = [line for line in problems() if "cannot be read" in line]
    assert len(found) == 1
    assert found[0].startswith(f"{path.parent}/a\N{REPLACEMENT CHARACTER}")
    assert found[0].encode().decode().isprintable()


def test_a_problem_is_a_line_of_bounded_length(finished):
    path = one(FILES["tokens manifest"])
    change(path, made_from=read_json(path)["made_from"] | {"text_columns": ["x" * 10_000]})
    assert [len(line) for line in problems()] == [500]


# The tables.


@pytest.fixture
def tables(finished):
    """A function that compares the three files, or one, with the runs, and returns what does not fit."""
    return verifiable.reader_of_tables(FOLDER)


def test_a_changed_digit_of_any_table_of_results_md_is_found(tables):
    assert verifiable.count_of_digits_found(FOLDER / "results.md", tables) > 300


# Each with what is found instead of it.
CHANGED_LINES = {
    "a table's row is gone": (r"\| MNLI .*\n", "", "the table under 'tiny' has 3 rows, not 4"),
    "a table's row is there twice": (r"(\| MNLI .*\n)", r"\1\1", "the table under 'tiny' has 5 rows, not 4"),
    "a task's name": (r"\| MRPC ", "| MPRC ", "tiny, MRPC: says 'MPRC' where 'MRPC' should stand"),
    "a column": (
        r"Training time \(s\) ",
        "Training time (h) ",
        "tiny, columns: Task, Metric, Result, Training time (h), epochs, it should be Task, ",
    ),
    "a cell too many": (r"(\| MRPC .*)\n", r"\1 1 |\n", "line 7: has 6 columns, its table 5"),
    "a model": (r"## tiny\n", "## tony\n", "has no section 'tiny'"),
    "a model among others": (r"\| tiny ", "| tony ", "Models by tasks, tiny: says 'tony' where 'tiny' should stand"),
    "a word for a number": (r"\| 14.00 ", "| fast  ", "tiny, MRPC, Training time (s): is 'fast', its runs give 14.00"),
    "nothing for a number": (r"\| 14.00 ", "|       ", "tiny, MRPC, Training time (s): is '', its runs give 14.00"),
    "a number for an undefined one": (
        r"undefined/undefined",
        "99.00/99.00",
        "tiny, STS-B, Result: is '99.00/99.00*', its runs give undefined/undefined*",
    ),
    "a number for a failure": (
        r"\| failed ",
        "| 99.00  ",
        "bert, My *own* | task, Result: is '99.00', its runs give failed",
    ),
    "not run for a failure": (
        r"\| failed ",
        "| not run ",
        "bert, My *own* | task, Result: is 'not run', its runs give failed",
    ),
    "the seeds of a failure": (
        r"\n- .*: 1 of 2 seeds failed\n",
        "\n",
        "bert: lacks the line '- My *own* | task: 1 of 2 seeds failed'",
    ),
    "the seeds": (
        r"deviation over 2 seeds",
        "deviation over 3 seeds",
        "tiny: has the line '- Mean ± standard deviation over 3 seeds.', which does not follow from the runs",
    ),
    "the spread": (
        r"88.33/87.33 ± 2.36/0.94",
        "88.33/87.33",
        "tiny, MRPC, Result: is '88.33/87.33*', its runs give 88.33/87.33 ± 2.36/0.94",
    ),
    "a note that is there twice": (r"(- MRPC: train .*\n)", r"\1\1", "tiny: has its notes twice or in another order"),
    "a forged note": (
        r"\n(- MRPC: group)",
        r"\n- MRPC: lora\n\1",
        "tiny: has the line '- MRPC: lora', which does not follow from the runs",
    ),
    "what the mark means": (
        r"Notes \(.*\):",
        "Notes:",
        "tiny: lacks the line 'Notes (* marks the numbers that they qualify):'",
    ),
    "a mark in a model's table": (
        r"2.36/0.94\\\*",
        "2.36/0.94",
        "tiny, MRPC, Result: is '...",
    ),
    "a spread between other numbers": (r"88.33/87.33 ± 2.36", "88.33 ± 87.33/2.36", "tiny, MRPC, Result: is '88.33 ±"),
    "the degenerate run": (
        r"- STS-B: 1 of 2 seeds degenerate.*\n",
        "",
        "tiny: lacks the line '- STS-B: 1 of 2 seeds degenerate; without it 81.28/85.54'",
    ),
    "the mean without it": (
        r"without it 81.28/85.54",
        "without it 81.28/85.55",
        "tiny: lacks the line '- STS-B: 1 of 2 seeds degenerate; without it 81.28/85.54'",
    ),
    "a median": (
        r"(### Median[^|]*(?:\|.*\n){2}\| tiny    \| )87.83",
        r"\g<1>87.84",
        "Median over seeds, tiny, MRPC: is '87.84*', its runs give 87.83*",
    ),
    "a mark of other data": (
        r"87.83 ± 1.65\\\*",
        "87.83 ± 1.65",
        "Models by tasks, tiny, MRPC: is '87.83 ± 1.65', its runs give 87.83 ± 1.65*",
    ),
    "a best seed": (
        r"(### Best[^|]*(?:\|.*\n){2}\| tiny    \| )89.00",
        r"\g<1>89.01",
        "Best seed, tiny, MRPC: is '89.01*', its runs give 89.00*",
    ),
    "no medians": (r"### Median(?:.*\n)*?(?=### Best)", "", "has no section 'Median over seeds'"),
    "the examples": (
        r"- MRPC: train 24 of 3,668, ",
        "- MRPC: ",
        "tiny: lacks the line '- MRPC: train 24 of 3,668, validation 30 of 408'",
    ),
    "the order of batches": (r"- MRPC: group\\?_by\\?_length\n", "", "tiny: lacks the line '- MRPC: group_by_length'"),
    "the note on the order of batches": (
        r"(Batches of examples of like length.*: )tiny/mrpc/base/seed-1, ",
        r"\1",
        "bert/mrpc/base/seed-2, tiny/mrpc/base/seed-2, the runs give bert/mrpc/base/seed-1, ",
    ),
    "the note on adapters": (
        r"(Low-rank adapters trained.*: ).*",
        r"\1all cells.",
        "cells with adapters: it says all cells, the runs give bert/",
    ),
    "no note on adapters": (r"- Low-rank adapters .*\n", "", "cells with adapters: it says none, the runs give bert/"),
    "a line on numbers of one seed": (
        r"\n## bert",
        "\n1 seed, so the spread is not known.\n\n## bert",
        "tiny: has the line '1 seed, so the spread is not known.', which does not follow from the runs",
    ),
    "the point of a sweep": (
        r"\n(- MRPC: group)",
        r"\n- MRPC: best of 18 points\n\1",
        "tiny: has the line '- MRPC: best of 18 points', which does not follow from the runs",
    ),
    "the mark of a mean over fewer tasks": (
        r"(\| tiny .*)\\\* \|\n",
        r"\1   |\n",
        "Models by tasks, tiny, Mean: is '74.66', its runs give 74.66*",
    ),
    "the number of tasks": (
        r"over 3 of 4 tasks",
        "over 4 of 4 tasks",
        "Models by tasks: lacks the line '- Mean of tiny: over 3 of 4 tasks'",
    ),
    "the note on examples": (
        r"(## Models by tasks(?:.*\n)*- MRPC: train )24 of",
        r"\g<1>25 of",
        "Models by tasks: lacks the line '- MRPC: train 24 of 3,668, ",
    ),
    "a model that a note is about": (
        r"- all of bert: lora",
        "- all of tiny: lora",
        "Models by tasks: lacks the line '- all of bert: lora'",
    ),
    "a line at the top": (
        r"(# Results of small\n)",
        r"\1\nThe data are synthetic.\n",
        "Results of small: has the line 'The data are synthetic.', which does not follow from the runs",
    ),
    "the document's section": (r"## Beside the document", "## Beside", "has no section 'Beside the document'"),
    "the failed cell": (
        r"\| bert/own/base/seed-1",
        "| bert/own/base/seed-2",
        "Failed cells, bert/own/base/seed-1: says 'bert/own/base/seed-2' where",
    ),
    "no failed cell": (r"\| bert/own/base/seed-1 .*\n", "", "the table under 'Failed cells' has 0 rows, not 1"),
    "the number of cells": (r"Cells: 14", "Cells: 15", "cells with a result: it says 15 of 16, the runs give 14 of 16"),
    "the missing cells": (
        r"Missing: [^,]*, ",
        "Missing: ",
        f"cells without one: it says {NOT_RUN}, the runs give {FAILED}",
    ),
    "the seeds below": (r"Seeds: 1, 2", "Seeds: 1, 3", "seeds: it says 1, 3, the runs give 1, 2"),
    "the commit": (r"commit 0123", "commit 1123", "commits: it says 1123456789ab, the runs give 0123456789ab"),
    "a subset": (r"30 of 40 ", "31 of 40 ", "cells trained on a subset: it says "),
    "no note on a subset": (
        r"- Trained on a subset.*\n",
        "",
        "cells trained on a subset: it says none, the runs give ",
    ),
    "a degenerate cell": (r"- Degenerate.*\n", "", f"degenerate cells: it says none, the runs give {CONSTANT}"),
    "another table": (
        r"\Z",
        "\n## More\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "the table under 'More' belongs to nothing in",
    ),
}


@pytest.mark.parametrize(("pattern", "other", "problem"), CHANGED_LINES.values(), ids=CHANGED_LINES)
def test_a_change_of_results_md_is_said(tables, pattern, other, problem):
    verifiable.change_once(FOLDER / "results.md", pattern, other)
    assert [line for line in tables() if problem in line]


@pytest.fixture
def of_several_precisions(finished) -> Experiment:
    """The cells of one model were computed in bf16, as CUDA graphs; one of the other's was cut off and went on so."""
    experiment = frozen_experiment(FOLDER)
    for path in FOLDER.glob("runs/*/*/base/*/run_record.json"):
        record = {"precision": "bf16", "compute_paths": ["cuda_graphs", "static"], "deterministic": False}
        change(path, **record if "runs/bert/" in str(path) else {"compute_paths": ["packed"], "deterministic": True})
    part = {"step": 3, "git": {"commit": None, "dirty": None}, "device": "CPU", "precision": "fp32"}
    change(f"{MRPC}/run_record.json", precision="bf16", continued=[part])
    write_tables(experiment, read_outcomes(experiment))
    return experiment


OF_BOTH = "packed batches of few lengths and CUDA graphs"
DIFFERING = "bf16 in all of bert; fp32, then bf16 in tiny/mrpc/base/seed-1; fp32 in all others"
NOTES_ON_COMPUTING = {
    "a precision": (r"- Precision: bf16; fp32; ", "- Precision: fp32; ", "precision: it says Precision: fp32; fp32, "),
    "no precision": (r"- Precision: .*\n", "", "precision: it says none, the runs give Precision: bf16; fp32; "),
    "cells of a precision": (
        r"all of bert; ",
        "bert/mrpc/base/seed-1; ",
        f"the runs give Precisions differ: {DIFFERING}.",
    ),
    "no cells of a precision": (r"- Precisions differ.*\n", "", "precisions that differ: it says none, the runs give "),
    "the document's": (
        r"Ours in bf16, ",
        "Ours in tf32, ",
        "bert, precision beside the document: it says Ours in tf32",
    ),
    "not the document's": (
        r"Ours in bf16.*\n",
        "",
        "bert, precision beside the document: it says none, the runs give Ours in bf16, the document in fp32: MRPC, ",
    ),
    "a way to compute": (
        r"packed batches \(8 runs\)",
        "padded batches (8 runs)",
        f"the runs give Computed as: packed batches (8 runs), {OF_BOTH} (6 runs).",
    ),
    "how many": (
        r"\(6 runs\)",
        "(5 runs)",
        f"ways to compute: it says Computed as: packed batches (8 runs), {OF_BOTH} (5",
    ),
    "no way": (r"- Computed as.*\n", "", "ways to compute: it says none, the runs give Computed as: "),
    "repeatable cells": (
        r"(- Not repeatable.*): .*",
        r"\1: all cells.",
        "cells that are not repeatable: it says all cells, the runs give bert/",
    ),
    "all repeatable": (r"- Not repeatable.*\n", "", "cells that are not repeatable: it says none, the runs give bert/"),
}


def test_a_change_of_what_is_said_of_computing_is_found(of_several_precisions):
    tables = verifiable.reader_of_tables(FOLDER)
    assert tables() == []
    path = FOLDER / "results.md"
    whole = path.read_text(encoding="utf-8")
    for name, (pattern, other, problem) in NOTES_ON_COMPUTING.items():
        verifiable.change_once(path, pattern, other)
        assert [line for line in tables() if problem in line], name
        path.write_text(whole, encoding="utf-8")
    verifiable.change_once(FOLDER / "results.csv", r'"fp32, then bf16"', "bf16")
    assert tables() == [
        "results/small/results.csv: tiny/mrpc/base/seed-1: precision is 'bf16', its run has 'fp32, then bf16'"
    ]


def test_a_record_that_says_it_in_another_way_is_named(finished):
    path = Path(MRPC, "run_record.json")
    whole = read_json(path)
    for values in ({"compute_paths": "packed"}, {"compute_paths": [1]}, {"deterministic": "no"}, {"continued": 3}):
        change(path, **values)
        with pytest.raises(DataError, match=f"run_record.json: {next(iter(values))}"):
            read_shaped(path, RECORD)
        write_json(path, whole)
    assert read_shaped(path, RECORD) == whole


def test_tables_of_an_older_release_still_fit(of_several_precisions):
    """They named the last precisions alone, and its records did not say how numbers were computed."""
    for path in FOLDER.glob("runs/*/*/base/*/run_record.json"):
        record = read_json(path)
        write_json(path, {key: record[key] for key in record if key not in ("compute_paths", "deterministic")})
    write_tables(of_several_precisions, read_outcomes(of_several_precisions))
    tables = verifiable.reader_of_tables(FOLDER)
    assert tables() == []
    text = (FOLDER / "results.md").read_text(encoding="utf-8")
    text = re.sub(r"Precision: .*", "Precision: bf16; fp32.", text)
    (FOLDER / "results.md").write_text(re.sub(r"(- Precisions differ|Ours in).*\n", "", text), encoding="utf-8")
    assert tables() == []


def test_any_number_of_results_csv_that_was_changed_is_found(tables):
    path = FOLDER / "results.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    unchecked = {"model", "task", "variant", "seed", "reason", "log"}  # the first four say which cell a row is of
    for row in (row for row in rows if row[header.index("status")] == "done"):
        for place in (place for place, name in enumerate(header) if row[place] and name not in unchecked):
            value = row[place]
            digit = re.search(r"\d", value)
            row[place] = next_digit(value, digit.start()) if digit else f"{value}."
            with path.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows([header, *rows])
            row[place] = value
            assert [problem for problem in tables("results.csv") if header[place] in problem], (row, place)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",mrpc,base,1,", ",mrpc,base,2,", "row 2: seed is '2', it should be '1'"),
        (",done,fp32,", ",failed,fp32,", "tiny/mrpc/base/seed-1: state is 'failed', it should be done"),
        (",not run,,", ",done,,", f"{NOT_RUN}: state is 'done', it should be failed or stopped or not run"),
        (",done,,", ",failed,,", "tiny/mrpc/base/seed-1: status is 'failed', its run has 'done'"),
        ("eval_accuracy,", "eval_precision,", "tiny/mrpc/base/seed-1: eval_accuracy is None, its run has "),
        ("revision,task,", "revision,job,", "has no column task"),
        (",own,base,2,", ",own,base,", "row 9 has "),
        (",own,base,2,", ',own,base,2,"', "cannot be read as CSV: "),
    ],
)
def test_a_change_of_results_csv_is_said(tables, old, new, problem):
    path = FOLDER / "results.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert [line for line in tables() if line.startswith(f"{path}: {problem}")]


def test_a_row_too_few_in_results_csv_is_said(tables):
    path = FOLDER / "results.csv"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert tables()[0] == f"{path}: has 15 cells, the experiment has 16"


@pytest.mark.parametrize(
    ("part", "key", "value", "problem"),
    [
        ("results", "eval_f1", 0.5, "results.eval_f1 is 0.5, the runs give 0."),
        ("results", "eval_more", 0.5, "results.eval_more does not follow from the runs"),
        ("record", "device", "another", "record.device is 'another', the runs give 'CPU'"),
        ("run", "learning_rate", 0.5, "run.learning_rate does not follow from the runs"),
    ],
)
def test_a_change_of_results_json_is_said(tables, part, key, value, problem):
    path = FOLDER / "results.json"
    content = read_json(path)
    content["cells"][0][part][key] = value
    write_json(path, content)
    (only,) = tables()
    assert only.startswith(f"{path}: tiny/mrpc/base/seed-1: {problem}")


def test_an_entry_of_another_cell_in_results_json_is_said(tables):
    path = FOLDER / "results.json"
    content = read_json(path)
    content["cells"][:2] = content["cells"][1::-1]
    write_json(path, content)
    assert tables() == [
        f"{path}: cells.0: seed is '2', it should be '1'",
        f"{path}: cells.1: seed is '1', it should be '2'",
    ]


def test_a_number_of_results_csv_that_no_run_has_is_said(tables):
    path = FOLDER / "results.csv"
    header, first, *rows = path.read_text(encoding="utf-8").splitlines()
    lines = [f"{header},eval_more", f"{first},0.5", *(f"{row}," for row in rows), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert tables() == [f"{path}: tiny/mrpc/base/seed-1: eval_more is '0.5', its run has None"]


def test_what_cannot_be_read_leaves_the_mean_unknown_rather_than_undefined():
    assert all(map(math.isnan, over_seeds([None, 0.5, UNKNOWN]).values()))
    assert over_seeds([None, 0.5]) == {"mean": None, "sd": None, "median": None, "best": 0.5}
    assert expected_texts.percentage(UNKNOWN) == expected_texts.ANYTHING
    assert expected_texts.spread_text([[0.5, UNKNOWN]]) == expected_texts.ANYTHING


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_numbers_over_seeds_are_those_of_numpy(values):
    found = over_seeds(values)
    assert found["mean"] == pytest.approx(numpy.mean(values), abs=1e-15)
    assert found["sd"] == pytest.approx(numpy.std(values, ddof=1), abs=1e-12)
    assert found["median"] == pytest.approx(numpy.median(values), abs=1e-15)
    assert found["best"] == max(values)


def test_a_result_that_came_after_the_tables_is_said(finished):
    experiment = frozen_experiment(FOLDER)
    verifiable.write_cell(experiment, experiment.cells["bert", "own", "base", "2"], 99)
    findings = verify_experiment(FOLDER, Hashes())
    assert findings.problems == []
    (note,) = findings.notes
    assert note.endswith("made from other results than the current ones; to rewrite: make reports EXPERIMENT=small")
    # One that somebody has edited is not outdated, and then all is told.
    path = FOLDER / "results.md"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    found = problems()
    assert f"results/small/results.csv: {NOT_RUN}: state is 'not run', it should be done" in found
    assert "results/small/results.md: bert, My *own* | task, Result: is 'failed', its runs give " in "\n".join(found)
    write_tables(experiment, read_outcomes(experiment))
    assert problems() == []


def test_a_test_split_that_is_scored_is_not_counted_against_the_official_one(finished):
    experiment = frozen_experiment(FOLDER)
    entry = experiment.tasks["mrpc"] | {"validation": {"test": ""}, "test": []}
    task = Task(name="mrpc", **definition(entry))
    cell = experiment.cells["tiny", "mrpc", "base", "1"]
    run = VerifiedRun(cell, task, "done", values={"train_samples": 24, "eval_samples": 6})
    assert data_of(run, entry) == "train 24 of 3,668, scored on test"


def test_as_many_examples_of_other_files_are_other_data(finished):
    experiment = frozen_experiment(FOLDER)
    entry, cell = experiment.tasks["mrpc"], experiment.cells["tiny", "mrpc", "base", "1"]
    task = Task(name="mrpc", **definition(entry))
    values = {"train_samples": 3668, "eval_samples": 408}
    files = {f"mrpc/{split}-00000-of-00001.parquet": entry["official"][split]["sha256"] for split in entry["official"]}
    run = VerifiedRun(cell, task, "done", record={"task_files": files}, values=values)
    other = replace(run, record={"task_files": files | {"mrpc/train-00000-of-00001.parquet": "0" * 64}})
    more = replace(run, values=values | {"train_samples": 4000})
    assert [data_of(each, entry) for each in (run, other)] == ["", "other data: train"]
    runs = [run, other, more]
    said = "other data: train in 1 of 3 runs, train 4,000 instead of 3,668 in 1 of 3 runs"
    assert Group("tiny", task, "base", entry, runs).data() == said
    assert Group("tiny", task, "base", entry, [run, replace(run, values={})]).data() is None


def test_a_tie_in_rounding_may_fall_to_either_side(finished):
    """The mean of 88.33 and 88.34 is 88.335, which as a sum of two binary numbers may be a little more or less."""
    assert expected_texts.percentage(0.88335) == [{"88.33", "88.34"}]
    assert expected_texts.percentage(0.883351) == [{"88.34"}]


# Which experiments there are.


def test_an_experiment_without_a_result_is_nothing_to_verify(finished):
    shutil.rmtree(FOLDER / "runs")
    assert problems()[0] == "results/small: has no cell with a result, so there is nothing to verify"


def test_the_newest_head_says_what_the_experiment_is(finished):
    older = HEAD.with_name("2026-01-02T030404+0000-ffffff.json")
    older.write_text("{}", encoding="utf-8")
    assert problems() == []
    HEAD.rename(HEAD.with_name("2026-01-02T030403+0000-abcdef.json"))
    assert problems() == [f"{older}: 'config' is a required property"]


def test_an_experiment_in_the_folder_of_another_is_refused(finished):
    FOLDER.rename("results/other")
    findings = verify_experiment(Path("results/other"), Hashes())
    assert findings.problems == [f"results/other/heads/{HEAD.name}: is of the experiment 'small', not of 'other'"]


def verify(*arguments: str, folder: str = ".") -> subprocess.CompletedProcess:
    command = [sys.executable, builders.SCRIPTS / "commands.py", "verify", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_script_says_what_it_looked_at_and_ends_with_its_verdict(finished):
    done = verify()
    assert (done.returncode, done.stderr) == (0, "")
    first, *middle, last = done.stdout.splitlines()
    assert (first, last) == ("results/small:", "verified: everything fits")
    assert middle[:2] == ["  cells with a result: 14 of 16", f"  without one: {FAILED}, {NOT_RUN}"]
    assert re.fullmatch(r"  files hashed: \d+ \(0\.1 MB\)", middle[2])


def test_the_script_prints_each_problem_on_a_line_and_ends_with_their_number(finished):
    change(f"{MRPC}/all_results.json", eval_f1=0.5)
    done = verify("small")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{len(lines) - 7} things do not fit"
    assert lines[6].startswith(f"{MRPC}/all_results.json: eval_f1 is 0.5, it should be 0.")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_verification_whose_reader_left_does_not_end_well(finished, unbuffered):
    done = builders.run_without_reader("verify", unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal"], "results/smal is not an experiment; there are: small (did you mean 'small'?)"),
        (
            ["--results", "nowhere"],
            "nowhere: holds no experiment; run snakemake first",
        ),
    ],
)
def test_an_experiment_that_is_not_there_is_named(finished, arguments, message):
    done = verify(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"gluegrid: {message}\n")


def test_results_may_lie_elsewhere_and_experiments_be_chosen(finished):
    Path("archive").mkdir()
    shutil.move(FOLDER, "archive/small")
    Path("archive/broken/heads").mkdir(parents=True)
    done = verify("--results", "archive", "small")
    assert done.returncode == 0, done.stdout
    done = verify("--results", "archive")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2].startswith("archive/broken: has no heads/*.json")


def test_verification_uses_no_library_that_training_scores_with():
    program = "import sys\nimport gluegrid.verification.verify\nprint(*sys.modules)"
    environment = {"PYTHONPATH": str(builders.SCRIPTS)}
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert "gluegrid.verification.metrics" in loaded
    assert not {"sklearn", "scipy", "evaluate", "datasets", "torch", "transformers"} & set(loaded)


@pytest.mark.parametrize(
    "name",
    [
        *("metrics", "results", "over_seeds", "expected_groups", "expected_texts", "expected_results"),
        *("expected_tables", "notes", "tables", "exports"),
    ],
)
def test_numbers_are_recomputed_by_other_code_than_made_them(name):
    text = (builders.SCRIPTS / "gluegrid/verification" / f"{name}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^(?:from|import) gluegrid\.(\S+)", text, re.MULTILINE)
    assert imported or name == "over_seeds"
    others = {module for module in imported if module.partition(".")[0] not in ("common", "experiment", "verification")}
    assert others <= {"analysis.predictions"}  # which reads the files


# The demo, trained for real.


@pytest.fixture(scope="module")
def verified(demo, tmp_path_factory) -> Clone:
    """A copy of the demo. What a test changes, it puts back."""
    return copy_of(demo, tmp_path_factory.mktemp("verified") / "clone")


def make_verify(clone: Clone, *arguments: str) -> subprocess.CompletedProcess:
    make = ["make", "--old-file=.venv/installed", "verify", *arguments]
    return subprocess.run(make, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [(), ("EXPERIMENT=demo",)], ids=["all", "one"])
def test_the_demo_fits(verified, arguments):
    done = make_verify(verified, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["results/demo:", "  cells with a result: 18 of 18"]
    assert lines[-1] == "verified: everything fits"


@pytest.mark.parametrize(
    "pattern",
    [
        "resources/models/bert-demo-tiny-*/model.safetensors",
        "resources/tasks/*--mnli@*/mnli/validation_matched-00000-of-00001.parquet",
        "resources/tokens/*/*--mnli@*-32/train.arrow",
        "results/demo/runs/bert-demo-tiny/mnli/base/seed-42/predictions_validation_matched.parquet",
        "results/demo/runs/bert-demo-tiny/mnli/base/seed-42/run.json",
    ],
)
def test_a_flipped_byte_in_the_demo_ends_make_with_an_error(verified, pattern):
    (path,) = verified.root.glob(pattern)
    content = path.read_bytes()
    path.write_bytes(flipped(content))
    try:
        done = make_verify(verified)
    finally:
        path.write_bytes(content)
    assert done.returncode != 0
    assert f"{path.relative_to(verified.root)}: has the SHA-256 " in done.stdout
    assert re.fullmatch(r"1 thing does not fit|\d+ things do not fit", done.stdout.splitlines()[-1])
    assert "Traceback" not in done.stdout + done.stderr


def test_a_changed_number_in_the_demo_ends_make_with_an_error(verified):
    path = verified.root / "results/demo/results.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(\| RTE .*?)\d(\d\.\d\d)", r"\g<1>1\2", text, count=1), encoding="utf-8")
    try:
        done = make_verify(verified, "EXPERIMENT=demo")
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode != 0
    problem, last = done.stdout.splitlines()[-2:]
    assert problem.startswith("results/demo/results.md: bert-demo-small, RTE, Result: is '1")
    assert last == "1 thing does not fit"
