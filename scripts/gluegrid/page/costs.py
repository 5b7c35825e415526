"""What results have cost: seconds of all devices of a training, and peak memory, over seeds."""

from collections.abc import Iterable
from dataclasses import dataclass

from gluegrid.results.outcomes import Outcome
from gluegrid.results.summary import Group, mean

GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """What a group's cells took: mean seconds of all devices together, the most memory in bytes. None is not known."""

    device_seconds: float | None
    tokens_per_second: float | None
    gpu_bytes: int | None
    host_bytes: int | None


def device_seconds(outcome: Outcome) -> float | None:
    """Return the seconds of training times the processes that trained; None for a cell that was not trained."""
    seconds = outcome.results.get("train_runtime")
    return None if seconds is None else seconds * outcome.record.get("processes", 1)


def cost(group: Group) -> Cost:
    """Return what the cells of a group have cost."""
    return Cost(
        device_seconds=mean(device_seconds(outcome) for outcome in group.done),
        tokens_per_second=mean(outcome.record.get("train_tokens_per_second") for outcome in group.done),
        gpu_bytes=_most(_memory(outcome, "gpu") for outcome in group.done),
        host_bytes=_most(_memory(outcome, "host") for outcome in group.done),
    )


def in_gib(size: int | None) -> float | None:
    """Return bytes in GiB."""
    return None if size is None else size / GIB


def of_gpus(groups: Iterable[Group]) -> bool:
    """Tell whether all that was trained was trained on GPUs."""
    return all(outcome.cell.values["device"] == "cuda" for group in groups for outcome in group.done)


def _memory(outcome: Outcome, where: str) -> int | None:
    return (outcome.record.get("peak_memory_bytes") or {}).get(where)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
