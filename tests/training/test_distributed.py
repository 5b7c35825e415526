"""Two processes that train a cell together get what one gets."""

import json
import os
import subprocess

import pytest

pytest.importorskip("torch")
import builders
import several_processes
from several_processes import GRAPHS, ROWS, RUNS, SHORT, run_of
from waiting import HANG

TIMED = ("runtime", "per_second")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, one_thread) -> dict:
    """What came of the runs: `one` process, the main of two, and the other."""
    folder = tmp_path_factory.mktemp("several")
    several_processes.make_resources(folder)
    launch = ["bash", builders.LAUNCH, "1", "2", several_processes.__file__, folder, "2"]
    environment = os.environ | {"PATH": builders.PATH, "OMP_NUM_THREADS": "1"}
    launched = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=HANG)
    assert launched.returncode == 0, launched.stderr
    main, other = (json.loads((folder / f"outcome-{rank}.json").read_text()) for rank in (0, 1))
    return {"one": several_processes.train(folder, 1), "main": main, "other": other}


@pytest.mark.parametrize("name", RUNS)
def test_every_update_is_the_same(outcomes, name):
    one, two = outcomes["one"][name], outcomes["main"][name]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    run = run_of(name, 1)
    assert len(one["losses"]) == -(-ROWS["train"] // run.examples_per_update) * run.num_train_epochs
    assert ROWS["train"] % run_of("epochs", 2).examples_per_update == 1


@pytest.mark.parametrize("name", RUNS)
def test_predictions_are_the_same_and_each_row_has_one(outcomes, name):
    for split, predicted in outcomes["one"][name]["predictions"].items():
        here = outcomes["main"][name]["predictions"][split]
        assert here["idx"] == predicted["idx"] == list(range(ROWS[split]))
        assert here["label"] == predicted["label"]
        for logits, expected in zip(here["logits"], predicted["logits"], strict=True):
            assert logits == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_metrics_are_the_same(outcomes, name):
    one, two = outcomes["one"][name], outcomes["main"][name]
    assert _without_times(two["metrics"]) == pytest.approx(_without_times(one["metrics"]), rel=1e-4)
    for epoch, expected in zip(two["curve"] or [], one["curve"] or [], strict=True):
        assert _without_times(epoch) == pytest.approx(_without_times(expected), rel=1e-4)
    assert run_of(name, 1).task.validation.keys() <= two["predictions"].keys()


def test_the_processes_know_the_same(outcomes):
    for name in RUNS:
        assert outcomes["other"][name]["losses"] == outcomes["main"][name]["losses"]


def test_that_one_of_them_was_short_of_memory_is_known_and_kept(outcomes):
    """The rows at once of each process, since what dropout draws depends on them."""
    for name in RUNS:
        short = 2 if name == SHORT else None
        for each in ("main", "other"):
            assert outcomes[each][name]["micro_batch_rows"] == {"train": short, "eval": None}
            assert outcomes[each][name]["kept_rows"] == [None, short]


def test_two_processes_replay_graphs_and_add_up_what_these_leave(outcomes):
    for each in ("main", "other"):
        outcome = outcomes[each][GRAPHS]
        assert outcome["paths"] == ["cuda_graphs"]
        captured, replayed = outcome["graphs"]
        assert captured >= 1
        assert replayed > captured
    assert outcomes["one"][GRAPHS]["paths"] == ["packed"]


def test_a_wish_is_answered_to_all_at_the_call_after(outcomes):
    for each in ("main", "other"):
        assert outcomes[each]["answers"] == [0, 0, 1, 0, 2, 0]


def test_weights_that_differ_by_a_bit_end_the_attempt_of_all(outcomes):
    for each in ("main", "other"):
        equal, unequal = outcomes[each]["inequality"]
        assert equal == "equal"
        assert unequal.startswith("the weights differ between processes; the next attempt resumes")


def test_another_number_of_processes_than_the_run_is_for_is_an_error(outcomes):
    for each in ("main", "other"):
        assert outcomes[each]["refusal"].startswith("the run needs 3 processes (gpus: 3, nodes: 1), but 2 were started")


def _without_times(metrics: dict) -> dict:
    return {key: value for key, value in metrics.items() if not any(word in key for word in TIMED)}
