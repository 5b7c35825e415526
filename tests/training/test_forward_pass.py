"""Batches without padding: the same outputs and gradients as with it, and what happens where that cannot be."""

import itertools
import logging

import builders
import numpy
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from gluegrid.common.errors import TrainingError
from gluegrid.models import packing
from gluegrid.models.packing import Layout
from gluegrid.training import forward_pass
from gluegrid.training.device import set_precision
from gluegrid.training.forward_pass import ForwardPass

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
NUMBERS = numpy.array([7, 0, 3, 20, 11, 4, 16, 9, 2, 13, 5])  # more than one group of rows

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    _, tokens = builders.cell_files(folder, PAIR, builders.write_model(folder / "source"))
    return tokens.split("train")


def a_model(folder, kind="bert", **values):
    builders.write_model(folder / "model", kind, labels=builders.NLI_LABELS, **values)
    return AutoModelForSequenceClassification.from_pretrained(folder / "model")


def forward_of(model, attention="auto", **options):
    return ForwardPass(model, longest=16, pad_token_id=0, with_token_types=True, attention=attention, **options)


def gradients(forward, rows, numbers):
    forward.model.zero_grad()
    output = forward(rows, numbers, with_labels=True)
    output.loss.backward()
    named = forward.model.named_parameters()
    return output.logits, {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def test_packed_batches_give_the_outputs_and_gradients_of_padded_ones(tmp_path, rows):
    model = a_model(tmp_path)
    expected, expected_gradients = gradients(forward_of(model, "sdpa"), rows, NUMBERS)
    packed = forward_of(model)
    assert packed.why_padded is None
    logits, found = gradients(packed, rows, NUMBERS)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert found.keys() == expected_gradients.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-5)


def test_outputs_are_compared_in_fp32_also_where_a_run_computes_in_tf32(tmp_path, monkeypatch):
    seen = []

    def noting(*arguments, **options):
        # torch raises an error for the second where its two settings disagree.
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.cuda.matmul.allow_tf32))
        return packed_attention(*arguments, **options)

    packed_attention = packing.packed_attention
    monkeypatch.setitem(packing.AttentionInterface._global_mapping, packing.ATTENTION, noting)
    set_precision("tf32")
    try:
        assert forward_of(a_model(tmp_path), is_static=True).path == "static"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        set_precision("fp32")
    assert {*seen} == {("ieee", False)}


def test_nothing_is_computed_for_padding(tmp_path, rows):
    """The encoder sees one row, which is as long as all examples together."""
    forward = forward_of(a_model(tmp_path))
    seen = []
    layer = forward.model.bert.encoder.layer[0].intermediate
    layer.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    forward(rows, NUMBERS, with_labels=False)
    assert seen == [(1, int(rows.lengths[NUMBERS].sum()), 32)]


def test_dropout_of_attention_is_drawn_for_packed_batches_too(tmp_path, rows):
    model = a_model(tmp_path, attention_probs_dropout_prob=0.5)
    forward = forward_of(model)
    model.train()
    first, second = (forward(rows, NUMBERS, with_labels=False).logits for _ in range(2))
    assert not torch.allclose(first, second)
    model.eval()
    first, second = (forward(rows, NUMBERS, with_labels=False).logits for _ in range(2))
    assert torch.equal(first, second)


def test_a_packable_model_still_takes_padded_batches(tmp_path, rows):
    """As who loads it for something else gives them."""
    forward = forward_of(a_model(tmp_path))
    inputs = forward.inputs(rows, NUMBERS)
    padded = forward.model(**inputs).logits
    torch.testing.assert_close(forward(rows, NUMBERS, with_labels=False).logits, padded, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(tmp_path, rows):
    forward = forward_of(a_model(tmp_path))
    _, expected = gradients(forward, rows, NUMBERS)
    forward.model.gradient_checkpointing_enable()
    forward.model.train()
    recomputed = []
    forward.model.bert.encoder.layer[0].attention.register_forward_pre_hook(lambda *_: recomputed.append(True))
    _, found = gradients(forward, rows, NUMBERS)
    assert len(recomputed) == 2
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def add_positions(layer, inputs):
    """Add to hidden states what depends on where they stand, as an encoder of relative positions does."""
    hidden = inputs[0]
    return (hidden + torch.arange(hidden.shape[1])[None, :, None], *inputs[1:])


def see_neighbours(layer, inputs):
    """Give attention a mask of the model's own, as a local attention does."""
    hidden, mask, *others = inputs
    tokens = torch.arange(hidden.shape[1])
    near = (tokens[:, None] - tokens).abs() < 3
    return (hidden, near[None, None] if mask is None else mask & near, *others)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda model: setattr(model, "base_model_prefix", "none"), "its encoder is not a separate module"),
        (lambda model: setattr(model.config, "is_decoder", True), "its outputs would differ by "),
        (lambda model: hook_first_layer(model, add_positions), "its outputs would differ by "),
        (lambda model: hook_first_layer(model, see_neighbours), "ValueError: its attention does not cover all tokens"),
        (lambda model: hook_first_layer(model, lambda *_: {}["x"]), "KeyError: 'x'"),
    ],
    ids=["no encoder", "causal", "positions inside the encoder", "local attention", "broken"],
)
def test_a_model_that_cannot_be_packed_is_padded_and_left_as_it_was(tmp_path, rows, caplog, break_it, reason):
    model = a_model(tmp_path)
    before = model(**forward_of(model, "sdpa").inputs(rows, NUMBERS)).logits
    break_it(model)
    hooks = len(model.bert.encoder._forward_hooks)
    with caplog.at_level(logging.INFO):
        forward = forward_of(model)
    assert forward.why_padded.startswith(reason)
    assert forward.why_padded in caplog.text
    assert model.config._attn_implementation == "sdpa"
    assert len(model.bert.encoder._forward_hooks) == hooks
    model.bert.encoder.layer[0]._forward_pre_hooks.clear()
    model.config.is_decoder = False
    torch.testing.assert_close(forward(rows, NUMBERS, with_labels=False).logits, before, rtol=1e-5, atol=1e-5)


def test_want_of_memory_says_nothing_of_a_model(tmp_path):
    """Else it would be padded on a card that is full, and draw other random numbers than on one that is not."""

    def fail(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    model = a_model(tmp_path)
    hook_first_layer(model, fail)
    with pytest.raises(RuntimeError, match="CUBLAS_STATUS_ALLOC_FAILED"):
        forward_of(model)


def hook_first_layer(model, hook):
    model.bert.encoder.layer[0].register_forward_pre_hook(hook)


def test_the_users_choice_of_attention_is_used_as_it_is(tmp_path, rows):
    forward = forward_of(a_model(tmp_path), "eager")
    assert forward.model.config._attn_implementation == "eager"
    assert forward.why_padded == "attn_implementation is eager"


@pytest.mark.parametrize(
    ("kind", "attention", "reason"),
    [
        ("bert", "flash_attention_2", "ImportError .*"),
        ("deberta-v2", "sdpa", "DebertaV2ForSequenceClassification does not support it"),
    ],
)
def test_an_attention_that_is_not_there_is_an_error(kind, attention, reason):
    sizes = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **sizes))
    message = rf"^attn_implementation: {attention} cannot be used \({reason}\); set it to auto$"
    with pytest.raises(TrainingError, match=message):
        forward_of(model, attention)


@pytest.mark.parametrize("lengths", [[5], [3, 3], [1, 2, 9], list(range(1, 20)), [4] * 17 + [30]])
def test_packing_and_unpacking_give_back_what_was_packed(lengths):
    lengths = numpy.array(lengths)
    layout = Layout.for_lengths(lengths, torch.device("cpu"))
    hidden = torch.randn(len(lengths), lengths.max(), 3)
    is_real = torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]
    packed = layout.pack(hidden)
    assert packed.shape == (1, lengths.sum(), 3)
    assert torch.equal(layout.unpack(packed), hidden * is_real[..., None])


@pytest.mark.parametrize("seed", range(20))
def test_padded_batches_are_split_where_that_costs_least(seed):
    generator = numpy.random.default_rng(seed)
    lengths = numpy.sort(generator.integers(1, 120, generator.integers(1, 9)))
    tokens_of_a_pass = int(generator.integers(0, 200))

    def cost(bounds):
        parts = numpy.split(lengths, bounds)
        return sum(len(part) * part.max() + tokens_of_a_pass for part in parts)

    inner = range(1, len(lengths))
    all_bounds = [list(some) for size in range(len(lengths)) for some in itertools.combinations(inner, size)]
    assert cost(forward_pass.bounds_of_parts(lengths, tokens_of_a_pass)) == min(map(cost, all_bounds))


def test_the_parts_of_a_batch_have_every_row_once_the_shortest_first(tmp_path, rows):
    forward = forward_of(a_model(tmp_path), "sdpa")
    lengths = numpy.array([100, 3, 90, 4, 5, 100, 6, 3])
    parts = forward.parts(lengths)
    assert [sorted(part.tolist()) for part in parts] == [[1, 3, 4, 6, 7], [0, 2, 5]]
    assert [part.tolist() for part in forward_of(a_model(tmp_path)).parts(lengths)] == [[1, 7, 3, 4, 6, 2, 0, 5]]
