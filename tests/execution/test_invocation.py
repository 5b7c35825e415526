"""What a head freezes, and how a Snakemake process finds its experiment."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from gluegrid.common.files import read_json
from gluegrid.execution import invocation
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.experiment_index import invocation_files, newest_invocation
from gluegrid.experiment.loading import load_experiment
from gluegrid.workflow.experiment_file import experiment_of_workflow
from gluegrid.workflow.slurm_patches import keep_pauses_between_status_checks

CONFIG = {
    "experiment": "frozen",
    "models": {"zebra": {"source": "org/z", "revision": "v1"}, "ant": {"source": "org/a", "revision": "v1"}},
    "tasks": ["wnli", "cola", "mnli"],
}


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A working folder with a config.yaml, and no head yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop(invocation.VARIABLE, None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return tmp_path


def workflow(is_main_process, configfiles=(), config=()):
    """Return as much of Snakemake's workflow object as is looked at."""
    settings = SimpleNamespace(configfiles=list(configfiles), config=dict(config))
    return SimpleNamespace(is_main_process=is_main_process, config_settings=settings, basedir=".")


def test_a_job_works_on_what_its_head_has_frozen_whatever_the_config_says_now(workplace):
    planned = experiment_of_workflow(workflow(is_main_process=True))
    invocation.freeze(planned.config, Path(planned.paths.heads))
    (workplace / "config.yaml").write_text("experiment: [broken", encoding="utf-8")
    job = experiment_of_workflow(workflow(is_main_process=False))
    assert [run_text(cell) for cell in job.cells.values()] == [run_text(cell) for cell in planned.cells.values()]
    assert list(job.models) == ["zebra", "ant"]
    assert list(job.tasks) == ["wnli", "cola", "mnli"]


def test_a_head_reads_the_config_and_not_another_heads_file(workplace):
    planned = load_experiment(Path("config.yaml"))
    invocation.freeze(planned.config, Path(planned.paths.heads))
    (workplace / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"experiment": "newer"}), encoding="utf-8")
    assert experiment_of_workflow(workflow(is_main_process=True)).name == "newer"


def test_a_controller_works_on_what_was_submitted_after_each_requeue(workplace, monkeypatch):
    submitted = load_experiment(Path("config.yaml"))
    state = {"commit": "of the submission", "dirty": True}
    with monkeypatch.context() as at_submission:
        at_submission.setattr(invocation, "git_state", lambda: state)
        plan = invocation.write_plan(submitted.config, Path(submitted.paths.heads))
    (workplace / "config.yaml").write_text("experiment: [broken", encoding="utf-8")
    monkeypatch.setenv(invocation.SUBMITTED, str(plan))
    for _ in range(2):
        experiment = experiment_of_workflow(workflow(is_main_process=True, configfiles=[Path("gone.yaml")]))
        assert experiment.config == submitted.config
        begun = read_json(invocation.freeze(experiment.config, Path(experiment.paths.heads)))
        assert (begun["git"], begun["submitted"]) == (state, str(plan))


def test_whoever_ends_a_controller_ends_all_its_starts_and_no_other_call(workplace, monkeypatch):
    other = invocation.freeze({}, Path("heads"))
    plan = invocation.write_plan({}, Path("heads"))
    monkeypatch.setenv(invocation.SUBMITTED, str(plan))
    starts = [invocation.freeze({}, Path("heads")) for _ in range(3)]
    invocation.interrupt()
    assert [invocation.was_interrupted(str(path)) for path in (other, plan, *starts)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_the_experiments_name_can_be_given_on_the_command_line(workplace):
    assert experiment_of_workflow(workflow(True, config={"experiment": "other"})).name == "other"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"config": {"seeds": 1}}, "--config seeds=...: only 'experiment' can be set on the command line"),
        ({"configfiles": [Path("a.yaml"), Path("b.yaml")]}, "--configfile: one experiment file at a time, not 2"),
        ({"configfiles": [Path("missing.yaml")]}, "missing.yaml: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_call_ends_with_one_line(workplace, arguments, line):
    with pytest.raises(SystemExit) as ended:
        experiment_of_workflow(workflow(True, **arguments))
    assert str(ended.value).startswith(line)
    assert "\n" not in str(ended.value)


def test_pauses_between_status_checks_are_at_most_those_asked_for(monkeypatch):
    name = "next_seconds_between_status_checks"
    monkeypatch.setattr(RemoteExecutor, name, getattr(RemoteExecutor, name))
    keep_pauses_between_status_checks()
    methods = dict.fromkeys(("cancel_jobs", "check_active_jobs", "run_job"))
    executor = object.__new__(type("Executor", (RemoteExecutor,), methods))
    executor.workflow = SimpleNamespace(remote_execution_settings=SimpleNamespace(seconds_between_status_checks=30))
    for asked, kept in ((10, 10), (30, 30), (180, 30)):
        executor.next_seconds_between_status_checks = asked
        assert executor.next_seconds_between_status_checks == kept


def test_of_two_calls_within_a_second_the_newer_is_the_one_whose_file_is(tmp_path):
    names = [f"2026-01-02T030405+0000-{letters}.json" for letters in ("ffffff", "aaaaaa", "cccccc")]
    (tmp_path / "heads").mkdir()
    for seconds, name in enumerate(names):
        (tmp_path / "heads" / name).write_text("{}", encoding="utf-8")
        os.utime(tmp_path / "heads" / name, (1e9 + seconds, 1e9 + seconds))
    assert [path.name for path in invocation_files(tmp_path)] == names
    assert newest_invocation(tmp_path).name == names[-1]
