import dataclasses
import re

import builders
import numpy
import pytest
import torch
from accelerate import Accelerator
from reference_trainer import padded_to_longest, trained_by_transformers
from waiting import HANG

from gluegrid.common.errors import TrainingError, TransientError
from gluegrid.training import cell_trainer, trainer
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.dataset import Order
from gluegrid.training.device import prepare_device

BINARY = builders.task()
PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
REGRESSION = builders.task(text_columns=["first", "second"], labels=None, metrics=["pearson", "spearmanr"])
ROWS = 70


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the staged model and tokens of a task, made once."""
    made = {}

    def files_of(task):
        key = (*task.text_columns, task.number_of_outputs)
        if key not in made:
            folder = tmp_path_factory.mktemp("files")
            model = builders.write_model(folder / "source")
            splits = {"train": builders.rows(ROWS, task), "validation": builders.rows(11, task)}
            made[key] = builders.cell_files(folder, task, model, **splits)
        return made[key]

    return files_of


@pytest.fixture
def cell(files):
    """Return a training of a tiny BERT on a task of 70 rows."""

    def cell_of(task=BINARY, **changes):
        return CellTraining(builders.run(task, **changes), *files(task))

    return cell_of


def losses_of(cell_training):
    """Train; return the loss of every step, and the metrics."""
    metrics = cell_training.train()
    return cell_training.training.state()["losses"].tolist(), metrics


@pytest.mark.parametrize("epochs", [3, 1.5])
@pytest.mark.parametrize("task", [PAIR, REGRESSION], ids=["classification", "regression"])
def test_the_loop_computes_what_transformers_trainer_computes(tmp_path, files, cell, task, epochs):
    ours = cell(task, num_train_epochs=epochs, seed=7)
    trainer, expected = trained_by_transformers(ours, tmp_path, files(task)[0], padded_to_longest)
    losses, metrics = losses_of(ours)
    assert len(losses) == len(trainer.losses) == {3: 54, 1.5: 27}[epochs]
    assert losses == pytest.approx(trainer.losses, rel=1e-4)
    theirs = trainer.model.state_dict()
    for name, weight in ours.model.state_dict().items():
        if name.endswith("key.bias"):
            continue  # its gradient is 0 but for rounding, which Adam makes steps of
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-5)
    assert metrics["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    assert metrics["epoch"] == pytest.approx(expected["epoch"])
    assert min(losses[-9:]) < max(losses[:9])


def test_the_rate_falls_in_a_line_from_the_first_step_to_zero_after_the_last(cell, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def noting(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    cell(num_train_epochs=1, learning_rate=1e-4).train()
    assert rates == pytest.approx([1e-4 * (18 - number) / 18 for number in range(18)])


def test_gradients_are_clipped_at_norm_one(cell, monkeypatch):
    norms = []
    clip = Accelerator.clip_grad_norm_

    def clipping(self, parameters, most, **options):
        parameters = list(parameters)
        clip(self, parameters, most, **options)
        norms.append(torch.stack([parameter.grad.norm() for parameter in parameters]).norm().item())

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", clipping)
    cell(REGRESSION, num_train_epochs=1).train()
    assert max(norms) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "steps", "epoch"),
    [
        ({"num_train_epochs": 1}, 18, 1),
        ({"num_train_epochs": 2, "per_device_train_batch_size": 32}, 6, 2),
        ({"num_train_epochs": 1.5, "per_device_train_batch_size": 32}, 5, 5 / 3),
        ({"num_train_epochs": 0.01}, 1, 1 / 18),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 1000}, 1, 1),
        ({"num_train_epochs": 1, "max_train_samples": 10}, 3, 1),
        ({"num_train_epochs": 1, "max_train_samples": 1}, 1, 1),
        ({"num_train_epochs": 1, "max_train_samples": 1000}, 18, 1),
        ({"num_train_epochs": 1, "global_batch_size": 35}, 2, 1),
    ],
)
def test_the_number_of_steps_is_that_of_the_epochs_rounded_up(cell, values, steps, epoch):
    losses, metrics = losses_of(cell(**values))
    assert len(losses) == steps
    assert metrics["epoch"] == pytest.approx(epoch)


def test_the_train_metrics_are_those_of_run_glue(cell):
    metrics = cell(num_train_epochs=2, max_train_samples=10).train()
    assert set(metrics) == {
        "epoch",
        "train_loss",
        "train_runtime",
        "train_samples",
        "train_samples_per_second",
        "train_steps_per_second",
    }
    assert (metrics["epoch"], metrics["train_samples"]) == (2, 10)
    assert metrics["train_samples_per_second"] == pytest.approx(20 / metrics["train_runtime"])
    assert metrics["train_steps_per_second"] == pytest.approx(6 / metrics["train_runtime"])


def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(cell):
    training_cell, seen = cell(num_train_epochs=3), []
    inputs = training_cell.forward.inputs

    def noting(rows, numbers):
        seen.extend(rows.idx[numbers].tolist())
        return inputs(rows, numbers)

    training_cell.forward.inputs = noting
    training_cell.train()
    epochs = [seen[start : start + ROWS] for start in range(0, 3 * ROWS, ROWS)]
    assert len(seen) == 3 * ROWS
    assert [sorted(epoch) for epoch in epochs] == [list(range(ROWS))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != sorted(epochs[0])


def test_the_order_is_decided_by_the_seed(cell):
    rows = cell().tokens.split("train")
    orders = [Order(rows, builders.run(BINARY, seed=seed)).in_epoch(0).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_a_rate_that_makes_the_loss_infinite_is_an_error_with_step_and_rate(cell):
    with pytest.raises(TrainingError) as caught:
        cell(REGRESSION, learning_rate=1e20).train()
    match = re.fullmatch(
        r"the loss is (nan|inf) at step (\d+), learning rate (\S+); try a smaller learning_rate", str(caught.value)
    )
    step, rate = int(match.group(2)), float(match.group(3))
    assert 1 < step < 20
    assert rate == pytest.approx(1e20 * (54 - (step - 1)) / 54, rel=1e-2)


def test_a_loss_that_is_no_number_is_told_when_progress_is(cell, monkeypatch):
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_LOG_LINES", 0)
    broken = cell()
    with torch.no_grad():
        broken.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1, learning rate 0\.001;"):
        broken.train()


def test_outputs_that_are_no_numbers_are_an_error(cell):
    """The weights may break at the very last step, whose loss is still finite."""
    broken = cell()
    with torch.no_grad():
        broken.model.classifier.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match="try a smaller learning_rate"):
        broken.predict("validation")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_job_for_a_gpu_without_one_is_told_what_to_set(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    with pytest.raises(TransientError) as caught:
        prepare_device(builders.run(BINARY, device="cuda"))
    assert "\n" not in str(caught.value)
    assert "node7 (CUDA_VISIBLE_DEVICES=3)" in str(caught.value)
    assert str(caught.value).endswith("set device: cpu in the experiment file")


def test_predictions_come_in_the_order_of_the_split_with_its_idx(cell):
    training_cell = cell(per_device_eval_batch_size=4)
    table, seconds = training_cell.predict("validation")
    assert table.column("idx").to_pylist() == list(range(11))
    assert table.column("label").to_pylist() == builders.rows(11, BINARY)["label"]
    assert 0 < seconds < 600
    first, _ = training_cell.predict("validation", most=3)
    assert first.column("idx").to_pylist() == [0, 1, 2]
    assert numpy.stack(first.column("logits").to_numpy()) == pytest.approx(
        numpy.stack(table.column("logits").to_numpy())[:3], abs=1e-5
    )


def test_predictions_are_copied_from_the_device_once_and_on_a_gpu_in_large_batches(cell, monkeypatch):
    training_cell = cell(per_device_eval_batch_size=1)
    copies, batches, copy, forward = [], [], torch.Tensor.cpu, type(training_cell.model).forward

    def copying(tensor):
        copies.append(len(tensor))
        return copy(tensor)

    def noting(self, *arguments, **inputs):
        outputs = forward(self, *arguments, **inputs)
        batches.append(len(outputs.logits))
        return outputs

    monkeypatch.setattr(torch.Tensor, "cpu", copying)
    monkeypatch.setattr(type(training_cell.model), "forward", noting)
    small, _ = training_cell.predict("validation")
    assert copies == [11]
    assert len(batches) > 2
    batches.clear()
    monkeypatch.setitem(cell_trainer.TOKENS_AT_ONCE, "cpu", cell_trainer.TOKENS_AT_ONCE["cuda"])
    large, _ = training_cell.predict("validation")
    assert batches == [11]
    assert large.column("idx") == small.column("idx")
    assert numpy.stack(large.column("logits").to_numpy()) == pytest.approx(
        numpy.stack(small.column("logits").to_numpy()), abs=1e-5
    )


def test_prediction_leaves_the_model_as_it_was(cell):
    training_cell = cell()
    before = {name: weight.clone() for name, weight in training_cell.model.state_dict().items()}
    training_cell.predict("validation")
    assert all(torch.equal(weight, before[name]) for name, weight in training_cell.model.state_dict().items())


TRAIN_AGAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import builders, numpy
from gluegrid.training.dataset import Tokens
from gluegrid.training.cell_trainer import CellTraining
run = builders.run(builders.task(), num_train_epochs=1)
folder = Path(sys.argv[2])
manifests = [folder / name / "manifest.json" for name in ("tokens", "model", "task/task")]
cell = CellTraining(run, folder / "model", Tokens(run, *manifests))
cell.train()
table, _ = cell.predict("validation")
numpy.save(sys.argv[3], numpy.stack(table.column("logits").to_numpy()))
"""


def test_two_processes_with_the_same_seed_and_threads_give_the_same_bits(tmp_path, files, cell):
    folder = files(BINARY)[0].parent
    process = builders.python(TRAIN_AGAIN, builders.__file__.rpartition("/")[0], folder, tmp_path / "logits.npy")
    training_cell = cell(num_train_epochs=1)
    training_cell.train()
    ours = numpy.stack(training_cell.predict("validation")[0].column("logits").to_numpy())
    _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    assert numpy.array_equal(ours, numpy.load(tmp_path / "logits.npy"))


def test_the_threads_of_a_run_are_set_whatever_the_machine_has():
    before = torch.get_num_threads()
    prepare_device(dataclasses.replace(builders.run(BINARY), threads=2))
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 2


def test_progress_says_how_far_and_how_long(cell, monkeypatch, caplog):
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_LOG_LINES", 0)
    with caplog.at_level("INFO", "gluegrid.training.trainer"):
        cell(num_train_epochs=1).train()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 18
    assert re.fullmatch(r"step 9 of 18, loss \d\.\d{4}, learning rate 0\.000\d+, \d+ s left", lines[8])
