"""Packs: small cells that one job trains one after another, since starting a job for each would take longer.

There are never fewer packs than GPUs, since a job per cell is simpler as long as no GPU has to wait.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from gluegrid.operations.estimates import LARGEST_LIMIT_MINUTES, SECONDS_OF_THE_START, START_MINUTES, Estimate

SECONDS_OF_A_JOB = 3  # for Snakemake and the launcher to start
SMALL = 5  # a packed cell trains for at most this many times the start of a job
SECONDS_OF_A_FORK = 2  # for a cell in a pack to start and to write its result

Packed = TypeVar("Packed")


def is_small(estimate: Estimate, values: dict) -> bool:
    """Tell whether a cell with these option values is worth packing: it has one process and a short training."""
    start = SECONDS_OF_THE_START[values["device"]] + SECONDS_OF_A_JOB
    is_alone = values["gpus"] == values["nodes"] == 1
    return is_alone and seconds_in_pack(estimate, values["device"]) < SMALL * start


def seconds_in_pack(estimate: Estimate, device: str) -> float:
    """Return how long a cell is expected to take in a running pack."""
    return max(estimate.train_seconds, estimate.seconds - SECONDS_OF_THE_START[device]) + SECONDS_OF_A_FORK


def limit_of_pack(estimates: Sequence[Estimate], attempt: int) -> int:
    """Return the time limit of a pack in minutes: one start and all its cells, times the number of the attempt."""
    minutes = START_MINUTES + sum(estimate.limit_in_minutes - START_MINUTES for estimate in estimates)
    return min(minutes * attempt, LARGEST_LIMIT_MINUTES)


def packs_of(
    cells: Sequence[Packed], seconds: Callable[[Packed], float], pack_seconds: float, places: int
) -> list[list[Packed]]:
    """Divide cells into packs of about `pack_seconds`, longest cells first, and into at least `places` packs.

    Each cell joins the pack with the least work, so that packs end together. Cells of equal length keep their order, so
    that those of one task, which share tokens, follow each other.
    """
    longest_first = sorted(cells, key=seconds, reverse=True)
    number = max(math.ceil(sum(map(seconds, cells)) / pack_seconds), min(places, len(cells)))
    packs: list[list[Packed]] = [[] for _ in range(number)]
    loads = [(0.0, index) for index in range(number)]
    for cell in longest_first:
        load, index = heapq.heappop(loads)
        packs[index].append(cell)
        heapq.heappush(loads, (load + seconds(cell), index))
    return [pack for pack in packs if pack]


def shares(places: int, kinds: Sequence[Sequence[Packed]], seconds: Callable[[Packed], float]) -> list[int]:
    """Return how many places the cells of each kind get: at least one, and the others where most work is left."""
    given = [1] * len(kinds)
    loads = [sum(map(seconds, cells)) for cells in kinds]
    while sum(given) < min(places, sum(map(len, kinds))):
        wanting = (index for index, cells in enumerate(kinds) if given[index] < len(cells))
        given[max(wanting, key=lambda index: loads[index] / given[index])] += 1
    return given
