"""SLURM's nodes: how many jobs of a kind can run on them at once."""

import re

from gluegrid.common.errors import TransientError
from gluegrid.execution.slurm_queue import answer_of

LINE = re.compile(r"(?P<node>\S+)\|(?P<partition>[^|]+)\|(?P<state>[a-z_]+)[^|]*\|(?P<gres>[^|]*)\|(?P<cpus>\d+)")
GPUS = re.compile(r"gpu(?::(?P<kind>[^:,()\s]+?))?:(?P<number>\d+)(?=[,(\s]|$)")  # gpu:4, gpu:a100:4(S:0-1)
OF_NO_USE = (
    "down",
    "drain",
    "drng",
    "fail",
    "maint",
    "inval",
    "unk",
)  # how the states begin of nodes that take no jobs
ANSWER_SECONDS = 20


def places_in_cluster(cpus: int, gpus: int, kind: str = "", partitions: str = "", clusters: str = "") -> int | None:
    """Return how many jobs of so many CPUs and GPUs fit on the nodes, were these empty; None where SLURM does not say.

    `kind` is that of the GPUs, "" for any; `partitions` and `clusters` are those that the jobs may use, "" for SLURM's
    default one.
    """
    where = [f"--clusters={clusters}"] if clusters else []
    try:
        said = answer_of("sinfo", "--noheader", "--Node", "--format=%N|%P|%t|%G|%c", *where, seconds=ANSWER_SECONDS)
    except TransientError:
        return None
    lines = [match for line in said.splitlines() if (match := LINE.fullmatch(line.strip()))]
    wanted = {name.strip() for name in partitions.split(",")} - {""}
    of_partitions = [line for line in lines if _is_wanted(line["partition"], wanted)] or lines
    nodes = {line["node"]: line for line in of_partitions if not line["state"].startswith(OF_NO_USE)}
    places = sum(_places(line, cpus, gpus, kind) for line in nodes.values())
    return places or None


def _is_wanted(partition: str, wanted: set[str]) -> bool:
    """Tell whether a partition is one of those; without any, whether SLURM marks it as its default."""
    return partition.rstrip("*") in wanted if wanted else partition.endswith("*")


def _places(line: re.Match, cpus: int, gpus: int, kind: str) -> int:
    of_cpus = int(line["cpus"]) // max(cpus, 1)
    if gpus == 0:
        return of_cpus
    there = [int(each["number"]) for each in GPUS.finditer(line["gres"]) if kind in ("", each["kind"])]
    return min(of_cpus, sum(there) // gpus)
