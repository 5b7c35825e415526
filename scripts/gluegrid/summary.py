"""From the outcomes of cells to the numbers of a table: means over seeds, unrounded."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gluegrid.experiment import Experiment
from gluegrid.records import Outcome
from gluegrid.tasks import Task, definition
from gluegrid.ways_to_train import named_options


@dataclass(frozen=True)
class Group:
    """The cells of one model on one task: the same values, one cell per seed."""

    model: str
    task: Task
    display_name: str
    metric_label: str
    outcomes: Sequence[Outcome]

    @property
    def done(self) -> list[Outcome]:
        """The cells that have a valid result."""
        return [outcome for outcome in self.outcomes if outcome.is_done]

    @property
    def failed(self) -> list[Outcome]:
        """The cells that were tried and have none."""
        return [outcome for outcome in self.outcomes if outcome.has_failed]

    @property
    def data(self) -> str:
        """In what the data of the cells with a result differ from the task's official; empty where in nothing."""
        texts = Counter(outcome.data for outcome in self.done)
        if len(texts) == 1:
            return next(iter(texts))
        runs = len(self.done)
        return ", ".join(f"{text} in {count} of {runs} runs" for text, count in texts.items() if text)

    @property
    def options(self) -> list[str]:
        """The options that tables name beside the number; they are the same for all seeds."""
        return named_options(self.outcomes[0].cell.run)

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds of a key of all_results.json; None where it is undefined for any of them."""
        return mean(outcome.results.get(key) for outcome in self.done)

    def score(self) -> float | None:
        """Return the mean of the task's metrics, as the GLUE benchmark averages a task of several."""
        return mean(self.mean(key) for key in self.task.metric_keys())


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; None for no values, or where one is undefined: a mean of the rest would be another number."""
    values = list(values)
    if not values or None in values:
        return None
    return sum(values) / len(values)


def groups(experiment: Experiment, outcomes: list[Outcome]) -> list[Group]:
    """Return one group for each model and task, in the order of the config."""
    of_groups = defaultdict(list)
    for outcome in outcomes:
        of_groups[outcome.cell.model, outcome.cell.task].append(outcome)
    return [
        Group(
            model=model,
            task=Task(name=task, **definition(entry)),
            display_name=entry.get("display_name", task),
            metric_label=entry.get("metric_label", "/".join(entry["metrics"])),
            outcomes=of_groups[model, task],
        )
        for model in experiment.models
        for task, entry in experiment.tasks.items()
    ]
