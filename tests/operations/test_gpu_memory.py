"""Memory of a GPU: beside the peaks of real steps on a CPU, what moves it, and what helps where a card is too small."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import builders
import pytest

from gluegrid.common.files import read_json
from gluegrid.experiment.options import RECIPE, RECIPES
from gluegrid.operations.cost_model import SIZES_BY_WORD, STAGED, ModelSize, SplitSize, TaskSize
from gluegrid.operations.devices import find_device
from gluegrid.operations.gpu_memory import (
    GRADIENTS,
    MOMENTS,
    Batch,
    activations,
    gpu_memory,
    largest_batch,
    shortage,
    trained_parameters,
)

TASK = builders.task()
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": "all-linear"}
DEBERTA = {"relative_attention": True, "position_buckets": 32, "norm_rel_ebd": "layer_norm", "share_att_key": True}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "max_relative_positions": -1, "position_biased_input": False}


@dataclass(frozen=True)
class Case:
    """A model, the lengths of a batch's rows, and values of the run."""

    kind: str = "bert"
    hidden_size: int = 128
    layers: int = 4
    widening: float = 4  # of the feed-forward layers
    lengths: tuple[int, ...] = (64,) * 16
    values: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)

    @property
    def shape(self) -> dict:
        """What the model's config has of its own."""
        dropout = {} if self.kind == "modernbert" else {"hidden_dropout_prob": 0.1}
        return (
            self.config
            | dropout
            | {
                "hidden_size": self.hidden_size,
                "num_hidden_layers": self.layers,
                "num_attention_heads": max(self.hidden_size // 64, 1),
                "intermediate_size": round(self.widening * self.hidden_size),
                "max_position_embeddings": max(self.lengths) + 2,
            }
        )


VARIED = tuple(range(8, 120, 7))
CASES = {
    "BERT": Case(),
    "BERT, 8 layers": Case(layers=8),
    "BERT, 2 layers of 64": Case(hidden_size=64, layers=2, lengths=(100,) * 48),
    "BERT, 256 wide, narrow feed-forward layers": Case(hidden_size=256, layers=3, widening=2),
    "BERT, rows of 8 to 113 tokens": Case(lengths=VARIED),
    "BERT, bf16": Case(values={"precision": "bf16"}),
    "BERT, gradient checkpointing": Case(layers=8, values={"gradient_checkpointing": True}),
    "BERT, LoRA": Case(values={"lora": LORA}),
    "BERT, eager attention": Case(lengths=(128,) * 8, values={"attn_implementation": "eager"}),
    "RoBERTa": Case(kind="roberta"),
    "DeBERTa-v3": Case(kind="deberta-v2", lengths=(128,) * 8, config=DEBERTA),
    "ModernBERT": Case(kind="modernbert", hidden_size=192, widening=1.5),
}


def peak_of(step) -> int:
    """Return how many bytes more than before were allocated at once while a function ran."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def measured_and_estimated(case: Case, folder: Path) -> tuple[int, float]:
    """Return the peak bytes of all tensors in a training step's second update, and the estimate of them."""
    import numpy

    from gluegrid.training.cell_trainer import CellTraining
    from gluegrid.training.optimizer import make_moments
    from gluegrid.training.trainer import Training

    count, longest = len(case.lengths), max(case.lengths)
    texts = [" ".join(["cat"] * (length - 2)) for length in case.lengths]
    rows = {"sentence": texts, "label": [number % 2 for number in range(count)], "idx": list(range(count))}
    source = builders.write_classifier(folder / "source", case.kind, **case.shape)
    builders.write_tokenizer(source, max_length=longest)
    model_folder, tokens = builders.cell_files(folder, TASK, source, max_seq_length=longest, train=rows)
    run = builders.run(TASK, per_device_train_batch_size=count, max_seq_length=longest, **case.values)
    cell = CellTraining(run, model_folder, tokens)
    training = Training(cell.processes, cell.forward, tokens.split("train"), run, cell.trackers)
    make_moments(training._optimizer)
    training.model.train()
    numbers = numpy.arange(count)
    training._update(numbers)
    held = sum(parameter.nbytes for parameter in training.model.parameters())
    held += MOMENTS * sum(parameter.numel() for parameter in training.parameters)
    manifest = read_json(model_folder / "manifest.json")
    embeddings = manifest["embeddings"] * case.hidden_size
    sizes = (manifest["parameters"], manifest["parameters"] - embeddings, case.hidden_size)
    estimate = estimated(ModelSize(*sizes, STAGED, case.kind), vars(run), Batch(count, sum(case.lengths), longest))
    return held + peak_of(lambda: training._update(numbers)), estimate


def estimated(model: ModelSize, values: dict, batch: Batch) -> float:
    half = values["precision"] == "bf16"
    resident = 4 * model.parameters + (GRADIENTS + MOMENTS) * trained_parameters(values, model)
    return resident + (2 * model.passed if half else 0) + activations(values, model, batch, half)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("one_thread")
def test_the_estimate_is_near_the_peak_of_a_real_step(name, tmp_path, fresh_accelerator):
    """GLUEGRID_KEEP_GPU_MEMORY=file adds the line of docs/estimates.md to a file."""
    measured, estimate = measured_and_estimated(CASES[name], tmp_path)
    if kept := os.environ.get("GLUEGRID_KEEP_GPU_MEMORY"):
        with Path(kept).open("a", encoding="utf-8") as file:
            file.write(f"| {name} | {measured / 1e6:.1f} | {estimate / 1e6:.1f} | {estimate / measured:.2f} |\n")
    assert 0.8 <= estimate / measured <= 1.35


def run(**values) -> dict:
    """Return the values of a run on a GPU."""
    return RECIPES[RECIPE] | {"per_device_train_batch_size": 32, "max_seq_length": 128} | values


def task(rows: int = 10_000, mean: float = 40, longest: int | None = None) -> TaskSize:
    """Return a task with examples of so many tokens."""
    split = SplitSize(rows, round(rows * mean), longest)
    return TaskSize(split, (split,), (), is_counted=True)


LARGE, BASE, XXLARGE = (SIZES_BY_WORD[word] for word in ("large", "base", "xxlarge"))


def needed(model: ModelSize = BASE, of: TaskSize | None = None, **values) -> float:
    return gpu_memory(run(**values), model, of or task(), values.get("precision", "fp32")).needed


def test_weights_gradients_and_moments_are_16_bytes_for_each_parameter_and_of_adapters_only_with_them():
    whole, adapters = (gpu_memory(run(lora=lora), BASE, task(), "fp32").resident for lora in (None, LORA))
    assert whole == 16 * BASE.parameters
    assert 4 * BASE.parameters < adapters < 4.2 * BASE.parameters
    assert gpu_memory(run(do_train=False), BASE, task(), "fp32").resident == 4 * BASE.parameters


def test_what_takes_more_memory_and_what_less():
    usual = needed()
    assert needed(per_device_train_batch_size=64) > usual
    assert needed(of=task(mean=80)) > usual
    assert needed(LARGE) > usual
    assert needed(train_sampling_strategy="group_by_length") > usual
    assert needed(attn_implementation="sdpa") > usual
    assert needed(precision="bf16") < usual
    assert needed(gradient_checkpointing=True) < usual
    assert needed(lora=LORA) < usual
    assert needed(per_device_train_batch_size=8, gradient_accumulation_steps=4) < usual
    assert needed(global_batch_size=32, gpus=4) < usual
    # A batch is per device, and CUDA's own memory is all that other processes add.
    assert usual < needed(gpus=4) < usual + 1e9


def test_graphs_and_predictions_take_more_where_there_is_room():
    memory = gpu_memory(run(), BASE, task(), "bf16")
    assert memory.expected == pytest.approx(memory.needed + memory.activations)
    # Neither is thought to be had where batches are padded, nor with checkpoints.
    for changes in ({"gradient_checkpointing": True}, {"gradient_accumulation_steps": 2}):
        assert gpu_memory(run(**changes), BASE, task(), "bf16").graphs == 0
    only_predicted = gpu_memory(run(do_train=False), BASE, task(), "bf16")
    assert (only_predicted.activations, only_predicted.graphs) == (0, 0)
    assert only_predicted.expected > only_predicted.needed


def test_the_largest_batch_is_longer_than_most_and_not_longer_than_its_longest_rows():
    batch = largest_batch(run(), task(mean=40, longest=100))
    assert 32 * 40 < batch.tokens < 32 * 100
    assert largest_batch(run(), task(mean=40, longest=100), rows=1).tokens == 100
    assert largest_batch(run(), task(mean=127, longest=128)).tokens == 32 * 128
    assert largest_batch(run(), task(rows=5, mean=40, longest=100)).rows == 5
    assert largest_batch(run(max_train_samples=3), task()).rows == 3
    assert largest_batch(run(max_seq_length=64), task(longest=None, mean=60)).longest == 64


def lack(card: str, model: ModelSize = LARGE, of: TaskSize | None = None, **values):
    return shortage(run(**values), model, of or task(mean=100), find_device(card))


def test_what_fits_lacks_nothing():
    assert lack("a100_80gb") is None
    assert lack("rtx2080ti") is not None
    assert lack("rtx2080ti", per_device_train_batch_size=8) is None


def test_micro_batches_are_halves_and_advice_is_only_what_would_fit():
    short = lack("rtx2080ti")
    assert (short.rows_wanted, short.rows, short.rows_on_two) == (32, 16, 16)
    assert short.with_checkpointing
    assert short.on_two_gpus
    assert short.card_that_holds_it > 11
    assert lack("rtx2080ti", gradient_checkpointing=True) is None
    assert lack("rtx2080ti", gpus=2, per_device_train_batch_size=16) is None
    assert lack("rtx2080ti", gpus=2, global_batch_size=32) is None
    assert not lack("rtx2080ti", per_device_train_batch_size=256).on_two_gpus


def test_a_model_of_which_not_one_row_fits_needs_another_card():
    short = lack("rtx2080ti", XXLARGE)
    assert short.rows == 0
    assert not short.on_two_gpus
    assert not short.with_checkpointing
    assert short.card_that_holds_it == 32
    assert shortage(run(), XXLARGE, task(), find_device("v100_32gb")).rows > 0


def test_no_card_is_named_where_none_is_large_enough_and_slices_do_not_work_together():
    huge = ModelSize(20_000_000_000, 19_000_000_000, 6144, STAGED)
    assert lack("h200", huge).card_that_holds_it is None
    whole, part = (lack(card, per_device_train_batch_size=20) for card in ("rtx3080", "a100_1g.10gb"))
    assert (whole.rows, part.rows) == (10, 10)
    assert (whole.on_two_gpus, part.on_two_gpus) == (True, False)
