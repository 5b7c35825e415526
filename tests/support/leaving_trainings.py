"""A training that is asked to leave at a moment chosen by the test."""

from collections.abc import Callable
from pathlib import Path

from gluegrid.execution.preemption import Preemption
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.training.checkpointing import Checkpointing
from gluegrid.training.trainer import Training


class LeavesWhen(Preemption):
    """Ask to leave when the training is in the state that the test names, as a signal at that moment would."""

    def __init__(self, is_time: Callable[[Training], bool]):
        super().__init__()
        self.is_time = is_time
        self.training: Training | None = None

    def reason(self, seconds_needed: float = 0.0) -> Reason | None:
        return Reason(Cause.SIGTERM) if self.is_time(self.training) else None


def keeper_that_leaves(
    folder: Path, is_time: Callable[[Training], bool], identity: dict, maker: dict, seconds_between: float = 1e9
) -> Checkpointing:
    """Return the checkpoint keeper of a training in a folder that leaves at that moment."""
    leaving = LeavesWhen(is_time)
    paths = (folder / "checkpoints", folder / "progress.json")
    keeper = Checkpointing(*paths, identity, maker, seconds_between, leaving)
    look_after = keeper.look_after

    def looking(training: Training) -> None:
        leaving.training = training
        look_after(training)

    keeper.look_after = looking
    return keeper
