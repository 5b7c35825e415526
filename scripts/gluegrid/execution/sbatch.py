"""Submitting a job to SLURM, in place of `sbatch` on an invocation's PATH (scripts/slurm/on_head).

To Snakemake's SLURM plugin a refused `sbatch` is a failed job, its retries follow at once, and they know neither why
the last attempt failed nor which jobs another invocation has left in the queue. So here: what SLURM refuses for a while
is tried again; a cell that need not be tried again is not submitted; and where another job of the cell is still in the
queue, the new one waits behind it there, and holds no GPU. Each task of an array job works for its own cell alone.
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
NOT_WANTED = "not submitted: the head has ended"

WRAPPED, STDIN = "--wrap=", "/dev/stdin"  # the two ways in which the plugin gives sbatch a command

# What SLURM says, in its own words; they are read here and in slurm_queue.py alone.
# Of a job that it will not take later either:
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
# With --parsable, and as sbatch answers where a site's own program in its place drops that.
ANSWER = re.compile(r"(?:Submitted batch job )?(?P<number>\d+)(?:;| on cluster |$)(?P<cluster>[\w.-]*)")
# The option that lets sbatch choose a cluster, and the variables that stand for it.
OF_CLUSTERS = re.compile(r"(?:--clusters(?:=|$)|-M)(?P<value>.*)")
VARIABLES_OF_CLUSTERS = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
ALL_CLUSTERS = "all"
DEPENDENCY_GONE = "Job dependency problem"


def main() -> None:
    """Do what `sbatch` with this command line would do."""
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
    """Submit what this command line of sbatch asks for; return what sbatch prints that is told to do so, and no more.

    `script` is what it reads from its standard input. Raises GluegridError with what SLURM said.
    """
    commands = commands_of_tasks(arguments, _command_of(arguments, script))
    states = states_of_tasks(commands)
    reasons = [attempts.reason_to_stop(state) for state in states]
    # Of an array job or a pack, what is in vain ends by itself as soon as it starts.
    if reasons and all(reasons):
        raise GluegridError(f"not submitted: {reasons[0]}")
    if "" not in commands:
        arguments, script = _without_command(arguments), script_of_array(commands)
    try:
        with _no_other_submission(states):
            # An array job has the comment of its first cell, as may another that is still there.
            answer = _with_patience(arguments, script, [*states], is_known_by_comment="" in commands)
            # Where no cluster was asked for, none is named to other programs either: a site may see to that itself.
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
    """Let no other call of snakemake submit a job of the same cell meanwhile: its job is to wait for this one.

    Not for the many cells of an array job or a pack: the later one ends and is submitted again.
    """

    def give_up_with_head(holder: dict) -> None:
        if has_ended():
            raise GluegridError(NOT_WANTED)

    with ExitStack() as stack:
        for state in states if len(states) == 1 else ():
            with suppress(OSError):  # the cell's lock guards it too
                stack.enter_context(lock(state / "submission", lambda holder: None, on_alive=give_up_with_head))
        yield


def _command_of(arguments: list[str], script: str | None) -> str:
    wrapped = [argument.removeprefix(WRAPPED) for argument in arguments if argument.startswith(WRAPPED)]
    return script or "".join(wrapped)


def _without_command(arguments: list[str]) -> list[str]:
    """Return a command line of sbatch that takes the script from standard input."""
    return [*(argument for argument in arguments if not argument.startswith((WRAPPED, STDIN))), STDIN]


def _with_patience(arguments: list[str], script: str | None, states: list[Path], is_known_by_comment: bool) -> str:
    """Return the number that sbatch has given the job, and behind a `;` its cluster if it says so."""

    def submit_once(is_another_try: bool) -> str:
        earlier = [job for state in states for job in jobs_of_cell(state)]
        if is_another_try and is_known_by_comment and (answer := _accepted_unanswered(arguments, earlier)):
            return answer
        return _sbatch(arguments, script, earlier)

    return patiently(submit_once, f"SLURM refuses a job of {_name_of(arguments)}")


def patiently(ask: Callable[[bool], str], refused: str) -> str:
    """Return what SLURM answers, for which it is asked again and again while the invocation lives, an hour at most.

    `ask` is told whether it was called before, and raises TransientError where another call may succeed; `refused` is
    what the terminal says then.
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
    """Sleep, but no longer than the invocation lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not has_ended():
        time.sleep(min(1, seconds))


def _sbatch(arguments: list[str], script: str | None, earlier: list[SubmittedJob]) -> str:
    """Call sbatch once. TransientError where another call may succeed, else GluegridError."""
    waiting = in_queue(earlier)
    if waiting:
        arguments = _within_cluster_of(waiting, arguments)
    # First, so that a dependency that the user asks for takes its place: the lock guards the cell too.
    dependency = [f"--dependency=afterany:{':'.join(map(without_cluster, waiting))}"] if waiting else []
    done = _call([*dependency, *arguments], script)
    if waiting and DEPENDENCY_GONE in done.stderr:
        done = _call(arguments, script)
    if done.returncode != 0:
        said = complaint(done)
        raise (GluegridError if HOPELESS.search(said) else TransientError)(said)
    # Not tried again: there is a job.
    if (answer := number_in(done.stdout) or _accepted_unanswered(arguments, earlier)) is None:
        said = " ".join(done.stdout.split()) or "nothing"
        raise GluegridError(f"sbatch accepted the job without its number, which gluegrid needs; it said: {said}")
    return answer


def _within_cluster_of(waiting: list[str], arguments: list[str]) -> list[str]:
    """Return a command line for the cluster of jobs that the new one is to wait for: no job waits for one elsewhere.

    Raises TransientError where that is none of the clusters asked for.
    """
    asked = clusters_asked_for(arguments)
    (cluster, *others) = by_cluster(waiting)
    if others or (cluster not in asked.split(",") and not (cluster and asked == ALL_CLUSTERS)):
        jobs = f"SLURM job {', '.join(waiting)} of this cell is still there"
        raise TransientError(f"{jobs}, and no job of another cluster can wait for it (--clusters={asked})")
    return arguments if cluster == asked else [f"--clusters={cluster}", *_without_clusters(arguments)]


def clusters_asked_for(arguments: list[str]) -> str:
    """Return from which clusters sbatch is to choose; "" where it is not told so."""
    given = [argument for argument in arguments if OF_CLUSTERS.fullmatch(argument)]
    if given:
        return OF_CLUSTERS.fullmatch(given[-1])["value"] or _value(arguments, given[-1]) or ""
    return next((os.environ[name] for name in VARIABLES_OF_CLUSTERS if os.environ.get(name)), "")


def _without_clusters(arguments: list[str]) -> list[str]:
    is_value = [False, *(argument in ("--clusters", "-M") for argument in arguments)]
    pairs = zip(arguments, is_value, strict=False)
    return [argument for argument, after in pairs if not (after or OF_CLUSTERS.fullmatch(argument))]


def number_in(said: str) -> str | None:
    """Return the last line that is a job's number, with `;` and its cluster if that is there: sites print banners."""
    answers = [match for line in said.splitlines() if (match := ANSWER.fullmatch(line.strip()))]
    return ";".join(filter(None, answers[-1].group("number", "cluster"))) if answers else None


def _call(arguments: list[str], script: str | None) -> subprocess.CompletedProcess:
    command = [os.environ["GLUEGRID_SBATCH"], *arguments]
    # The job is to know whether its number is told with its cluster.
    environment = {name: value for name, value in os.environ.items() if name != CLUSTERS}
    environment |= {CLUSTERS: asked} if (asked := clusters_asked_for(arguments)) else {}
    done = subprocess.run(command, input=os.fsencode(script or ""), capture_output=True, env=environment)
    # Whatever encoding a site's banner has.
    said, complained = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, said, complained)


def _accepted_unanswered(arguments: list[str], earlier: list[SubmittedJob]) -> str | None:
    """Return the job that SLURM did accept, though its answer was lost; not an earlier one, which may be ending."""
    name, comment = _value(arguments, "--job-name"), _value(arguments, "--comment")
    if name is None or comment is None:
        return None
    try:
        number = job_submitted_as(name, comment, clusters_asked_for(arguments))
    except TransientError:
        return None  # the next call of sbatch will say so
    return None if number in {without_task(job.number) for job in earlier} else number


def _value(arguments: list[str], option: str) -> str | None:
    """Return the value of an option that is followed by it, as the plugin writes them."""
    return arguments[arguments.index(option) + 1] if option in arguments[:-1] else None


def _name_of(arguments: list[str]) -> str:
    comment = _value(arguments, "--comment") or "snakemake"
    return comment.removeprefix("rule_").replace("_wildcards_", " ")
