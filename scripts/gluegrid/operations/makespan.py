"""How long jobs take on several places, such as the GPUs of a cluster."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from gluegrid.experiment.cell import Cell
from gluegrid.operations.cell_status import CellStatus, State
from gluegrid.results.summary import mean

TO_COME = (State.QUEUED, State.STOPPED, State.NOT_BEGUN)


def makespan(seconds: Sequence[float], places: int, busy: Sequence[float] = ()) -> float:
    """Return when the last job ends, in seconds from now, if each starts, in the order given, on the first free place.

    `busy` has the seconds until each busy place is free; it is no longer than the number of places.
    """
    free_at = [*busy, *[0.0] * (max(places, 1) - len(busy))]
    end = max(busy, default=0.0)
    heapq.heapify(free_at)
    for job in seconds:
        end_of_job = free_at[0] + job
        heapq.heapreplace(free_at, end_of_job)
        end = max(end, end_of_job)
    return end


def lower_bound(seconds: Sequence[float], places: int) -> float:
    """Return a lower bound of the seconds that jobs of these durations take on so many places, in any order.

    The bound is the largest of: the longest job; all seconds divided by the places; the shortest two of the N + 1
    longest jobs, since two of these must share one of N places.
    """
    falling = sorted(seconds, reverse=True)
    two_share = falling[places - 1] + falling[places] if len(falling) > places else 0
    return max(falling[0], sum(falling) / places, two_share)


@dataclass(frozen=True)
class TimeLeft:
    """The remaining work without failed cells; `seconds` from now, on as many places as are in use now."""

    gpu_hours: float
    seconds: float


def time_left(cells: list[CellStatus], seconds_of: Callable[[Cell], float]) -> TimeLeft:
    """Return the time left; `seconds_of` estimates cells of which neither progress nor finished seeds are known."""
    left = partial(_seconds_left, seen=_seconds_seen(cells), seconds_of=seconds_of)
    running = [(cell, left(cell)) for cell in cells if cell.state == State.RUNNING]
    to_come = [(cell, left(cell)) for cell in cells if cell.state in TO_COME]
    return TimeLeft(
        gpu_hours=sum(seconds * _gpus(cell) for cell, seconds in running + to_come) / 3600,
        seconds=makespan(
            sorted((seconds for _, seconds in to_come), reverse=True),
            places=max(len(running), 1),
            busy=[seconds for _, seconds in running],
        ),
    )


def _seconds_seen(cells: list[CellStatus]) -> dict[tuple[str, str, str], float | None]:
    """Return the mean training time of the finished cells of each model, task and variant."""
    times: dict[tuple[str, str, str], list[float]] = {}
    for status in cells:
        if status.state == State.DONE:
            cell, results = status.outcome.cell, status.outcome.results
            times.setdefault((cell.model, cell.task, cell.variant), []).append(results.get("train_runtime", 0))
    return {key: mean(seconds) for key, seconds in times.items()}


def _seconds_left(
    status: CellStatus,
    seen: dict[tuple[str, str, str], float | None],
    seconds_of: Callable[[Cell], float],
) -> float:
    if status.progress is not None:
        return status.progress.seconds_left
    cell = status.outcome.cell
    known = seen.get((cell.model, cell.task, cell.variant))
    return seconds_of(cell) if known is None else known


def _gpus(status: CellStatus) -> int:
    values = status.outcome.cell.values
    return values["gpus"] * values["nodes"]
