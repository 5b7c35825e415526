"""Batches in parts, with injected errors in a GPU's place."""

import logging

import builders
import numpy
import pytest
import torch
from accelerate import Accelerator

from gluegrid.cell_training import CellTraining
from gluegrid.errors import TrainingError
from gluegrid.micro_batches import MicroBatches

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
REGRESSION = builders.task(text_columns=["first", "second"], labels=None, metrics=["pearson", "spearmanr"])
LENGTHS = numpy.full(6, 2)


def out_of_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def whole(lengths):
    return [numpy.arange(len(lengths))]


def computed(micro_batches, fits, undone):
    """Return the rows of each part; parts of more than `fits` rows do not fit."""

    def function(part):
        if len(part) > fits:
            raise out_of_memory()
        return part.tolist()

    return micro_batches.compute(LENGTHS, function, lambda: undone.append(True))


def test_a_batch_that_fits_is_computed_whole():
    micro_batches, undone = MicroBatches("training", whole), []
    assert computed(micro_batches, 6, undone) == [[0, 1, 2, 3, 4, 5]]
    assert (micro_batches.rows, undone) == (None, [])


@pytest.mark.parametrize(("fits", "rows", "parts"), [(5, 3, 2), (2, 2, 3), (1, 1, 6)])
def test_parts_are_halved_until_they_fit_and_stay_so(fits, rows, parts):
    micro_batches, undone = MicroBatches("training", whole), []
    for _ in range(2):
        results = computed(micro_batches, fits, undone)
        assert len(results) == parts
        assert [row for part in results for row in part] == [0, 1, 2, 3, 4, 5]
        assert micro_batches.rows == rows
    assert len(undone) == {3: 1, 2: 2, 1: 3}[rows]


def test_one_row_that_does_not_fit_is_an_error_for_good():
    with pytest.raises(TrainingError, match="does not hold training of one example of up to 2 tokens") as caught:
        computed(MicroBatches("training", whole), 0, [])
    assert caught.value.is_permanent


def test_another_error_is_not_taken_for_want_of_memory():
    def function(part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        MicroBatches("training", whole).compute(LENGTHS, function, lambda: None)


@pytest.mark.parametrize("task", [PAIR, REGRESSION], ids=["classification", "regression"])
def test_the_updates_stay_the_same_and_what_happened_is_recorded(tmp_path, monkeypatch, caplog, task):
    """The memory gives out in the middle of the second batch's backward pass, and again for halves of it."""
    folder, tokens = builders.cell_files(tmp_path, task, builders.write_model(tmp_path / "source"))

    def trained(fits):
        cell = CellTraining(builders.run(task, per_device_train_batch_size=8, num_train_epochs=2), folder, tokens)
        forward, backward = type(cell.model).forward, Accelerator.backward
        calls = []

        def limited(self, *arguments, **inputs):
            calls.append(len(inputs["input_ids"]))
            return forward(self, *arguments, **inputs)

        def failing(self, loss):
            backward(self, loss)
            if len(calls) > 1 and calls[-1] > fits:
                raise out_of_memory()

        with monkeypatch.context() as patch:
            patch.setattr(type(cell.model), "forward", limited)
            patch.setattr(Accelerator, "backward", failing)
            metrics = cell.train()
        table, _ = cell.predict("validation")
        return cell, metrics, numpy.stack(table.column("logits").to_numpy())

    whole, metrics, logits = trained(fits=8)
    with caplog.at_level(logging.WARNING):
        parts, metrics_in_parts, logits_in_parts = trained(fits=2)
    assert whole.micro_batch_rows == {"train": None, "eval": None}
    assert parts.micro_batch_rows == {"train": 2, "eval": None}
    assert metrics_in_parts["train_loss"] == pytest.approx(metrics["train_loss"], rel=1e-5)
    assert logits_in_parts == pytest.approx(logits, abs=1e-4)
    assert [record.args for record in caplog.records] == [("training", 4), ("training", 2)]


def test_predictions_in_parts_are_those_of_whole_batches(tmp_path, monkeypatch):
    folder, tokens = builders.cell_files(tmp_path, PAIR, builders.write_model(tmp_path / "source"))
    cell = CellTraining(builders.run(PAIR), folder, tokens)
    whole, _ = cell.predict("validation")
    forward = type(cell.model).forward

    def limited(self, *arguments, **inputs):
        if len(inputs["input_ids"]) > 3:
            raise out_of_memory()
        return forward(self, *arguments, **inputs)

    monkeypatch.setattr(type(cell.model), "forward", limited)
    parts, _ = cell.predict("validation")
    assert cell.micro_batch_rows["eval"] == 3
    assert parts.column("idx").to_pylist() == whole.column("idx").to_pylist()
    assert numpy.stack(parts.column("logits").to_numpy()) == pytest.approx(
        numpy.stack(whole.column("logits").to_numpy()), abs=1e-5
    )
