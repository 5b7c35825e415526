"""Packs: small cells that one job trains one after another, since to start a job for each takes longer than they do.

Where no card has to wait, a cell of its own job is the simpler one: so there are never fewer packs than cards.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from gluegrid.operations.estimates import LARGEST_LIMIT_MINUTES, SECONDS_OF_THE_START, START_MINUTES, Estimate

SECONDS_OF_A_JOB = 3  # before the start of its training: Snakemake's of the job, and the launcher's
SMALL = 5  # times its start is what the training of a cell may take that is packed
SECONDS_OF_A_FORK = 2  # of a cell in a pack: until it trains, and to write its result

Packed = TypeVar("Packed")


def is_small(estimate: Estimate, values: dict) -> bool:
    """Tell whether a cell, with these values of its options, is worth packing: one process, and little to train."""
    start = SECONDS_OF_THE_START[values["device"]] + SECONDS_OF_A_JOB
    is_alone = values["gpus"] == values["nodes"] == 1
    return is_alone and seconds_in_pack(estimate, values["device"]) < SMALL * start


def seconds_in_pack(estimate: Estimate, device: str) -> float:
    """Return how long a cell is expected to take in a pack, which has started already."""
    return max(estimate.train_seconds, estimate.seconds - SECONDS_OF_THE_START[device]) + SECONDS_OF_A_FORK


def limit_of_pack(estimates: Sequence[Estimate], attempt: int) -> int:
    """Return the time limit of a pack in minutes, for which it starts once; each attempt gets as much more."""
    minutes = START_MINUTES + sum(estimate.limit_in_minutes - START_MINUTES for estimate in estimates)
    return min(minutes * attempt, LARGEST_LIMIT_MINUTES)


def packs_of(
    cells: Sequence[Packed], seconds: Callable[[Packed], float], pack_seconds: float, places: int
) -> list[list[Packed]]:
    """Return cells in packs of about `pack_seconds`, in each the longest first; as many packs as `places` at least.

    Each cell goes where least is to be done, so that packs end together; cells of the same length stay in their order,
    so that those of one task, which share tokens, follow each other.
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
    """Return how many of the places the cells of each kind get: one at least, the others where most is to be done."""
    given = [1] * len(kinds)
    loads = [sum(map(seconds, cells)) for cells in kinds]
    while sum(given) < min(places, sum(map(len, kinds))):
        wanting = (index for index, cells in enumerate(kinds) if given[index] < len(cells))
        given[max(wanting, key=lambda index: loads[index] / given[index])] += 1
    return given
