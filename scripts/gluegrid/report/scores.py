"""Models by tasks as numbers and their words: what the page's table and the one for LaTeX are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scipy import stats

from gluegrid.common.formatting import percent
from gluegrid.results.result_text import seeds_text, task_name
from gluegrid.results.summary import Group, Summary, by_model_on_every_task, mean
from gluegrid.results.tables import mean_over_tasks, score_or_state

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Score:
    """The score of one model on one task over seeds. `is_best`: no other model's mean on this task is higher."""

    group: Group
    is_best: bool = False

    @cached_property
    def summary(self) -> Summary:
        """The score over seeds."""
        return self.group.score_summary()

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None where there is none."""
        return self.summary.mean

    @property
    def text(self) -> str:
        """The mean and standard deviation x 100, or why there are none."""
        return score_or_state(self.group)

    @property
    def interval_text(self) -> str:
        """The interval of the mean x 100; empty for one seed, of which none is known."""
        bounds = interval(self.summary)
        return f"[{percent(bounds[0])}, {percent(bounds[1])}]" if bounds else ""

    @property
    def seeds(self) -> str:
        """How many seeds the number is of, and what became of the others; empty where nothing is scored or run."""
        group = self.group
        if not group.done and (alike := group.failed or group.stopped):
            return f"{len(alike)} of {len(group.outcomes)} seeds"
        if not group.done or not group.task.metric_keys():
            return ""
        return "1 seed" if len(group.outcomes) == 1 and not group.degenerate else seeds_text(group)


@dataclass(frozen=True)
class ModelScores:
    """A model's scores on the tasks of the table, and their mean."""

    model: str
    scores: Sequence[Score]
    is_best: bool = False

    @cached_property
    def mean(self) -> float | None:
        """The mean over the tasks that have a score."""
        return mean(score.mean for score in self.scores if score.mean is not None)

    @cached_property
    def count(self) -> int:
        """The number of tasks that have a score."""
        return sum(score.mean is not None for score in self.scores)

    @property
    def texts(self) -> tuple[str, str]:
        """The mean x 100, and of how many tasks it is, where some are missing."""
        return mean_over_tasks([score.group for score in self.scores])


@dataclass(frozen=True)
class ScoreTable:
    """Models by tasks; `tasks` are their names and titles."""

    tasks: dict[str, str]
    rows: Sequence[ModelScores]

    def best_models(self, most: int) -> set[str]:
        """Return at most so many models, those with the best means over tasks."""
        ranked = sorted(self.rows, key=lambda row: (row.count, row.mean or 0), reverse=True)
        return {row.model for row in ranked[:most]}


def score_table(groups: Sequence[Group]) -> ScoreTable:
    """Return the table of groups that stand for a model and a task each, in their order."""
    by_model = [list(map(Score, of_model)) for of_model in by_model_on_every_task(groups)]
    highest = [_highest([score.mean for score in of_task]) for of_task in zip(*by_model, strict=True)]
    rows = [
        ModelScores(
            scores[0].group.model,
            [replace(score, is_best=_is(score.mean, best)) for score, best in zip(scores, highest, strict=True)],
        )
        for scores in by_model
    ]
    # A mean over fewer tasks is another number.
    most = max((row.count for row in rows), default=0)
    best = _highest([row.mean for row in rows if row.count == most])
    rows = [replace(row, is_best=row.count == most and _is(row.mean, best)) for row in rows]
    return ScoreTable({group.task.name: task_name(group) for group in groups}, rows)


def interval(summary: Summary) -> tuple[float, float] | None:
    """Return the 95% interval of a mean by Student's t, in the summary's unit; None where no spread is known."""
    if summary.mean is None or summary.sd is None:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, summary.count - 1))
    half = quantile * summary.sd / math.sqrt(summary.count)
    return summary.mean - half, summary.mean + half


def _is(mean: float | None, highest: float | None) -> bool:
    return mean is not None and mean == highest


def _highest(values: Sequence[float | None]) -> float | None:
    """Return the highest number where there are several to choose from, else None."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) > 1 else None
