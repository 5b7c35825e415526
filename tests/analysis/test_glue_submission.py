"""The whole zip, of the official sizes, byte by byte as the tests want it; and each thing that can be wrong."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import builders
import glue_cells
import numpy
import pyarrow
import pytest
from glue_cells import TRAINED, WANTED, logits_for, text_of, write_cell, write_predictions

from gluegrid.analysis import glue_submission
from gluegrid.analysis.glue_submission import lines_about, write_submission
from gluegrid.common import paths
from gluegrid.common.errors import DataError, GluegridError, RecordError
from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.experiment import Experiment

ZIP = Path("results/small/submissions/tiny/submission.zip")
BEST = {"cola": 2, "mnli": 2, "ax": 2}  # seed 1 elsewhere


def cell_of(task):
    return f"tiny/{task}/base/seed-{BEST.get(task, 1)}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment of two seeds with all results, in a folder to be copied."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiment = glue_cells.experiment(folder)
        for cell in experiment.cells.values():
            if cell.task == "qqp" and cell.seed == 2:
                write_cell(experiment, cell, logits={"test": logits_for(3, 2, "not chosen")})
            else:
                write_cell(experiment, cell, 0.7 if cell.task in BEST and cell.seed == 2 else 0.5)
    return folder, experiment


@pytest.fixture
def experiment_of_official_sizes(made, tmp_path, monkeypatch) -> Experiment:
    """The same in a folder to change."""
    shutil.copytree(made[0], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return made[1]


@pytest.fixture
def experiment(experiment_of_official_sizes, monkeypatch) -> Experiment:
    """The same with as few predictions of QQP, whose 390,965 take seconds, as if GLUE wanted no more."""
    monkeypatch.setitem(load_registry()["qqp"]["official"]["test"], "rows", 1000)
    replace_predictions("qqp", logits_for(1000, 2, "few"))
    return experiment_of_official_sizes


def predictions_of(task, split="test"):
    return Path(f"results/small/runs/{cell_of(task)}/predictions_{split}.parquet")


def replace_predictions(task, logits, idx=None, split="test"):
    """Let a cell have had these predictions from the beginning."""
    path = predictions_of(task, split)
    digest = write_predictions(path, logits, idx)
    record = path.with_name("run_record.json")
    content = json.loads(record.read_text())
    content["predictions_sha256"][split] = digest
    record.write_text(json.dumps(content))


def refusal(experiment, kind=GluegridError):
    """Return the error, after which there is nothing."""
    with pytest.raises(kind) as error:
        write_submission(experiment, "tiny")
    assert not list(Path("results/small").glob("submissions/**/*.*"))
    return str(error.value)


def test_the_zip_holds_glues_files_byte_by_byte(experiment_of_official_sizes):
    write_submission(experiment_of_official_sizes, "tiny")
    with zipfile.ZipFile(ZIP) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [name for name, *_ in WANTED]
        for name, task, split, rows, names in WANTED:
            logits = logits_for(rows, len(names or "1"), f"{cell_of(task)} {split}")
            assert archive.read(name) == text_of(names, logits), name
    assert [path.name for path in sorted(ZIP.parent.iterdir())] == ["submission.json", "submission.zip"]


def test_the_same_predictions_give_the_same_bytes(experiment, monkeypatch):
    write_submission(experiment, "tiny")
    first = sha256(ZIP)
    monkeypatch.setattr("time.time", lambda: 4e9)
    write_submission(experiment, "tiny")
    assert sha256(ZIP) == first
    with zipfile.ZipFile(ZIP) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {oct(entry.external_attr >> 16) for entry in archive.infolist()} == {"0o100644"}


def test_submission_json_says_where_each_prediction_comes_from(experiment_of_official_sizes):
    about = write_submission(experiment_of_official_sizes, "tiny")
    assert read_json(ZIP.with_suffix(".json")) == about
    assert about["zip_sha256"] == sha256(ZIP)
    assert (about["experiment"], about["model"]["name"], about["model"]["source"]) == ("small", "tiny", "./model")
    assert list(about["files"]) == [name for name, *_ in WANTED]
    with zipfile.ZipFile(ZIP) as archive:
        for name, task, split, rows, _ in WANTED:
            origin = about["files"][name]
            assert (origin["cell"], origin["split"], origin["rows"]) == (cell_of(task), split, rows)
            assert origin["predictions_sha256"] == sha256(predictions_of(task, split))
            assert origin["run_sha256"] == sha256(predictions_of(task).with_name("run.json"))
            assert origin["sha256"] == hashlib.sha256(archive.read(name)).hexdigest()
            assert origin["split_is_official"]
            assert not origin["data"]
            expected = (
                "best of 2 seeds on validation" if task in TRAINED else f"predicted by the model of {cell_of('mnli')}"
            )
            assert origin["chosen"] == expected
    assert about["files"]["CoLA.tsv"]["scores"] == {"eval_matthews_correlation": 0.7}
    assert about["files"]["MNLI-m.tsv"]["scores"] == {"eval_accuracy": 0.7, "eval_accuracy_mm": 0.7}
    assert about["files"]["AX.tsv"]["scores"] == {}
    scores = logits_for(1379, 1, f"{cell_of('stsb')} test")
    assert about["files"]["STS-B.tsv"]["clipped"] == int(((scores < 0) | (scores > 5)).sum()) > 0
    assert "clipped" not in about["files"]["RTE.tsv"]


def test_what_should_be_known_is_said(experiment_of_official_sizes):
    record = predictions_of("rte").with_name("run_record.json")
    content = json.loads(record.read_text())
    content["task_files"]["test-00000-of-00001.parquet"] = "0" * 64
    record.write_text(json.dumps(content))
    results = predictions_of("sst2").with_name("all_results.json")
    results.write_text(json.dumps(json.loads(results.read_text()) | {"degenerate": True}))
    about = write_submission(experiment_of_official_sizes, "tiny")
    lines = lines_about(about)
    clipped = about["files"]["STS-B.tsv"]["clipped"]
    best = "best of 2 seeds on validation"
    assert lines[8] == (
        f"RTE.tsv: 3,000 predictions of tiny/rte/base/seed-1, {best};"
        " its test split is not the official file: check that the examples are GLUE's"
    )
    assert lines[1] == (
        f"SST-2.tsv: 1,821 predictions of tiny/sst2/base/seed-1, {best};"
        " degenerate: one answer for all examples of a validation split, or an undefined metric"
    )
    assert lines[3] == (
        f"STS-B.tsv: 1,379 predictions of tiny/stsb/base/seed-1, {best};"
        f" {clipped} of them were out of range and set to 0 or 5"
    )
    assert lines[10] == (
        "AX.tsv: 1,104 predictions of tiny/ax/base/seed-2, predicted by the model of tiny/mnli/base/seed-2"
    )
    assert lines[4] == f"QQP.tsv: 390,965 predictions of tiny/qqp/base/seed-1, {best}"
    assert len(lines) == 11


def test_training_on_other_data_is_told_and_allowed(experiment):
    results = predictions_of("qnli").with_name("all_results.json")
    results.write_text(json.dumps(json.loads(results.read_text()) | {"train_samples": 11803}))
    assert write_submission(experiment, "tiny")["files"]["QNLI.tsv"]["data"] == "train 11,803 of 104,743"


@pytest.mark.parametrize(("rows", "said"), [(1062, "1,062"), (1064, "1,064"), (20, "20")])
def test_another_number_of_test_examples_is_refused(experiment, rows, said):
    replace_predictions("cola", logits_for(rows, 2, "x"))
    assert refusal(experiment, DataError) == (
        f"tiny/cola/base/seed-2: CoLA.tsv: has {said} predictions, but GLUE's server needs 1,063: the split 'test' of"
        " cola is not the official one. Use the split of nyu-mll/glue."
    )


def write_copy_of_mnli(experiment, names):
    """Stage a copy of MNLI that calls the numbers of its labels so, as what the chosen cell was trained on."""
    folder = Path(paths.TASK_MANIFEST.format(task_key=experiment.task_key("mnli"))).parent
    metadata = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pyarrow.table({"premise": ["a"], "hypothesis": ["b"], "label": [0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    path = builders.write_split(folder / "mnli", "train", table)
    files = {f"mnli/{path.name}": {"bytes": path.stat().st_size, "sha256": sha256(path)}}
    write_json(folder / "manifest.json", {"source": "nyu-mll/glue", "revision": "1", "files": files})
    record = predictions_of("mnli", "test_matched").with_name("run_record.json")
    hashes = {name: identity["sha256"] for name, identity in files.items()}
    write_json(record, read_json(record) | {"task_files": hashes})
    return path


def test_data_whose_labels_have_another_order_than_the_tasks_are_refused(experiment):
    path = write_copy_of_mnli(experiment, ["contradiction", "neutral", "entailment"])
    assert refusal(experiment, DataError) == (
        f"tiny/mnli/base/seed-2: {path}: column 'label': its own metadata numbers its labels [contradiction,"
        " neutral, entailment] from 0, but the task's `labels` are [entailment, neutral, contradiction]; write"
        " `labels: [contradiction, neutral, entailment]`"
    )
    write_copy_of_mnli(experiment, ["entailment", "neutral", "contradiction"])
    assert write_submission(experiment, "tiny")["files"]["MNLI-m.tsv"]["cell"] == cell_of("mnli")


@pytest.mark.parametrize(
    ("idx", "problem"),
    [
        ([*range(1062), 3], "index 3 appears twice"),
        ([*range(1062), 1063], "index 1062 is missing"),
        ([*range(1, 1064)], "index 0 is missing"),
    ],
)
def test_indexes_that_are_not_glues_are_refused(experiment, idx, problem):
    replace_predictions("cola", logits_for(1063, 2, "x"), idx)
    assert refusal(experiment, DataError) == (
        f"tiny/cola/base/seed-2: CoLA.tsv: {problem}; `idx` must number the test examples from 0, each once"
    )


def test_predictions_that_are_no_numbers_are_refused(experiment):
    logits = logits_for(1379, 1, "x")
    logits[17] = numpy.nan
    replace_predictions("stsb", logits)
    said = refusal(experiment, DataError)
    assert said.startswith("tiny/stsb/base/seed-1: results/small/runs/tiny/stsb/base/seed-1/predictions_test.parquet: ")
    assert said.endswith("column 'logits' has nan in row 17")


def test_predictions_that_are_not_those_of_the_record_are_refused(experiment):
    path = predictions_of("mnli", "test_mismatched")
    write_predictions(path, logits_for(9847, 3, "other"))
    assert refusal(experiment, RecordError).startswith(f"{path}: its SHA-256 is not the one in run_record")


def test_a_prediction_that_was_never_made_is_refused(experiment):
    record = predictions_of("ax").with_name("run_record.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"predictions_sha256": {}}))
    assert refusal(experiment, RecordError).startswith(
        f"{predictions_of('ax')}: is missing. Delete the cell's all_results"
    )


def test_a_cell_without_a_result_is_refused_though_it_would_not_be_chosen(experiment):
    Path("results/small/runs/tiny/mrpc/base/seed-2/all_results.json").unlink()
    assert "tiny/mrpc/base/seed-2: not run yet" in refusal(experiment, RecordError)


def test_a_zip_that_cannot_be_read_back_is_not_kept(experiment, monkeypatch):
    archive = glue_submission._archive
    monkeypatch.setattr(glue_submission, "_archive", lambda texts: archive(texts | {"RTE.tsv": b"another"}))
    with pytest.raises(DataError, match=r"RTE\.tsv differs from what was written"):
        write_submission(experiment, "tiny")
    assert not ZIP.exists()
    assert [path.name for path in ZIP.parent.iterdir()] == []


def test_a_zip_that_was_there_stays_as_it_was_where_a_new_one_is_refused(experiment):
    write_submission(experiment, "tiny")
    before = {path.name: sha256(path) for path in ZIP.parent.iterdir()}
    replace_predictions("cola", logits_for(20, 2, "x"))
    with pytest.raises(DataError):
        write_submission(experiment, "tiny")
    assert {path.name: sha256(path) for path in ZIP.parent.iterdir()} == before
