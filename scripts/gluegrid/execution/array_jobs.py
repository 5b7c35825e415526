"""SLURM's array jobs, as Snakemake's plugin makes them and as gluegrid submits them: each task for its own cell."""

import base64
import json
import re
import shlex
import sys
import zlib
from pathlib import Path

from gluegrid.common.errors import GluegridError
from gluegrid.common.paths import ExperimentPaths, state_folder
from gluegrid.execution.invocation import current_invocation
from gluegrid.execution.packs import states_in_pack

# How the plugin passes the commands of all tasks but the first to an array job: compressed, after that of the first.
PACKED_BY_PLUGIN = re.compile(r"\s+--slurm-jobstep-array-execs[=\s]\s*'?([\w+/=]+)'?\s*$")
UNKNOWN_ARRAY = "not submitted: {array}: the commands of its tasks are in an unknown format; leave out slurm-array-jobs"
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


def commands_of_tasks(arguments: list[str], command: str) -> dict[str, str]:
    """Return the command of each task that an sbatch command line submits.

    The key is the suffix of the job's number: nothing, or `_1`, `_2`, ... in an array job. Raises GluegridError if the
    commands of Snakemake's array job cannot be read.
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


def states_of_tasks(commands: dict[str, str]) -> dict[Path, str]:
    """Return, for the state folder of each cell that a job trains, the task that trains it."""
    return {state: task for task, command in commands.items() for state in states_of_cells(command)}


def states_of_cells(command: str) -> list[Path]:
    """Return the state folders of the cells that a command of Snakemake, or of a pack, trains."""
    state = state_of_cell(command)
    return [state] if state else states_in_pack(command)


def state_of_cell(command: str) -> Path | None:
    """Return the state folder of the cell that a command of Snakemake trains; None for any other command."""
    invocation = current_invocation()
    targets = re.search(r"--target-jobs (\S+) ", command)
    if invocation is None or targets is None:
        return None
    rule, _, wildcards = shlex.split(targets[1])[0].partition(":")
    if rule != "train":
        return None
    names = dict(pair.split("=", 1) for pair in wildcards.split(","))
    return state_folder(Path(ExperimentPaths(invocation["config"]["experiment"]).run.format(**names)))


def script_of_array(commands: dict[str, str]) -> str:
    """Return the script of an array job in which each task runs its own command, as in a separate job.

    In the plugin's arrays, every task runs Snakemake for the cell of the *first* task, and below it its own command. So
    a task fails if the first cell has no result a minute later, and a failing task deletes that result.

    The commands are similar, so compressed together they take few bytes each; SLURM accepts scripts of up to 4 MB.
    """
    packed = base64.encodebytes(zlib.compress(json.dumps(commands).encode(), level=9)).decode()
    return ARRAY_SCRIPT.format(python=shlex.quote(sys.executable), unpack=UNPACK, packed=packed)


def _packed_behind(command: str) -> dict[str, str]:
    """Return the commands that the plugin has packed after the first one, by the numbers of their tasks."""
    packed = PACKED_BY_PLUGIN.search(command)
    try:
        others = json.loads(base64.b64decode(packed[1])) if packed else {}
        return {number: zlib.decompress(bytes.fromhex(other)).decode() for number, other in others.items()}
    except (ValueError, zlib.error):
        return {}
