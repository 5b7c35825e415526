"""What a model's runs say about the validation examples of a task: read from their saved predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from gluegrid.common.errors import DataError
from gluegrid.common.files import sha256
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task, predictions_of
from gluegrid.results.outcomes import Outcome, validation_predictions
from gluegrid.results.summary import Group
from gluegrid.verification.parquet_content import Labels, Predictions, read_predictions


@dataclass(frozen=True)
class Entrant:
    """A model on a task, by validation split: its examples, and the answers of its runs, of shape (examples, runs).

    The runs are those of `group.done`.
    """

    group: Group
    examples: dict[str, Labels]
    answers: dict[str, numpy.ndarray]

    def difference_to(self, other: "Entrant") -> str | None:
        """Return in what the examples of another model's runs differ; None where they are the same."""
        for split, ours in self.examples.items():
            theirs = other.examples[split]
            counts = len(ours.idx), len(theirs.idx)
            if counts[0] != counts[1]:
                return f"{counts[0]:,} examples of {split} against {counts[1]:,}"
            if not _are_same(ours, theirs):
                return f"other examples or labels of {split}"
        return None


def read_entrant(experiment: Experiment, group: Group) -> Entrant:
    """Return a group with its answers. Raises DataError where files are not what their records say."""
    of_runs = [_predictions(experiment, outcome, group.task) for outcome in group.done]
    splits = {split: [of_run[split] for of_run in of_runs] for split in group.task.validation}
    return Entrant(
        group,
        examples={split: _common_examples(group, split, runs) for split, runs in splits.items()},
        answers={
            split: numpy.stack([predictions_of(group.task, run.logits) for run in runs], axis=1)
            for split, runs in splits.items()
        },
    )


def _predictions(experiment: Experiment, outcome: Outcome, task: Task) -> dict[str, Predictions]:
    paths = validation_predictions(experiment, outcome.cell)
    for split, path in paths.items():
        _check_hash(path, outcome.record.get("predictions_sha256", {}).get(split))
    return {split: read_predictions(path, task) for split, path in paths.items()}


def _check_hash(path: Path, recorded: str | None) -> None:
    try:
        found = sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if found != recorded:
        raise DataError(f"{path}: is not the file that run_record.json names; `make verify` tells more")


def _common_examples(group: Group, split: str, runs: Sequence[Predictions]) -> Labels:
    for outcome, run in zip(group.done, runs, strict=True):
        if not _are_same(run, runs[0]):
            seeds = f"seeds {group.done[0].cell.seed} and {outcome.cell.seed}"
            raise DataError(f"{seeds} have other examples or labels of {split}")
    return runs[0]


def _are_same(ours: Labels, theirs: Labels) -> bool:
    return numpy.array_equal(ours.idx, theirs.idx) and numpy.array_equal(ours.label, theirs.label)
