"""benchmarks/makespan.py: how near to the best possible an order of cells comes. Simulated; nothing is timed."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import makespan


@pytest.fixture(scope="module")
def ratios(tmp_path_factory) -> makespan.Ratios:
    """All ratios, where nothing is staged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        return makespan.simulate()


@pytest.mark.parametrize("order", ["a", "b", "d"])
def test_longest_first_is_near_the_bound_on_any_number_of_gpus_with_any_of_its_seeds(ratios, order):
    of_order = {key: ratio for key, ratio in ratios.items() if key[0] == order}
    assert len(of_order) == 64 * 5
    assert {key: ratio for key, ratio in of_order.items() if not 1 - 1e-9 <= ratio <= 1.1} == {}


def test_the_order_of_the_config_is_not(ratios):
    assert max(ratio for key, ratio in ratios.items() if key[0] == "c") > 1.4


@pytest.mark.parametrize(
    ("times", "gpus", "bound"),
    [
        ([5, 4, 3], 3, 5),  # the longest
        ([5, 4, 3], 1, 12),  # all of them
        ([5, 4, 4, 1], 2, 8),  # the second and the third share a GPU: longer than 5, or 14 / 2
        ([4, 1, 5, 4], 2, 8),  # in any order
        ([5, 4], 9, 5),
    ],
)
def test_no_order_beats_the_bound(times, gpus, bound):
    assert makespan.lower_bound(times, gpus) == bound


def test_an_earlier_run_corrects_the_estimates(tmp_path, monkeypatch):
    """The document's base qqp took nine times its estimate, the others less: it comes before others than by size."""
    monkeypatch.chdir(tmp_path)
    experiment = makespan.document_experiment(1)
    orders = makespan.orders(experiment)
    seconds = [makespan.real_seconds(experiment, cell) for cell in orders["d"]]
    # But for cells that take as long in training, and not so in their start and predictions.
    assert all(after - before < 30 for before, after in itertools.pairwise(seconds))
    assert len(experiment.cells) == len(seconds) and orders["d"] != orders["a"]
