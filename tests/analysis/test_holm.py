from hypothesis import given
from hypothesis import strategies as st

from gluegrid.analysis.comparisons import holm

P_VALUES = st.lists(st.floats(0, 1), max_size=8)


def test_each_is_multiplied_by_the_number_of_those_that_are_not_smaller():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]  # the example of R's p.adjust


def test_one_comparison_needs_no_adjustment():
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(P_VALUES, st.floats(0.001, 0.999))
def test_it_rejects_what_holms_steps_reject(p_values, level):
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    rejected = set()
    for place, number in enumerate(order):
        if (len(p_values) - place) * p_values[number] > level:
            break
        rejected.add(number)
    assert {number for number, value in enumerate(holm(p_values)) if value <= level} == rejected


@given(P_VALUES)
def test_it_is_between_the_p_value_and_bonferronis(p_values):
    for value, adjusted in zip(p_values, holm(p_values), strict=True):
        assert value <= adjusted <= min(1.0, len(p_values) * value)
