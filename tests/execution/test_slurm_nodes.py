"""How many jobs of a kind the nodes of a cluster can run at once."""

import pytest

from gluegrid.common.errors import TransientError
from gluegrid.execution import slurm_nodes
from gluegrid.execution.slurm_nodes import places_in_cluster

# One line for each partition of a node, as `sinfo --Node` lists them; with a banner, and columns that are padded.
NODES = """\
Welcome to the cluster | maintenance on Monday
CLUSTER: blue
gpu1|gpu*|mixed|gpu:v100:2(S:0-1)|16
gpu1|low|mixed|gpu:v100:2(S:0-1)|16
gpu2|gpu*|allocated|gpu:v100:2|16
gpu3|gpu*|idle~|gpu:a100:4,nvme:1|6
gpu4|gpu*|drained|gpu:a100:4|16
gpu5|gpu*|down*|gpu:a100:4|16
gpu6|long|idle|gpu:8|64
cpu1|cpu|idle|(null)|64
"""


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, ...]]:
    """Let sinfo list these nodes; return what it is asked."""
    calls = []

    def answer_of(*command: str, seconds: float) -> str:
        calls.append(command)
        return NODES

    monkeypatch.setattr(slurm_nodes, "answer_of", answer_of)
    return calls


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"cpus": 1, "gpus": 1}, 8),  # of the default partition, those that take jobs
        ({"cpus": 1, "gpus": 2}, 4),
        ({"cpus": 4, "gpus": 1}, 5),  # gpu3 has CPUs for one
        ({"cpus": 1, "gpus": 1, "kind": "a100"}, 4),
        ({"cpus": 1, "gpus": 1, "partitions": "low"}, 2),
        ({"cpus": 1, "gpus": 1, "partitions": "gpu,long"}, 16),
        ({"cpus": 4, "gpus": 0, "partitions": "cpu"}, 16),
        ({"cpus": 1, "gpus": 1, "partitions": "cpu"}, None),
    ],
)
def test_places_are_those_of_nodes_that_take_jobs_each_counted_once(asked, options, places):
    assert places_in_cluster(**options) == places
    assert not any(argument.startswith("--clusters") for argument in asked[0])


def test_where_all_nodes_are_drained_they_count_since_they_may_come_back(asked, monkeypatch):
    drained = NODES.replace("mixed", "drained").replace("allocated", "down").replace("idle~", "draining")
    monkeypatch.setattr(slurm_nodes, "answer_of", lambda *command, seconds: drained)
    assert places_in_cluster(1, 1) == 2 + 2 + 4 + 4 + 4


def test_another_cluster_is_asked_for_its_own_nodes(asked):
    assert places_in_cluster(1, 1, clusters="blue") == 8
    assert "--clusters=blue" in asked[0]


def test_a_cluster_that_does_not_answer_has_no_number(monkeypatch):
    def answer_of(*command: str, seconds: float) -> str:
        raise TransientError("no controller")

    monkeypatch.setattr(slurm_nodes, "answer_of", answer_of)
    assert places_in_cluster(1, 1) is None
