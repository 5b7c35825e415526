"""Which cells share a job, and how they are dealt out."""

import math

import pytest

from gluegrid.operations.estimates import START_MINUTES, Basis, Estimate
from gluegrid.operations.packs import is_small, limit_of_pack, packs_of, shares

CUDA = {"device": "cuda", "gpus": 1, "nodes": 1}


def estimate(train_seconds: float, beside: float = 35.0) -> Estimate:
    return Estimate(train_seconds, train_seconds + beside, 1, Basis.NO_RUN, None, 1000, is_staged=True)


@pytest.mark.parametrize(
    ("seconds", "values", "is_packed"),
    [
        (2, {}, True),
        (120, {}, True),
        (300, {}, False),
        (2, {"gpus": 2}, False),
        (2, {"nodes": 2}, False),
        (30, {"device": "cpu"}, True),
        (60, {"device": "cpu"}, False),
    ],
)
def test_small_is_what_trains_for_less_than_a_few_times_its_start_on_one_device(seconds, values, is_packed):
    start = 35 if values.get("device") != "cpu" else 7
    assert is_small(estimate(seconds, beside=start), CUDA | values) == is_packed


def test_a_cell_that_only_predicts_is_small_by_what_it_predicts():
    assert is_small(estimate(0), CUDA)
    assert not is_small(estimate(0, beside=600), CUDA)


def test_packs_take_about_as_long_as_asked_and_never_leave_a_place_idle():
    seconds = {f"cell {number}": 10 + number % 7 for number in range(90)}
    for places, pack_seconds in ((1, 300), (8, 900), (8, 60), (200, 900)):
        packs = packs_of(list(seconds), seconds.get, pack_seconds, places)
        assert sorted(cell for pack in packs for cell in pack) == sorted(seconds)
        loads = [sum(map(seconds.get, pack)) for pack in packs]
        assert len(packs) >= min(places, 90)
        assert len(packs) >= math.ceil(sum(seconds.values()) / pack_seconds)
        assert max(loads) - min(loads) <= max(seconds.values())
        for pack in packs:
            assert [*map(seconds.get, pack)] == sorted(map(seconds.get, pack), reverse=True)


def test_cells_of_the_same_length_stay_in_their_order():
    assert packs_of(["a1", "a2", "b1", "b2"], lambda cell: 1, 100, 1) == [["a1", "a2", "b1", "b2"]]


def test_no_cells_make_no_packs():
    assert packs_of([], lambda cell: 1, 900, 8) == []
    assert shares(8, [], len) == []


def test_places_are_shared_as_the_work_is_and_none_is_left_over():
    for places, loads, given in (
        (8, [[10] * 10, [10] * 10], [4, 4]),
        (8, [[10] * 7, [1] * 10], [7, 1]),
        (8, [[35, 35], [1] * 10], [2, 6]),  # no more places than cells
        (8, [[5] * 9, [3] * 9, [2.9] * 9], [4, 2, 2]),
        (99, [[5] * 9, [3] * 9], [9, 9]),
        (1, [[5], [3], [2]], [1, 1, 1]),
    ):
        assert shares(places, loads, lambda seconds: seconds) == given


def test_a_pack_has_the_time_of_one_start_and_of_all_its_cells():
    cells = [estimate(60, beside=0)] * 10  # 5 times 60 s each, by their margin
    assert limit_of_pack(cells, attempt=1) == START_MINUTES + 50
    assert limit_of_pack(cells, attempt=2) == 2 * (START_MINUTES + 50)
