"""Which folders below results/ are experiments: one place says, whoever asks."""

import pytest

from gluegrid.common.errors import GluegridError
from gluegrid.experiment.experiment_index import ANY_TRACE, PLANNED, TO_VERIFY, experiment_folders, the_experiment

FILES = ("called/heads/1.json", "begun/heads/code/x", "moved/results.md", "left/state/x", "ran/runs/x", ".import.lock")


@pytest.fixture
def results(tmp_path):
    for name in FILES:
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("having", "expected"),
    [
        (ANY_TRACE, ["begun", "called", "left", "ran"]),
        (PLANNED, ["called"]),
        (("heads",), ["begun", "called"]),
        (TO_VERIFY, ["begun", "called", "moved", "ran"]),
    ],
)
def test_an_experiment_is_what_has_what_the_asker_needs(results, having, expected):
    assert [folder.name for folder in experiment_folders(results, having=having)] == expected
    assert experiment_folders(results, expected[0], having) == [results / expected[0]]
    with pytest.raises(GluegridError) as told:
        experiment_folders(results, "call", having)
    there = ", ".join(expected)
    assert str(told.value) == f"{results}/call is not an experiment; there are: {there} (did you mean 'called'?)"


def test_without_a_name_it_is_the_only_one(results):
    assert the_experiment(results, None) == the_experiment(results, "") == results / "called"
    assert the_experiment(results, "called") == results / "called"
    with pytest.raises(GluegridError, match=r"^which experiment\? Add EXPERIMENT=\.\.\.; there are: begun, called$"):
        the_experiment(results, "", ("heads",))
    with pytest.raises(GluegridError, match=r"no experiment yet; run snakemake"):
        the_experiment(results / "nowhere", "")


def test_where_there_is_none_it_says_so(tmp_path):
    assert experiment_folders(tmp_path / "results") == []
    with pytest.raises(GluegridError, match="there are: none"):
        experiment_folders(tmp_path / "results", "grid")
