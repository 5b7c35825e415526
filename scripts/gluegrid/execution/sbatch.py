"""Submit a job to SLURM, in place of `sbatch` on the PATH of a call of snakemake (scripts/slurm/on_head).

Snakemake's SLURM plugin takes a refused `sbatch` for a failed job. Its retries follow at once, without knowing why the
last attempt failed or which jobs another call has left in the queue. Here, temporary refusals are retried; a cell that
need not be tried again is not submitted; and if another job of the cell is still in the queue, the new one waits behind
it there, without a GPU. Each task of an array job works only for its own cell.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gluegrid.common.errors import GluegridError, TransientError
from gluegrid.common.provenance import CLUSTERS
from gluegrid.execution import attempts
from gluegrid.execution.array_jobs import commands_of_tasks, script_of_array, states_of_tasks
from gluegrid.execution.invocation import has_ended, tell_terminal
from gluegrid.execution.locks import lock
from gluegrid.execution.slurm_queue import (
    SubmittedJob,
    by_cluster,
    cancel,
    cluster_of,
    complaint,
    in_queue,
    job_submitted_as,
    without_cluster,
    without_task,
)
from gluegrid.execution.submissions import jobs_of_cell, note_job, note_refusal

FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 60
PATIENCE_SECONDS = 3600
NOT_WANTED = "not submitted: the call of snakemake that wanted it has ended"

WRAPPED, STDIN = "--wrap=", "/dev/stdin"  # the two ways in which the plugin passes a command to sbatch

# SLURM's own messages, which are parsed only here and in slurm_queue.py.
# Those for a job that it will not accept later, either:
HOPELESS = re.compile(
    "invalid account|invalid partition|no partition specified|invalid qos|invalid feature|invalid generic resource"
    "|invalid gres|invalid wckey|invalid license"
    "|invalid job array|invalid time limit|requested time limit is invalid|invalid reservation"
    "|requested reservation is invalid|requested node configuration is not available|node count specification invalid"
    "|can not be satisfied|more processors requested than permitted|unrecognized option|invalid option|invalid argument"
    "|access/permission denied|user's group not permitted|batch script is empty|does not look like a batch script"
    "|script arguments not permitted|argument list too long|no such file or directory|invalid user id"
    "|wall ?duration|maxwall|maxcpu|maxnode|maxtres|maxgres|maxmem|minc?pu|mingres",
    re.IGNORECASE,
)
# With --parsable, and sbatch's usual answer, in case a site's wrapper drops that option.
ANSWER = re.compile(r"(?:Submitted batch job )?(?P<number>\d+)(?:;| on cluster |$)(?P<cluster>[\w.-]*)")
# The option that lets sbatch choose a cluster, and the variables with the same meaning.
OF_CLUSTERS = re.compile(r"(?:--clusters(?:=|$)|-M)(?P<value>.*)")
VARIABLES_OF_CLUSTERS = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
ALL_CLUSTERS = "all"
DEPENDENCY_GONE = "Job dependency problem"


def main() -> None:
    """Act as `sbatch` would with this command line."""
    arguments = sys.argv[1:]
    script = sys.stdin.read() if arguments[-1:] == [STDIN] else None
    try:
        job = submit(arguments, script)
    except GluegridError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(job)


def submit(arguments: list[str], script: str | None) -> str:
    """Submit the job of this sbatch command line; return what `sbatch --parsable` prints.

    `script` is what sbatch would read from standard input. Raises GluegridError with SLURM's message.
    """
    commands = commands_of_tasks(arguments, _command_of(arguments, script))
    states = states_of_tasks(commands)
    reasons = [attempts.reason_to_stop(state) for state in states]
    # In an array job or a pack, a cell that is not to be tried ends by itself as soon as it starts.
    if reasons and all(reasons):
        raise GluegridError(f"not submitted: {reasons[0]}")
    if "" not in commands:
        arguments, script = _without_command(arguments), script_of_array(commands)
    try:
        with _no_other_submission(states):
            # An array job has the comment of its first cell, which another job in the queue may have, too.
            answer = _with_patience(arguments, script, [*states], is_known_by_comment="" in commands)
            # If no cluster was requested, none is named to other programs, either: a site may choose it itself.
            cluster = f";{cluster_of(answer)}" if clusters_asked_for(arguments) and cluster_of(answer) else ""
            name, comment = (_value(arguments, option) for option in ("--job-name", "--comment"))
            for state, task in states.items():
                number = f"{without_cluster(answer)}{task}{cluster}"
                note_job(state, number, name, comment, is_pack=len(states) > len(commands))
    except GluegridError as error:
        if not has_ended():
            for state in states:
                note_refusal(state, " ".join(str(error).split()))
        raise
    if states and has_ended():
        cancel([answer])
        raise GluegridError(NOT_WANTED)
    return answer


@contextmanager
def _no_other_submission(states: Collection[Path]) -> Iterator[None]:
    """Keep other calls of snakemake from submitting a job for the same cell meanwhile, since theirs must wait for it.

    This does not cover the many cells of an array job or a pack: there, the later job ends and is submitted again.
    """

    def give_up_with_head(holder: dict) -> None:
        if has_ended():
            raise GluegridError(NOT_WANTED)

    with ExitStack() as stack:
        for state in states if len(states) == 1 else ():
            with suppress(OSError):  # the cell's lock protects it, too
                stack.enter_context(lock(state / "submission", lambda holder: None, on_alive=give_up_with_head))
        yield


def _command_of(arguments: list[str], script: str | None) -> str:
    wrapped = [argument.removeprefix(WRAPPED) for argument in arguments if argument.startswith(WRAPPED)]
    return script or "".join(wrapped)


def _without_command(arguments: list[str]) -> list[str]:
    """Return the sbatch command line with the script taken from standard input."""
    return [*(argument for argument in arguments if not argument.startswith((WRAPPED, STDIN))), STDIN]


def _with_patience(arguments: list[str], script: str | None, states: list[Path], is_known_by_comment: bool) -> str:
    """Return the job's number from sbatch, followed by `;` and its cluster if sbatch names it."""

    def submit_once(is_another_try: bool) -> str:
        earlier = [job for state in states for job in jobs_of_cell(state)]
        if is_another_try and is_known_by_comment and (answer := _accepted_unanswered(arguments, earlier)):
            return answer
        return _sbatch(arguments, script, earlier)

    return patiently(submit_once, f"SLURM refuses a job of {_name_of(arguments)}")


def patiently(ask: Callable[[bool], str], refused: str) -> str:
    """Return SLURM's answer, asking repeatedly while the call of snakemake lives, for an hour at most.

    `ask` is told whether this is a retry, and raises TransientError if another retry may succeed; the terminal then
    shows `refused`.
    """
    pause, deadline, is_another_try = FIRST_PAUSE_SECONDS, time.monotonic() + PATIENCE_SECONDS, False
    while True:
        if has_ended():
            raise GluegridError(NOT_WANTED)
        try:
            return ask(is_another_try)
        except TransientError as error:
            if time.monotonic() > deadline:
                raise
            tell_terminal(f"{refused}: {' '.join(str(error).split())}; trying again in {pause} s")
        _sleep(pause)
        pause, is_another_try = min(2 * pause, LONGEST_PAUSE_SECONDS), True


def _sleep(seconds: float) -> None:
    """Sleep, but no longer than the call of snakemake lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not has_ended():
        time.sleep(min(1, seconds))


def _sbatch(arguments: list[str], script: str | None, earlier: list[SubmittedJob]) -> str:
    """Call sbatch once. Raises TransientError if a retry may succeed, otherwise GluegridError."""
    waiting = in_queue(earlier)
    if waiting:
        arguments = _within_cluster_of(waiting, arguments)
    # First, so that a dependency of the user's replaces it: the lock protects the cell, too.
    dependency = [f"--dependency=afterany:{':'.join(map(without_cluster, waiting))}"] if waiting else []
    done = _call([*dependency, *arguments], script)
    if waiting and DEPENDENCY_GONE in done.stderr:
        done = _call(arguments, script)
    if done.returncode != 0:
        said = complaint(done)
        raise (GluegridError if HOPELESS.search(said) else TransientError)(said)
    # Not retried, since the job exists.
    if (answer := number_in(done.stdout) or _accepted_unanswered(arguments, earlier)) is None:
        said = " ".join(done.stdout.split()) or "nothing"
        raise GluegridError(f"sbatch accepted the job but printed no number, which gluegrid needs; it said: {said}")
    return answer


def _within_cluster_of(waiting: list[str], arguments: list[str]) -> list[str]:
    """Return a command line for the cluster of the jobs that the new one must wait for, since dependencies work only
    within a cluster.

    Raises TransientError if that is not one of the requested clusters.
    """
    asked = clusters_asked_for(arguments)
    (cluster, *others) = by_cluster(waiting)
    if others or (cluster not in asked.split(",") and not (cluster and asked == ALL_CLUSTERS)):
        jobs = f"SLURM job {', '.join(waiting)} of this cell is still in the queue"
        raise TransientError(f"{jobs}, and a job in another cluster cannot wait for it (--clusters={asked})")
    return arguments if cluster == asked else [f"--clusters={cluster}", *_without_clusters(arguments)]


def clusters_asked_for(arguments: list[str]) -> str:
    """Return the clusters from which sbatch is to choose; "" if none are given."""
    given = [argument for argument in arguments if OF_CLUSTERS.fullmatch(argument)]
    if given:
        return OF_CLUSTERS.fullmatch(given[-1])["value"] or _value(arguments, given[-1]) or ""
    return next((os.environ[name] for name in VARIABLES_OF_CLUSTERS if os.environ.get(name)), "")


def _without_clusters(arguments: list[str]) -> list[str]:
    is_value = [False, *(argument in ("--clusters", "-M") for argument in arguments)]
    pairs = zip(arguments, is_value, strict=False)
    return [argument for argument, after in pairs if not (after or OF_CLUSTERS.fullmatch(argument))]


def number_in(said: str) -> str | None:
    """Return the job's number, with `;` and its cluster if named, from the last such line: sites print banners."""
    answers = [match for line in said.splitlines() if (match := ANSWER.fullmatch(line.strip()))]
    return ";".join(filter(None, answers[-1].group("number", "cluster"))) if answers else None


def _call(arguments: list[str], script: str | None) -> subprocess.CompletedProcess:
    command = [os.environ["GLUEGRID_SBATCH"], *arguments]
    # The job needs to know whether its number includes its cluster.
    environment = {name: value for name, value in os.environ.items() if name != CLUSTERS}
    environment |= {CLUSTERS: asked} if (asked := clusters_asked_for(arguments)) else {}
    done = subprocess.run(command, input=os.fsencode(script or ""), capture_output=True, env=environment)
    # A site's banner may have any encoding.
    said, complained = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, said, complained)


def _accepted_unanswered(arguments: list[str], earlier: list[SubmittedJob]) -> str | None:
    """Return the job that SLURM accepted although its answer was lost; not an earlier one, which may be ending."""
    name, comment = _value(arguments, "--job-name"), _value(arguments, "--comment")
    if name is None or comment is None:
        return None
    try:
        number = job_submitted_as(name, comment, clusters_asked_for(arguments))
    except TransientError:
        return None  # the next call of sbatch will report it
    return None if number in {without_task(job.number) for job in earlier} else number


def _value(arguments: list[str], option: str) -> str | None:
    """Return the value that follows an option, as the plugin writes them."""
    return arguments[arguments.index(option) + 1] if option in arguments[:-1] else None


def _name_of(arguments: list[str]) -> str:
    comment = _value(arguments, "--comment") or "snakemake"
    return comment.removeprefix("rule_").replace("_wildcards_", " ")
