"""The states of SLURM's jobs as the plugin of Snakemake wants them, from a SLURM that may be silent or forget jobs."""

import asyncio
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from gluegrid.execution.slurm_queue import ANSWER_SECONDS, NUMBER

# A state that SLURM only passes through, or the absence of any, is believed after this long.
LOST_AFTER_SECONDS = 120
PASSING_STATES = {"NODE_FAIL", "PREEMPTED"}
LOST = "ERROR"  # a state that the plugin takes for a failure


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
        plain = {job: _plain(state) for job, state in (states or {}).items()}
        # What it says of jobs that have not ended may be old: squeue knows better.
        return {job: state for job, state in plain.items() if state not in ("PENDING", "RUNNING", "REQUEUED")}

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
