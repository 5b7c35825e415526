"""What is changed in Snakemake's SLURM plugin, with the plugin as it is installed and SLURM's answers played."""

import asyncio
import getpass
import logging
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fake_slurm import NAME, FakeSlurm, squeue_line

from gluegrid.common.files import write_json
from gluegrid.execution import invocation, sbatch
from gluegrid.workflow import slurm_patches
from gluegrid.workflow.job_states import JobStates

plugin = pytest.importorskip("snakemake_executor_plugin_slurm")
SILENCE = (None, None)


@pytest.fixture
def logger(caplog):
    caplog.set_level(logging.DEBUG)
    return logging.getLogger("snakemake")


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def answering(asked: list[str], **answers):
    """Return a query that notes what it was asked, and answers by the first word of it."""

    async def query(command, logger):
        asked.append(command)
        return answers[command.split()[0]]

    return query


def states_of(states: JobStates, logger, wanted: set[str], command: str = "squeue --all") -> dict[str, str]:
    states.wanted, states.name = wanted, "uuid"
    return asyncio.run(states.query(command, logger))[0]


def test_silence_is_no_news_and_is_told_once(logger, caplog):
    states = JobStates(answering([], squeue=SILENCE))
    assert [states_of(states, logger, {"1"}) for _ in range(5)] == [{}] * 5
    assert caplog.text.count("SLURM does not answer") == 1


def test_a_cancelled_job_is_called_so_as_the_plugin_knows_it(logger):
    states = JobStates(answering([], squeue=({"1": "CANCELLED by 0", "2": "RUNNING"}, 0.1)))
    assert states_of(states, logger, {"1", "2"}) == {"1": "CANCELLED", "2": "RUNNING"}


def test_a_job_that_squeue_has_forgotten_is_looked_up_in_the_accounting(logger):
    asked = []
    accounting = {"1": "COMPLETED", "2": "CANCELLED by 0", "4": "RUNNING", "7_1": "FAILED"}
    states = JobStates(answering(asked, squeue=({"3": "RUNNING"}, 0.1), sacct=(accounting, 0.1)))
    found = states_of(states, logger, {"1", "2", "3", "4", "7_1"})
    assert found == {"1": "COMPLETED", "2": "CANCELLED", "3": "RUNNING", "7_1": "FAILED"}
    assert asked[1].endswith("--name=uuid --jobs=1,2,4,7_1")
    assert asked[0] == "squeue --all --array"


@pytest.mark.parametrize("listed", [{}, {"1": "NODE_FAIL"}, {"1": "PREEMPTED"}])
def test_a_job_that_nobody_knows_or_requeues_for_long_is_taken_for_failed(logger, listed):
    clock = Clock()
    states = JobStates(answering([], squeue=(listed, 0.1), sacct=SILENCE), clock)
    for seconds in (0, 60, 120):
        clock.seconds = seconds
        assert states_of(states, logger, {"1"}) == listed
    clock.seconds = 121
    assert states_of(states, logger, {"1"}) == {"1": "ERROR"}


def test_a_job_that_the_accounting_has_not_heard_of_yet_is_not_lost(logger):
    clock = Clock()
    states = JobStates(answering([], sacct=({}, 0.1)), clock)
    for seconds in (0, 1000):
        clock.seconds = seconds
        assert states_of(states, logger, {"1"}, "sacct --all") == {}


def test_a_job_that_comes_back_is_not_doubted_any_more(logger):
    clock, listed = Clock(), {"1": "NODE_FAIL"}
    states = JobStates(answering([], squeue=(listed, 0.1)), clock)
    for seconds, state in ((0, "NODE_FAIL"), (100, "PENDING"), (200, "NODE_FAIL"), (300, "NODE_FAIL")):
        clock.seconds, listed["1"] = seconds, state
        assert states_of(states, logger, {"1"}) == {"1": state}


class Resources(dict):
    """A job's resources, read both ways, as Snakemake's."""

    __getattr__ = dict.__getitem__


class Throttle:
    """Lets everything through."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        return None


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    monkeypatch.setenv(invocation.VARIABLE, "none yet")
    slurm = FakeSlurm(tmp_path / "slurm")
    slurm.put_on_path(monkeypatch)
    slurm.answers("scontrol", (0, "MinJobAge               = 300 sec\n", ""))
    invocation.freeze({"experiment": "grid"}, tmp_path / "heads")
    return slurm


@pytest.fixture
def executor(monkeypatch, slurm, logger):
    """The plugin's executor, mended, with two jobs."""
    for name in ("check_active_jobs", "cancel_jobs", "shutdown", "__post_init__"):
        monkeypatch.setattr(plugin.Executor, name, getattr(plugin.Executor, name))
    for name in ("query_job_status", "validate_account", "get_account", "get_default_partition"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    slurm_patches.keep_jobs_of_unanswered_queries(plugin)
    slurm_patches.leave_accounts_and_partitions_to_slurm(plugin)
    slurm_patches.cancel_all_jobs_of_an_interrupted_head(plugin)
    slurm_patches.wait_for_a_controller_that_is_away(plugin)
    executor = object.__new__(plugin.Executor)
    settings = {"init_seconds_before_status_checks": 40, "status_attempts": 5, "status_command": "squeue"}
    settings |= {"keep_successful_logs": True, "requeue": True}
    executor.workflow = SimpleNamespace(
        executor_settings=SimpleNamespace(**settings),
        remote_execution_settings=SimpleNamespace(seconds_between_status_checks=30),
    )
    executor.logger, executor.run_uuid, executor.status_rate_limiter = logger, "uuid", Throttle()
    executor._status_query_calls = executor._status_query_failures = 0
    executor._status_query_total_seconds = executor._status_query_max_seconds = 0.0
    executor._status_query_min_seconds, executor._status_query_cycle_rows = None, []
    executor._submitted_job_clusters, executor._preemption_warning = set(), False
    executor._next_seconds_between_status_checks = None
    executor.failed = []
    executor.report_job_error = lambda job, **_: executor.failed.append(job.external_jobid)
    return executor


def still_active(executor, numbers=("1", "2")) -> list[str]:
    jobs = [SimpleNamespace(external_jobid=number, aux={}) for number in numbers]

    async def check():
        return [job.external_jobid async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(check())


def test_an_interrupted_controller_ends_what_its_earlier_starts_have_left(executor, slurm, monkeypatch, tmp_path):
    state = tmp_path / "results/grid/state/m/t/base/seed-1"
    write_json(state / "slurm_job.json", {"slurm_job_id": "19", "name": NAME, "behind": {"17": NAME}})
    # Asked once for what is left, and then until all has left.
    left = squeue_line("17", "RUNNING")
    slurm.answers("squeue", (0, left, ""), (0, "", ""), (0, left, ""), (0, "", ""))
    monkeypatch.setattr(plugin.Executor, "shutdown", lambda self: None)
    slurm_patches.cancel_all_jobs_of_an_interrupted_head(plugin)
    executor.was_interrupted = True
    monkeypatch.setenv(invocation.SUBMITTED, str(tmp_path / "results/grid/heads/plan.json"))
    executor.shutdown()
    assert slurm.calls("scancel")[-1] == ["17"]
    assert len(slurm.calls("squeue")) == 4
    monkeypatch.delenv(invocation.SUBMITTED)
    executor.shutdown()
    assert slurm.calls("scancel")[-1] == [f"--user={getpass.getuser()}", "--name=uuid"]


def test_checks_outlast_an_executor_that_is_slow_to_begin(executor):
    """Snakemake's thread looks for jobs before the plugin has named its call."""
    del executor.run_uuid
    assert still_active(executor, ()) == []


def test_no_job_is_forgotten_while_slurm_is_away(executor, slurm):
    slurm.answers("squeue", (1, "", "Unable to contact slurm controller"))
    assert still_active(executor) == ["1", "2"]


def test_a_sites_banner_is_no_job_and_no_silence(executor, slurm):
    banner = '"Be kind\n17|to|others\nGr\udcfc\udcdfe | COMPLETED\n'
    slurm.answers("squeue", (0, f"{banner}1|RUNNING\n2|COMPLETED\n", banner))
    executor.report_job_success = lambda job: executor.failed.append(f"done: {job.external_jobid}")
    assert (still_active(executor), executor.failed) == (["1"], ["done: 2"])


def test_the_end_of_a_forgotten_job_is_noticed(executor, slurm):
    slurm.answers("squeue", (0, "1|RUNNING\n", ""))
    slurm.answers("sacct", (0, "2|CANCELLED by 0\n", ""))
    assert (still_active(executor), executor.failed) == (["1"], ["2"])


def test_without_the_change_jobs_would_be_forgotten():
    """Fails when the plugin has learned it itself, and the change can go."""
    import inspect

    source = inspect.getsource(plugin.Executor.check_active_jobs)
    assert "if status_of_jobs is not None:" in source


@pytest.mark.parametrize(
    ("resources", "asked"),
    [({}, ["", ""]), ({"slurm_account": "ours", "slurm_partition": "gpu"}, [" -A ours", " -p gpu"])],
)
def test_sbatch_alone_is_asked_for_accounts_and_partitions(executor, slurm, resources, asked):
    executor._fallback_account_arg = executor._fallback_partition = executor._partitions = None
    job = SimpleNamespace(resources=Resources(resources))
    assert [next(executor.get_account_arg(job)), executor.get_partition_arg(job)] == asked
    assert not [call for name in ("sinfo", "sacct", "sacctmgr", "sshare") for call in slurm.calls(name)]


@pytest.mark.parametrize("arrays", [None, "train"])
def test_a_head_of_array_jobs_begins_when_slurm_says_how_large_they_may_be(executor, slurm, monkeypatch, arrays):
    monkeypatch.setattr(sbatch, "FIRST_PAUSE_SECONDS", 0.01)
    silence, size = (1, "", "slurm_load_ctl_conf error: Unable to contact"), (0, "MaxArraySize = 33\n", "")
    slurm.answers("scontrol", silence, silence, size)
    settings = dict.fromkeys(("exclude_failed_nodes", "jobname_prefix", "partition_config", "logdir", "status_command"))
    settings |= {"array_jobs": arrays, "array_limit": 1000, "delete_logfiles_older_than": 0}
    executor.workflow.executor_settings.__dict__.update(settings)
    executor.__post_init__()
    executor._job_submission_executor.shutdown()
    assert executor.max_array_size == (32 if arrays else 999)


@pytest.mark.parametrize(
    ("resources", "asked"),
    [
        ({"gpu": 2}, " --gpus=2"),
        ({"gpu": 2, "nodes": 1}, " --gpus=2"),
        ({"gpu": 6, "nodes": 3}, " --gpus-per-node=2"),
        ({"gpu": 6, "nodes": 3, "gpu_model": "a100_80.2"}, " --gpus-per-node=a100_80.2:2"),
        ({"gpu": 2, "gres": "gpu"}, " --gres=gpu:2"),
        ({"gpu": 6, "nodes": 3, "gres": "gpu", "gpu_model": "a100"}, " --gres=gpu:a100:2"),
        ({"gpu": 1, "gres": "gpu:a100"}, " --gres=gpu:a100:1"),
        ({"gpu": 2, "gres": "gpu:a100:4"}, " --gres=gpu:a100:4"),
        ({"gpu": 2, "gres": "scratch:200G"}, " --gres=scratch:200G --gpus=2"),
    ],
)
def test_each_node_gets_as_many_gpus_by_gres_where_that_is_asked_for(resources, asked):
    job = SimpleNamespace(resources=Resources(resources))
    assert slurm_patches.set_gres_string(plugin.set_gres_string, job) == asked


def test_tasks_of_an_array_job_ask_for_the_same_and_none_is_held_back(executor, monkeypatch):
    submitted = []
    monkeypatch.setattr(plugin.Executor, "run_array_jobs", lambda self, jobs: submitted.append(jobs))
    monkeypatch.setattr(plugin.Executor, "run_job", lambda self, job: submitted.append([job]))
    for name in ("pending_jobs_for_rule", "apply_mem_fudge"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    slurm_patches.make_array_jobs_of_equal_jobs(plugin)
    rule = SimpleNamespace(name="train")
    a, b, c, d, e, f = (
        SimpleNamespace(rule=rule, is_group=lambda: False, threads=threads, resources={"runtime": minutes})
        for threads, minutes in ((1, 30), (1, 60), (1, 30), (2, 30), (1, 30), (1, 30))
    )
    waiting = SimpleNamespace(ready_jobs=[SimpleNamespace(rule=rule)] * 100)
    executor.workflow.dag, executor.array_jobs, executor.max_array_size = waiting, {"train"}, 1000
    executor._main_event_loop, executor.run_job_pre = None, lambda job: None
    executor._job_submission_executor = SimpleNamespace(submit=lambda function, *arguments: function(*arguments))
    executor.run_jobs([a, b, c, d])
    executor.run_jobs([a])
    assert submitted == [[a, c], [b], [d], [a]]
    # Else SLURM would refuse the second array, whose tasks would have numbers that no array may have.
    executor.max_array_size = 2
    del submitted[:]
    executor.run_jobs([a, c, e, f, b])
    executor.run_jobs([a, c, e])
    assert submitted == [[a, c], [e, f], [b], [a, c], [e]]
    assert plugin.apply_mem_fudge("sbatch", "payload") == "sbatch"


def test_ctrl_c_cancels_all_jobs_of_the_head_and_lets_none_follow(executor, slurm):
    executor.cancel_jobs([])
    assert slurm.calls("scancel")[0][-1] == "--name=uuid"
    assert invocation.has_ended()


def test_ctrl_c_names_no_numbers_which_other_jobs_have_in_other_clusters(executor, slurm):
    executor._submitted_job_clusters = {"blue,green"}
    executor.cancel_jobs([SimpleNamespace(external_jobid="17")])
    assert [call[1:] for call in slurm.calls("scancel")] == [
        ["--name=uuid"],
        ["--name=uuid", "--clusters=blue"],
        ["--name=uuid", "--clusters=green"],
    ]


def test_jobs_of_one_number_in_several_clusters_are_told_apart(executor, slurm, monkeypatch):
    for owner, name in (
        (plugin, "validate_or_get_slurm_job_id"),
        (plugin.Executor, "_report_job_submission_threadsafe"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    slurm_patches.tell_jobs_of_several_clusters_apart(plugin)
    executor._main_event_loop, reported = None, []
    executor.report_job_submission = lambda job_info: reported.append(job_info.external_jobid)
    for answer, task in (("1;blue", ""), ("1;green", "_2"), ("1", "")):
        number = plugin.validate_or_get_slurm_job_id(answer.partition(";")[0], f"{answer}\n")
        executor._report_job_submission_threadsafe(SimpleNamespace(external_jobid=f"{number}{task}"))
    assert reported == ["1@blue", "1_2@green", "1"]
    slurm.answers("squeue", (0, "1|RUNNING\n", ""), (0, "1|FAILED\n", ""), (0, "1_2|RUNNING\n", ""))
    assert (still_active(executor, ["1", "1@blue", "1_2@green"]), executor.failed) == (["1", "1_2@green"], ["1@blue"])
    assert [call[-1] for call in slurm.calls("squeue")] == ["--array", "--clusters=blue", "--clusters=green"]
    executor.cancel_jobs([])
    asked = [[word for word in call if word.startswith("--clusters")] for call in slurm.calls("scancel")]
    assert asked == [[], ["--clusters=blue"], ["--clusters=green"]]


def test_a_cluster_that_does_not_answer_is_no_news_of_its_jobs_alone(logger, caplog):
    clock, asked = Clock(), []

    async def query(command, logger):
        asked.append(command)
        if command.startswith("sacct"):
            return {}, 0.1
        return SILENCE if command.endswith("blue") else ({}, 0.1)

    states = JobStates(query, clock)
    for clock.seconds in (0, 121):
        found = states_of(states, logger, {"1", "1@blue", "2@green"})
    assert found == {"1": "ERROR", "2@green": "ERROR"}
    assert caplog.text.count("SLURM of cluster blue does not answer") == 1
    assert any(command.startswith("sacct") and "--clusters=green" in command for command in asked)


def test_the_accounting_is_asked_about_one_cluster_at_a_time(logger):
    asked = []
    states = JobStates(answering(asked, sacct=({"1": "RUNNING"}, 0.1)))
    command = plugin.job_status_query.query_job_status_sacct("uuid")
    assert states_of(states, logger, {"1", "1@blue"}, command) == {"1": "RUNNING", "1@blue": "RUNNING"}
    assert ["--clusters" in command for command in sorted(asked)] == [False, True]


@pytest.mark.parametrize(
    ("change", "misfits"),
    [
        (slurm_patches.keep_jobs_of_unanswered_queries, "plugin.query_job_status and Executor.check_active_jobs"),
        (slurm_patches.leave_accounts_and_partitions_to_slurm, "plugin.get_default_partition"),
        (slurm_patches.wait_for_a_controller_that_is_away, "Executor.__post_init__"),
        (slurm_patches.cancel_all_jobs_of_an_interrupted_head, "Executor.cancel_jobs and Executor.shutdown"),
        (
            slurm_patches.tell_jobs_of_several_clusters_apart,
            "plugin.validate_or_get_slurm_job_id and Executor._report_job_submission_threadsafe",
        ),
        (slurm_patches.ask_for_gpus_of_each_node, "plugin.set_gres_string"),
        (slurm_patches.make_array_jobs_of_equal_jobs, "Executor.run_array_jobs and plugin.apply_mem_fudge"),
    ],
)
def test_a_plugin_of_another_shape_is_left_alone_and_warned_of_in_a_line(change, misfits, capsys):
    class Executor:
        """Has two of the functions, with other parameters."""

        cancel_jobs = run_array_jobs = print

    other = ModuleType("plugin")
    other.Executor, other.query_job_status, other.set_gres_string = Executor, print, print
    other.validate_account, other.get_account = lambda account, logger: "theirs", lambda logger: "theirs"
    other.pending_jobs_for_rule = lambda dag, rule_name: 7
    kept = vars(other) | vars(Executor)
    change(other)
    assert vars(other) | vars(Executor) == kept
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {misfits}: not as in the versions that gluegrid was tried with")
    assert said.count("\n") == 1


def test_a_head_has_ended_when_it_was_interrupted_or_its_process_is_gone(slurm):
    assert not invocation.has_ended()
    path = Path(os.environ[invocation.VARIABLE])
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    assert invocation.has_ended()
