"""A part of train that is not trained on, by whose scores variants and epochs are chosen."""

import builders
import numpy
import pytest

from gluegrid.common.errors import TrainingError
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.dataset import held_out

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = builders.task(metrics=["accuracy", "f1"])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("holdout")
    return builders.cell_files(folder, TASK, builders.write_model(folder / "source"), train=builders.rows(60, TASK))


def cell(files, **values) -> CellTraining:
    model, tokens = files
    return CellTraining(builders.run(TASK, **({"selection": "holdout", "num_train_epochs": 1} | values)), model, tokens)


@pytest.mark.parametrize(("count", "held"), [(1, 1), (2, 1), (14, 1), (16, 2), (60, 6), (8551, 855)])
def test_a_tenth_is_held_out(count, held):
    assert held_out(count).sum() == held
    assert len(held_out(count)) == count


def test_the_same_are_held_out_in_every_release():
    """Other ones would be another run under the same run.json."""
    assert list(numpy.flatnonzero(held_out(60))) == [3, 9, 15, 31, 41, 45]


def test_what_is_held_out_is_spread_over_the_data():
    places = numpy.flatnonzero(held_out(10_000))
    assert len(places) == 1000
    counts, _ = numpy.histogram(places, bins=10, range=(0, 10_000))
    assert counts.min() > 70
    assert counts.max() < 130


def test_what_is_held_out_is_scored_and_not_trained_on(files):
    ours = cell(files)
    seen = []
    forward = ours.forward.__class__.__call__

    class Watching(ours.forward.__class__):
        def __call__(self, rows, numbers, with_labels=True):
            if with_labels:
                seen.extend(rows.idx[numbers])
            return forward(self, rows, numbers, with_labels)

    ours.forward.__class__ = Watching
    metrics = ours.train()
    held = {int(idx) for idx in numpy.flatnonzero(held_out(60))}
    assert metrics["train_samples"] == 54
    assert sorted(map(int, seen)) == sorted({*range(60)} - held)
    scored = {name: (suffix, rows) for name, suffix, rows in ours.scored_splits()}
    assert list(scored) == ["validation", "holdout"]
    assert set(map(int, scored["holdout"][1].idx)) == held


def test_the_rows_that_are_held_out_keep_their_tokens_and_labels(files):
    whole = files[1].split("train")
    numbers = numpy.array([7, 3, 59])
    some = whole.only(numbers)
    assert len(some) == 3
    for place, number in enumerate(numbers):
        assert list(some.input_ids[place]) == list(whole.input_ids[number])
        assert list(some.token_type_ids[place]) == list(whole.token_type_ids[number])
        assert some.lengths[place] == len(whole.input_ids[number])
        assert (some.labels[place], some.idx[place]) == (whole.labels[number], whole.idx[number])


def test_scores_of_the_holdout_stand_beside_those_of_validation(files):
    metrics = cell(files).evaluate()
    assert {"eval_accuracy", "eval_accuracy_holdout", "eval_f1_holdout", "eval_samples_holdout"} <= metrics.keys()
    assert metrics["eval_samples_holdout"] == 6
    assert not any("holdout" in key for key in cell(files, selection="validation").evaluate())


def test_the_best_epoch_is_chosen_by_the_holdout(files):
    ours = cell(files, eval_strategy="epoch", save_model="best", num_train_epochs=4, learning_rate=5e-3)
    ours.train()
    best = max(ours.epochs.curve, key=lambda epoch: epoch["eval_accuracy_holdout"] + epoch["eval_f1_holdout"])
    assert ours.epochs.best["epoch"] == best["epoch"]
    score = (best["eval_accuracy_holdout"] + best["eval_f1_holdout"]) / 2
    assert ours.epochs.best["score"] == pytest.approx(score)


def test_the_first_examples_are_taken_before_a_part_of_them_is_held_out(files):
    ours = cell(files, max_train_samples=20)
    assert ours.train()["train_samples"] == 18
    assert {int(idx) for idx in ours._training_rows()[1].idx} == {int(n) for n in numpy.flatnonzero(held_out(20))}


def test_one_example_cannot_be_shared(files):
    with pytest.raises(TrainingError, match="needs at least two training examples"):
        cell(files, max_train_samples=1).train()
