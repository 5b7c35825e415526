"""Summarize the outcomes of cells over the seeds of each variant, unrounded."""

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
    """Statistics of one number over seeds, in the unit of the number. None means undefined.

    If the number of any seed is undefined, all but `best`, the largest, are undefined. `sd` is the sample standard
    deviation (divided by n - 1), None for fewer than two seeds.
    """

    count: int
    mean: float | None
    sd: float | None
    median: float | None
    best: float | None


@dataclass(frozen=True)
class Group:
    """The cells of one model on one task in one variant: the same values, one cell per seed.

    `chosen_from` are the variants that this one was chosen from, including itself; empty if it was not chosen.
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
        """The key that distinguishes it from all other groups of its experiment."""
        return self.model, self.task.name, self.variant

    @property
    def run(self) -> dict:
        """The run.json of its cells, which differ in the seed only; empty if it has no cell."""
        return self.outcomes[0].cell.run if self.outcomes else {}

    @property
    def values(self) -> dict:
        """All training values, including those of the recipe; empty if it has no cell."""
        return self.outcomes[0].cell.values if self.outcomes else {}

    @property
    def done(self) -> list[Outcome]:
        """The cells that have a valid result."""
        return [outcome for outcome in self.outcomes if outcome.is_done]

    @property
    def failed(self) -> list[Outcome]:
        """The cells that failed."""
        return [outcome for outcome in self.outcomes if outcome.has_failed]

    @property
    def stopped(self) -> list[Outcome]:
        """The cells that somebody stopped before they were done; the next call resumes them."""
        return [outcome for outcome in self.outcomes if outcome.is_stopped]

    @property
    def degenerate(self) -> list[Outcome]:
        """The cells whose model predicts the same for all examples of a split, or has an undefined metric."""
        return [outcome for outcome in self.done if outcome.is_degenerate]

    @property
    def data(self) -> str:
        """How the data of cells with a result differ from the official files; empty if they do not."""
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
        """Return the group without its degenerate cells."""
        return replace(self, outcomes=[outcome for outcome in self.outcomes if not outcome.is_degenerate])

    def summary(self, key: str) -> Summary:
        """Return the statistics of a key of all_results.json over seeds."""
        return summarised(outcome.results.get(key) for outcome in self.done)

    def score_summary(self) -> Summary:
        """Return the statistics of the score over seeds."""
        return summarised(score(outcome, self.task.metric_keys()) for outcome in self.done)

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds of a key of all_results.json, or None if it is undefined for any of them."""
        return self.summary(key).mean

    def score(self) -> float | None:
        """Return the mean score over seeds, or None if it is undefined for any of them."""
        return self.score_summary().mean


def score(outcome: Outcome, keys: Iterable[str]) -> float | None:
    """Return the mean of a result's metrics, as the GLUE benchmark averages them, or None if it is undefined."""
    return mean(outcome.results.get(key) for key in keys)


def summarised(values: Iterable[float | None]) -> Summary:
    """Return the statistics of one number over seeds."""
    values = list(values)
    defined = [value for value in values if value is not None]
    best = max(defined, default=None)
    if not values or len(defined) < len(values):
        return Summary(len(values), None, None, None, best)
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Summary(len(values), mean(values), sd, statistics.median(values), best)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean, or None for no values or if one is undefined: the mean of the rest is another quantity."""
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
    """Return each model's groups, one for each task, from one group for each model and task.

    If an import has no cell of a model on a task, that group has no outcomes.
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
