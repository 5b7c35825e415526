"""Group verified runs by model, task and variant, as tables do, and find the variants that tables show."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Self

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.options import SWEPT_KEYS
from gluegrid.experiment.sources import split_of
from gluegrid.experiment.task import Task
from gluegrid.verification.expected_texts import shortened
from gluegrid.verification.over_seeds import UNKNOWN, Value, mean
from gluegrid.verification.runs import VerifiedRun

SYNTHETIC = "synthetic"
KINDS = ("train", "validation", "test")  # how the names of official splits begin


@dataclass(frozen=True)
class Group:
    """The runs of one variant of a model on a task, one for each seed, and the task's entry in the experiment.

    `states` is the state of each run in results.csv, empty if that cannot be read. A group that tables show has all
    variants of the model on the task as `points`. If not `is_clear`, it stands for whichever of them tables show.
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
        """Whether it is clear which runs tables show: they may still show an unusable result as it was before."""
        return self.is_clear and not any(run.state == "broken" for run in self.runs)

    @property
    def settings(self) -> dict:
        """The run.json of the first seed, completed with its recipe."""
        return self.runs[0].cell.values

    @property
    def name(self) -> str:
        """The task's name in the tables."""
        return shortened(self.entry.get("display_name", self.task.name))

    @property
    def decided_by(self) -> str | None:
        """The task whose models are only evaluated here, so that the variant is the one chosen there."""
        start = self.settings["init_from"]
        return start["task"] if start and not self.settings["do_train"] else None

    @property
    def is_choice(self) -> bool:
        """Whether it was chosen from several variants by scores."""
        return len(self.points) > 1 and self.decided_by is None and bool(defined(self.selecting_scores()))

    @property
    def has_holdout(self) -> bool:
        """Whether its variant is chosen by scores on a held-out part of train."""
        return self.settings["do_train"] and self.settings["selection"] == "holdout"

    @property
    def depends_on_seed(self) -> bool:
        """Whether another seed would change the result."""
        return self.settings["do_train"] or self.settings["init_from"] is not None

    @property
    def failed(self) -> int:
        """How many runs failed according to results.csv."""
        return self.states.count("failed")

    @property
    def stopped(self) -> int:
        """How many runs were stopped according to results.csv."""
        return self.states.count("stopped")

    def without_degenerate(self) -> Self:
        """Return the group without its degenerate runs."""
        return replace(self, runs=[run for run in self.runs if run.state != "done" or not is_degenerate(run)])

    def values(self, key: str) -> list[Value]:
        """Return a value of each run with a result."""
        return [run.values.get(key, UNKNOWN) for run in self.done]

    def scores(self) -> list[Value]:
        """Return the mean of the task's metrics for each run with a result."""
        return self._means(self.task.metric_keys())

    def holdout_scores(self) -> list[Value]:
        """Return the mean of the metrics on the held-out part of train for each run with a result."""
        return self._means(f"eval_{metric}_holdout" for metric in self.task.metrics)

    def selecting_scores(self) -> list[Value]:
        """Return the scores by which the variant is chosen."""
        return self.holdout_scores() if self.has_holdout else self.scores()

    def data(self) -> str | None:
        """Describe how the data of its results differ from the official files: empty if not at all, None if unknown."""
        texts = Counter(data_of(run, self.entry) for run in self.done)
        if None in texts:
            return None
        if len(texts) == 1:
            return next(iter(texts))
        return ", ".join(f"{text} in {count} of {len(self.done)} runs" for text, count in texts.items() if text)

    def has_other_data(self) -> bool | None:
        """Tell whether any of its results has data that differ from the official files; None if that is unknown."""
        texts = [data_of(run, self.entry) for run in self.done]
        return None if None in texts else any(text not in ("", SYNTHETIC) for text in texts)

    def _means(self, keys: Iterable[str]) -> list[Value]:
        return [mean(values) for values in zip(*map(self.values, keys), strict=True)] or [None] * len(self.done)


def shown_groups(experiment: Experiment, runs: Iterable[VerifiedRun], states: dict[str, str] | None) -> list[Group]:
    """Return the variant that tables show for each model and task, in the order of the experiment.

    `states` is the state of each cell in results.csv, or None if that cannot be read.
    """
    sweeps = [
        _variants(experiment.tasks[task], of_both, states)
        for (_, task), of_both in groupby(runs, key=lambda run: (run.cell.model, run.cell.task))
    ]
    best = {(points[0].model, points[0].task.name): best_of(points, Group.selecting_scores) for points in sweeps}
    return [_shown(points, best) for points in sweeps]


def _variants(entry: dict, runs: Iterable[VerifiedRun], states: dict[str, str] | None) -> list[Group]:
    variants: dict[str, list[VerifiedRun]] = {}
    for run in runs:
        variants.setdefault(run.cell.variant, []).append(run)
    return [
        Group(of[0].cell.model, of[0].task, name, entry, of, [states[run.cell.name] for run in of] if states else [])
        for name, of in variants.items()
    ]


def _shown(points: list[Group], best: dict[tuple[str, str], Group | None]) -> Group:
    decided = best[points[0].model, points[0].decided_by or points[0].task.name]
    same = [point for point in points if decided and point.variant == decided.variant]
    return replace((same or points)[0], points=points, is_clear=bool(same) or len(points) == 1)


def best_of(points: list[Group], scores_of: Callable[[Group], list[Value]]) -> Group | None:
    """Return the variant with the best mean among those with the most scores, the first if tied; None if unclear."""
    if len(points) == 1:
        return points[0]
    scores = [defined(scores_of(point)) for point in points]
    if not all(point.is_known for point in points) or any(math.isnan(score) for of in scores for score in of):
        return None
    if not any(scores) and not all(point.states for point in points):
        return None
    ranks = [
        (len(of), mean(of) or 0.0, len(point.done), point.failed, point.stopped)
        for of, point in zip(scores, points, strict=True)
    ]
    return points[ranks.index(max(ranks))]


def optimism(points: Sequence[Group]) -> tuple[Group, Group] | None:
    """Return the variants chosen on the holdout and on validation, or None if they cannot both be chosen."""
    if not points[0].has_holdout or not all(point.is_known for point in points):
        return None
    scored = [point for point in points if defined(point.scores()) and defined(point.holdout_scores())]
    if len(scored) < 2:
        return None
    by_holdout, by_validation = best_of(scored, Group.holdout_scores), best_of(scored, Group.scores)
    return (by_holdout, by_validation) if by_holdout and by_validation else None


def varied(points: Sequence[Group]) -> list[str]:
    """Return the training values in which variants differ; whether they save their model does not count."""
    first = points[0].settings
    order = [*first, *(key for point in points for key in point.settings)]
    keys = [key for key in dict.fromkeys(order) if key in SWEPT_KEYS and key != "save_model"]
    return [key for key in keys if any(point.settings.get(key) != first.get(key) for point in points)]


def defined(values: Iterable[Value]) -> list[float]:
    """Return the values that are defined."""
    return [value for value in values if value is not None]


def is_degenerate(run: VerifiedRun) -> bool:
    """Tell whether a run is degenerate by its predictions or, if these cannot be read, by its results."""
    return bool(run.values.get("degenerate", run.results.get("degenerate")))


def data_of(run: VerifiedRun, entry: dict) -> str | None:
    """Describe how the data of a result differ from the official files: empty if not at all, None if unknown."""
    if entry.get("synthetic"):
        return SYNTHETIC
    official, task = entry.get("official", {}), run.task
    counted = {task.train: "train_samples"} if run.cell.values["do_train"] else {}
    counted |= {split: f"eval_samples{suffix}" for split, suffix in task.validation.items()}
    texts, others = [], []
    for split, key in counted.items() if official else ():
        used, rows = run.values.get(key), official.get(split, {}).get("rows")
        kind = "train" if split == task.train else "validation"
        if rows is None or split.startswith(tuple(other for other in KINDS if other != kind)):
            texts.append(f"{'trained' if kind == 'train' else 'scored'} on {split}")
        elif used is None:
            return None
        elif used != rows:
            texts.append(f"{split} {used:,} {'of' if used < rows else 'instead of'} {rows:,}")
        elif _hashes(run, split) != [official[split]["sha256"]]:
            others.append(split)
    return ", ".join([*texts, *([f"other data: {', '.join(others)}"] if others else [])])


def _hashes(run: VerifiedRun, split: str) -> list[str]:
    """Return the hashes of a split's files in the record of a run."""
    return [digest for name, digest in run.record["task_files"].items() if split_of(name) == split]
