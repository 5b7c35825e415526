"""Change Snakemake's SLURM plugin from outside, each change with its reason. Written for version 2.8.0.

An executor plugin of our own, a subclass of the official one, was considered. Snakemake finds plugins among the
installed packages, so this clone would have to be installed wherever snakemake is called. The plugin's options would
have another prefix, so every profile would need another `executor:` and other `slurm-...` keys. And most of what is
changed here are functions of the plugin's modules, called in the middle of methods of 100 to 300 lines. A subclass
would copy those methods: it would break with each release as surely as a patch does, but without a warning. Hence
patches; each can go when its issue is solved.
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
    """End a call that would submit its jobs with a plugin older than the oldest tested one."""
    name = "snakemake-executor-plugin-slurm"
    installed = metadata.version(name)
    if [int(part) for part in re.findall(r"\d+", installed)[:3]] < [int(part) for part in OLDEST.split(".")]:
        raise SystemExit(f"{name} {installed} is older than {OLDEST}; install what requirements.lock names")


def patch_slurm_plugin() -> None:
    """Apply every change below; without the plugin, only the one that concerns all remote executors."""
    keep_pauses_between_status_checks()
    # Snakemake has imported all its plugins by now. Importing this one here would always load pandas.
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
    """Make --seconds-between-status-checks the longest pause between two looks at the cluster's queue.

    The plugin ignores it (plugin issue 319): while no job ends, it lengthens its pauses by 10 s up to 180 s, notices a
    cancelled job only then, and waits out the last pause before it exits.
    """

    def set_pause(original, self, value):
        original(self, min(value, self.workflow.remote_execution_settings.seconds_between_status_checks))

    without = "the end of jobs is noticed after up to 3 minutes"
    patch(without, (RemoteExecutor, "next_seconds_between_status_checks", set_pause))


def keep_jobs_of_unanswered_queries(plugin: ModuleType) -> None:
    """Make a controller outlast a SLURM that does not answer, and notice the end of jobs that squeue has forgotten.

    If all queries of a round fail, the plugin forgets every running job and waits for ever (plugin issue 207). It also
    waits for ever for a job that is no longer listed (MinJobAge), or that sacct calls `CANCELLED by 0`, since it takes
    both for running.
    """
    states = JobStates(listed_states)

    async def check_active_jobs(original, self, active_jobs):
        # The first call, without jobs, comes before the executor has its name. An error here would silently end checks.
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
    """Leave accounts and partitions to SLURM: sbatch judges them, and chooses where none is named.

    Our sbatch repeats a call that SLURM does not answer. The plugin asks sinfo for the default partition once, and
    fails all jobs if SLURM's controller is away. It asks sacctmgr and sshare for the account before each submission. If
    neither answers, the job fails (plugin issues 177 and 233). If the account does not exist, the reason is far above
    the last lines of the terminal, and each retry asks again. To guess an account, it gives sacct an option that does
    not exist.
    """
    patch(
        "jobs fail where SLURM's accounting does not answer",
        (plugin, "validate_account", lambda original, account, logger: account),
        (plugin, "get_account", lambda original, logger: None),
        (plugin, "get_default_partition", lambda original, job, logger: ""),
    )


def wait_for_a_controller_that_is_away(plugin: ModuleType) -> None:
    """Make a call with array jobs wait until SLURM can say how large they may be.

    Otherwise the plugin guesses, and sbatch refuses an array job that is too large, for good.
    """

    def begin(original, self, test_mode=False):
        if self.workflow.executor_settings.array_jobs and shutil.which("scontrol"):
            with suppress(GluegridError):  # it waited long enough
                patiently(lambda _: answer_of("scontrol", "show", "config"), UNKNOWN_SIZE)
        original(self, test_mode)

    patch("array jobs may be too large for this SLURM", (plugin.Executor, "__post_init__", begin))


def tell_jobs_of_several_clusters_apart(plugin: ModuleType) -> None:
    """Make the plugin know each job by its number and its cluster, if sbatch has chosen one.

    The plugin keeps only the number, which another job may have in another cluster. It asks squeue only about its own
    cluster, and takes other jobs for running, for ever. It asks sacct about all clusters, and takes one job for
    another. A thread of the plugin submits a job, or an array job, and then reports it.
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
    """Make Ctrl-C leave no job in the queue.

    The plugin cancels the jobs that it counts as active at that moment: none while it asks for their states, and none
    that it is just submitting. It still makes all submissions that wait for their turn. It cancels by number, in all
    clusters (plugin issue 397 is another failure of the same function). And it does not know the jobs that an earlier
    start of a controller has left.
    """

    def cancel_jobs(original, self, active_jobs):
        interrupt()
        self.was_interrupted = True
        _cancel_by_name(self)

    def shutdown(original, self):
        original(self)
        # No submission is under way any more.
        if getattr(self, "was_interrupted", False):
            _cancel_by_name(self)
            _wait_until_gone(self, _cancel_those_of_earlier_starts(self))

    patch(
        "Ctrl-C may leave jobs in SLURM's queue",
        (plugin.Executor, "cancel_jobs", cancel_jobs),
        (plugin.Executor, "shutdown", shutdown),
    )


def ask_for_gpus_of_each_node(plugin: ModuleType) -> None:
    """Request the same number of GPUs on each node of a job, and request them with `--gres` alone if a site names it.

    The plugin requests a total (`--gpus`), which SLURM may split into three here and one there. It does so even beside
    a `gres` that names GPUs, which some sites refuse, and SLURM itself does if only one of them says the type.
    """
    without = "cells on several nodes may get unequal numbers of GPUs, and a site that wants gres alone refuses jobs"
    patch(without, (plugin, "set_gres_string", set_gres_string))


def set_gres_string(original, job) -> str:
    """Return the option of sbatch that requests a job's GPUs."""
    asked = original(job)  # first: it refuses impossible requests
    nodes = job.resources.get("nodes") or 1
    gpus = (job.resources.get("gpu") or 1) // nodes
    if gres := re.fullmatch(r"gpu(:[A-Za-z_][\w.]*)?(:\d+)?", job.resources.get("gres") or ""):
        model = f":{job.resources.get('gpu_model')}" if job.resources.get("gpu_model") else ""
        return f" --gres=gpu{gres[1] or model}{gres[2] or f':{gpus}'}"
    if nodes == 1:
        return asked
    return re.sub(r"--gpus=(.*:)?\d+", lambda number: f"--gpus-per-node={number[1] or ''}{gpus}", asked)


def make_array_jobs_of_equal_jobs(plugin: ModuleType) -> None:
    """Make array jobs only of jobs with equal requests, and submit them as soon as they are ready.

    The plugin gives all tasks the limits of the first (as its pull request 174 says). It holds jobs back until more of
    their rule are ready, and forgets them if those come later, as with max-jobs-per-timespan (plugin issue 473). If
    there are more jobs than an array may have, it continues the numbers of the tasks, which SLURM refuses. It requests
    more memory even if none was requested, and then the job gets only 1 MB. gluegrid/execution/sbatch.py corrects what
    each task runs.
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
    """Return lists of jobs with equal requests, each with at most `most` jobs."""
    equal = defaultdict(list)
    for job in jobs:
        equal[str((job.threads, sorted(job.resources.items())))].append(job)
    return [some[start : start + most] for some in equal.values() for start in range(0, len(some), most)]


def _cancel_by_name(executor) -> None:
    """Cancel a call's jobs by name, in each of its clusters: in another, their numbers may be those of other jobs."""
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
    """Return the clusters that may have jobs of this call; "" is the one that SLURM's programs ask by default."""
    return sorted({"", *(name for names in executor._submitted_job_clusters for name in str(names).split(","))})


def _wait_until_gone(executor, others: list[str]) -> None:
    """Wait until cells have saved their work and noted why they exit, so that the last lines can tell."""
    deadline = time.monotonic() + SECONDS_TO_LEAVE_QUEUE
    try:
        for cluster in _clusters(executor):
            while time.monotonic() < deadline and is_in_queue(executor.run_uuid, cluster):
                time.sleep(1)
        while time.monotonic() < deadline and jobs_in_queue(others):
            time.sleep(1)
    except TransientError as error:
        executor.logger.warning(f"SLURM does not say whether jobs named {executor.run_uuid} are left: {error}")
