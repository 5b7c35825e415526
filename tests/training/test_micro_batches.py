"""Batches in parts, and updates that memory interrupts, with injected errors in the place of a GPU that is full."""

import logging
import random
import weakref

import builders
import numpy
import pytest
import torch
from accelerate import Accelerator
from transformers import BertForSequenceClassification

from gluegrid.common.errors import TrainingError, TransientError
from gluegrid.models.device_memory import again_if_out_of_memory, is_out_of_memory
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.forward_pass import MicroBatches
from gluegrid.training.optimizer import clip_once

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
    assert len(undone) == {3: 2, 2: 3, 1: 4}[rows], "the whole size is tried twice"


def test_one_row_that_does_not_fit_is_an_error_for_good():
    with pytest.raises(TrainingError, match="training does not fit even with one example of up to 2 tokens") as caught:
        computed(MicroBatches("training", whole), 0, [])
    assert caught.value.is_permanent


def fails_once(error, function):
    """Return the function, which calls first and then fails when it is called for the first time."""
    calls = []

    def failing(*arguments, **options):
        calls.append(True)
        result = function(*arguments, **options)
        if len(calls) == 1:
            raise error
        return result

    return failing


def draws(part):
    return torch.rand(3).tolist(), random.random(), numpy.random.rand(), part.tolist()


def test_what_failed_once_is_tried_whole_again_and_draws_the_same_random_numbers(caplog):
    def seed():
        torch.manual_seed(1)
        random.seed(1)
        numpy.random.seed(1)

    seed()
    expected = [MicroBatches("training", whole).compute(LENGTHS, draws, lambda: None) for _ in range(2)]
    seed()
    micro_batches = MicroBatches("training", whole)
    with caplog.at_level(logging.INFO):
        again = micro_batches.compute(LENGTHS, fails_once(out_of_memory(), draws), lambda: None)
    assert [again, micro_batches.compute(LENGTHS, draws, lambda: None)] == expected
    assert micro_batches.rows is None
    assert [record.levelname for record in caplog.records] == ["INFO"], "nothing that the tables would have to tell"


def test_what_a_try_held_is_freed_before_the_next():
    held = []

    def function(part):
        if held:
            assert held[0]() is None
            return part
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise out_of_memory()

    MicroBatches("training", whole).compute(LENGTHS, function, lambda: None)
    held.clear()
    again_if_out_of_memory("this", lambda: function(LENGTHS))


NCCL = """NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error (run with NCCL_DEBUG=INFO for details)
ncclUnhandledCudaError: Call to CUDA function failed.
Last error:
"""
OF_MEMORY = [
    out_of_memory(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError(
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com"
    ),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    torch.distributed.DistBackendError(f"{NCCL}Cuda failure 2 'out of memory'"),
    torch.distributed.DistBackendError(f"{NCCL}Failed to CUDA calloc async 608 bytes"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]
OTHERS = [
    RuntimeError("shapes differ"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    RuntimeError(
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input."
    ),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    torch.distributed.DistBackendError(f"{NCCL}Cuda failure 1 'invalid argument'"),
    RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out"
        " of shared memory."
    ),
    ValueError("CUDA out of memory"),
]


def message_of(error):
    return str(error).splitlines()[-1][:60]


@pytest.mark.parametrize("error", OF_MEMORY, ids=message_of)
def test_whoever_has_no_memory_is_understood(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=message_of)
def test_another_error_is_not_taken_for_want_of_memory(error):
    for failing in (
        lambda: MicroBatches("training", whole).compute(LENGTHS, fails_once(error, len), lambda: None),
        lambda: again_if_out_of_memory("this", fails_once(error, lambda: 7)),
    ):
        with pytest.raises(type(error)) as caught:
            failing()
        assert caught.value is error


def test_what_does_not_fit_when_all_is_freed_is_one_clear_error():
    def function():
        raise out_of_memory()

    with pytest.raises(TrainingError, match="is too small for this; choose a smaller model, or a larger GPU") as caught:
        again_if_out_of_memory("this", function)
    assert caught.value.is_permanent


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


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory, one_thread):
    """Return the staged model and tokens of a task of 24 rows; what the model computes depends on random numbers."""
    folder = tmp_path_factory.mktemp("with_dropout")
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    return builders.cell_files(folder, PAIR, builders.write_model(folder / "source", **dropout))


def trained_bits(files, disturb=lambda: None, **changes):
    """Train three updates an epoch, scored after each; return all bits that came out, and the cell."""
    values = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "eval_strategy": "epoch", "max_grad_norm": 0.1}
    cell = CellTraining(builders.run(PAIR, **(values | changes)), *files)
    disturb()
    metrics = cell.train()
    table, _ = cell.predict("validation")
    weights = {name: tensor.numpy().tobytes() for name, tensor in cell.model.state_dict().items()}
    scores = [epoch["eval_accuracy"] for epoch in cell.epochs.curve]
    return (weights, table.column("logits").to_pylist(), metrics["train_loss"], scores), cell


@pytest.fixture(scope="module")
def undisturbed(with_dropout):
    return trained_bits(with_dropout)[0]


def fails_at(number, function, before=False):
    """Return the function, which fails in its call of this number: before it does anything, or after all is done."""
    calls = []

    def failing(*arguments, **options):
        calls.append(True)
        if before and len(calls) == number:
            raise out_of_memory()
        result = function(*arguments, **options)
        if not before and len(calls) == number:
            raise out_of_memory()
        return result

    failing.calls = calls
    return failing


FORWARD, BACKWARD = (BertForSequenceClassification, "forward"), (Accelerator, "backward")
CLIP, STEP = (Accelerator, "clip_grad_norm_"), (torch.optim.AdamW, "step")
KERNEL = (torch, "_fused_adamw_")  # AdamW's, once for matrices and once for vectors
FAILURES = {
    "in the first forward pass": (FORWARD, 1, False),
    "in a later forward pass": (FORWARD, 3, False),
    "in the scoring after an epoch": (FORWARD, 4, False),
    "in a backward pass": (BACKWARD, 2, False),
    "before clipping": (CLIP, 1, True),
    "after clipping": (CLIP, 2, False),
    "when the moments are made": ((torch, "zeros_like"), 3, True),
    "before the first step": (STEP, 1, True),
    "when the first step has counted the matrices": (KERNEL, 1, True),
    "when the first step has changed the matrices": (KERNEL, 1, False),
    "when the first step has counted the vectors": (KERNEL, 2, True),
    "after the first step": (STEP, 1, False),
    "before a later step": (STEP, 3, True),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_memory_that_gives_out_once_changes_no_bit(with_dropout, undisturbed, monkeypatch, failure):
    (owner, name), number, before = FAILURES[failure]
    failing = fails_at(number, getattr(owner, name), before)
    bits, cell = trained_bits(with_dropout, lambda: monkeypatch.setattr(owner, name, failing))
    assert bits == undisturbed
    assert len(failing.calls) > number
    assert cell.micro_batch_rows == {"train": None, "eval": None}


@pytest.mark.parametrize("place", [FORWARD, BACKWARD], ids=["forward", "backward"])
def test_an_operation_without_a_deterministic_kernel_changes_no_bit_either(
    with_dropout, undisturbed, monkeypatch, place
):
    """As on a GPU, where deterministic kernels are asked for; the operation has none on a CPU."""
    function = getattr(*place)

    def with_operation(*arguments, **options):
        result = function(*arguments, **options)
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
        return result

    def disturb():
        torch.set_deterministic_debug_mode("error")
        monkeypatch.setattr(*place, with_operation)

    try:
        bits, cell = trained_bits(with_dropout, disturb)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_deterministic_debug_mode("default")
    assert bits == undisturbed
    assert cell.micro_batch_rows == {"train": None, "eval": None}


def test_a_model_whose_operation_has_no_deterministic_kernel_is_packed_all_the_same(with_dropout, monkeypatch):
    forward = BertForSequenceClassification.forward

    def with_operation(*arguments, **inputs):
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
        return forward(*arguments, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", with_operation)
    try:
        torch.set_deterministic_debug_mode("error")
        assert CellTraining(builders.run(PAIR), *with_dropout).forward.why_padded is None
    finally:
        torch.set_deterministic_debug_mode("default")


def test_the_moments_are_made_before_a_batch_fills_the_memory(with_dropout, undisturbed, monkeypatch):
    zeros, forward, calls = torch.zeros_like, BertForSequenceClassification.forward, []

    def full(*arguments, **options):
        if calls:
            raise out_of_memory()
        return zeros(*arguments, **options)

    def noting(*arguments, **inputs):
        calls.append(True)
        return forward(*arguments, **inputs)

    def disturb():
        monkeypatch.setattr(torch, "zeros_like", full)
        monkeypatch.setattr(BertForSequenceClassification, "forward", noting)

    assert trained_bits(with_dropout, disturb)[0] == undisturbed
    assert calls


def test_a_model_that_does_not_fit_is_one_clear_error(with_dropout, monkeypatch):
    def full(*_, **__):
        raise out_of_memory()

    monkeypatch.setattr(BertForSequenceClassification, "to", full)
    with pytest.raises(TrainingError, match="the device's memory is too small for the model; choose a smaller model"):
        CellTraining(builders.run(PAIR), *with_dropout)


def test_a_later_step_that_may_be_half_done_is_not_gone_on_from(with_dropout, monkeypatch):
    monkeypatch.setattr(*KERNEL, fails_at(4, getattr(*KERNEL), before=True))
    with pytest.raises(
        TransientError, match="in the middle of the optimizer's step; the next attempt resumes from the"
    ):
        trained_bits(with_dropout)


def test_gradients_that_may_be_scaled_back_and_not_clipped_are_not_gone_on_from():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)

    class WithScaler:
        scaler = torch.amp.GradScaler("cpu")

        def clip_grad_norm_(self, parameters, largest_norm):
            parameters[0].grad.mul_(0.5)
            raise out_of_memory()

    with pytest.raises(TransientError, match="in the middle of clipping the gradients"):
        clip_once(WithScaler(), [parameter], 1.0)


def test_a_halved_batch_has_the_bits_of_one_that_was_split_so_from_the_start(with_dropout, undisturbed, monkeypatch):
    """Also with dropout: what the tries before have drawn does not count."""
    expected, _ = trained_bits(with_dropout, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    forward = BertForSequenceClassification.forward

    def limited(self, *arguments, **inputs):
        outputs = forward(self, *arguments, **inputs)
        if torch.is_grad_enabled() and len(inputs["input_ids"]) > 2:
            raise out_of_memory()
        return outputs

    bits, cell = trained_bits(
        with_dropout, lambda: monkeypatch.setattr(BertForSequenceClassification, "forward", limited)
    )
    assert bits == expected != undisturbed
    assert cell.micro_batch_rows == {"train": 2, "eval": None}


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
