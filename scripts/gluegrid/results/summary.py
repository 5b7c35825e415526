"""From the outcomes of cells to the numbers of a table: over the seeds of one variant, unrounded."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task, definition
from gluegrid.results.notes import named_options
from gluegrid.results.outcomes import Outcome


@dataclass(frozen=True)
class Summary:
    """One number over seeds, in the unit of the number. None is undefined, as is all but `best` where a seed's is.

    `sd` is the sample standard deviation (divided by n - 1), None for fewer than two; `best` is the largest.
    """

    count: int
    mean: float | None
    sd: float | None
    median: float | None
    best: float | None


@dataclass(frozen=True)
class Group:
    """The cells of one model on one task in one variant: the same values, one cell per seed.

    `chosen_from` are the variants that this one was chosen from, itself among them, if it was.
    """

    model: str
    task: Task
    variant: str
    display_name: str
    metric_label: str
    outcomes: Sequence[Outcome]
    chosen_from: Sequence["Group"] = field(default=(), compare=False, repr=False)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells it from all other groups of its experiment."""
        return self.model, self.task.name, self.variant

    @property
    def run(self) -> dict:
        """What run.json says of all its cells, but for the seed; empty where there is no cell."""
        return self.outcomes[0].cell.run if self.outcomes else {}

    @property
    def values(self) -> dict:
        """All training values, of the recipe too; empty where there is no cell."""
        return self.outcomes[0].cell.values if self.outcomes else {}

    @property
    def done(self) -> list[Outcome]:
        """The cells that have a valid result."""
        return [outcome for outcome in self.outcomes if outcome.is_done]

    @property
    def failed(self) -> list[Outcome]:
        """The cells that were tried and have none, for a reason."""
        return [outcome for outcome in self.outcomes if outcome.has_failed]

    @property
    def stopped(self) -> list[Outcome]:
        """The cells that somebody asked to end before they were done; the next call resumes them."""
        return [outcome for outcome in self.outcomes if outcome.is_stopped]

    @property
    def degenerate(self) -> list[Outcome]:
        """The cells whose model gives one answer for all examples of a split, or has an undefined metric."""
        return [outcome for outcome in self.done if outcome.is_degenerate]

    @property
    def data(self) -> str:
        """How the data of cells with a result differ from the official files; empty where they do not."""
        texts = Counter(outcome.data for outcome in self.done)
        if len(texts) == 1:
            return next(iter(texts))
        runs = len(self.done)
        return ", ".join(f"{text} in {count} of {runs} runs" for text, count in texts.items() if text)

    @property
    def has_other_data(self) -> bool:
        """Whether any of its results has data that differ from the official files."""
        return any(outcome.has_other_data for outcome in self.done)

    @property
    def options(self) -> list[str]:
        """The options that tables name in notes on the number; they are the same for all seeds."""
        return named_options(self.values)

    def without_degenerate(self) -> Self:
        """Return the group of the other cells."""
        return replace(self, outcomes=[outcome for outcome in self.outcomes if not outcome.is_degenerate])

    def summary(self, key: str) -> Summary:
        """Return a key of all_results.json over seeds."""
        return summarised(outcome.results.get(key) for outcome in self.done)

    def score_summary(self) -> Summary:
        """Return the score over seeds."""
        return summarised(score(outcome, self.task.metric_keys()) for outcome in self.done)

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds of a key of all_results.json; None where it is undefined for any of them."""
        return self.summary(key).mean

    def score(self) -> float | None:
        """Return the mean score over seeds; None where it is undefined for any of them."""
        return self.score_summary().mean


def score(outcome: Outcome, keys: Iterable[str]) -> float | None:
    """Return the mean of a result's metrics, as the GLUE benchmark averages a task of several; None where undefined."""
    return mean(outcome.results.get(key) for key in keys)


def summarised(values: Iterable[float | None]) -> Summary:
    """Return what a table says of one number over seeds."""
    values = list(values)
    defined = [value for value in values if value is not None]
    best = max(defined, default=None)
    if not values or len(defined) < len(values):
        return Summary(len(values), None, None, None, best)
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Summary(len(values), mean(values), sd, statistics.median(values), best)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; None for no values, or where one is undefined: a mean of the rest would be another number."""
    values = list(values)
    if not values or None in values:
        return None
    return float(statistics.mean(values))


def groups(experiment: Experiment, outcomes: Iterable[Outcome]) -> list[Group]:
    """Return the groups of these cells, in the order of the config: by model, then task, then variant."""
    of_groups = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        of_groups[outcome.cell.model, outcome.cell.task][outcome.cell.variant].append(outcome)
    return [
        Group(
            model=model,
            task=Task(name=task, **definition(entry)),
            variant=variant,
            display_name=entry.get("display_name", task),
            metric_label=entry.get("metric_label", "/".join(entry["metrics"])),
            outcomes=of_variant,
        )
        for model in experiment.models
        for task, entry in experiment.tasks.items()
        for variant, of_variant in of_groups[model, task].items()
    ]


def by_model_on_every_task(groups: Sequence[Group]) -> list[list[Group]]:
    """Return each model's groups, one for each task, from groups that stand for a model and a task each.

    Where an import has no cell of a model on a task, the group is without outcomes.
    """
    of_tasks = {group.task.name: group for group in groups}
    there = {(group.model, group.task.name): group for group in groups}
    return [
        [
            there.get((model, task)) or replace(group, model=model, outcomes=[], chosen_from=())
            for task, group in of_tasks.items()
        ]
        for model in dict.fromkeys(group.model for group in groups)
    ]
