"""Tell Snakemake's SLURM plugin the states of jobs, even if SLURM is silent or forgets jobs."""

import asyncio
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from gluegrid.execution.slurm_queue import ANSWER_SECONDS, NUMBER

# Believe a transient state, or the absence of any state, only after this long.
LOST_AFTER_SECONDS = 120
PASSING_STATES = {"NODE_FAIL", "PREEMPTED"}
LOST = "ERROR"  # a state that the plugin takes for a failure
# Separates number and cluster in the id by which the plugin knows a job, and which it writes into shell commands.
BEFORE_CLUSTER = "@"
ALL_CLUSTERS = " --clusters all"  # in the plugin's sacct commands


def id_of(number: str, cluster: str) -> str:
    """Return the id by which the plugin knows a job; `cluster` is empty if none was requested."""
    return f"{number}{BEFORE_CLUSTER}{cluster}" if cluster else number


async def listed_states(command: str, logger) -> tuple[dict[str, str] | None, float | None]:
    """Return the states of jobs by number, as a command of the plugin lists them, and the seconds that it took.

    Return None for both if SLURM does not answer. The plugin's own query takes a site's banner for jobs, or for silence
    if it is not in UTF-8.
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
    """The states of a call's jobs, asked of SLURM with `query` in place of the plugin; all its jobs have one `name`."""

    def __init__(self, query: Callable, clock: Callable[[], float] = time.monotonic):
        self.wanted: set[str] = set()
        self.name = ""
        self._query = query
        self._clock = clock
        self._doubtful_since: dict[str, float] = {}
        self._silent: set[str] = set()

    async def query(self, command: str, logger) -> tuple[dict[str, str], float]:
        """Return the states of all jobs that SLURM reports; if it does not answer, return none, which means no news."""
        states, unknown, silent, total = {}, set(), set(), 0.0
        for cluster, numbers in self._wanted_by_cluster().items():
            listed, seconds = await self._states_in(cluster, numbers, command, logger)
            if listed is None:
                silent.add(cluster)
                continue
            states |= {id_of(number, cluster): state for number, state in listed.items()}
            total += seconds
            # The accounting may not have heard of a job yet; the queue has.
            if command.startswith("squeue"):
                unknown |= {id_of(number, cluster) for number in numbers - listed.keys()}
        self._tell_once(silent, logger)
        return states | dict.fromkeys(self._lost(states, unknown, logger), LOST), total

    def _wanted_by_cluster(self) -> dict[str, set[str]]:
        """Return the numbers of the wanted jobs by cluster."""
        of_clusters = {}
        for job in self.wanted:
            number, _, cluster = job.partition(BEFORE_CLUSTER)
            of_clusters.setdefault(cluster, set()).add(number)
        return dict(sorted(of_clusters.items())) or {"": set()}

    async def _states_in(
        self, cluster: str, numbers: set[str], command: str, logger
    ) -> tuple[dict[str, str] | None, float | None]:
        """Return the states of all jobs that a cluster reports, and the seconds that it took; None if silent."""
        has_others = len(self._wanted_by_cluster()) > 1
        states, seconds = await self._query(_in_cluster(command, cluster, has_others), logger)
        if states is None:
            return None, None
        states = {job: _plain(state) for job, state in states.items()}
        return states | await self._states_of_unlisted(numbers - states.keys(), cluster, logger), seconds

    def _tell_once(self, silent: set[str], logger) -> None:
        for cluster in sorted(silent - self._silent):
            whose = f" of cluster {cluster}" if cluster else ""
            logger.warning(f"SLURM{whose} does not answer; its jobs keep running, and the controller waits.")
        self._silent = silent

    async def _states_of_unlisted(self, jobs: set[str], cluster: str, logger) -> dict[str, str]:
        """Ask the accounting for jobs that squeue does not list."""
        numbers = sorted(filter(NUMBER.fullmatch, jobs))
        if not numbers:
            return {}
        # By name, too: by now, the numbers may be those of somebody else's jobs.
        asked = f"--name={self.name} --jobs={','.join(numbers)}"
        where = f" --clusters={cluster}" if cluster else ""
        command = f"sacct --allocations --noheader --parsable2 --format=JobID,State{where} {asked}"
        states, _ = await self._query(command, logger)
        plain = {job: _plain(state) for job, state in (states or {}).items()}
        # For jobs that have not ended, its answer may be outdated: squeue knows better.
        return {job: state for job, state in plain.items() if state not in ("PENDING", "RUNNING", "REQUEUED")}

    def _lost(self, states: dict[str, str], unknown: set[str], logger) -> Iterable[str]:
        """Return the jobs that have been unknown for too long, or that SLURM was to requeue and did not."""
        passing = {job for job in self.wanted if states.get(job) in PASSING_STATES}
        doubtful = {job for job in passing | unknown if NUMBER.fullmatch(job.partition(BEFORE_CLUSTER)[0])}
        now = self._clock()
        self._doubtful_since = {job: self._doubtful_since.get(job, now) for job in doubtful}
        lost = [job for job, since in self._doubtful_since.items() if now - since > LOST_AFTER_SECONDS]
        for job in lost:
            logger.warning(f"SLURM job {job} is {states.get(job, 'not known to SLURM any more')}: taken for failed.")
        return lost


def _in_cluster(command: str, cluster: str, has_others: bool) -> str:
    """Return a query of the plugin for one cluster that names tasks of array jobs <job>_<task> as the plugin does."""
    command = f"{command} --array" if command.startswith("squeue") else command.replace("JobIdRaw", "JobId")
    if cluster or has_others:
        command = command.replace(ALL_CLUSTERS, "")
    return f"{command} --clusters={cluster}" if cluster else command


def _plain(state: str) -> str:
    """Return a state without sacct's additions, as in `CANCELLED by 0`, which the plugin does not know."""
    return state.split()[0] if state.split() else state
