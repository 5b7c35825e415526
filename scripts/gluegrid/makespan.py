"""How long work takes that is dealt onto several places, as a scheduler deals jobs onto GPUs."""

import heapq
from collections.abc import Sequence


def makespan(seconds: Sequence[float], places: int, busy: Sequence[float] = ()) -> float:
    """Return when the last job ends, in seconds from now, if each begins, in the order given, where it can first.

    `busy` has, for each place where something runs at present, the seconds until that ends; there are at least as many
    places as that.
    """
    free_at = [*busy, *[0.0] * (max(places, 1) - len(busy))]
    end = max(busy, default=0.0)
    heapq.heapify(free_at)
    for job in seconds:
        end_of_job = free_at[0] + job
        heapq.heapreplace(free_at, end_of_job)
        end = max(end, end_of_job)
    return end
