"""What Snakemake does to the files of its jobs: nothing is deleted that another call of it has made, or is making."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake import cli, dag, jobs  # noqa: F401 (cli first: its modules import each other)
from snakemake.io import flag
from snakemake.persistence import FileBackupMixin

from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.locks import lock
from gluegrid.workflow import snakemake_patches

CHANGED = {
    jobs.Job: ("remove_existing_output", "cleanup"),
    dag.DAG: ("check_output_mtime",),
    FileBackupMixin: ("backup_output", "restore_output", "cleanup_backup"),
}


@pytest.fixture(autouse=True)
def patched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for owner, names in CHANGED.items():
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))
    snakemake_patches.keep_files_of_jobs()


@pytest.fixture
def train(tmp_path):
    """A job that trains a cell which has an old result and an old log."""
    run = tmp_path / "results/e/runs/m/t/base/seed-1/run.json"
    run.parent.mkdir(parents=True)
    results = [run.with_name("all_results.json"), run.with_name("run_record.json")]
    for path in (run, *results, tmp_path / "log"):
        path.write_text("{}")
    inputs = SimpleNamespace(run=str(run), model="model", task="task", tokens="tokens")
    names = [str(path) for path in results]
    return SimpleNamespace(rule=SimpleNamespace(name="train"), input=inputs, output=names, log=[str(tmp_path / "log")])


def test_an_old_result_goes_and_the_log_is_emptied_in_place(train):
    before = Path(train.log[0]).stat().st_ino
    asyncio.run(jobs.Job.remove_existing_output(train))
    assert not any(map(os.path.exists, train.output))
    assert (Path(train.log[0]).read_text(), Path(train.log[0]).stat().st_ino) == ("", before)


def test_the_log_of_a_cell_that_is_being_trained_stays(train):
    with lock(CellFiles(Path(train.input.run)).lock, print):
        asyncio.run(jobs.Job.remove_existing_output(train))
    assert Path(train.log[0]).read_text() == "{}"


def test_what_has_been_published_since_this_call_planned_stays_with_its_log(train, monkeypatch):
    monkeypatch.setattr(snakemake_patches, "has_published", lambda *paths: True)
    asyncio.run(jobs.Job.remove_existing_output(train))
    assert [Path(name).read_text() for name in (*train.output, *train.log)] == ["{}"] * 3


@pytest.mark.parametrize(
    ("rule", "kept"), [("train", {"plain", "updated"}), ("fetch_model", {"updated"}), ("report", {"updated"})]
)
def test_a_job_that_fails_leaves_what_another_call_may_have_made(rule, kept, monkeypatch):
    left = []

    async def cleanup(job, skip_outputs):
        left.extend(skip_outputs)

    monkeypatch.setattr(jobs.Job, "cleanup", cleanup)
    snakemake_patches.keep_outputs_of_failed_jobs()
    outputs = [flag("plain", "temp", False), flag("updated", "update")]
    job = SimpleNamespace(rule=SimpleNamespace(name=rule), output=outputs)
    asyncio.run(jobs.Job.cleanup(job, {"skipped"}))
    assert {*map(str, left)} == {"skipped", *kept}


def test_an_older_output_is_kept_and_its_newer_input_named_once(capsys):
    for name, moment in (("input", 2e9), ("output", 1e9)):
        Path(name).touch()
        os.utime(name, (moment, moment))
    planned = dag.DAG.__new__(dag.DAG)
    planned.workflow = SimpleNamespace(is_main_process=True)
    job = SimpleNamespace(input=["input", "missing"])
    for outputs in (["missing"], ["output"], ["output"]):
        asyncio.run(dag.DAG.check_output_mtime(planned, job, outputs))
    said = capsys.readouterr().err
    assert said.count("warning: input: its time (2033-05-18") == said.count("\n") == 1


def test_a_backup_is_restored_with_its_time_unless_another_call_has_written_the_file(tmp_path):
    backups = FileBackupMixin()
    backups.path = tmp_path / ".snakemake"
    path = Path("manifest.json")
    path.write_text("old")
    os.utime(path, (1e9, 1e9))
    backups.backup_output(path)
    path.unlink()
    assert backups.restore_output(path)
    assert (path.read_text(), path.stat().st_mtime) == ("old", 1e9)
    backups.backup_output(path)
    path.write_text("another call's")
    assert backups.restore_output(path)
    assert path.read_text() == "another call's"
    backups.cleanup_backup(path)  # gone already
    assert not any(backups._backup_path.rglob("*.json"))
