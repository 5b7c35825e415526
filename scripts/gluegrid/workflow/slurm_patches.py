"""All that changes Snakemake's SLURM plugin from outside, each change with its reason. Written for version 2.8.0.

An executor plugin of our own, a subclass of the official one, was weighed. Snakemake finds plugins among the installed
packages, so this clone would have to be installed wherever snakemake is called; its options would have another prefix,
and every profile another `executor:` and other `slurm-...` keys. And most of what is changed here are functions of the
plugin's modules, called in the middle of methods of 100 to 300 lines: a subclass would be a copy of those, which breaks
with each release as surely as a patch, and without a warning. Hence patches; each can go when its issue is solved.
"""

import getpass
import os
import re
import shutil
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType

from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.execution.controller import cancel_cells
from gluegrid.execution.invocation import SUBMITTED, interrupt
from gluegrid.execution.sbatch import patiently
from gluegrid.execution.slurm_queue import answer_of, cancel_jobs, is_in_queue, jobs_in_queue
from gluegrid.workflow.job_states import JobStates, id_of, listed_states
from gluegrid.workflow.snakemake_patches import patch

OLDEST = "2.8.0"  # as in pyproject.toml: the oldest that is tested
UNKNOWN_SIZE = "SLURM does not say how large array jobs may be"
ANSWER_OF_CLUSTER = re.compile(r"\d+;(?P<cluster>[\w.-]+)")  # gluegrid/execution/sbatch.py prints nothing else
SECONDS_TO_LEAVE_QUEUE = 60  # SLURM kills 30 s after it has told a job to end (KillWait)


def check_version() -> None:
    """End a call that would submit its jobs with a plugin which is older than what was tried."""
    name = "snakemake-executor-plugin-slurm"
    installed = metadata.version(name)
    if [int(part) for part in re.findall(r"\d+", installed)[:3]] < [int(part) for part in OLDEST.split(".")]:
        raise SystemExit(f"{name} {installed} is older than {OLDEST}; install what requirements.lock names")


def patch_slurm_plugin() -> None:
    """Apply every change below; where the plugin is not there, only what concerns all remote executors."""
    keep_pauses_between_status_checks()
    # Snakemake has imported all its plugins by now. Not imported here, since it brings pandas with it.
    plugin = sys.modules.get("snakemake_executor_plugin_slurm")
    if plugin is None:
        return
    keep_jobs_of_unanswered_queries(plugin)
    leave_accounts_and_partitions_to_slurm(plugin)
    wait_for_a_controller_that_is_away(plugin)
    tell_jobs_of_several_clusters_apart(plugin)
    cancel_all_jobs_of_an_interrupted_head(plugin)
    ask_for_gpus_of_each_node(plugin)
    make_array_jobs_of_equal_jobs(plugin)


def keep_pauses_between_status_checks() -> None:
    """Let --seconds-between-status-checks be the longest pause between two looks at the cluster's queue.

    The plugin does not heed it (plugin issue 319): while no job ends, it lengthens its pauses by 10 s up to 180 s,
    notices a cancelled job only then, and waits out the last pause before it exits.
    """

    def set_pause(original, self, value):
        original(self, min(value, self.workflow.remote_execution_settings.seconds_between_status_checks))

    without = "the end of jobs is noticed after up to 3 minutes"
    patch(without, (RemoteExecutor, "next_seconds_between_status_checks", set_pause))


def keep_jobs_of_unanswered_queries(plugin: ModuleType) -> None:
    """Let a head outlast a SLURM that does not answer, and notice the end of jobs that squeue has forgotten.

    When all queries of a round fail, the plugin forgets every job that is running, and waits for ever (plugin issue
    207). A job that is not listed any more (MinJobAge) it takes for running, for ever too, and so one that sacct calls
    `CANCELLED by 0`.
    """
    states = JobStates(listed_states)

    async def check_active_jobs(original, self, active_jobs):
        # It is called, without jobs, before the executor has its name: what is raised then ends all checks, unseen.
        states.wanted, states.name = {job.external_jobid for job in active_jobs}, getattr(self, "run_uuid", "")
        async for job in original(self, active_jobs):
            yield job

    async def query_job_status(original, command, logger):
        return await states.query(command, logger)

    patch(
        "a snakemake may wait for ever for jobs that have ended",
        (plugin, "query_job_status", query_job_status),
        (plugin.Executor, "check_active_jobs", check_active_jobs),
    )


def leave_accounts_and_partitions_to_slurm(plugin: ModuleType) -> None:
    """Let SLURM alone judge accounts, and choose the partition and the account where none is named: sbatch, which is
    called with patience, knows both.

    The plugin asks sinfo for the default partition, once, and fails all jobs where the controller is away. It asks
    sacctmgr and sshare for the account before each submission: where neither answers, the job fails (plugin issues 177
    and 233); and where the account is not there, the reason stands far above the terminal's end, and each retry asks
    again. To guess an account it gives sacct an option that there is not.
    """
    patch(
        "jobs fail where SLURM's accounting does not answer",
        (plugin, "validate_account", lambda original, account, logger: account),
        (plugin, "get_account", lambda original, logger: None),
        (plugin, "get_default_partition", lambda original, job, logger: ""),
    )


def wait_for_a_controller_that_is_away(plugin: ModuleType) -> None:
    """Let a head that makes array jobs begin when SLURM can say how large they may be.

    The plugin guesses then, and sbatch refuses an array job that is too large, for good.
    """

    def begin(original, self, test_mode=False):
        if self.workflow.executor_settings.array_jobs and shutil.which("scontrol"):
            with suppress(GluegridError):  # it was patient long enough
                patiently(lambda _: answer_of("scontrol", "show", "config"), UNKNOWN_SIZE)
        original(self, test_mode)

    patch("array jobs may be too large for this SLURM", (plugin.Executor, "__post_init__", begin))


def tell_jobs_of_several_clusters_apart(plugin: ModuleType) -> None:
    """Let the plugin know each job by its number and its cluster, where sbatch has chosen one.

    It keeps the number alone, which another job may have in another cluster, and asks squeue about the head's cluster
    only: other jobs it takes for running, for ever (sacct it asks about all, and takes one job for another). A thread
    of the plugin's submits a job, or an array job, and then reports it.
    """
    submission = threading.local()

    def note_cluster(original, job_id, output):
        answer = ANSWER_OF_CLUSTER.fullmatch(output.strip())
        submission.cluster = answer["cluster"] if answer else ""
        return original(job_id, output)

    def report(original, self, job_info):
        if cluster := getattr(submission, "cluster", ""):
            self._submitted_job_clusters.add(cluster)
            job_info.external_jobid = id_of(job_info.external_jobid, cluster)
        original(self, job_info)

    patch(
        "jobs in other clusters (--clusters) are not waited for",
        (plugin, "validate_or_get_slurm_job_id", note_cluster),
        (plugin.Executor, "_report_job_submission_threadsafe", report),
    )


def cancel_all_jobs_of_an_interrupted_head(plugin: ModuleType) -> None:
    """Let Ctrl-C leave no job in the queue.

    The plugin cancels the jobs that it counts as active at that moment: none while it asks for their states, and none
    that it is just submitting; and all submissions that wait for their turn it still makes. By their numbers, in all
    clusters (plugin issue 397 is another failure of the same function). And it knows nothing of those that an earlier
    start of a controller has left.
    """

    def cancel_jobs(original, self, active_jobs):
        interrupt()
        self.was_interrupted = True
        _cancel_by_name(self)

    def shutdown(original, self):
        original(self)
        # Now that no submission is under way any more.
        if getattr(self, "was_interrupted", False):
            _cancel_by_name(self)
            _wait_until_gone(self, _cancel_those_of_earlier_starts(self))

    patch(
        "Ctrl-C may leave jobs in SLURM's queue",
        (plugin.Executor, "cancel_jobs", cancel_jobs),
        (plugin.Executor, "shutdown", shutdown),
    )


def ask_for_gpus_of_each_node(plugin: ModuleType) -> None:
    """Let a job of several nodes get the same number of GPUs on each, and a site be asked by `--gres` alone.

    The plugin asks for a number in all (`--gpus`), which SLURM may give as three here and one there; and it does so
    beside a `gres` that names GPUs too, which some sites refuse, as SLURM itself does where only one says the type.
    """
    without = "cells on several nodes may get unequal numbers of GPUs, and a site that wants gres alone refuses jobs"
    patch(without, (plugin, "set_gres_string", set_gres_string))


def set_gres_string(original, job) -> str:
    """Return what sbatch is asked for a job's GPUs with."""
    asked = original(job)  # first: it refuses what cannot be
    nodes = job.resources.get("nodes") or 1
    gpus = (job.resources.get("gpu") or 1) // nodes
    if gres := re.fullmatch(r"gpu(:[A-Za-z_][\w.]*)?(:\d+)?", job.resources.get("gres") or ""):
        model = f":{job.resources.get('gpu_model')}" if job.resources.get("gpu_model") else ""
        return f" --gres=gpu{gres[1] or model}{gres[2] or f':{gpus}'}"
    if nodes == 1:
        return asked
    return re.sub(r"--gpus=(.*:)?\d+", lambda number: f"--gpus-per-node={number[1] or ''}{gpus}", asked)


def make_array_jobs_of_equal_jobs(plugin: ModuleType) -> None:
    """Let all tasks of an array job ask for the same, and be submitted as soon as they are ready.

    The plugin gives all tasks the limits of the first (said in its pull request 174). It holds jobs back until more of
    their rule are ready, and forgets them if those come later, as with max-jobs-per-timespan (plugin issue 473). Of
    more jobs than an array may have it numbers the tasks on, which SLURM refuses. And it asks for more memory, also
    where none was asked for: then 1 MB is all that the job gets. What each task runs is mended in
    gluegrid/execution/sbatch.py.
    """

    def run_equal_jobs(original, self, jobs):
        for some in _equal_jobs(jobs, self.max_array_size):
            run = (original, self, some) if len(some) > 1 else (self.run_job, *some)
            self._job_submission_executor.submit(*run)

    patch(
        "array jobs lose cells, or give them another cell's limits; set slurm-array-jobs to nothing",
        (plugin.Executor, "run_array_jobs", run_equal_jobs),
        (plugin, "pending_jobs_for_rule", lambda original, dag, rule_name: 0),
        (plugin, "apply_mem_fudge", lambda original, call, payload: call),
    )


def _equal_jobs(jobs: list, most: int) -> Iterable[list]:
    """Return jobs in lists of those that ask for the same, with at most so many in each."""
    equal = defaultdict(list)
    for job in jobs:
        equal[str((job.threads, sorted(job.resources.items())))].append(job)
    return [some[start : start + most] for some in equal.values() for start in range(0, len(some), most)]


def _cancel_by_name(executor) -> None:
    """Cancel the jobs of a head, in each of its clusters: their numbers may be other jobs' in another cluster."""
    for cluster in _clusters(executor):
        try:
            cancel_jobs(f"--user={getpass.getuser()}", f"--name={executor.run_uuid}", clusters=cluster)
        except TransientError as error:
            executor.logger.warning(f"SLURM does not cancel the jobs named {executor.run_uuid}: {error}")


def _cancel_those_of_earlier_starts(executor) -> list[str]:
    """Cancel the jobs that earlier starts of a controller have left for its cells; return their numbers."""
    if SUBMITTED not in os.environ:
        return []
    try:
        return cancel_cells(Path(os.environ[SUBMITTED]).parents[1])
    except TransientError as error:
        executor.logger.warning(f"SLURM does not cancel what earlier starts of the controller have submitted: {error}")
        return []


def _clusters(executor) -> list[str]:
    """Return the clusters that may have a head's jobs; "" is the one that SLURM's programs ask by themselves."""
    return sorted({"", *(name for names in executor._submitted_job_clusters for name in str(names).split(","))})


def _wait_until_gone(executor, others: list[str]) -> None:
    """Let cells save their work and note why they left, before the last lines tell what became of them."""
    deadline = time.monotonic() + SECONDS_TO_LEAVE_QUEUE
    try:
        for cluster in _clusters(executor):
            while time.monotonic() < deadline and is_in_queue(executor.run_uuid, cluster):
                time.sleep(1)
        while time.monotonic() < deadline and jobs_in_queue(others):
            time.sleep(1)
    except TransientError as error:
        executor.logger.warning(f"SLURM does not say whether jobs named {executor.run_uuid} are left: {error}")
