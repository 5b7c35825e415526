"""The numbers that tables must show, from runs whose metrics were recomputed. Rounds and averages on its own."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from gluegrid.experiment import Experiment
from gluegrid.tasks import Task
from gluegrid.verification.verified_runs import VerifiedRun

UNKNOWN = math.nan  # its predictions cannot be read, which was reported; None is an undefined metric
TIE = 1e-9  # sums in another order may fall to the other side of a tie

# The numbers of a cell of a table, each with the texts that are right for it; None where it is not known.
Expected = list[set[str]] | None
NOTHING: Expected = [{"-"}]

Data = tuple[str, str, str]  # a split, the examples of it that were used, and how many are official, as in the tables
KINDS = ("train", "validation", "test")  # what the names of official splits begin with


@dataclass(frozen=True)
class Group:
    """The runs of one model on one task, one for each seed, and the task's entry in the experiment."""

    model: str
    task: Task
    entry: dict
    runs: list[VerifiedRun]
    states: set[str]  # what results.csv says of them; empty where it cannot be read

    @property
    def done(self) -> list[VerifiedRun]:
        """The runs that have a result."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def is_known(self) -> bool:
        """Whether it is clear which runs tables show: a result that cannot be used may be shown as it was before."""
        return not any(run.state == "broken" for run in self.runs)

    @property
    def without_result(self) -> Expected:
        """What stands for the number of a group in which no run has a result."""
        if not self.states:
            return [{"failed", "not run"}]
        return [{"failed"}] if "failed" in self.states else [{"not run"}]

    @property
    def display_name(self) -> str:
        """The task's name in the tables."""
        return self.entry.get("display_name", self.task.name)

    def options(self) -> set[str]:
        """Return the options that tables name beside a result."""
        run = self.runs[0].cell.run
        of_batches = {run.get("train_sampling_strategy", "random")} - {"random"}
        return of_batches | ({"lora"} if "lora" in run else set())

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds; None where it is undefined for any of them, or there is none."""
        return mean(run.values.get(key, UNKNOWN) for run in self.done)

    def score(self) -> float | None:
        """Return the mean of the task's metrics."""
        return mean(self.mean(key) for key in self.task.metric_keys())

    def data(self) -> set[Data] | None:
        """Return the splits of which another number of examples was used than are official; None where unknown."""
        differing = set()
        for split, key in self._counted_splits().items():
            official = self.entry["official"][split]["rows"]
            used = {run.values.get(key) for run in self.done}
            if None in used:
                return None
            differing |= {(split, f"{samples:,}", f"{official:,}") for samples in used - {official}}
        return differing

    def _counted_splits(self) -> dict[str, str]:
        """Return the official splits that are used for what they are there for, with their key of all_results.json."""
        keys = {self.task.train: "train_samples"}
        keys |= {split: f"eval_samples{suffix}" for split, suffix in self.task.validation.items()}
        return {
            split: key
            for split, key in keys.items()
            if split in self.entry.get("official", {}) and not split.startswith(self._other_kinds(split))
        }

    def _other_kinds(self, split: str) -> tuple[str, ...]:
        own = "train" if split == self.task.train else "validation"
        return tuple(kind for kind in KINDS if kind != own)


def grouped(experiment: Experiment, runs: Iterable[VerifiedRun], states: dict[str, str] | None) -> list[Group]:
    """Return the groups in the order of the tables: by model, then by task, as in the experiment.

    `states` is what results.csv says of each cell.
    """
    groups = []
    for (model, task), of_group in groupby(runs, key=_model_and_task):
        members = list(of_group)
        said = {states[run.cell.name] for run in members} if states else set()
        groups.append(Group(model, members[0].task, experiment.tasks[task], members, said))
    return groups


def _model_and_task(run: VerifiedRun) -> tuple[str, str]:
    return run.cell.model, run.cell.task


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; UNKNOWN where any value is, else None where any is undefined, or for no values."""
    values = list(values)
    if any(value is not None and math.isnan(value) for value in values):
        return UNKNOWN
    if not values or None in values:
        return None
    return math.fsum(values) / len(values)


def model_row(group: Group) -> dict[str, Expected]:
    """Return a task's cells in the table of a model, by column."""
    if not group.is_known:
        return {}
    if not group.done:
        return {"Result": group.without_result, "Training time (s)": NOTHING, "epochs": NOTHING}
    return {
        "Result": _joined(percentage(group.mean(key)) for key in group.task.metric_keys()),
        "Training time (s)": _seconds(group.mean("train_runtime")),
        "epochs": _epochs(group.mean("epoch")),
    }


def reference_row(group: Group, reference: dict[str, dict], label: str) -> dict[str, Expected]:
    """Return a task's cells beside those of a reference: task -> metrics in percent, seconds and epochs."""
    theirs = reference.get(group.task.name, {})
    metrics = [theirs.get(key.removeprefix("eval_")) for key in group.task.metric_keys()]
    return model_row(group) | {
        f"Result of {label}": [{f"{value:.2f}"} for value in metrics if value is not None] or NOTHING,
        f"Time of {label} (s)": _seconds(theirs.get("train_runtime")),
        f"epochs of {label}": _epochs(theirs.get("epoch")),
    }


def tasks_row(groups: list[Group]) -> list[Expected]:
    """Return a model's cells in models x tasks: a score for each task, and their mean."""
    cells = [
        (percentage(group.score()) if group.done else group.without_result) if group.is_known else None
        for group in groups
    ]
    if not all(group.is_known for group in groups):
        return [*cells, None]
    scores = [score for score in (group.score() for group in groups) if score is not None]
    return [*cells, percentage(mean(scores)) if scores else NOTHING]


def percentage(value: float | None) -> Expected:
    """Return a metric times 100 with two decimals."""
    return [{"undefined"}] if value is None else _two_decimals(value * 100)


def _joined(numbers: Iterable[Expected]) -> Expected:
    numbers = list(numbers)
    return None if None in numbers else [number for each in numbers for number in each]


def _seconds(value: float | None) -> Expected:
    return NOTHING if value is None else _two_decimals(value)


def _epochs(value: float | None) -> Expected:
    if value is None:
        return NOTHING
    return None if math.isnan(value) else [{f"{value:g}"}]


def _two_decimals(value: float) -> Expected:
    return None if math.isnan(value) else [{f"{value + nudge:.2f}" for nudge in (-TIE, 0, TIE)}]
