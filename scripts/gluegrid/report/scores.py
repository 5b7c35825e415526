"""Models by tasks as numbers and their texts: the source of the page's main table, its figures and the LaTeX table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scipy import stats

from gluegrid.common.formatting import percent
from gluegrid.experiment.metrics import METRICS
from gluegrid.report.significance import SavedComparisons, best_models
from gluegrid.results.result_text import seeds_text, task_name
from gluegrid.results.summary import Group, Summary, by_model_on_every_task, mean
from gluegrid.results.tables import mean_over_tasks, score_or_state

CONFIDENCE = 0.95

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """The score of one model on one task over seeds.

    `is_best`: it may be marked as the best of its task. `is_of_one_seed`: and that rests on a single seed.
    """

    group: Group
    is_best: bool = False
    is_of_one_seed: bool = False

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
    def interval(self) -> Bounds | None:
        """The interval of the mean; None for one seed."""
        return interval([self.summary], score_bounds([self.group]))

    @property
    def interval_text(self) -> str:
        """The interval x 100; empty for one seed."""
        return f"[{percent(self.interval[0])}, {percent(self.interval[1])}]" if self.interval else ""

    @property
    def seeds(self) -> str:
        """How many seeds the number is of and what became of the others; empty where nothing is out of the ordinary."""
        group = self.group
        if not group.done and (alike := group.failed or group.stopped):
            return f"{len(alike)} of {len(group.outcomes)} seeds"
        is_complete = len(group.done) == len(group.outcomes) and not group.degenerate
        return "" if is_complete or not group.done or not group.task.metric_keys() else seeds_text(group)


@dataclass(frozen=True)
class ModelScores:
    """A model's scores on the tasks of the table.

    `common` are the scores on the tasks that every model has, `rank` is the mean rank on these. `is_best` and
    `is_of_one_seed` are of the mean over these tasks, and as in a Score.
    """

    model: str
    scores: Sequence[Score]
    common: Sequence[Score] = ()
    rank: float | None = None
    is_best: bool = False
    is_of_one_seed: bool = False

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

    @cached_property
    def common_mean(self) -> float | None:
        """The mean over the tasks that every model has; None for a model without scores."""
        return mean(score.mean for score in self.common)

    @property
    def common_interval(self) -> Bounds | None:
        """The interval of that mean; None where a task has one seed."""
        return interval([score.summary for score in self.common], score_bounds([each.group for each in self.common]))


@dataclass(frozen=True)
class ScoreTable:
    """Models by tasks. `tasks` are their names and titles, `common` those of the tasks that every model has.

    A model without any score does not count: it would leave no task that all have.
    """

    tasks: dict[str, str]
    rows: Sequence[ModelScores]
    common: dict[str, str]

    @property
    def has_gaps(self) -> bool:
        """Whether means over tasks are of different tasks."""
        return any(row.count > len(self.common) for row in self.rows)

    @property
    def has_ranks(self) -> bool:
        """Whether models were ranked: a model alone is not."""
        return any(row.rank is not None for row in self.rows)

    def best_models(self, most: int) -> set[str]:
        """Return at most so many models, those with the highest means over the most tasks."""
        ranked = sorted(self.rows, key=lambda row: (row.count, row.mean or 0), reverse=True)
        return {row.model for row in ranked[:most]}


def score_table(groups: Sequence[Group], comparisons: SavedComparisons | None = None) -> ScoreTable:
    """Return the table of groups that stand for a model and a task each, in their order.

    Scores are marked as best by comparisons of these results; without any, none is.
    """
    if comparisons and comparisons.is_outdated:
        comparisons = None
    tasks = {group.task.name: task_name(group) for group in groups}
    by_model = [list(map(Score, of_model)) for of_model in by_model_on_every_task(groups)]
    if comparisons:
        by_task = [_marked(of_task, comparisons) for of_task in zip(*by_model, strict=True)]
        by_model = list(map(list, zip(*by_task, strict=True)))
    rows = [ModelScores(scores[0].group.model, scores) for scores in by_model]
    scored = [row for row in rows if row.count]
    places = [
        place for place in range(len(tasks)) if scored and all(row.scores[place].mean is not None for row in scored)
    ]
    rows = _ranked([replace(row, common=[row.scores[place] for place in places]) for row in rows])
    common = dict(list(tasks.items())[place] for place in places)
    return ScoreTable(tasks, _with_best_means(rows, common, comparisons) if comparisons else rows, common)


def interval(summaries: Sequence[Summary], bounds: Bounds) -> Bounds | None:
    """Return the 95% interval of a mean over seeds, or of the mean of several such means, clipped to what is possible.

    It is Student's t; of several means with the degrees of freedom of Satterthwaite (1946), since the seeds of one task
    share nothing with those of another. None where a spread is unknown.
    """
    if not summaries or any(each.mean is None or each.sd is None for each in summaries):
        return None
    center = mean(each.mean for each in summaries)
    variances = [each.sd**2 / each.count for each in summaries]
    if not (total := sum(variances)):
        return center, center
    degrees = total**2 / sum(part**2 / (each.count - 1) for part, each in zip(variances, summaries, strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * math.sqrt(total) / len(summaries)
    return max(center - half, bounds[0]), min(center + half, bounds[1])


def bounds_of(metrics: Sequence[str]) -> Bounds:
    """Return the least and the highest mean that these metrics can have."""
    least, most = zip(*(METRICS[name].range for name in metrics), strict=True)
    return sum(least) / len(least), sum(most) / len(most)


def score_bounds(groups: Sequence[Group]) -> Bounds:
    """Return the least and the highest mean score that groups can have."""
    ends = [bounds_of(group.task.metrics) for group in groups if group.task.metrics] or [(0.0, 1.0)]
    return sum(low for low, _ in ends) / len(ends), sum(high for _, high in ends) / len(ends)


def _marked(of_task: Sequence[Score], comparisons: SavedComparisons) -> list[Score]:
    """Return the scores on one task, the best of them marked."""
    means = {score.group.model: score.mean for score in of_task if score.mean is not None}
    degenerate = {score.group.model for score in of_task if score.group.degenerate}
    task = [of_task[0].group.task.name]
    best = best_models(means, degenerate, (each for each in comparisons.of_tasks if list(each.tasks) == task))
    return [_with_mark(score, score.group.model, best) for score in of_task]


def _with_best_means(
    rows: Sequence[ModelScores], common: Mapping[str, str], comparisons: SavedComparisons
) -> list[ModelScores]:
    """Return the rows, the best means over the common tasks marked."""
    means = {row.model: row.common_mean for row in rows if row.common_mean is not None}
    degenerate = {row.model for row in rows if any(score.group.degenerate for score in row.common)}
    of_these = [each for each in [*comparisons.of_tasks, *comparisons.of_means] if sorted(each.tasks) == sorted(common)]
    best = best_models(means, degenerate, of_these)
    return [_with_mark(row, row.model, best) for row in rows]


def _with_mark(it: Score | ModelScores, model: str, best: Mapping[str, bool]) -> Score | ModelScores:
    return replace(it, is_best=True, is_of_one_seed=best[model]) if model in best else it


def _ranked(rows: Sequence[ModelScores]) -> list[ModelScores]:
    """Return the rows with their mean ranks over the common tasks; equal scores share the mean of their ranks."""
    scored = [row for row in rows if row.common_mean is not None]
    if len(scored) < 2:
        return list(rows)
    by_task = zip(*(row.common for row in scored), strict=True)
    ranks = [stats.rankdata([-score.mean for score in of_task]).tolist() for of_task in by_task]
    means = {row.model: mean(of_model) for row, of_model in zip(scored, zip(*ranks, strict=True), strict=True)}
    return [replace(row, rank=means.get(row.model)) for row in rows]
