"""Models on a task beside one another: their scores on the same examples, and what resampling makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from gluegrid.common.errors import DataError
from gluegrid.entrants import Entrant
from gluegrid.paired_bootstrap import Answers, Draws, example_draws, model_draws, scores
from gluegrid.results.summary import Group, agree, score


@dataclass(frozen=True)
class Standing:
    """A model on a task: its cells, their scores of shape (seeds,), and draws of their mean."""

    group: Group
    scores: numpy.ndarray
    draws: Draws

    @property
    def score(self) -> float:
        """The mean over seeds."""
        return float(self.scores.mean())

    @property
    def is_of_one_seed(self) -> bool:
        """Whether the draws say nothing of what another seed would give."""
        return len(self.scores) == 1


def of_same_examples(entrants: Sequence[Entrant]) -> list[list[Entrant]]:
    """Return the entrants of a task in sets that can be compared with one another."""
    sets: list[list[Entrant]] = []
    for entrant in entrants:
        fitting = [others for others in sets if entrant.difference_to(others[0]) is None]
        if fitting:
            fitting[0].append(entrant)
        else:
            sets.append([entrant])
    return sets


def standings(entrants: Sequence[Entrant], resamples: int) -> tuple[list[Standing], dict[str, str]]:
    """Return the standings of entrants with the same examples, and by model why others have none."""
    task = entrants[0].group.task
    splits = _together(entrants)
    of_seeds = scores(task.metrics, splits)
    on_examples = example_draws(task.name, task.metrics, splits, resamples)
    found, reasons = [], {}
    start = 0
    for entrant in entrants:
        runs = slice(start, start + len(entrant.group.done))
        start = runs.stop
        try:
            found.append(_standing(entrant.group, of_seeds[runs], on_examples[:, runs]))
        except DataError as error:
            reasons[entrant.group.model] = str(error)
    return found, reasons


def _together(entrants: Sequence[Entrant]) -> dict[str, Answers]:
    """Return the answers of all runs, by split."""
    return {
        split: Answers(labels.label, numpy.concatenate([entrant.answers[split] for entrant in entrants], axis=1))
        for split, labels in entrants[0].examples.items()
    }


def _standing(group: Group, of_seeds: numpy.ndarray, on_examples: numpy.ndarray) -> Standing:
    _check_recorded(group, of_seeds)
    undefined = int(numpy.isnan(on_examples).any(axis=1).sum())
    if undefined:
        raise DataError(f"its score is undefined in {undefined:,} of {len(on_examples):,} resamples")
    return Standing(group, of_seeds, model_draws(group.task.name, group.model, of_seeds, on_examples))


def _check_recorded(group: Group, of_seeds: numpy.ndarray) -> None:
    for outcome, value in zip(group.done, of_seeds.tolist(), strict=True):
        recorded = score(outcome, group.task.metric_keys())
        if not agree(recorded, value):
            raise DataError(
                f"seed {outcome.cell.seed} has the score {recorded}, its predictions give {value};"
                " `make verify` tells more"
            )
