"""The runs of each variant of a model on a task, over which tables take their numbers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Self

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.options import SWEPT_KEYS
from gluegrid.experiment.task import Task
from gluegrid.verification.results import UNKNOWN, mean
from gluegrid.verification.runs import VerifiedRun

Data = tuple[str, str, str]  # a split, the examples of it that were used, and how many are official, as in the tables
KINDS = ("train", "validation", "test")  # what the names of official splits begin with


@dataclass(frozen=True)
class Group:
    """The runs of one variant of a model on a task, one for each seed, and the task's entry in the experiment.

    `points` are all variants of the model on the task. `states` is what results.csv says of each run; empty where it
    cannot be read. Without `is_clear` it stands for whichever of its points the tables show.
    """

    model: str
    task: Task
    variant: str
    entry: dict
    runs: Sequence[VerifiedRun]
    states: Sequence[str] = ()
    points: Sequence["Group"] = field(default=(), compare=False, repr=False)
    is_clear: bool = True

    @property
    def done(self) -> list[VerifiedRun]:
        """The runs that have a result."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def degenerate(self) -> list[VerifiedRun]:
        """The runs whose predictions are the same for all examples of a split, or give an undefined metric."""
        return [run for run in self.done if is_degenerate(run)]

    @property
    def is_known(self) -> bool:
        """Whether it is clear which runs tables show: a result that cannot be used may be shown as it was before."""
        return self.is_clear and not any(run.state == "broken" for run in self.runs)

    @property
    def settings(self) -> dict:
        """The run.json of the first seed, completed by its recipe."""
        return self.runs[0].cell.values

    @property
    def display_name(self) -> str:
        """The task's name in the tables."""
        return self.entry.get("display_name", self.task.name)

    @property
    def decided_by(self) -> str | None:
        """The task whose models are only evaluated here, so that the variant is that which was chosen there."""
        start = self.settings["init_from"]
        return start["task"] if start and not self.settings["do_train"] else None

    @property
    def has_holdout(self) -> bool:
        """Whether its variant is chosen by scores on a part of train."""
        return self.settings["do_train"] and self.settings["selection"] == "holdout"

    @property
    def depends_on_seed(self) -> bool:
        """Whether another seed would give another result."""
        return self.settings["do_train"] or self.settings["init_from"] is not None

    @property
    def failed(self) -> int:
        """How many runs results.csv says to have failed."""
        return self.states.count("failed")

    def without_degenerate(self) -> Self:
        """Return the group of the runs that are not degenerate."""
        return replace(self, runs=[run for run in self.runs if run.state != "done" or not is_degenerate(run)])

    def values(self, key: str) -> list[float | None]:
        """Return a value of each run with a result."""
        return [run.values.get(key, UNKNOWN) for run in self.done]

    def scores(self) -> list[float | None]:
        """Return the mean of the task's metrics for each run with a result."""
        return [_mean_of(run, self.task.metric_keys()) for run in self.done]

    def holdout_scores(self) -> list[float | None]:
        """Return the mean of the metrics on the held-out part of train for each run with a result."""
        return [_mean_of(run, [f"eval_{metric}_holdout" for metric in self.task.metrics]) for run in self.done]

    def selecting_scores(self) -> list[float | None]:
        """Return what the variant is chosen by."""
        return self.holdout_scores() if self.has_holdout else self.scores()

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
        keys = {self.task.train: "train_samples"} if self.settings["do_train"] else {}
        keys |= {split: f"eval_samples{suffix}" for split, suffix in self.task.validation.items()}
        return {
            split: key
            for split, key in keys.items()
            if split in self.entry.get("official", {}) and not split.startswith(self._other_kinds(split))
        }

    def _other_kinds(self, split: str) -> tuple[str, ...]:
        own = "train" if split == self.task.train else "validation"
        return tuple(kind for kind in KINDS if kind != own)


def grouped(experiment: Experiment, runs: Iterable[VerifiedRun], states: dict[str, str] | None) -> list[list[Group]]:
    """Return the variants of each model and task, in the order of the experiment.

    `states` is what results.csv says of each cell.
    """
    found = []
    for (model, task), of_both in groupby(runs, key=lambda run: (run.cell.model, run.cell.task)):
        variants: dict[str, list[VerifiedRun]] = {}
        for run in of_both:
            variants.setdefault(run.cell.variant, []).append(run)
        points = [
            Group(model, of[0].task, variant, experiment.tasks[task], of, _states(of, states))
            for variant, of in variants.items()
        ]
        found.append([replace(point, points=points) for point in points])
    return found


def _states(runs: list[VerifiedRun], states: dict[str, str] | None) -> list[str]:
    return [states[run.cell.name] for run in runs] if states else []


def is_degenerate(run: VerifiedRun) -> bool:
    """Tell whether a run is degenerate, as its predictions or, where these cannot be read, its results say."""
    return bool(run.values.get("degenerate", run.results.get("degenerate")))


def _mean_of(run: VerifiedRun, keys: list[str]) -> float | None:
    return mean(run.values.get(key, UNKNOWN) for key in keys)


def shown(sweeps: list[list[Group]]) -> list[Group]:
    """Return for each model and task the variant that tables show."""
    best = {(points[0].model, points[0].task.name): best_of(points, Group.selecting_scores) for points in sweeps}
    found = []
    for points in sweeps:
        deciding = points[0].decided_by or points[0].task.name
        decided = best[points[0].model, deciding]
        of_variant = [point for point in points if decided and point.variant == decided.variant]
        found.append(of_variant[0] if of_variant else replace(points[0], is_clear=len(points) == 1))
    return found


def best_of(points: list[Group], scores_of: Callable[[Group], list[float | None]]) -> Group | None:
    """Return the variant with the best mean of those with the most scores, the first of equals; None if not clear."""
    if len(points) == 1:
        return points[0]
    scores = [[score for score in scores_of(point) if score is not None] for point in points]
    if not all(point.is_known for point in points) or any(math.isnan(score) for of in scores for score in of):
        return None
    if not any(scores) and not all(point.states for point in points):
        return None
    ranks = [
        (len(of), mean(of) or 0.0, len(point.done), point.failed) for of, point in zip(scores, points, strict=True)
    ]
    return points[ranks.index(max(ranks))]


def count_compared(chosen: Group) -> int:
    """Return how many variants have as many scores as the chosen one."""
    counts = [sum(score is not None for score in point.selecting_scores()) for point in chosen.points]
    return counts.count(sum(score is not None for score in chosen.selecting_scores()))


def is_choice(chosen: Group) -> bool:
    """Tell whether a variant was chosen from several by scores."""
    has_scores = any(score is not None for score in chosen.selecting_scores())
    return len(chosen.points) > 1 and chosen.decided_by is None and has_scores


def optimism(points: list[Group]) -> tuple[Group, Group] | None:
    """Return the variants chosen on the holdout and on validation, where both could be; None where not."""
    if not points[0].has_holdout or not all(point.is_known for point in points):
        return None
    scored = [
        point
        for point in points
        if any(score is not None for score in point.scores())
        and any(score is not None for score in point.holdout_scores())
    ]
    if len(scored) < 2:
        return None
    by_holdout, by_validation = best_of(scored, Group.holdout_scores), best_of(scored, Group.scores)
    return (by_holdout, by_validation) if by_holdout and by_validation else None


def varied(points: Sequence[Group]) -> list[str]:
    """Return the training values in which variants differ; which of them keep their model is no such value."""
    first = points[0].settings
    order = [*first, *(key for point in points for key in point.settings)]
    keys = [key for key in dict.fromkeys(order) if key in SWEPT_KEYS and key != "save_model"]
    return [key for key in keys if any(point.settings.get(key) != first.get(key) for point in points)]
