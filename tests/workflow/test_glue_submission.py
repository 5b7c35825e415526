"""`snakemake submission` as it is called: what it asks for, what it writes, and how it ends where it cannot."""

import json
import zipfile

import glue_cells
import pytest
from clones import clone_into
from glue_cells import WANTED, logits_for, text_of, write_cell, write_predictions

pytestmark = pytest.mark.long

LOCAL = ("--profile", "profiles/local", "--cores", "1")
ONLY_WRITING = ("--allowed-rules", "submission", "write_submission")
ZIP = "results/small/submissions/tiny/submission.zip"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone whose config.yaml asks for all of GLUE's tasks."""
    clone = clone_into(tmp_path / "clone")
    monkeypatch.chdir(clone.root)
    return clone


def write_all(**values):
    """Write config.yaml and the results of all its cells."""
    experiment = glue_cells.experiment(glue_cells.Path(), **values)
    for cell in experiment.cells.values():
        write_cell(experiment, cell)


def test_all_cells_of_the_tasks_are_asked_for(clone):
    glue_cells.experiment(clone.root, seeds=[1, 2])
    planned = clone.planned("submission", *LOCAL)
    assert (planned["train"], planned["write_submission"], planned["submission"]) == (20, 1, 1)
    assert "results" not in planned


def test_what_is_missing_is_told_before_anything_runs(clone):
    glue_cells.experiment(clone.root, tasks=[task for task in glue_cells.TASKS if task not in ("wnli", "ax")])
    done = clone.snakemake("submission", *LOCAL)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if not line.startswith("Using ")] == [
        "no submission to GLUE for tiny of small: tasks: lacks wnli, ax; add `wnli:`, `ax:` under tasks"
    ]
    assert not (clone.root / "results").exists()
    assert clone.planned(*LOCAL)["train"] == 16


def test_the_zip_of_every_model_is_written_and_told(clone):
    models = {name: {"source": "./model"} for name in ("tiny", "other")}
    write_all(models=models, seeds=[1])
    done = clone.snakemake(*LOCAL, *ONLY_WRITING, "--", "submission")
    assert done.returncode == 0, done.stdout
    for model in models:
        path = ZIP.replace("tiny", model)
        with zipfile.ZipFile(path) as archive:
            for name, task, split, rows, names in WANTED:
                logits = logits_for(rows, len(names or "1"), f"{model}/{task}/base/seed-1 {split}")
                assert archive.read(name) == text_of(names, logits)
        assert f"{path}\nCoLA.tsv: 1,063 predictions of {model}/cola/base/seed-1, the only seed\n" in done.stdout
    assert "Nothing to be done" in clone.snakemake(*LOCAL, *ONLY_WRITING, "--", "submission").stdout


def test_data_that_are_not_the_official_ones_end_it_with_the_reason(clone):
    write_all(seeds=[1])
    folder = glue_cells.Path("results/small/runs/tiny/cola/base/seed-1")
    record = json.loads((folder / "run_record.json").read_text())
    record["predictions_sha256"]["test"] = write_predictions(
        folder / "predictions_test.parquet", logits_for(200, 2, "x")
    )
    (folder / "run_record.json").write_text(json.dumps(record))
    done = clone.snakemake(*LOCAL, *ONLY_WRITING, "--", "submission")
    assert done.returncode == 1
    assert (
        "FAILED write_submission: tiny/cola/base/seed-1: CoLA.tsv: has 200 predictions, but GLUE's server needs 1,063:"
        " the split 'test' of cola is not the official one. Use the split of nyu-mll/glue; log: "
    ) in done.stdout
    assert "Traceback" not in done.stdout
    assert not glue_cells.Path(ZIP).parent.exists() or not list(glue_cells.Path(ZIP).parent.iterdir())
