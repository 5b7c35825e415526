"""Submitting a job to SLURM, in place of `sbatch` on a head's PATH (scripts/slurm/on_head).

To Snakemake's SLURM plugin a refused `sbatch` is a failed job, its retries follow at once, and they know neither why
the last attempt failed nor which jobs another head has left in the queue. So here: what SLURM refuses for a while is
tried again; a cell that need not be tried again is not submitted; and where another job of the cell is still in the
queue, the new one waits behind it there, and holds no GPU. Each task of an array job works for its own cell alone.
"""

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gluegrid.common.errors import DataError, GluegridError, TransientError
from gluegrid.common.files import read_json, write_json
from gluegrid.common.paths import ExperimentPaths, state_folder
from gluegrid.common.provenance import now
from gluegrid.execution import attempts
from gluegrid.execution.invocation import current_head, has_ended, path_of_current_head, tell_head
from gluegrid.execution.locks import Manners, lock_with_manners
from gluegrid.execution.slurm_queue import (
    NUMBER,
    SubmittedJob,
    cancel_jobs,
    comment_of_cell,
    complaint,
    in_queue,
    job_submitted_as,
)

FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 60
PATIENCE_SECONDS = 3600
NOT_WANTED = "not submitted: the head has ended"
REFUSED = "SLURM took no job for it: "

WRAPPED, STDIN = "--wrap=", "/dev/stdin"  # the two ways in which the plugin gives sbatch a command

# What SLURM says of a job that it will not take later either.
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
ANSWER = re.compile(r"(?:Submitted batch job )?(?P<number>\d+(?:;\S+)?)(?: on cluster \S+)?")
DEPENDENCY_GONE = "Job dependency problem"

# How the plugin gives an array job the commands of all tasks but the first: behind that of the first, packed.
PACKED_BY_PLUGIN = re.compile(r"\s+--slurm-jobstep-array-execs[=\s]\s*'?([\w+/=]+)'?\s*$")
UNKNOWN_ARRAY = (
    "not submitted: {array} does not say what each task does in a form known here; leave out slurm-array-jobs"
)
UNPACK = (
    "import base64, json, os, sys, zlib;"
    " commands = json.loads(zlib.decompress(base64.b64decode(sys.stdin.read())));"
    ' print(commands["_" + os.environ["SLURM_ARRAY_TASK_ID"]])'
)
ARRAY_SCRIPT = """\
#!/bin/sh
# Each task of this array job runs the command of its own cell.
command=$({python} -I -X utf8 -c '{unpack}' <<'PACKED'
{packed}PACKED
) || exit
exec /bin/sh -c "$command"
"""


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
    reasons = [attempts.reason_to_stop(state) for state in states.values()]
    # Of an array job, a task that is in vain ends by itself as soon as it starts.
    if reasons and all(reasons):
        raise GluegridError(f"not submitted: {reasons[0]}")
    if "" not in commands:
        arguments, script = _without_command(arguments), script_of_array(commands)
    try:
        with _no_other_submission(states):
            answer = _with_patience(arguments, script, [*states.values()])
            number, _, of_cluster = answer.partition(";")
            for task, state in states.items():
                _remember(state, f"{number}{task}", arguments)
    except GluegridError as error:
        if not has_ended():
            for state in states.values():
                _note(state / "refusal.json", _refusal(state, " ".join(str(error).split())))
        raise
    if states and has_ended():
        cancel_jobs(number, *([f"--clusters={of_cluster}"] if of_cluster else []))
        raise GluegridError(NOT_WANTED)
    return answer


@contextmanager
def _no_other_submission(states: dict[str, Path]) -> Iterator[None]:
    """Let no other call of snakemake submit a job of the same cell meanwhile: its job is to wait for this one.

    Not for the many cells of an array job: of their tasks, the later one ends and is submitted again.
    """

    def give_up_with_head(holder: dict) -> None:
        if has_ended():
            raise GluegridError(NOT_WANTED)

    with ExitStack() as stack:
        for state in states.values() if len(states) == 1 else ():
            with suppress(OSError):  # the cell's lock guards it too
                manners = Manners(on_wait=lambda holder: None, on_alive=give_up_with_head)
                stack.enter_context(lock_with_manners(state / "submission", manners))
        yield


def states_of_tasks(commands: dict[str, str]) -> dict[str, Path]:
    """Return the state folder of each cell that a job's tasks train; of those that do something else, none."""
    states = {task: state_of_cell(command) for task, command in commands.items()}
    return {task: state for task, state in states.items() if state}


def commands_of_tasks(arguments: list[str], command: str) -> dict[str, str]:
    """Return the command of each task that a command line of sbatch submits.

    Its key is what the number of its task has behind the job's: nothing, or `_1`, `_2`, ... in an array job. Raises
    GluegridError where an array job of Snakemake's does not say what each of its tasks is to do.
    """
    array = next((argument for argument in arguments if argument.startswith("--array")), None)
    if array is None or "--target-jobs" not in command:
        return {"": command}
    bounds = re.fullmatch(r"--array=(\d+)-(\d+)", array)
    numbers = [*range(int(bounds[1]), int(bounds[2]) + 1)] if bounds else []
    others = _packed_behind(command)
    if [*map(str, numbers[1:])] != [*others] or not numbers:
        raise GluegridError(UNKNOWN_ARRAY.format(array=array))
    first = PACKED_BY_PLUGIN.sub("", command)
    return {f"_{number}": own for number, own in zip(numbers, [first, *others.values()], strict=True)}


def _packed_behind(command: str) -> dict[str, str]:
    """Return the commands that the plugin has packed behind the first one's, by the numbers of their tasks."""
    packed = PACKED_BY_PLUGIN.search(command)
    try:
        others = json.loads(base64.b64decode(packed[1])) if packed else {}
        return {number: zlib.decompress(bytes.fromhex(other)).decode() for number, other in others.items()}
    except (ValueError, zlib.error):
        return {}


def script_of_array(commands: dict[str, str]) -> str:
    """Return the script of an array job in which each task runs its own command, as a job of its own would.

    As the plugin makes arrays, every task runs Snakemake for the cell of the *first*, and below it the command of its
    own. So a task fails where the first cell has no result a minute later, and a task that fails deletes that result.

    The commands are alike, so packed together they take few bytes each; SLURM takes scripts of up to 4 MB.
    """
    packed = base64.encodebytes(zlib.compress(json.dumps(commands).encode(), level=9)).decode()
    return ARRAY_SCRIPT.format(python=shlex.quote(sys.executable), unpack=UNPACK, packed=packed)


def state_of_cell(command: str) -> Path | None:
    """Return the state folder of the cell that a command of Snakemake's trains; None where it does something else."""
    head = current_head()
    targets = re.search(r"--target-jobs (\S+) ", command)
    if head is None or targets is None:
        return None
    rule, _, wildcards = shlex.split(targets[1])[0].partition(":")
    if rule != "train":
        return None
    names = dict(pair.split("=", 1) for pair in wildcards.split(","))
    return state_folder(Path(ExperimentPaths(head["config"]["experiment"]).run.format(**names)))


def jobs_of_cell(state: Path) -> list[SubmittedJob]:
    """Return the SLURM jobs that may still work on a cell: the last one submitted, and the holder of its lock."""
    return noted_jobs(state, _content(state / "slurm_job.json"), _content(state / "lock"))


def noted_jobs(state: Path, submitted: dict, holder: dict) -> list[SubmittedJob]:
    """Return the jobs of a cell that these contents of its slurm_job.json and lock name.

    What is no number of a job is left out: earlier releases took all that a site's sbatch said for one.
    """
    behind = submitted.get("behind")
    names = behind if isinstance(behind, dict) else {}
    known = {number: SubmittedJob(number, comment_of_cell(state), name) for number, name in names.items()}
    number = str(submitted.get("slurm_job_id"))
    known[number] = SubmittedJob(number, submitted.get("comment") or comment_of_cell(state), submitted.get("name"))
    numbers = filter(NUMBER.fullmatch, dict.fromkeys((number, str(holder.get("slurm_job_id")))))
    return [known.get(number) or SubmittedJob(number, comment_of_cell(state)) for number in numbers]


def refusal(state: Path, tried: list[dict]) -> str | None:
    """Return why the last job of a cell was not submitted; None where it was, or one of these attempts is newer."""
    noted = _content(state / "refusal.json")
    if "reason" in noted and attempts.was_last(noted, noted.get("refused", ""), tried):
        return f"{REFUSED}{noted['reason']}"
    return None


def _refusal(state: Path, reason: str) -> dict:
    return {"refused": now(), "reason": reason, "head": path_of_current_head(), "after": attempts.last(state)}


def _content(path: Path) -> dict:
    try:
        return read_json(path)
    except DataError:  # it is not there, or not any more
        return {}


def _remember(state: Path, number: str, arguments: list[str]) -> None:
    """Note the job of a cell, and which it may wait behind, so that they are known again: numbers come again."""
    content = {
        "slurm_job_id": number,
        "name": _value(arguments, "--job-name"),
        "comment": _value(arguments, "--comment"),
        "behind": {job.number: job.name for job in jobs_of_cell(state) if job.name is not None},
        "submitted": now(),
        "head": path_of_current_head(),
    }
    _note(state / "slurm_job.json", content)
    with suppress(OSError):
        (state / "refusal.json").unlink()


def _note(path: Path, content: dict) -> None:
    try:
        write_json(path, content)
    except (OSError, GluegridError) as error:
        # A job is in the queue all the same, and the cell's lock is what keeps two from training.
        tell_head(f"{path}: not written ({error}); it would say {content}")


def _command_of(arguments: list[str], script: str | None) -> str:
    wrapped = [argument.removeprefix(WRAPPED) for argument in arguments if argument.startswith(WRAPPED)]
    return script or "".join(wrapped)


def _without_command(arguments: list[str]) -> list[str]:
    """Return a command line of sbatch that takes the script from standard input."""
    return [*(argument for argument in arguments if not argument.startswith((WRAPPED, STDIN))), STDIN]


def _with_patience(arguments: list[str], script: str | None, states: list[Path]) -> str:
    """Return the number that sbatch has given the job, and behind a `;` its cluster if it says so."""

    def submit_once(is_another_try: bool) -> str:
        earlier = [job for state in states for job in jobs_of_cell(state)]
        # An array job has the comment of its first cell, as may another that is still there.
        if is_another_try and len(states) <= 1 and (answer := _accepted_unanswered(arguments, earlier)):
            return answer
        return _sbatch(arguments, script, earlier)

    return patiently(submit_once, f"SLURM refuses a job of {_name_of(arguments)}")


def patiently(ask: Callable[[bool], str], refused: str) -> str:
    """Return what SLURM answers, for which it is asked again and again while the head lives, an hour at most.

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
            tell_head(f"{refused}: {' '.join(str(error).split())}; trying again in {pause} s")
        _sleep(pause)
        pause, is_another_try = min(2 * pause, LONGEST_PAUSE_SECONDS), True


def _sleep(seconds: float) -> None:
    """Sleep, but no longer than the head lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not has_ended():
        time.sleep(min(1, seconds))


def _sbatch(arguments: list[str], script: str | None, earlier: list[SubmittedJob]) -> str:
    """Call sbatch once. TransientError where another call may succeed, else GluegridError."""
    waiting = in_queue(earlier)
    # First, so that a dependency that the user asks for takes its place: the lock guards the cell too.
    dependency = [f"--dependency=afterany:{':'.join(waiting)}"] if waiting else []
    done = _call([*dependency, *arguments], script)
    if waiting and DEPENDENCY_GONE in done.stderr:
        done = _call(arguments, script)
    if done.returncode != 0:
        said = complaint(done)
        raise (GluegridError if HOPELESS.search(said) else TransientError)(said)
    # Not tried again: there is a job.
    if (answer := _number_in(done.stdout) or _accepted_unanswered(arguments, earlier)) is None:
        said = " ".join(done.stdout.split()) or "nothing"
        raise GluegridError(f"sbatch has accepted the job and said no number of it, but: {said}")
    return answer


def _number_in(said: str) -> str | None:
    """Return the last line that is a job's number, with `;` and its cluster if that is there: sites print banners."""
    found = [match for line in said.splitlines() if (match := ANSWER.fullmatch(line.strip()))]
    return found[-1]["number"] if found else None


def _call(arguments: list[str], script: str | None) -> subprocess.CompletedProcess:
    command = [os.environ["GLUEGRID_SBATCH"], *arguments]
    done = subprocess.run(command, input=os.fsencode(script or ""), capture_output=True)
    # Whatever encoding a site's banner has.
    said, complained = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, said, complained)


def _accepted_unanswered(arguments: list[str], earlier: list[SubmittedJob]) -> str | None:
    """Return the job that SLURM did accept, though its answer was lost; not an earlier one, which may be ending."""
    name, comment = _value(arguments, "--job-name"), _value(arguments, "--comment")
    if name is None or comment is None:
        return None
    try:
        number = job_submitted_as(name, comment)
    except TransientError:
        return None  # the next call of sbatch will say so
    return None if number in {job.number.partition("_")[0] for job in earlier} else number


def _value(arguments: list[str], option: str) -> str | None:
    """Return the value of an option that is followed by it, as the plugin writes them."""
    return arguments[arguments.index(option) + 1] if option in arguments[:-1] else None


def _name_of(arguments: list[str]) -> str:
    comment = _value(arguments, "--comment") or "snakemake"
    return comment.removeprefix("rule_").replace("_wildcards_", " ")
