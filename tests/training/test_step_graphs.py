"""The path of GPUs on a CPU: static batches, 16-bit copies of weights, pretended graphs whose buffers are poisoned."""

import logging
from types import SimpleNamespace

import builders
import numpy
import pytest
import torch
from pretended_graphs import PretendedGraphs
from transformers import AutoModelForSequenceClassification

from gluegrid.models import deterministic_kernels, static_layout
from gluegrid.models.static_layout import TOKENS_OF_A_STEP, rounded_up
from gluegrid.training import path_check, step_graphs, trainer
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.forward_pass import ForwardPass
from gluegrid.training.path_check import choose_path
from gluegrid.training.step_graphs import StepGraphs, run_again

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
REGRESSION = builders.task(text_columns=["first", "second"], labels=None, metrics=["pearson", "spearmanr"])
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
FAMILIES = ("bert", "roberta", "electra", "albert", "distilbert")
LONGEST = 40
BATCHES = {
    "some": [3, 17, 40, 9, 1, 22, 5, 30, 12, 11, 8],
    "no filler": [40, 40, 40, 8],
    "one token more": [40, 40, 40, 9],
    "one row": [7],
    "one token": [1],
    "all of the longest": [40] * 9,
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=FAMILIES)
def family_forward(request, tmp_path_factory):
    """The forward pass of a model of a family, with dropout."""
    folder = tmp_path_factory.mktemp("family")
    names = DROPOUT
    if request.param == "distilbert":
        names = {"dropout": 0.1, "attention_dropout": 0.1}
    builders.write_classifier(folder, request.param, builders.NLI_LABELS, **names)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with_token_types = request.param not in ("roberta", "distilbert")
    return ForwardPass(model, LONGEST, 0, with_token_types, is_static=True)


@pytest.fixture
def forward(family_forward, monkeypatch):
    """The same, to be changed by one test."""
    for name in ("static", "autocast"):
        monkeypatch.setattr(family_forward, name, getattr(family_forward, name))
    return family_forward


def rows_of(lengths, outputs=3, seed=0):
    """Return rows of random tokens of these lengths."""
    generator = numpy.random.default_rng(seed)
    lengths = numpy.array(lengths)
    return SimpleNamespace(
        lengths=lengths,
        labels=generator.integers(0, outputs, len(lengths)),
        input_ids=[generator.integers(3, 26, length) for length in lengths],
        token_type_ids=[numpy.arange(length) * 2 // length for length in lengths],
    )


def by_backward(forward, rows, numbers):
    """Return loss and gradients as the general path computes them."""
    forward.model.zero_grad()
    output = forward(rows, numbers, with_labels=True)
    output.loss.backward()
    return output.loss.detach(), gradients_of(forward.model)


def gradients_of(model):
    named = model.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def by_graphs(graphs, rows, numbers, **options):
    """Return loss and gradients as StepGraphs computes them."""
    graphs.forward.model.zero_grad()
    return graphs(rows, numbers, 1.0, **options), gradients_of(graphs.forward.model)


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
def test_static_batches_give_losses_and_gradients_of_packed_ones(forward, lengths):
    rows, numbers = rows_of(lengths), numpy.arange(len(lengths))
    assert forward.path == "static"
    loss, found = by_backward(forward, rows, numbers)
    forward.static = None
    expected_loss, expected = by_backward(forward, rows, numbers)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_encoder_sees_one_row_of_a_multiple_of_128_tokens(forward):
    seen = set()
    base = forward.model.base_model
    encoder = getattr(base, "encoder", None) or base.transformer
    linear = next(module for module in encoder.modules() if type(module) is torch.nn.Linear)
    hook = linear.register_forward_hook(lambda module, inputs, output: seen.add(tuple(inputs[0].shape[:2])))
    for lengths in BATCHES.values():
        forward(rows_of(lengths), numpy.arange(len(lengths)), with_labels=False)
    hook.remove()
    assert seen == {(1, 128), (1, 256), (1, 384)}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_copies_of_weights_give_the_bits_of_autocast(forward, dtype):
    """With dropout, whose numbers are drawn in the same order."""
    rows, numbers = rows_of(BATCHES["some"]), numpy.arange(11)
    if dtype is not None:
        forward.autocast = bfloat16
    graphs = StepGraphs(forward, 11, dtype, run_again)
    forward.model.train()
    torch.manual_seed(3)
    expected_loss, expected = by_backward(forward, rows, numbers)
    torch.manual_seed(3)
    loss, found = by_graphs(graphs, rows, numbers)
    forward.model.eval()
    assert torch.equal(loss, expected_loss)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


def test_copies_are_those_of_linear_layers_and_follow_their_weights(forward):
    rows, numbers = rows_of(BATCHES["some"]), numpy.arange(11)
    forward.autocast = bfloat16
    graphs = StepGraphs(forward, 11, torch.bfloat16, run_again)
    linear = {name for name, module in forward.model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {*graphs.weights.copies} == {f"{name}.{part}" for name in linear for part in ("weight", "bias")}
    before, _ = by_graphs(graphs, rows, numbers)
    state = {name: weight.clone() for name, weight in forward.model.state_dict().items()}
    with torch.no_grad():
        for parameter in forward.model.parameters():
            parameter.mul_(1.5)
    changed, _ = by_graphs(graphs, rows, numbers)
    copied_now, _ = by_graphs(StepGraphs(forward, 11, torch.bfloat16, run_again), rows, numbers)
    assert torch.equal(changed, copied_now)
    forward.model.load_state_dict(state)
    after, _ = by_graphs(graphs, rows, numbers)
    assert torch.equal(before, after)
    assert not torch.equal(before, changed)


def test_graphs_are_made_when_a_shape_comes_again_and_for_whole_batches_alone(forward):
    capture = PretendedGraphs()
    graphs, plain = StepGraphs(forward, 4, None, capture), StepGraphs(forward, 4, None, run_again)
    long, short, few = rows_of([40, 40, 40, 9]), rows_of([5, 6, 7, 8]), rows_of([5, 6, 7])
    captured = []
    for rows in (long, short, few, few, few, long, short, rows_of([9, 9, 9, 9], seed=1), long):
        loss, gradients = by_graphs(graphs, rows, numpy.arange(len(rows.lengths)))
        expected_loss, expected = by_graphs(plain, rows, numpy.arange(len(rows.lengths)))
        assert torch.equal(loss, expected_loss)
        assert all(torch.equal(gradient, expected[name]) for name, gradient in gradients.items())
        captured.append((capture.captured, capture.replayed))
    assert captured == [(0, 0)] * 5 + [(1, 1), (2, 2), (2, 3), (2, 4)]


def test_gradients_are_scaled_as_a_scaler_asks_and_the_loss_is_not(forward):
    rows, numbers = rows_of(BATCHES["some"]), numpy.arange(11)
    graphs = StepGraphs(forward, 11, None, run_again)
    loss, gradients = by_graphs(graphs, rows, numbers)
    same_loss, scaled = by_graphs(graphs, rows, numbers, scale=torch.tensor(1024.0))
    assert torch.equal(loss, same_loss)
    for name, gradient in scaled.items():
        assert torch.equal(gradient, gradients[name] * 1024), name


# What a whole training does.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the staged model (with dropout or without) and tokens of a task, made once."""
    made = {}

    def files_of(task, dropout):
        key = (task.number_of_outputs, dropout)
        if key not in made:
            folder = tmp_path_factory.mktemp("files")
            model = builders.write_model(folder / "source", **(DROPOUT if dropout else {}))
            splits = {"train": builders.rows(30, task), "validation": builders.rows(11, task)}
            made[key] = builders.cell_files(folder, task, model, **splits)
        return made[key]

    return files_of


@pytest.fixture
def cell(files):
    """Return a training of a tiny BERT on 30 rows, of which the last batch of an epoch has fewer."""

    def cell_of(capture, task=PAIR, dropout=True, **changes):
        return CellTraining(
            builders.run(task, **({"num_train_epochs": 2} | changes)), *files(task, dropout), capture=capture
        )

    return cell_of


def trained(cell_training):
    """Train; return the losses of all steps, and the weights."""
    cell_training.train()
    return cell_training.training.state()["losses"], cell_training.model.state_dict()


def assert_same(one, other):
    assert torch.equal(one[0], other[0])
    assert all(torch.equal(weight, other[1][name]) for name, weight in one[1].items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replayed_updates_are_those_of_the_function_to_the_last_bit(cell, fresh_accelerator, precision):
    capture = PretendedGraphs()
    with_graphs = cell(capture, precision=precision)
    outcome = trained(with_graphs)
    assert with_graphs.compute_paths == ["cuda_graphs"]
    assert capture.captured == 1
    assert capture.replayed > 12
    fresh_accelerator()
    assert_same(outcome, trained(cell(run_again, precision=precision)))


@pytest.mark.parametrize("task", [PAIR, REGRESSION], ids=["classification", "regression"])
def test_the_path_of_gpus_does_the_updates_of_the_general_one(cell, task):
    general, static = cell(None, task, dropout=False), cell(PretendedGraphs(), task, dropout=False)
    expected, losses = trained(general)[0], trained(static)[0]
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-6)
    assert (general.compute_paths, static.compute_paths) == (["packed"], ["cuda_graphs"])
    logits, expected = (one.predict("validation")[0].column("logits").to_pylist() for one in (static, general))
    assert numpy.array(logits) == pytest.approx(numpy.array(expected), rel=1e-3, abs=1e-4)


class LeftError(Exception):
    """A training ends in the middle."""


class KeepsStateOf:
    """A keeper that keeps the state before a step, and ends the training there if asked."""

    def __init__(self, step=None, state=None):
        self.step = step
        self.state = state

    def restore(self, training):
        if self.state is not None:
            training.restore(self.state, 0)

    def look_after(self, training):
        if training.step == self.step:
            self.state = training.state()
            raise LeftError

    def note_progress(self, progress):
        pass


@pytest.mark.parametrize("step", [1, 7, 8, 13])
def test_a_training_goes_on_with_the_same_bits(cell, step):
    """Graphs are captured anew, at other steps than before, and leave the random states as they are."""
    expected = trained(cell(PretendedGraphs()))
    keeper = KeepsStateOf(step)
    with pytest.raises(LeftError):
        cell(PretendedGraphs()).train(keeper)
    later = cell(PretendedGraphs())
    later.train(KeepsStateOf(state=keeper.state))
    assert_same(expected, (later.training.state()["losses"], later.model.state_dict()))
    assert later.compute_paths == ["cuda_graphs"]


def test_what_another_path_has_computed_stays_known(cell):
    keeper = KeepsStateOf(5)
    with pytest.raises(LeftError):
        cell(None).train(keeper)
    later = cell(PretendedGraphs())
    later.train(KeepsStateOf(state=keeper.state))
    assert later.compute_paths == ["packed", "cuda_graphs"]
    # As in a checkpoint that was made before there was more than one path.
    del keeper.state["paths"]
    later = cell(PretendedGraphs())
    later.train(KeepsStateOf(state=keeper.state))
    assert later.compute_paths == ["cuda_graphs"]


def test_the_check_leaves_weights_and_random_states_as_they_are(cell):
    fresh = cell(PretendedGraphs())
    rows, _ = fresh._training_rows()
    weights = {name: weight.clone() for name, weight in fresh.model.state_dict().items()}
    states = path_check.random_states(fresh.forward.device)
    check = choose_path(fresh.forward, fresh._step_graphs(len(rows)), rows, [numpy.arange(4), numpy.arange(4, 8)])
    assert (check.path, check.reason) == ("cuda_graphs", None)
    assert 0 < check.error < 1e-5
    assert check.general_error == 0
    after = path_check.random_states(fresh.forward.device)
    assert torch.equal(states.pop("torch"), after.pop("torch"))
    assert states == after
    assert all(torch.equal(weight, weights[name]) for name, weight in fresh.model.state_dict().items())


# What is wrong is not used.


def wrong_attention(function):
    """Return the attention of static batches with something wrong in it."""

    def attention(self, *arguments):
        return function(self, *arguments) * 1.01

    return attention


def test_static_batches_that_give_other_gradients_are_not_used(cell, caplog, monkeypatch):
    expected = trained(cell(None))
    with_graphs = cell(PretendedGraphs())
    attention = static_layout.StaticLayout.attention
    monkeypatch.setattr(static_layout.StaticLayout, "attention", wrong_attention(attention))
    with caplog.at_level(logging.INFO):
        assert_same(trained(with_graphs), expected)
    assert with_graphs.compute_paths == ["packed"]
    line = next(message for message in caplog.messages if message.startswith("updates are computed by"))
    assert line.startswith("updates are computed by: packed, since static gradients differ from the exact ones by 0.0")


@pytest.mark.parametrize("error", [RuntimeError("no kernel image"), AttributeError("aten has no such attention")])
def test_a_path_that_this_machine_cannot_compute_is_not_taken(cell, caplog, monkeypatch, error):
    expected = trained(cell(None))
    with_graphs = cell(PretendedGraphs())

    def attention(*_):
        raise error

    monkeypatch.setattr(static_layout.StaticLayout, "attention", attention)
    with caplog.at_level(logging.INFO):
        assert_same(trained(with_graphs), expected)
    assert with_graphs.compute_paths == ["packed"]
    assert any("computed by: packed, since" in line and str(error) in line for line in caplog.messages)


def test_a_model_whose_static_outputs_are_others_is_packed(cell, monkeypatch):
    attention = static_layout.StaticLayout.attention
    monkeypatch.setattr(static_layout.StaticLayout, "attention", wrong_attention(attention))
    assert cell(PretendedGraphs()).forward.path == "packed"


def forgets_dropout(function):
    """Replay with other random numbers than those that are due."""

    def replay():
        torch.rand(1)
        function()

    return replay


def keeps_an_old_batch(function):
    """Replay what was computed when the graph was made."""
    graphs = function.func.__self__
    function()
    made = [tensor.clone() for tensor in graphs.gradients.tensors]

    def replay():
        for tensor, old in zip(graphs.gradients.tensors, made, strict=True):
            tensor.copy_(old + 1)

    return replay


def fails(error):
    """Return a capture that fails."""

    def capture(function):
        function()
        raise error

    return capture


@pytest.mark.parametrize(
    ("capture", "reason"),
    [
        (forgets_dropout, "graphs do not give the same bits"),
        (keeps_an_old_batch, "graphs do not give the same bits"),
        (fails(RuntimeError("CUDA error: operation not permitted when stream is capturing")), "CUDA error: operation"),
        (fails(torch.OutOfMemoryError("CUDA out of memory.")), "they do not fit in the device's memory"),
        (fails(TypeError("graph() takes no pool")), "TypeError graph"),
    ],
    ids=["random numbers", "old batch", "not capturable", "memory", "another torch"],
)
def test_graphs_that_are_not_right_are_not_used(cell, caplog, capture, reason):
    expected = trained(cell(run_again))
    refused = cell(capture)
    with caplog.at_level(logging.INFO):
        assert_same(trained(refused), expected)
    assert refused.compute_paths == ["static"]
    assert any(f"updates are computed by: static, since {reason}" in message for message in caplog.messages)


@pytest.mark.parametrize(("fits", "path"), [(3, "static"), (0, "packed")])
def test_a_batch_that_memory_does_not_hold_is_checked_in_part(cell, monkeypatch, fits, path):
    compute = StepGraphs.compute

    def full(self, buffer, shape):
        if shape.examples > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(self, buffer, shape)

    monkeypatch.setattr(StepGraphs, "compute", full)
    short = cell(PretendedGraphs(), dropout=False)
    losses = trained(short)[0]
    torch.testing.assert_close(losses, trained(cell(None, dropout=False))[0], rtol=1e-4, atol=1e-6)
    assert short.compute_paths == [path]


def test_what_has_no_deterministic_kernel_is_checked_and_computed_with_others(cell, monkeypatch):
    """The error is torch's; on a CPU it has to be raised by hand."""
    compute, allowed = StepGraphs.compute, []

    def without_kernel(self, buffer, shape):
        if not allowed:
            raise RuntimeError("index_add does not have a deterministic implementation, but you set ...")
        return compute(self, buffer, shape)

    monkeypatch.setattr(StepGraphs, "compute", without_kernel)
    monkeypatch.setattr(deterministic_kernels, "allow_nondeterministic_kernels", allowed.append)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: not allowed)
    computed = cell(PretendedGraphs())
    trained(computed)
    assert len(allowed) == 1
    assert computed.compute_paths == ["cuda_graphs"]


def test_a_capture_that_fails_later_on_costs_nothing_but_time(cell, caplog, monkeypatch):
    monkeypatch.setattr(trainer, "BATCHES_TO_CHECK", 1)
    expected = trained(cell(run_again, num_train_epochs=8, per_device_train_batch_size=12))
    made = []

    def capture(function):
        made.append(function)
        if len(made) > 1:
            raise RuntimeError("CUDA error: out of graphs")
        return function

    later = cell(capture, num_train_epochs=8, per_device_train_batch_size=12)
    assert_same(trained(later), expected)
    assert len(made) == 2
    assert "without CUDA graphs from now on, since CUDA error: out of graphs" in caplog.text
    assert later.compute_paths == ["cuda_graphs", "static"]


def test_where_memory_gives_out_whole_batches_are_tried_once_more_and_then_parts(cell, monkeypatch):
    """The graphs' memory is given back; updates stay those of whole batches."""
    expected = trained(cell(PretendedGraphs(), dropout=False))[0]
    compute, calls = StepGraphs.compute, []

    def full(self, buffer, shape):
        calls.append(shape)
        if len(calls) > 10 and shape.examples > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(self, buffer, shape)

    monkeypatch.setattr(StepGraphs, "compute", full)
    short = cell(PretendedGraphs(), dropout=False)
    losses = trained(short)[0]
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-6)
    assert [shape.examples for shape in calls[10:]] == [4, 4, 2, 2]
    assert short.micro_batch_rows["train"] == 2


@pytest.mark.parametrize(
    "changes", [{"gradient_accumulation_steps": 2}, {"gradient_checkpointing": True}, {"lora": "default"}]
)
def test_what_computes_no_whole_batch_has_no_graphs(cell, changes):
    from gluegrid.experiment.options import LORA

    changes = {key: LORA if value == "default" else value for key, value in changes.items()}
    capture = PretendedGraphs()
    of_parts = cell(capture, dropout=False, **changes)
    losses = trained(of_parts)[0]
    expected = trained(cell(None, dropout=False, **changes))[0]
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-6)
    assert capture.captured == 0
    assert of_parts.compute_paths == ["static"]


def test_a_row_of_tokens_is_a_multiple_of_128():
    assert [rounded_up(tokens) for tokens in (1, 128, 129)] == [TOKENS_OF_A_STEP, TOKENS_OF_A_STEP, 256]
    assert step_graphs.LARGEST_GRAPH % TOKENS_OF_A_STEP == 0
