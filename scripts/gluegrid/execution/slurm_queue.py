"""SLURM's queue: which of some jobs are still in it, and the end of those that nobody wants any more.

Sites let SLURM's programs say more than they are asked for, such as a banner: only lines of the asked shape count.
"""

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.errors import TransientError

# A job in one of these states has ended, and is listed for a while (MinJobAge).
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ANSWER_SECONDS = 60
MOST_NAMED = 1_000  # jobs in a command line; of more, the whole queue is asked for
# Number, state, start, time left, user, name, reason, comment: only the last may hold what separates them.
COLUMNS = "%i|%T|%S|%L|%U|%j|%r|%k"
# Of a job, or of a task of an array job, and of which cluster where sbatch was told to choose among clusters: each has
# numbers of its own. As SLURM itself writes it.
NUMBER = re.compile(r"\d+(_\d+)?(;[\w.-]+)?")
CLUSTER = re.compile(r"CLUSTER: (\S+)")  # above the jobs of each, where squeue is asked for clusters
DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")  # [days-][hours:]minutes:seconds
ERROR = re.compile(r"^(sbatch|squeue|scancel|scontrol): |\berror: ")  # how SLURM's programs begin to say what is wrong
# The plugin names jobs by a random number, after a prefix that a site may have chosen, and comments on the cell.
RANDOM_NAME = re.compile(r"(?:.*_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RULE = "rule_train"
RULE_OF_PACKS = "rule_pack_"
COMMENTS_OF_THE_PLUGIN = ("rule_", "group_")


@dataclass(frozen=True)
class Job:
    """A job that waits or runs, as squeue lists it.

    `reason` is SLURM's word for why it waits, `starts` when SLURM expects that to end (local time, ISO 8601; None where
    it does not say), `seconds_left` how much is left of the time limit of one that runs. `user` is a number. `comment`
    is empty where the site keeps none.
    """

    number: str
    state: str
    reason: str = ""
    starts: str | None = None
    seconds_left: int | None = None
    user: str = ""
    name: str = ""
    comment: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has yet to start."""
        return self.state in WAITING


@dataclass(frozen=True)
class SubmittedJob:
    """A job as a cell's files name it. Its number alone does not: a controller that forgot its last jobs, or that was
    set up anew, gives it to another, which is somebody else's.

    `comment` is what the plugin said of it, of an array job's task that of the first; `name` is None in files that an
    earlier release wrote. `is_pack`: it trains other cells too.
    """

    number: str
    comment: str
    name: str | None = None
    is_pack: bool = False

    def found_in(self, queue: Mapping[str, Job]) -> Job | None:
        """Return this job, from those that wait or run by their numbers; None where it is not among them."""
        job = queue.get(self.number)
        return job if job is not None and self._is(job) else None

    def _is(self, job: Job) -> bool:
        if self.name is None:
            is_ours = job.user == str(os.getuid()) and RANDOM_NAME.fullmatch(job.name) is not None
            return is_ours and self._fits(job.comment)
        # Some sites write comments of their own.
        is_of_a_rule = job.comment.startswith(COMMENTS_OF_THE_PLUGIN)
        return job.name == self.name and (self._fits(job.comment) or not is_of_a_rule)

    def _fits(self, comment: str) -> bool:
        is_task = "_" in self.number
        return comment in ("", self.comment) or comment.startswith((RULE_OF_PACKS, *([RULE] if is_task else [])))


def comment_of_cell(state: Path) -> str:
    """Return the plugin's comment on the job of a cell, from its state folder."""
    model, task, variant, seed = state.parts[-4:]
    return f"{RULE}_wildcards_{model}_{task}_{variant}_{seed.removeprefix('seed-')}"


def in_queue(jobs: Iterable[SubmittedJob]) -> list[str]:
    """Return the numbers of those of some jobs that wait or run. TransientError when SLURM does not answer.

    A task of an array job has the number <job>_<task>; one in a cluster that was asked for, <job>;<cluster>.
    """
    jobs = list(jobs)
    queue = jobs_in_queue(job.number for job in jobs)
    return sorted({job.number for job in jobs if job.found_in(queue)})


def jobs_in_queue(numbers: Iterable[str], answer_seconds: float = ANSWER_SECONDS) -> dict[str, Job]:
    """Return the jobs that wait or run and have these numbers; one call of squeue for each cluster. TransientError as
    above.

    Whose they are, SubmittedJob.found_in knows.
    """
    wanted, found = set(filter(NUMBER.fullmatch, numbers)), {}
    for cluster, of_cluster in sorted(by_cluster(wanted).items()):
        which = [f"--jobs={','.join(sorted(of_cluster))}"] if len(of_cluster) <= MOST_NAMED else []
        jobs = _listed(*which, clusters=cluster, seconds=answer_seconds)
        found |= {job.number: job for job in jobs if job.number in wanted}
    return found


def job_submitted_as(name: str, comment: str, clusters: str = "") -> str | None:
    """Return the number of the newest job that waits or runs with this name and comment; of an array job, without that
    of a task. TransientError as above.
    """
    jobs = [job for job in _listed(f"--name={name}", clusters=clusters) if (job.name, job.comment) == (name, comment)]
    newest = max(jobs, key=lambda job: int(re.match(r"\d+", job.number)[0]), default=None)
    return newest and without_task(newest.number)


def job_named(name: str, clusters: str = "") -> Job | None:
    """Return a job of this name that waits or runs; None where there is none. TransientError as above."""
    return next((job for job in _listed(f"--name={name}", clusters=clusters) if job.name == name), None)


def is_in_queue(name: str, clusters: str = "") -> bool:
    """Tell whether a job of this name waits, runs, or is just ending. TransientError as above."""
    return bool(_listed(f"--name={name}", clusters=clusters))


def cancel(numbers: Iterable[str]) -> None:
    """Cancel jobs by their numbers. Raises TransientError."""
    for cluster, of_cluster in by_cluster(numbers).items():
        cancel_jobs(*of_cluster, clusters=cluster)


def cancel_jobs(*which: str, clusters: str = "") -> None:
    """Cancel jobs, named as scancel's arguments. Raises TransientError."""
    answer_of("scancel", *which, *([f"--clusters={clusters}"] if clusters else []))


def by_cluster(numbers: Iterable[str]) -> dict[str, list[str]]:
    """Return the numbers of jobs without their clusters, by those; "" where none was asked for."""
    of_clusters = defaultdict(list)
    for number in numbers:
        of_clusters[cluster_of(number)].append(without_cluster(number))
    return of_clusters


def cluster_of(number: str) -> str:
    """Return the cluster of a job; "" where none was asked for."""
    return number.partition(";")[2]


def without_cluster(number: str) -> str:
    """Return a job's number in its cluster."""
    return number.partition(";")[0]


def without_task(number: str) -> str:
    """Return the number of an array job from that of a task; any other as it is."""
    return re.sub(r"_\d+", "", number, count=1)


def answer_of(*command: str, seconds: float = ANSWER_SECONDS) -> str:
    """Return what a program of SLURM's prints. Raises TransientError, in one line, where it fails or does not end.

    What clusters it is to ask, its arguments alone say.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CLUSTERS"}
    pipes = {"capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, **pipes, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{command[0]}: no answer for {seconds:.0f} s") from error
    except OSError as error:
        raise TransientError(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise TransientError(complaint(done))
    return done.stdout


def complaint(done: subprocess.CompletedProcess) -> str:
    """Return, in one line, why a program of SLURM's has failed: what it says from its first error on, else all."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    first = next((number for number, line in enumerate(lines) if ERROR.search(line)), 0)
    said = " ".join(" ".join(lines[first:]).split())
    return said or f"{Path(done.args[0]).name} ended with exit code {done.returncode}"


def _listed(*which: str, clusters: str = "", seconds: float = ANSWER_SECONDS) -> list[Job]:
    """Return those of the jobs asked for that have not ended."""
    try:
        where = f"--clusters={clusters}" if clusters else "--noheader"  # which would leave out the clusters' names, too
        asked = (where, "--array", "--states=all", f"--format={COLUMNS}")
        answer = answer_of("squeue", *asked, *which, seconds=seconds)
    except TransientError as error:
        # What squeue says of a single job that has left the queue for long.
        if "Invalid job id specified" in str(error):
            return []
        raise
    jobs, cluster = [], clusters
    for line in map(str.strip, answer.splitlines()):
        columns = line.split("|", COLUMNS.count("|"))
        if named := CLUSTER.fullmatch(line):
            cluster = named[1]
        elif len(columns) == COLUMNS.count("|") + 1 and NUMBER.fullmatch(columns[0]):
            jobs.append(_job(f"{columns[0]};{cluster}" if cluster else columns[0], *columns[1:]))
    return [job for job in jobs if job.state not in ENDED]


def _job(number: str, state: str, starts: str, left: str, user: str, name: str, reason: str, comment: str) -> Job:
    parts = DURATION.fullmatch(left)
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0, 0)
    return Job(
        number,
        state,
        reason="" if reason == "None" else reason,
        starts=starts if starts[:1].isdigit() else None,
        seconds_left=((days * 24 + hours) * 60 + minutes) * 60 + seconds if parts else None,
        user=user,
        name=name,
        comment="" if comment == "(null)" else comment,
    )
