"""How long work takes that is dealt onto several places, as a scheduler deals jobs onto GPUs."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from gluegrid.experiment.cell import Cell
from gluegrid.operations.cell_status import CellStatus, State
from gluegrid.results.summary import mean

TO_COME = (State.QUEUED, State.STOPPED, State.NOT_BEGUN)


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


def lower_bound(seconds: Sequence[float], places: int) -> float:
    """Return the seconds that jobs of these times take on so many places at least, in whatever order.

    The longest takes its time; all places together take all; and of the N + 1 longest, two share one of N places.
    """
    falling = sorted(seconds, reverse=True)
    two_share = falling[places - 1] + falling[places] if len(falling) > places else 0
    return max(falling[0], sum(falling) / places, two_share)


@dataclass(frozen=True)
class TimeLeft:
    """What is left to be done, failed cells apart; `seconds` from now, on as many places as are used at present."""

    gpu_hours: float
    seconds: float


def time_left(cells: list[CellStatus], seconds_of: Callable[[Cell], float]) -> TimeLeft:
    """Return how long the rest takes; `seconds_of` tells of cells of which neither they nor finished ones do."""
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
