"""How soon a grid is done on N GPUs, in gluegrid's order of cells and in others, against a lower bound.

Simulate 1 to 64 GPUs and 1 to 5 seeds with the 18 training times of references/document.yaml. With --cluster, run the
same grid with simulated trainings on the test cluster, in real time (makespan_on_cluster.py).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from gluegrid.common.cli import run_script
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.references import by_model_and_task, document
from gluegrid.operations.estimates import Estimates, learn
from gluegrid.operations.makespan import lower_bound, makespan
from gluegrid.results.outcomes import Outcome

PROJECT = Path(__file__).resolve().parents[1]
MOST_GPUS, MOST_SEEDS = 64, 5
ALLOWED = 1.1  # times the lower bound
RANGES_OF_GPUS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, MOST_GPUS))
ORDERS = {
    "a": "longest first by gluegrid's estimates, from sizes that it knows by name, without measured speeds",
    "b": "longest first by the real times",
    "c": "in the order of the experiment file",
    "d": "longest first by gluegrid's estimates, with speeds measured in an earlier run of one seed",
}

Ratios = dict[tuple[str, int, int], float]


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", action="store_true", help="measure on the test cluster (as root)")
    parser.add_argument("--gpus", type=int, default=3, choices=range(1, 9), help="free GPUs of the test cluster")
    parser.add_argument(
        "--longest", type=float, default=120, metavar="SECONDS", help="duration of the longest training there"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gluegrid-benchmark-") as folder:
        if options.cluster:
            from makespan_on_cluster import measure

            print(measure(Path(folder), document_times(), options.gpus, options.longest))
        else:
            with chdir(folder):  # where nothing is staged
                print(tables(simulate()))


def simulate(gpus: Sequence[int] = range(1, MOST_GPUS + 1), most_seeds: int = MOST_SEEDS) -> Ratios:
    """Return the ratio of the makespan to the lower bound by order, number of GPUs and number of seeds.

    Sizes are known by name only if nothing is staged below the working folder.
    """
    ratios: Ratios = {}
    for seeds in range(1, most_seeds + 1):
        experiment = document_experiment(seeds)
        for name, order in orders(experiment).items():
            times = [real_seconds(experiment, cell) for cell in order]
            for number in gpus:
                ratios[name, number, seeds] = makespan(times, number) / lower_bound(times, number)
    return ratios


def document_experiment(seeds: int) -> Experiment:
    """Return the experiment of config.yaml, which has the document's values, with this many seeds."""
    config = load_experiment(PROJECT / "config.yaml").config
    return Experiment({**config, "seeds": list(range(1, seeds + 1))})


def document_times() -> dict[tuple[str, str], float]:
    """Return the document's seconds of training by model source and task."""
    documented = by_model_and_task(document())
    return {(source, task): run["train_runtime"] for source, runs in documented.items() for task, run in runs.items()}


TIMES = document_times()


def real_seconds(experiment: Experiment, cell: Cell) -> float:
    """Return the document's seconds of a cell's training."""
    return TIMES[experiment.models[cell.model]["source"], cell.task]


def orders(experiment: Experiment) -> dict[str, list[Cell]]:
    """Return an experiment's cells in each of ORDERS."""
    cells = list(experiment.cells.values())

    def longest_first(seconds_of: Callable[[Cell], float]) -> list[Cell]:
        return sorted(cells, key=seconds_of, reverse=True)

    return {
        "a": longest_first(Estimates(experiment, []).seconds_of),
        "b": longest_first(lambda cell: real_seconds(experiment, cell)),
        "c": cells,
        "d": longest_first(Estimates(experiment, learn(document_experiment(1), earlier_run())).seconds_of),
    }


def earlier_run() -> Iterator[Outcome]:
    """Yield the outcomes of a run of one seed with the document's times."""
    experiment = document_experiment(1)
    record = {"finished": "then", "device": "the document's GPU", "precision": "fp32", "peak_memory_bytes": {"host": 0}}
    for cell in experiment.cells.values():
        yield Outcome(cell, Path(), results={"train_runtime": real_seconds(experiment, cell)}, record=record)


def tables(ratios: Ratios) -> str:
    """Return the worst ratios as Markdown, and what is above ALLOWED."""
    by_seeds = [
        [f"{seeds} ({18 * seeds} cells)", *(_worst(ratios, name, 1, MOST_GPUS, [seeds]) for name in ORDERS)]
        for seeds in range(1, MOST_SEEDS + 1)
    ]
    by_gpus = [
        [str(low) if low == high else f"{low} to {high}", *(_worst(ratios, name, low, high) for name in ORDERS)]
        for low, high in RANGES_OF_GPUS
    ]
    above = {name: sum(key[0] == name and ratio > ALLOWED for key, ratio in ratios.items()) for name in ORDERS}
    lines = [
        *(f"- **{name}**: {what}" for name, what in ORDERS.items()),
        "",
        f"The worst of 1 to {MOST_GPUS} GPUs:",
        "",
        *_markdown("seeds", by_seeds),
        "",
        f"The worst of 1 to {MOST_SEEDS} seeds:",
        "",
        *_markdown("GPUs", by_gpus),
        "",
        f"Of the {len(ratios) // len(ORDERS)} pairs of GPUs and seeds, above {ALLOWED}: "
        + ", ".join(f"**{name}** {number}" for name, number in above.items())
        + ".",
    ]
    return "\n".join(lines)


def _worst(ratios: Ratios, order: str, low: int, high: int, seeds: Sequence[int] = range(1, MOST_SEEDS + 1)) -> str:
    keys = [key for key in ratios if key[0] == order and low <= key[1] <= high and key[2] in seeds]
    worst = max(keys, key=ratios.__getitem__)
    where = f" ({worst[1]} GPUs)" if ratios[worst] > ALLOWED else ""
    return f"{ratios[worst]:.3f}{where}"


def _markdown(first: str, rows: Sequence[Sequence[str]]) -> list[str]:
    head = [first, *(f"**{name}**" for name in ORDERS)]
    aligned = ["---", *("---:" for _ in ORDERS)]
    return [f"| {' | '.join(row)} |" for row in (head, aligned, *rows)]


if __name__ == "__main__":
    run_script(main)
