"""Comparisons of every two models of an experiment, on each task that both have and on the mean of these tasks."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gluegrid.analysis.bootstrap import LEVEL, RESAMPLES, Difference, difference, difference_draws
from gluegrid.analysis.compared_models import Entrant, Standing, read_entrant, sets_of_same_examples, standings
from gluegrid.common.errors import DataError, GluegridError
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.metrics import METRICS
from gluegrid.results.outcomes import Outcome
from gluegrid.results.selection import chosen
from gluegrid.results.summary import Group, groups, mean

RESAMPLES_OF_EACH = 100  # with fewer, the smallest possible p-value times the number of comparisons exceeds 0.05

Pair = tuple[Standing, Standing]


@dataclass(frozen=True)
class Comparison:
    """One model against another: their mean scores on these tasks, and the first's minus the second's.

    `adjusted` is the p-value adjusted for the number of comparisons. `is_of_one_seed`: a model has one seed on a task,
    so the interval does not cover what other seeds would give.
    """

    tasks: Sequence[str]
    first: str
    second: str
    scores: tuple[float, float]
    difference: Difference
    is_of_one_seed: bool
    adjusted: float = math.nan

    @property
    def better(self) -> str | None:
        """The model on whose side of 0 the interval lies; None where the two cannot be told apart."""
        return {1: self.first, -1: self.second, 0: None}[self.difference.sign]

    @property
    def better_adjusted(self) -> str | None:
        """The same by the p-value adjusted for the number of comparisons."""
        return self.better if self.adjusted <= 1 - LEVEL else None


@dataclass(frozen=True)
class LeftOut:
    """One model or two that were not compared on a task, and why."""

    task: str
    models: Sequence[str]
    reason: str


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of an experiment, the groups with a validation split to be scored on, and all outcomes."""

    resamples: int
    groups: Sequence[Group]
    of_tasks: Sequence[Comparison]
    of_means: Sequence[Comparison]
    left_out: Sequence[LeftOut]
    outcomes: Sequence[Outcome] = ()

    @property
    def by_task(self) -> list[list[Group]]:
        """The groups of each task, in the order of the config."""
        return _by_task(self.groups)


def compare(experiment: Experiment, outcomes: Iterable[Outcome], least_resamples: int = RESAMPLES) -> Comparisons:
    """Compare every two models by the variants that represent them, from whatever results there are.

    Raise GluegridError where fewer than two models have any.
    """
    outcomes = list(outcomes)
    of_all = [group for group in chosen(groups(experiment, outcomes)) if group.task.validation]
    _check_models(experiment, of_all)
    resamples = max(least_resamples, RESAMPLES_OF_EACH * _most_comparisons(of_all))
    pairs: list[Pair] = []
    left_out: list[LeftOut] = []
    for of_task in _by_task(of_all):
        compared, others = _compared(experiment, of_task, resamples)
        pairs += compared
        left_out += others
    by_models: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for first, second in pairs:
        by_models[first.group.model, second.group.model].append((first, second))
    of_tasks = [_comparison([pair]) for pair in pairs]
    of_means = [_comparison(of_models) for of_models in by_models.values() if len(of_models) > 1]
    return Comparisons(resamples, of_all, _adjusted(of_tasks), _adjusted(of_means), left_out, outcomes)


def _check_models(experiment: Experiment, of_all: Sequence[Group]) -> None:
    models = {group.model for group in of_all if group.done}
    if len(models) < 2:
        lacks = f"a comparison needs two models with results, and {len(models)} of {len(experiment.models)} have any"
        advice = "Run snakemake first." if len(experiment.models) > 1 else "Add a model to the experiment file."
        raise GluegridError(f"{experiment.name}: {lacks}. {advice}")


def _by_task(of_all: Sequence[Group]) -> list[list[Group]]:
    tasks = dict.fromkeys(group.task.name for group in of_all)
    return [[group for group in of_all if group.task.name == task] for task in tasks]


def _most_comparisons(of_all: Sequence[Group]) -> int:
    return sum(math.comb(sum(bool(group.done) for group in of_task), 2) for of_task in _by_task(of_all))


def _compared(experiment: Experiment, of_task: Sequence[Group], resamples: int) -> tuple[list[Pair], list[LeftOut]]:
    """Return every two models that were scored on the same examples of a task, and what is left out."""
    task = of_task[0].task.name
    entrants, reasons = _entrants(experiment, of_task)
    by_model: dict[str, Standing] = {}
    for same in sets_of_same_examples(entrants):
        if len(same) > 1:
            placed, others = standings(same, resamples)
            by_model |= {standing.group.model: standing for standing in placed}
            reasons |= others
    left_out = [LeftOut(task, [model], reason) for model, reason in reasons.items()]
    pairs = []
    for first, second in itertools.combinations(entrants, 2):
        models = [first.group.model, second.group.model]
        if reason := first.difference_to(second):
            left_out.append(LeftOut(task, models, reason))
        elif not reasons.keys() & set(models):
            pairs.append((by_model[models[0]], by_model[models[1]]))
    return pairs, left_out


def _entrants(experiment: Experiment, of_task: Sequence[Group]) -> tuple[list[Entrant], dict[str, str]]:
    """Return the models of a task with their answers, and by model why it has none."""
    entrants, reasons = [], {}
    for group in of_task:
        try:
            entrants.append(read_entrant(experiment, group))
        except DataError as error:
            reasons[group.model] = str(error)
    return entrants, reasons


def _comparison(pairs: Sequence[Pair]) -> Comparison:
    """Compare two models on the mean of the tasks of these pairs, whose draws are independent."""
    first, second = pairs[0]
    scores = mean(first.score for first, _ in pairs), mean(second.score for _, second in pairs)
    tasks = [first.group.task.name for first, _ in pairs]
    draws = difference_draws(tasks, [(first.draws, second.draws) for first, second in pairs])
    return Comparison(
        tasks=tasks,
        first=first.group.model,
        second=second.group.model,
        scores=scores,
        difference=difference(scores[0] - scores[1], draws, mean(map(_widest, pairs))),
        is_of_one_seed=any(standing.is_of_one_seed for pair in pairs for standing in pair),
    )


def _widest(pair: Pair) -> float:
    """Return the largest difference of scores that a task's metrics allow."""
    return mean(METRICS[name].range[1] - METRICS[name].range[0] for name in pair[0].group.task.metrics)


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    adjusted = holm([comparison.difference.p_value for comparison in comparisons])
    return [replace(each, adjusted=value) for each, value in zip(comparisons, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the same order.

    The probability that any of those up to 0.05 is false is at most 0.05, whatever their dependence.
    """
    adjusted = [0.0] * len(p_values)
    greatest = 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = greatest
    return adjusted
