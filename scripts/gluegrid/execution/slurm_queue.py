"""SLURM's queue: find out which jobs are still in it, and cancel those that nobody wants any more.

Sites make SLURM's programs print more than requested, such as a banner, so only lines of the requested form count.
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
MOST_NAMED = 1_000  # jobs in a command line; for more, the whole queue is listed
# Number, state, start, time left, user, name, reason, comment: only the last may contain the separator.
COLUMNS = "%i|%T|%S|%L|%U|%j|%r|%k"
# A job or a task of an array job, as SLURM writes it; followed by its cluster if sbatch had to choose one, since each
# cluster counts its own jobs.
NUMBER = re.compile(r"\d+(_\d+)?(;[\w.-]+)?")
CLUSTER = re.compile(r"CLUSTER: (\S+)")  # above the jobs of each cluster, if squeue is asked about clusters
DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")  # [days-][hours:]minutes:seconds
ERROR = re.compile(r"^(sbatch|squeue|scancel|scontrol): |\berror: ")  # how error messages of SLURM's programs begin
# The plugin names jobs by a UUID, after a prefix that a site may choose, and describes the cell in the comment.
RANDOM_NAME = re.compile(r"(?:.*_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RULE = "rule_train"
RULE_OF_PACKS = "rule_pack_"
COMMENTS_OF_THE_PLUGIN = ("rule_", "group_")


@dataclass(frozen=True)
class Job:
    """A waiting or running job, as listed by squeue.

    `reason` is SLURM's reason for the wait; `starts` is its expected start (local time, ISO 8601; None if unknown);
    `seconds_left` is what remains of a running job's time limit. `user` is a number. `comment` is empty if the site
    does not keep comments.
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
        """Whether it has not started yet."""
        return self.state in WAITING


@dataclass(frozen=True)
class SubmittedJob:
    """A job as identified in a cell's files. Its number is not enough: if SLURM's controller lost its state or was
    reinstalled, it gives the same number to someone else's job.

    `comment` is the plugin's, in an array job that of the first task; `name` is None in files of earlier releases.
    `is_pack`: it trains other cells, too.
    """

    number: str
    comment: str
    name: str | None = None
    is_pack: bool = False

    def found_in(self, queue: Mapping[str, Job]) -> Job | None:
        """Return this job from a queue, whose keys are job numbers; None if it is not there."""
        job = queue.get(self.number)
        return job if job is not None and self._is(job) else None

    def _is(self, job: Job) -> bool:
        if self.name is None:
            is_ours = job.user == str(os.getuid()) and RANDOM_NAME.fullmatch(job.name) is not None
            return is_ours and self._fits(job.comment)
        # Some sites overwrite comments.
        is_of_a_rule = job.comment.startswith(COMMENTS_OF_THE_PLUGIN)
        return job.name == self.name and (self._fits(job.comment) or not is_of_a_rule)

    def _fits(self, comment: str) -> bool:
        is_task = "_" in self.number
        return comment in ("", self.comment) or comment.startswith((RULE_OF_PACKS, *([RULE] if is_task else [])))


def comment_of_cell(state: Path) -> str:
    """Return the plugin's comment for the job of a cell, given its state folder."""
    model, task, variant, seed = state.parts[-4:]
    return f"{RULE}_wildcards_{model}_{task}_{variant}_{seed.removeprefix('seed-')}"


def in_queue(jobs: Iterable[SubmittedJob]) -> list[str]:
    """Return the numbers of those jobs that wait or run. Raises TransientError if SLURM does not answer.

    A task of an array job has the number <job>_<task>; a job in a requested cluster has <job>;<cluster>.
    """
    jobs = list(jobs)
    queue = jobs_in_queue(job.number for job in jobs)
    return sorted({job.number for job in jobs if job.found_in(queue)})


def jobs_in_queue(numbers: Iterable[str], answer_seconds: float = ANSWER_SECONDS) -> dict[str, Job]:
    """Return the waiting or running jobs with these numbers, by one call of squeue per cluster.

    They may be someone else's: use SubmittedJob.found_in. Raises TransientError as above.
    """
    wanted, found = set(filter(NUMBER.fullmatch, numbers)), {}
    for cluster, of_cluster in sorted(by_cluster(wanted).items()):
        which = [f"--jobs={','.join(sorted(of_cluster))}"] if len(of_cluster) <= MOST_NAMED else []
        jobs = _listed(*which, clusters=cluster, seconds=answer_seconds)
        found |= {job.number: job for job in jobs if job.number in wanted}
    return found


def job_submitted_as(name: str, comment: str, clusters: str = "") -> str | None:
    """Return the number of the newest waiting or running job with this name and comment; for an array job, without a
    task. Raises TransientError as above.
    """
    jobs = [job for job in _listed(f"--name={name}", clusters=clusters) if (job.name, job.comment) == (name, comment)]
    newest = max(jobs, key=lambda job: int(re.match(r"\d+", job.number)[0]), default=None)
    return newest and without_task(newest.number)


def job_named(name: str, clusters: str = "") -> Job | None:
    """Return a waiting or running job with this name; None if there is none. Raises TransientError as above."""
    return next((job for job in _listed(f"--name={name}", clusters=clusters) if job.name == name), None)


def is_in_queue(name: str, clusters: str = "") -> bool:
    """Tell whether a job with this name waits, runs, or is just ending. Raises TransientError as above."""
    return bool(_listed(f"--name={name}", clusters=clusters))


def cancel(numbers: Iterable[str]) -> None:
    """Cancel jobs by their numbers. Raises TransientError."""
    for cluster, of_cluster in by_cluster(numbers).items():
        cancel_jobs(*of_cluster, clusters=cluster)


def cancel_jobs(*which: str, clusters: str = "") -> None:
    """Cancel the jobs given by scancel's arguments. Raises TransientError."""
    answer_of("scancel", *which, *([f"--clusters={clusters}"] if clusters else []))


def by_cluster(numbers: Iterable[str]) -> dict[str, list[str]]:
    """Return the numbers of jobs by cluster, without the cluster; "" if none was requested."""
    of_clusters = defaultdict(list)
    for number in numbers:
        of_clusters[cluster_of(number)].append(without_cluster(number))
    return of_clusters


def cluster_of(number: str) -> str:
    """Return the cluster of a job; "" if none was requested."""
    return number.partition(";")[2]


def without_cluster(number: str) -> str:
    """Return a job's number without its cluster."""
    return number.partition(";")[0]


def without_task(number: str) -> str:
    """Return the number of an array job from that of a task; any other number unchanged."""
    return re.sub(r"_\d+", "", number, count=1)


def answer_of(*command: str, seconds: float = ANSWER_SECONDS) -> str:
    """Return the output of a SLURM program. Raises TransientError, in one line, if it fails or does not end.

    Only its arguments determine which clusters it asks.
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
    """Return, in one line, why a SLURM program failed: its output from the first error on, or else all of it."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    first = next((number for number, line in enumerate(lines) if ERROR.search(line)), 0)
    said = " ".join(" ".join(lines[first:]).split())
    return said or f"{Path(done.args[0]).name} ended with exit code {done.returncode}"


def _listed(*which: str, clusters: str = "", seconds: float = ANSWER_SECONDS) -> list[Job]:
    """Return the requested jobs that have not ended."""
    try:
        where = f"--clusters={clusters}" if clusters else "--noheader"  # which would also drop the clusters' names
        asked = (where, "--array", "--states=all", f"--format={COLUMNS}")
        answer = answer_of("squeue", *asked, *which, seconds=seconds)
    except TransientError as error:
        # squeue's message for a single job that left the queue a while ago.
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
