"""How Snakemake is changed, and what then happens to files: nothing goes that another call has made, or is making."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake import cli, dag, jobs  # noqa: F401 (cli first: its modules import each other)
from snakemake.io import flag
from snakemake.persistence import FileBackupMixin, PersistenceBase
from snakemake.scheduling.job_scheduler import JobScheduler

from gluegrid.execution import cell_state
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.locks import lock
from gluegrid.workflow import snakemake_patches

CHANGED = {
    jobs.Job: ("remove_existing_output", "cleanup"),
    dag.DAG: ("check_output_mtime", "init"),
    FileBackupMixin: ("backup_output", "restore_output", "cleanup_backup"),
    PersistenceBase: ("_input_changed",),
    JobScheduler: ("run",),
}


@pytest.fixture(autouse=True)
def patched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for owner, names in CHANGED.items():
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))
    snakemake_patches.keep_files_of_jobs()


class Owner:
    """As much of Snakemake as a patch replaces."""

    def asked(self, jobs, executor=None):
        return ["asked", jobs, executor]

    @property
    def pause(self):
        return self.seconds

    @pause.setter
    def pause(self, value):
        self.seconds = value


@pytest.mark.parametrize(("jobs_to_run", "is_dry"), [(0, False), (0, True), (3, False)])
def test_where_nothing_is_to_be_done_it_is_told_what_there_is(jobs_to_run, is_dry):
    told = []
    workflow = SimpleNamespace(execute=lambda *, executor_plugin, **settings: told.append("executed"))
    workflow.dryrun, workflow.dag = is_dry, [None] * jobs_to_run
    snakemake_patches.where_nothing_is_to_be_done(workflow, lambda: told.append("idle"))
    workflow.execute(executor_plugin=SimpleNamespace(name="local"), scheduler_plugin=None)
    assert told == ["executed", *["idle"] * (not jobs_to_run and not is_dry)]


def longer(original, self, jobs, executor=None):
    return [*original(self, jobs, executor), "longer"]


def test_a_replacement_gets_the_original_and_may_replace_it_again():
    owner = type("Owner", (Owner,), {})
    for _ in range(2):
        snakemake_patches.patch("", (owner, "asked", longer))
    assert owner().asked(3) == ["asked", 3, None, "longer", "longer"]
    snakemake_patches.patch("", (owner, "pause", lambda original, self, value: original(self, 2 * value)))
    owner.pause.fset(changed := owner(), 5)
    assert changed.pause == 10


@pytest.mark.parametrize(
    "other",
    [
        lambda original, self, jobs: None,
        lambda original, self, jobs, executor, more: None,
        lambda original, self, jobs, backend=None: None,
        lambda original, *, work, **rest: None,
    ],
)
def test_where_one_of_several_shapes_is_gone_all_stay_and_one_line_says_so(other, capsys):
    owner = type("Owner", (Owner,), {})
    before = owner.asked
    snakemake_patches.patch("cells may wait", (owner, "asked", longer), (owner, "asked", other), (owner, "gone", other))
    assert owner.asked is before
    said = "warning: Owner.asked and Owner.gone: not as in the versions that gluegrid was tried with (pyproject.toml)"
    assert capsys.readouterr().err == f"{said}: cells may wait\n"


def test_a_replacement_may_leave_parameters_to_the_original(capsys):
    owner = type("Owner", (Owner,), {})
    snakemake_patches.patch("", (owner, "asked", lambda original, self, jobs, **rest: original(self, jobs + 1, **rest)))
    assert owner().asked(jobs=3, executor=4) == ["asked", 4, 4]
    assert capsys.readouterr().err == ""


def test_jobs_begin_in_the_order_of_their_priorities():
    begun = []
    snakemake_patches.begin_with_the_longest()
    jobs_of = [SimpleNamespace(priority=priority) for priority in (1, 3, 2)]
    executor = SimpleNamespace(run_jobs=lambda chosen: begun.extend(job.priority for job in chosen))
    JobScheduler.run(SimpleNamespace(_executor=executor), jobs_of)
    assert begun == [3, 2, 1]


def test_what_is_outdated_is_made_again_and_a_result_outlives_remembered_inputs(monkeypatch):
    async def init(self, progress=False):
        self.progress = progress

    monkeypatch.setattr(dag.DAG, "init", init)
    monkeypatch.setattr(PersistenceBase, "_input_changed", lambda self, job, file=None: True)
    snakemake_patches.rerun_by_content(["write_runs_1"], ["old.json"], lambda model, seed: seed == "1")
    planned = SimpleNamespace(forcerules=set(), forcefiles={"asked for"}, workflow=SimpleNamespace(get_rule=str.upper))
    asyncio.run(dag.DAG.init(planned))
    assert (planned.forcerules, planned.forcefiles) == ({"WRITE_RUNS_1"}, {"asked for", "old.json"})
    assert planned.progress is False

    def changed(rule: str, seed: str) -> bool:
        job = SimpleNamespace(rule=SimpleNamespace(name=rule), wildcards=["m", seed])
        return PersistenceBase._input_changed(None, job, file="all_results.json")

    assert [changed("train", "1"), changed("train", "2"), changed("report", "1")] == [False, True, True]


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
    monkeypatch.setattr(cell_state, "has_published", lambda *paths: True)
    asyncio.run(jobs.Job.remove_existing_output(train))
    assert [Path(name).read_text() for name in (*train.output, *train.log)] == ["{}"] * 3


@pytest.mark.parametrize(
    ("rule", "kept"), [("train", {"plain", "updated"}), ("fetch_model", {"updated"}), ("report", {"updated"})]
)
def test_a_job_that_fails_leaves_what_another_call_may_have_made(rule, kept, monkeypatch):
    left = []

    async def cleanup(self, skip_outputs):
        left.extend(skip_outputs)

    monkeypatch.setattr(jobs.Job, "cleanup", cleanup)
    snakemake_patches.patch("", (jobs.Job, "cleanup", snakemake_patches.cleanup))
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
    assert not backups.restore_output(Path("new.json"))
    assert not any(backups._backup_path.rglob("*.json"))


class Pack(list):
    """As much of a pack of jobs as Snakemake's scheduler sees."""

    groupid = "pack"
    command = None

    def __init__(self, jobs, done=()):
        super().__init__(jobs)
        self._done = done

    __hash__ = object.__hash__

    def is_group(self):
        return True

    def done(self):
        return self._done

    def without(self, some):
        return Pack(job for job in self if job not in some)


class Single:
    """As much of a job."""

    group = None

    def is_group(self):
        return False


def fail_in_scheduler(job, dag, is_tried_again=False) -> None:
    """Let a scheduler of this plan notice that a job has failed."""
    workflow = SimpleNamespace(dag=dag, async_run=asyncio.run)
    scheduler = SimpleNamespace(failed=set(), workflow=workflow)
    original = lambda self, job, postprocess_job: self.failed.update([] if is_tried_again else [job])  # noqa: E731
    snakemake_patches.handle_error(original, scheduler, job)


@pytest.mark.parametrize("is_tried_again", [True, False])
def test_cells_whose_data_cannot_be_fetched_leave_their_pack(is_tried_again):
    without, other, fetch, tokenise = (Single() for _ in range(4))
    ready = []
    pack = Pack([without, other])
    depending = {fetch: {tokenise: ()}, tokenise: {without: ()}, without: {}, other: {}}
    groups = {without: pack, other: pack}
    dag = SimpleNamespace(depending=depending, _group=groups, update_ready=ready.extend)
    fail_in_scheduler(fetch, dag, is_tried_again)
    if is_tried_again:
        assert groups == {without: pack, other: pack} and not ready
    else:
        assert list(groups) == [other] == list(groups[other]) == ready
        assert (without.group, other.group) == (None, "pack")


def test_what_needs_a_done_cell_of_a_pack_that_has_failed_is_run():
    done, failed, table = Single(), Single(), Single()
    finished = []

    async def finish(job):
        dag._running.remove(job)
        finished.append(job)

    depending = {done: {table: ()}, failed: {table: ()}, table: {}}
    dag = SimpleNamespace(depending=depending, _group={}, _running=set(), finish=finish, update_ready=None)
    fail_in_scheduler(Pack([done, failed], done=[done]), dag)
    assert finished == [done]
