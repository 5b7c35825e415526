"""What the SLURM plugin of Snakemake does not do well enough, mended from outside (seen in version 2.8.0).

Each change looks first whether the plugin still has the shape that it was written for, and else leaves it alone.
"""

import asyncio
import getpass
import inspect
import re
import shlex
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import metadata
from types import ModuleType

from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.execution.invocation import interrupt
from gluegrid.execution.sbatch import patiently
from gluegrid.execution.slurm_queue import ANSWER_SECONDS, NUMBER, answer_of, cancel_jobs, is_in_queue

OLDEST = "2.8.0"  # as in pyproject.toml: the oldest that is tested

# A state that SLURM only passes through, or the absence of any, is believed after this long.
LOST_AFTER_SECONDS = 120
PASSING_STATES = {"NODE_FAIL", "PREEMPTED"}
UNKNOWN_SIZE = "SLURM does not say how large array jobs may be"
LOST = "ERROR"  # a state that the plugin takes for a failure
SECONDS_TO_LEAVE_QUEUE = 60  # SLURM kills 30 s after it has told a job to end (KillWait)


def check_version() -> None:
    """End a call that would submit its jobs with a plugin which is older than what was tried."""
    name = "snakemake-executor-plugin-slurm"
    found = metadata.version(name)
    if [int(part) for part in re.findall(r"\d+", found)[:3]] < [int(part) for part in OLDEST.split(".")]:
        raise SystemExit(f"{name} {found} is older than {OLDEST}; install what requirements.lock names")


def mend_slurm_plugin() -> None:
    """Apply every change below; where the plugin is not there, only what concerns all remote executors."""
    keep_pauses_between_status_checks()
    # Snakemake has imported all its plugins by now. Not imported here, since it brings pandas with it.
    plugin = sys.modules.get("snakemake_executor_plugin_slurm")
    if plugin is None:
        return
    keep_jobs_of_unanswered_queries(plugin)
    leave_accounts_and_partitions_to_slurm(plugin)
    wait_for_a_controller_that_is_away(plugin)
    cancel_all_jobs_of_an_interrupted_head(plugin)
    ask_for_gpus_of_each_node(plugin)
    make_array_jobs_of_equal_jobs(plugin)


def keep_pauses_between_status_checks() -> None:
    """Let --seconds-between-status-checks be the longest pause between two looks at the cluster's queue.

    The plugin does not heed it: while no job ends, it lengthens its pauses by 10 s up to 180 s, notices a cancelled job
    only then, and waits out the last pause before it exits.
    """
    name = "next_seconds_between_status_checks"
    pause = getattr(RemoteExecutor, name)

    def set_pause(executor: RemoteExecutor, seconds: float) -> None:
        longest = executor.workflow.remote_execution_settings.seconds_between_status_checks
        pause.fset(executor, min(seconds, longest))

    setattr(RemoteExecutor, name, property(pause.fget, set_pause))


def keep_jobs_of_unanswered_queries(plugin: ModuleType) -> None:
    """Let a head outlast a SLURM that does not answer, and notice the end of jobs that squeue has forgotten.

    When all queries of a round fail, the plugin forgets every job that is running, and waits for ever. A job that is
    not listed any more (MinJobAge) it takes for running, for ever too.
    """
    if not _takes(getattr(plugin, "query_job_status", None), "command", "logger"):
        return
    if not _takes(getattr(plugin.Executor, "check_active_jobs", None), "self", "active_jobs"):
        return
    check, states = plugin.Executor.check_active_jobs, JobStates(listed_states)

    async def check_active_jobs(self, active_jobs):
        # It is called, without jobs, before the executor has its name: what is raised then ends all checks, unseen.
        states.wanted, states.name = {job.external_jobid for job in active_jobs}, getattr(self, "run_uuid", "")
        async for job in check(self, active_jobs):
            yield job

    plugin.query_job_status = states.query
    plugin.Executor.check_active_jobs = check_active_jobs


async def listed_states(command: str, logger) -> tuple[dict[str, str] | None, float | None]:
    """Return what a command of the plugin's lists, the states of jobs by their numbers, and after how many seconds.

    None for both where SLURM does not answer. The plugin's own query takes a site's banner for jobs, or for silence if
    it is not in UTF-8.
    """
    begun, process = time.monotonic(), None
    try:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=pipe, stderr=pipe)
        said, complained = await asyncio.wait_for(process.communicate(), ANSWER_SECONDS)
    except (OSError, TimeoutError) as error:
        if process is not None:
            with suppress(ProcessLookupError):  # it has just ended
                process.kill()
        logger.debug(f"{command}: {error or 'no answer'}")
        return None, None
    if process.returncode != 0:
        logger.debug(f"{command}: {complained.decode(errors='replace')}")
        return None, None
    lines = [line.strip().split("|") for line in said.decode(errors="replace").splitlines()]
    states = {line[0]: line[1] for line in lines if len(line) == 2 and NUMBER.fullmatch(line[0])}
    return states, time.monotonic() - begun


class JobStates:
    """Asks SLURM for the states of jobs, by `query`, in place of the plugin; `name` is that of all jobs of its head."""

    def __init__(self, query: Callable, clock: Callable[[], float] = time.monotonic):
        self.wanted: set[str] = set()
        self.name = ""
        self._query = query
        self._clock = clock
        self._doubtful_since: dict[str, float] = {}
        self._is_silent = False

    async def query(self, command: str, logger) -> tuple[dict[str, str], float]:
        """Return the states of all jobs that SLURM tells of; none, that is no news, when it does not answer."""
        states, seconds = await self._query(_with_a_line_for_each_task(command), logger)
        if states is None:
            self._tell_once(logger)
            return {}, 0.0
        self._is_silent = False
        states = {job: _plain(state) for job, state in states.items()}
        states |= await self._states_of_unlisted(self.wanted - states.keys(), logger)
        # The accounting may not have heard of a job yet; the queue has.
        unknown = self.wanted - states.keys() if command.startswith("squeue") else set()
        return states | dict.fromkeys(self._lost(states, unknown, logger), LOST), seconds

    def _tell_once(self, logger) -> None:
        if not self._is_silent:
            logger.warning("SLURM does not answer; its jobs run on, and the head waits until it does.")
        self._is_silent = True

    async def _states_of_unlisted(self, jobs: set[str], logger) -> dict[str, str]:
        """Ask the accounting for jobs that squeue does not list."""
        numbers = sorted(filter(NUMBER.fullmatch, jobs))
        if not numbers:
            return {}
        # By name too: the numbers may be those of somebody else's jobs by now.
        asked = f"--name={self.name} --jobs={','.join(numbers)}"
        command = f"sacct --allocations --noheader --parsable2 --format=JobID,State {asked}"
        states, _ = await self._query(command, logger)
        found = {job: _plain(state) for job, state in (states or {}).items()}
        # What it says of jobs that have not ended may be old: squeue knows better.
        return {job: state for job, state in found.items() if state not in ("PENDING", "RUNNING", "REQUEUED")}

    def _lost(self, states: dict[str, str], unknown: set[str], logger) -> Iterable[str]:
        """Return the jobs that no one has known for long, or that SLURM was to requeue and did not."""
        passing = {job for job in self.wanted if states.get(job) in PASSING_STATES}
        doubtful = set(filter(NUMBER.fullmatch, passing | unknown))
        now = self._clock()
        self._doubtful_since = {job: self._doubtful_since.get(job, now) for job in doubtful}
        lost = [job for job, since in self._doubtful_since.items() if now - since > LOST_AFTER_SECONDS]
        for job in lost:
            logger.warning(f"SLURM job {job} is {states.get(job, 'not known to SLURM any more')}: taken for failed.")
        return lost


def _with_a_line_for_each_task(command: str) -> str:
    """Let a query of the plugin's name each task of an array job as <job>_<task>, as the plugin does."""
    return f"{command} --array" if command.startswith("squeue") else command.replace("JobIdRaw", "JobId")


def _plain(state: str) -> str:
    """Return a state without what sacct adds to it, as in `CANCELLED by 0`, which the plugin does not know."""
    return state.split()[0] if state.split() else state


def leave_accounts_and_partitions_to_slurm(plugin: ModuleType) -> None:
    """Let SLURM alone judge accounts, and choose the partition and the account where none is named: sbatch, which is
    called with patience, knows both.

    The plugin asks sinfo for the default partition, once, and fails all jobs where the controller is away. It asks
    sacctmgr and sshare for the account before each submission: where neither answers, the job fails; and where the
    account is not there, the reason stands far above the terminal's end, and each retry asks again. To guess an account
    it gives sacct an option that there is not.
    """
    if _takes(getattr(plugin, "validate_account", None), "account", "logger"):
        plugin.validate_account = lambda account, logger: account
    if _takes(getattr(plugin, "get_account", None), "logger"):
        plugin.get_account = lambda logger: None
    if _takes(getattr(plugin, "get_default_partition", None), "job", "logger"):
        plugin.get_default_partition = lambda job, logger: ""


def wait_for_a_controller_that_is_away(plugin: ModuleType) -> None:
    """Let a head that makes array jobs begin when SLURM can say how large they may be.

    The plugin guesses then, and sbatch refuses an array job that is too large, for good.
    """
    if not _takes(getattr(plugin.Executor, "__post_init__", None), "self", "test_mode"):
        return
    begin = plugin.Executor.__post_init__

    def begin_when_slurm_answers(self, test_mode=False):
        if self.workflow.executor_settings.array_jobs and shutil.which("scontrol"):
            with suppress(GluegridError):  # it was patient long enough
                patiently(lambda _: answer_of("scontrol", "show", "config"), UNKNOWN_SIZE)
        begin(self, test_mode)

    plugin.Executor.__post_init__ = begin_when_slurm_answers


def cancel_all_jobs_of_an_interrupted_head(plugin: ModuleType) -> None:
    """Let Ctrl-C leave no job in the queue.

    The plugin cancels the jobs that it counts as active at that moment: none while it asks for their states, and none
    that it is just submitting; and all submissions that wait for their turn it still makes.
    """
    if not _takes(getattr(plugin.Executor, "cancel_jobs", None), "self", "active_jobs"):
        return
    shutdown = plugin.Executor.shutdown

    def cancel_jobs_of_head(self, active_jobs):
        interrupt()
        self.was_interrupted = True
        _cancel_by_name(self)

    def shutdown_without_jobs(self):
        shutdown(self)
        # Now that no submission is under way any more.
        if getattr(self, "was_interrupted", False):
            _cancel_by_name(self)
            _wait_until_gone(self)

    plugin.Executor.cancel_jobs = cancel_jobs_of_head
    plugin.Executor.shutdown = shutdown_without_jobs


def ask_for_gpus_of_each_node(plugin: ModuleType) -> None:
    """Let a job of several nodes get the same number of GPUs on each, and a site be asked by `--gres` alone.

    The plugin asks for a number in all (`--gpus`), which SLURM may give as three here and one there; and it does so
    beside a `gres` that names GPUs too, which some sites refuse, as SLURM itself does where only one says the type.
    """
    if not _takes(getattr(plugin, "set_gres_string", None), "job"):
        return
    ask_for = plugin.set_gres_string

    def set_gres_string(job):
        asked = ask_for(job)
        nodes = job.resources.get("nodes") or 1
        gpus = (job.resources.get("gpu") or 1) // nodes
        if gres := re.fullmatch(r"gpu(:[A-Za-z_][\w.]*)?(:\d+)?", job.resources.get("gres") or ""):
            model = f":{job.resources.get('gpu_model')}" if job.resources.get("gpu_model") else ""
            return f" --gres=gpu{gres[1] or model}{gres[2] or f':{gpus}'}"
        if nodes == 1:
            return asked
        return re.sub(r"--gpus=(.*:)?\d+", lambda found: f"--gpus-per-node={found[1] or ''}{gpus}", asked)

    plugin.set_gres_string = set_gres_string


def make_array_jobs_of_equal_jobs(plugin: ModuleType) -> None:
    """Let all tasks of an array job ask for the same, and be submitted as soon as they are ready.

    The plugin gives all tasks the limits of the first. It holds jobs back until more of their rule are ready, and
    forgets them if those come later, as with max-jobs-per-timespan. Of more jobs than an array may have it numbers the
    tasks on, which SLURM refuses. And it asks for more memory, also where none was asked for: then 1 MB is all that the
    job gets. What each task runs is mended in gluegrid/execution/sbatch.py.
    """
    if not _takes(getattr(plugin.Executor, "run_array_jobs", None), "self", "jobs"):
        return
    if not _takes(getattr(plugin, "pending_jobs_for_rule", None), "dag", "rule_name"):
        return
    run_array = plugin.Executor.run_array_jobs

    def run_equal_jobs(self, jobs):
        for some in _equal_jobs(jobs, self.max_array_size):
            run = (run_array, self, some) if len(some) > 1 else (self.run_job, *some)
            self._job_submission_executor.submit(*run)

    plugin.Executor.run_array_jobs = run_equal_jobs
    plugin.pending_jobs_for_rule = lambda dag, rule_name: 0
    plugin.apply_mem_fudge = lambda call, payload: call


def _equal_jobs(jobs: list, most: int) -> Iterable[list]:
    """Return jobs in lists of those that ask for the same, with at most so many in each."""
    equal = defaultdict(list)
    for job in jobs:
        equal[str((job.threads, sorted(job.resources.items())))].append(job)
    return [some[start : start + most] for some in equal.values() for start in range(0, len(some), most)]


def _cancel_by_name(executor) -> None:
    """Cancel the jobs of a head, in each of its clusters: their numbers may be other jobs' in another cluster."""
    clusters = {name for names in executor._submitted_job_clusters for name in str(names).split(",")}
    for where in [[], *([f"--clusters={name}"] for name in sorted(clusters))]:
        try:
            cancel_jobs(f"--user={getpass.getuser()}", f"--name={executor.run_uuid}", *where)
        except TransientError as error:
            executor.logger.warning(f"SLURM does not cancel the jobs named {executor.run_uuid}: {error}")


def _wait_until_gone(executor) -> None:
    """Let cells save their work and note why they left, before the last lines tell what became of them."""
    deadline = time.monotonic() + SECONDS_TO_LEAVE_QUEUE
    try:
        while time.monotonic() < deadline and is_in_queue(executor.run_uuid):
            time.sleep(1)
    except TransientError as error:
        executor.logger.warning(f"SLURM does not say whether jobs named {executor.run_uuid} are left: {error}")


def _takes(function: object, *names: str) -> bool:
    """Tell whether something is a function of these parameters."""
    return callable(function) and tuple(inspect.signature(function).parameters) == names
