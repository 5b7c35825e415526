"""A paired bootstrap of the difference between two scores, over examples and seeds. See docs/comparisons.md.

Each draw is of one model, but all models share the resampled examples: differences between models are paired, and a
third model changes none of them.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy

from gluegrid.analysis.resamples import Resamples
from gluegrid.experiment.metrics import METRICS

LEVEL = 0.95  # of an interval
RESAMPLES = 10_000
WEIGHTS_AT_ONCE = 1 << 20  # 8 MB
ROUNDING = 1e-12  # of scores: smaller differences come from the order of sums


@dataclass(frozen=True)
class Answers:
    """What runs predict for the examples of a split: labels of shape (examples,), answers of (examples, runs)."""

    labels: numpy.ndarray
    answers: numpy.ndarray


@dataclass(frozen=True)
class Draws:
    """A model's resampled score on a task; arrays of shape (resamples,).

    `on_examples` is the mean over its seeds on resampled examples, `of_seeds` the deviation of resampled seeds from it.
    `variance` is the part of the mean's variance that seeds explain, estimated from `degrees` + 1 of them.
    """

    on_examples: numpy.ndarray
    of_seeds: numpy.ndarray
    variance: float
    degrees: int


@dataclass(frozen=True)
class Difference:
    """A difference of scores with its interval, the share of draws above 0 (draws at 0 count half), and a p-value.

    The p-value is two-sided, and at most 1 - LEVEL exactly where the interval lies on one side of 0.
    """

    value: float
    low: float
    high: float
    probability: float
    p_value: float

    @property
    def sign(self) -> int:
        """1 where the interval lies above 0, -1 where below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def scores(metrics: Sequence[str], splits: Mapping[str, Answers]) -> numpy.ndarray:
    """Return each run's score, of shape (runs,): the mean of a task's metrics and splits; NaN where undefined."""
    of_all = [_score(metrics, split, numpy.ones((1, len(split.labels)))) for split in splits.values()]
    return numpy.mean(of_all, axis=0)[0]


def example_draws(task: str, metrics: Sequence[str], splits: Mapping[str, Answers], resamples: int) -> numpy.ndarray:
    """Return scores on resampled examples, of shape (resamples, runs); all runs share the examples.

    A split's examples are drawn with replacement, as many as it has (Efron & Tibshirani 1993, chapter 6; Koehn 2004).
    """
    total = 0
    for name, split in splits.items():
        parts = _weights(generator_of("examples", task, name), len(split.labels), resamples)
        total = total + numpy.concatenate([_score(metrics, split, weights) for weights in parts])
    return total / len(splits)


def model_draws(task: str, model: str, of_seeds: numpy.ndarray, on_examples: numpy.ndarray) -> Draws:
    """Return a model's draws, from its scores `of_seeds` (seeds,) and `on_examples` (resamples, seeds).

    Of K seeds K - 1 are drawn with replacement, which makes the variance of their mean unbiased (Rao & Wu 1988). One
    seed has no deviations.
    """
    seeds, resamples = len(of_seeds), len(on_examples)
    means = on_examples.mean(axis=1)
    if seeds == 1:
        return Draws(means, numpy.zeros(resamples), 0.0, 0)
    share = share_of_seeds(of_seeds, on_examples)
    drawn = generator_of("seeds", task, model).integers(seeds, size=(resamples, seeds - 1))
    deviations = math.sqrt(share) * (of_seeds - of_seeds.mean())[drawn].mean(axis=1)
    return Draws(means, deviations, share * of_seeds.var(ddof=1) / seeds, seeds - 1)


def share_of_seeds(of_seeds: numpy.ndarray, on_examples: numpy.ndarray) -> float:
    """Return the share of the variance between a model's seeds that examples do not explain, from 0 to 1.

    Equally good seeds differ on a finite set of examples too, and the example draws include that already: resampling
    both counts it three times (Owen 2007). The estimate is that of an analysis of variance (Searle, Casella & McCulloch
    1992, chapter 4).
    """
    between = of_seeds.var(ddof=1)
    by_examples = (on_examples - of_seeds).var(axis=1, ddof=1).mean()
    return max(0.0, 1.0 - by_examples / between) if between > 0 else 0.0


def difference_draws(tasks: Sequence[str], pairs: Sequence[tuple[Draws, Draws]]) -> numpy.ndarray:
    """Return draws of two models' mean difference over tasks, of shape (resamples,)."""
    on_examples = sum(first.on_examples - second.on_examples for first, second in pairs)
    of_seeds = sum(first.of_seeds - second.of_seeds for first, second in pairs)
    tails = _tails(tasks, [draws for pair in pairs for draws in pair], len(on_examples))
    return (on_examples + tails * of_seeds) / len(pairs)


def _tails(tasks: Sequence[str], parts: Sequence[Draws], resamples: int) -> numpy.ndarray:
    """Return factors for deviations whose spread is estimated from few seeds: they turn a normal one into Student's t.

    Its degrees of freedom are those of a sum of independent parts (Satterthwaite 1946; Welch 1947).
    """
    known = [part for part in parts if part.variance > 0]
    if not known:
        return numpy.ones(resamples)
    total = sum(part.variance for part in known)
    degrees = total**2 / sum(part.variance**2 / part.degrees for part in known)
    return numpy.sqrt(degrees / generator_of("spread", *tasks).chisquare(degrees, size=resamples))


def difference(value: float, draws: numpy.ndarray, widest: float = math.inf) -> Difference:
    """Return a difference with its percentile interval (Efron & Tibshirani 1993, chapter 13).

    `widest` is the largest difference that the metrics allow: draws of few seeds may lie beyond it.
    """
    draws = numpy.sort(numpy.clip(numpy.where(abs(draws) < ROUNDING, 0.0, draws), -widest, widest))
    tail = math.floor((1 - LEVEL) / 2 * (len(draws) + 1))
    below, above = int(numpy.sum(draws < 0)), int(numpy.sum(draws > 0))
    beyond = len(draws) - max(below, above)
    return Difference(
        value=0.0 if abs(value) < ROUNDING else float(value),
        low=float(draws[tail - 1]),
        high=float(draws[-tail]),
        probability=(above + (len(draws) - above - below) / 2) / len(draws),
        p_value=min(1.0, 2 * (beyond + 1) / (len(draws) + 1)),
    )


def generator_of(*names: str) -> numpy.random.Generator:
    """Return a random number generator that depends on these names alone."""
    digest = hashlib.sha256(json.dumps(["gluegrid compare", *names]).encode()).digest()
    return numpy.random.default_rng(int.from_bytes(digest[:16]))


def _score(metrics: Sequence[str], split: Answers, weights: numpy.ndarray) -> numpy.ndarray:
    drawn = Resamples(weights, split.labels, split.answers)
    return numpy.mean([METRICS[name].resampled(drawn) for name in metrics], axis=0)


def _weights(generator: numpy.random.Generator, examples: int, resamples: int) -> Iterator[numpy.ndarray]:
    """Yield how often each example is drawn in each resample, for a few resamples at a time."""
    at_once = max(1, WEIGHTS_AT_ONCE // examples)
    for start in range(0, resamples, at_once):
        drawn = (generator.integers(examples, size=examples) for _ in range(min(at_once, resamples - start)))
        yield numpy.array([numpy.bincount(numbers, minlength=examples) for numbers in drawn], dtype=numpy.float64)
