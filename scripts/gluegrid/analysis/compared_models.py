"""The predictions that a model's runs saved for the validation examples of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from gluegrid.analysis.bootstrap import Answers, Draws, example_draws, model_draws, scores
from gluegrid.analysis.predictions import Labels, Predictions, read_predictions
from gluegrid.common.errors import DataError
from gluegrid.common.files import sha256
from gluegrid.common.formatting import agree
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task
from gluegrid.results.outcomes import Outcome, validation_predictions
from gluegrid.results.result_text import state
from gluegrid.results.summary import Group, score


@dataclass(frozen=True)
class Entrant:
    """A model on a task: by validation split its examples and the answers of its runs, of shape (examples, runs).

    The runs are those in `group.done`.
    """

    group: Group
    examples: dict[str, Labels]
    answers: dict[str, numpy.ndarray]

    def difference_to(self, other: "Entrant") -> str | None:
        """Return how the examples of another model's runs differ; None where they are the same."""
        for split, ours in self.examples.items():
            theirs = other.examples[split]
            counts = len(ours.idx), len(theirs.idx)
            if counts[0] != counts[1]:
                return f"{counts[0]:,} and {counts[1]:,} examples in {split}"
            if not _are_same(ours, theirs):
                return f"different examples or labels in {split}"
        return None


def read_entrant(experiment: Experiment, group: Group) -> Entrant:
    """Return a group with its answers. Raise DataError where it has no score or a file contradicts its record."""
    if not group.done:
        raise DataError(state(group))
    if group.score() is None:
        raise DataError("its score is undefined for a seed")
    of_runs = [_predictions(experiment, outcome, group.task) for outcome in group.done]
    splits = {split: [of_run[split] for of_run in of_runs] for split in group.task.validation}
    return Entrant(
        group,
        examples={split: _common_examples(group, split, runs) for split, runs in splits.items()},
        answers={
            split: numpy.stack([group.task.kind.predictions(run.logits) for run in runs], axis=1)
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
        digest = sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if digest != recorded:
        raise DataError(f"{path}: its SHA-256 is not the one in run_record.json; run `make verify`")


def _common_examples(group: Group, split: str, runs: Sequence[Predictions]) -> Labels:
    for outcome, run in zip(group.done, runs, strict=True):
        if not _are_same(run, runs[0]):
            seeds = f"seeds {group.done[0].cell.seed} and {outcome.cell.seed}"
            raise DataError(f"{seeds} have different examples or labels in {split}")
    return runs[0]


def _are_same(ours: Labels, theirs: Labels) -> bool:
    return numpy.array_equal(ours.idx, theirs.idx) and numpy.array_equal(ours.label, theirs.label)


@dataclass(frozen=True)
class Standing:
    """A model on a task: its cells, the mean of their scores, and draws of that mean.

    `is_of_one_seed`: the draws do not cover what another seed would give.
    """

    group: Group
    score: float
    draws: Draws
    is_of_one_seed: bool


def sets_of_same_examples(entrants: Sequence[Entrant]) -> list[list[Entrant]]:
    """Return the entrants of a task in sets that can be compared with each other."""
    sets: list[list[Entrant]] = []
    for entrant in entrants:
        fitting = next((others for others in sets if entrant.difference_to(others[0]) is None), None)
        if fitting is None:
            sets.append(fitting := [])
        fitting.append(entrant)
    return sets


def standings(entrants: Sequence[Entrant], resamples: int) -> tuple[list[Standing], dict[str, str]]:
    """Return the standings of entrants that share their examples, and by model why an entrant has none."""
    task = entrants[0].group.task
    splits = {
        split: Answers(labels.label, numpy.concatenate([entrant.answers[split] for entrant in entrants], axis=1))
        for split, labels in entrants[0].examples.items()
    }
    ends = numpy.cumsum([len(entrant.group.done) for entrant in entrants])[:-1]
    of_seeds = numpy.split(scores(task.metrics, splits), ends)
    on_examples = numpy.split(example_draws(task.name, task.metrics, splits, resamples), ends, axis=1)
    placed, reasons = [], {}
    for entrant, *of_entrant in zip(entrants, of_seeds, on_examples, strict=True):
        try:
            placed.append(_standing(entrant.group, *of_entrant))
        except DataError as error:
            reasons[entrant.group.model] = str(error)
    return placed, reasons


def _standing(group: Group, of_seeds: numpy.ndarray, on_examples: numpy.ndarray) -> Standing:
    for outcome, value in zip(group.done, of_seeds.tolist(), strict=True):
        recorded = score(outcome, group.task.metric_keys())
        if not agree(recorded, value):
            raise DataError(
                f"seed {outcome.cell.seed}: its score is {recorded}, but its predictions give {value};"
                " run `make verify`"
            )
    undefined = int(numpy.isnan(on_examples).any(axis=1).sum())
    if undefined:
        raise DataError(f"its score is undefined in {undefined:,} of {len(on_examples):,} resamples")
    draws = model_draws(group.task.name, group.model, of_seeds, on_examples)
    return Standing(group, float(of_seeds.mean()), draws, is_of_one_seed=len(of_seeds) == 1)
