"""How long jobs take that are dealt onto places."""

import pytest

from gluegrid.operations.makespan import makespan


@pytest.mark.parametrize(
    ("seconds", "places", "busy", "expected"),
    [
        ([], 2, [], 0),
        ([], 2, [30, 10], 30),  # nothing waits: the last of those that run
        ([5, 4, 3], 1, [], 12),
        ([5, 4, 3], 2, [], 7),  # the third begins where the second has ended
        ([3, 3, 5], 2, [], 8),  # in the given order: a long one that comes last is not taken first
        ([5, 4, 3], 9, [], 5),
        ([10], 2, [30, 5], 30),
        ([10], 3, [30, 5], 30),  # a third place is free at once
        ([40], 3, [30, 5], 40),
        ([10], 1, [30, 5], 30),  # what runs has its place, whatever the number
        ([10], 0, [], 10),
    ],
)
def test_each_job_begins_where_it_can_first(seconds, places, busy, expected):
    assert makespan(seconds, places, busy) == expected
