"""SLURM's nodes: which accept jobs, which GPUs they have, and how many jobs of a kind can run on them at once."""

import re

from gluegrid.common.errors import TransientError
from gluegrid.execution.slurm_queue import answer_of

# Node, partition, state, generic resources, CPUs.
LINE = re.compile(r"(?P<node>\S+)\|(?P<partition>[^|]+)\|(?P<state>[^|]+)\|(?P<gres>[^|]*)\|(?P<cpus>\d+)")
# After a node's state: not responding, powered down, powering up, ... and, since 23.02, planned by the backfill.
MARKS_OF_STATE = "*~#!%$@^-+"
# A node in any other state accepts jobs now or later; a powered-down one is started for a job.
OUT_OF_USE = ("down", "drain", "fail", "inval", "unk", "future", "maint", "error", "no_respond")
ANSWER_SECONDS = 20


def places_in_cluster(cpus: int, gpus: int, kind: str = "", partitions: str = "", clusters: str = "") -> int | None:
    """Return how many jobs with these CPUs and GPUs would fit on empty nodes; None if SLURM does not tell.

    `kind` is the GPUs' type, "" for any; `partitions` and `clusters` are those that the jobs may use, "" for SLURM's
    default.
    """
    where = [f"--clusters={clusters}"] if clusters else []
    try:
        said = answer_of("sinfo", "--noheader", "--Node", "--format=%N|%P|%T|%G|%c", *where, seconds=ANSWER_SECONDS)
    except TransientError:
        return None
    lines = [match for line in said.splitlines() if (match := LINE.fullmatch(line.strip()))]
    wanted = {name.strip() for name in partitions.split(",")} - {""}
    of_partitions = [line for line in lines if _is_wanted(line["partition"], wanted)] or lines
    # If all are drained or down at present, they may be back by the time the jobs start.
    usable = [line for line in of_partitions if takes_jobs(line["state"])] or of_partitions
    nodes = {line["node"]: line for line in usable}
    places = sum(_places(line, cpus, gpus, kind) for line in nodes.values())
    return places or None


def _is_wanted(partition: str, wanted: set[str]) -> bool:
    """Tell whether a partition is wanted; if none is named, whether it is SLURM's default."""
    return partition.rstrip("*") in wanted if wanted else partition.endswith("*")


def _places(line: re.Match, cpus: int, gpus: int, kind: str) -> int:
    of_cpus = int(line["cpus"]) // max(cpus, 1)
    if gpus == 0:
        return of_cpus
    there = sum(number for each, number in cards_in(line["gres"]).items() if kind in ("", each))
    return min(of_cpus, there // gpus)


def takes_jobs(state: str) -> bool:
    """Tell whether a node in this state, in sinfo's long form (%T), accepts jobs."""
    return "*" not in state and not state.rstrip(MARKS_OF_STATE).lower().startswith(OUT_OF_USE)


def cards_in(gres: str) -> dict[str, int]:
    """Return the number of GPUs by type in a list of generic resources, such as `gpu:a100:4(S:0-1),nvme:1`.

    The type is '' if it has no name.
    """
    found: dict[str, int] = {}
    for entry in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = entry.strip().removeprefix("gres/").split(":")
        if name != "gpu":
            continue
        count = int(rest.pop()) if rest and rest[-1].isdecimal() else 1
        kind = rest[0] if rest and rest[0] != "no_consume" else ""
        if count:
            found[kind] = found.get(kind, 0) + count
    return found
