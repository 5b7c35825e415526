"""How often comparisons find a difference between equally good models, and between models that differ.

Simulate answers to `--examples` examples, correct with probability 0.8, scored by accuracy. The baseline resamples both
examples and seeds (the multi-bootstrap of Sellam et al. 2022, unpaired in the seeds).
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy
from scipy import stats

from gluegrid.analysis.bootstrap import Answers, difference, difference_draws, example_draws, model_draws, scores
from gluegrid.results.tables import markdown

METRICS = ["accuracy"]
RESAMPLES = 1000
SEEDS = (1, 2, 3, 5, 10)


@dataclass(frozen=True)
class Mistakes:
    """How the mistakes of seeds are related: `own` is the share of an example's luck that is each seed's own.

    `spread` is the standard deviation of the seeds' true accuracy, over all possible examples.
    """

    name: str
    own: float
    spread: float


KINDS = (
    Mistakes("each seed its own, all seeds equally good", 1.0, 0.0),
    Mistakes("mostly the same, seeds differ by 1 point", 0.3, 0.01),
    Mistakes("the same, seeds differ by 3 points", 0.0, 0.03),
)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000, help="comparisons of each kind (default 2,000)")
    parser.add_argument("--examples", type=int, default=277, help="validation examples (default 277, as in RTE)")
    parser.add_argument("--better", type=float, default=0.05, help="by how much the better model's accuracy is higher")
    options = parser.parse_args()
    print(table(options.repetitions, options.examples, options.better))


def table(repetitions: int, examples: int, better: float) -> str:
    """Return the percentage of comparisons whose interval is on one side of 0."""
    rows = []
    for kind in KINDS:
        for seeds in SEEDS:
            found = [
                f"{100 * rate:.1f}" for gap in (0.0, better) for rate in rates(kind, seeds, gap, repetitions, examples)
            ]
            rows.append((kind.name, str(seeds), *found))
    titles = (f"{title}: {way}" for title in ("equal", f"{100 * better:g} points apart") for way in ("ours", "plain"))
    return markdown(("Mistakes", "Seeds", *titles), rows)


def rates(kind: Mistakes, seeds: int, gap: float, repetitions: int, examples: int) -> tuple[float, ...]:
    """Return how often both methods find a difference between models whose accuracies are `gap` apart."""
    counts = numpy.zeros(len(WAYS))
    for repetition in range(repetitions):
        generator = numpy.random.default_rng([repetition, seeds, KINDS.index(kind)])
        splits = {"validation": simulated(kind, seeds, gap, examples, generator)}
        name = f"{kind.name} {repetition}"
        on_examples = example_draws(name, METRICS, splits, RESAMPLES)
        draws = (way(name, scores(METRICS, splits), on_examples, generator) for way in WAYS)
        counts += [difference(0.0, of_way).sign != 0 for of_way in draws]
    return tuple(counts / repetitions)


def simulated(kind: Mistakes, seeds: int, gap: float, examples: int, generator: numpy.random.Generator) -> Answers:
    """Return the answers of both models, one after the other; 1 is correct."""
    of_examples = generator.normal(size=(examples, 1))
    of_seeds = generator.normal(size=(examples, 2 * seeds))
    luck = numpy.sqrt(1 - kind.own) * of_examples + numpy.sqrt(kind.own) * of_seeds
    accuracy = generator.normal(0.8, kind.spread, size=2 * seeds) + gap * (numpy.arange(2 * seeds) < seeds)
    return Answers(numpy.ones(examples, dtype=int), (luck < stats.norm.ppf(accuracy.clip(0.01, 0.99))).astype(int))


def ours(
    name: str, of_runs: numpy.ndarray, on_examples: numpy.ndarray, generator: numpy.random.Generator
) -> numpy.ndarray:
    """Return draws of the difference as `snakemake compare` makes them."""
    parts = numpy.split(numpy.arange(len(of_runs)), 2)
    first, second = (model_draws(name, str(part), of_runs[part], on_examples[:, part]) for part in parts)
    return difference_draws([name], [(first, second)])


def plain(
    name: str, of_runs: numpy.ndarray, on_examples: numpy.ndarray, generator: numpy.random.Generator
) -> numpy.ndarray:
    """Return draws of the difference that resample the seeds, too."""
    seeds = len(of_runs) // 2
    drawn = (generator.integers(seeds, size=(RESAMPLES, seeds)) + start for start in (0, seeds))
    first, second = (numpy.take_along_axis(on_examples, numbers, axis=1).mean(axis=1) for numbers in drawn)
    return first - second


WAYS: tuple[Callable[..., numpy.ndarray], ...] = (ours, plain)


if __name__ == "__main__":
    main()
