"""The options of training, each by what it changes, and what it leaves the same."""

import itertools
from types import SimpleNamespace

import builders
import numpy
import pytest
import torch
from leaving_trainings import keeper_that_leaves
from trainable_cell import TASK, TrainableCell, make_resources, write_head
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LengthGroupedSampler

from gluegrid.common.errors import Stopped, TrainingError
from gluegrid.common.files import read_json
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.dataset import Order
from gluegrid.training.device import describe_device, precision_of, prepare_device

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
ROWS = 70

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    splits = {"train": builders.rows(ROWS, PAIR), "validation": builders.rows(11, PAIR)}
    return builders.cell_files(folder, PAIR, builders.write_model(folder / "source"), **splits)


@pytest.fixture
def cell(files):
    def cell_of(**changes):
        return CellTraining(builders.run(PAIR, **changes), *files)

    return cell_of


def trained(cell_training):
    """Train; return the loss of every step, and the weights."""
    cell_training.train()
    return cell_training.training.state()["losses"], cell_training.model.state_dict()


def assert_same(found, expected, **tolerances):
    torch.testing.assert_close(found[0], expected[0], **tolerances)
    for name, weight in found[1].items():
        if not name.endswith("key.bias"):  # its gradient is rounding, which Adam makes steps of
            torch.testing.assert_close(weight, expected[1][name], **tolerances)


def test_accumulated_batches_are_one_update_of_all_their_examples(cell):
    accumulated = cell(per_device_train_batch_size=4, gradient_accumulation_steps=3)
    sizes = []
    inputs = accumulated.forward.inputs

    def noting(rows, numbers):
        sizes.append(len(numbers))
        return inputs(rows, numbers)

    accumulated.forward.inputs = noting
    assert_same(trained(accumulated), trained(cell(per_device_train_batch_size=12)), rtol=1e-4, atol=1e-5)
    assert sizes[:7] == [4, 4, 4, 4, 4, 4, 4]
    assert sizes[15:17] == [4, 4]
    assert max(sizes) == 4


def test_a_global_batch_size_is_split_over_accumulated_batches(cell):
    split = cell(global_batch_size=10, gradient_accumulation_steps=4)
    assert split.run.rows_at_once == 3
    assert_same(trained(split), trained(cell(per_device_train_batch_size=10)), rtol=1e-3, atol=1e-4)


def test_gradient_checkpointing_changes_no_number(cell):
    assert_same(trained(cell(gradient_checkpointing=True)), trained(cell()), rtol=1e-5, atol=1e-6)


def test_gradient_checkpointing_of_a_model_that_has_none_is_an_error(files, cell, monkeypatch):
    monkeypatch.setattr(type(cell().model), "supports_gradient_checkpointing", False)
    with pytest.raises(
        TrainingError, match="gradient_checkpointing: BertForSequenceClassification does not support it"
    ):
        cell(gradient_checkpointing=True)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_with_padding_computes_the_same(cell, attention):
    padded = cell(attn_implementation=attention)
    assert padded.model.config._attn_implementation == attention
    assert_same(trained(padded), trained(cell()), rtol=1e-4, atol=1e-5)


def test_decay_is_of_matrices_alone(cell):
    """With a rate of nearly 0 and much decay, only decay moves weights."""
    start = {name: weight.clone() for name, weight in cell().model.state_dict().items()}
    decayed = cell(weight_decay=10, learning_rate=1e-7, lr_scheduler_type="constant", num_train_epochs=1)
    _, weights = trained(decayed)
    for name, weight in weights.items():
        moved = (weight - start[name]).abs().max().item()
        if weight.dim() > 1 and "classifier" not in name:
            assert moved == pytest.approx(18 * 1e-6 * start[name].abs().max().item(), rel=0.3), name
        else:
            assert moved < 4e-6, name


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"lr_scheduler_type": "constant"}, [1, 1, 1, 1, 1, 1]),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_ratio": 0.5}, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ({"warmup_ratio": 0.5}, [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        ({"warmup_ratio": 0.2}, [0, 1 / 2, 1, 3 / 4, 1 / 2, 1 / 4]),
        ({"lr_scheduler_type": "cosine"}, [(1 + numpy.cos(numpy.pi * step / 6)) / 2 for step in range(6)]),
        ({"lr_scheduler_type": "polynomial", "warmup_ratio": 0.9}, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),
        ({"lr_scheduler_type": "inverse_sqrt", "warmup_ratio": 0.2}, None),
        ({"lr_scheduler_type": "cosine_with_restarts"}, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_rate_of_each_step_is_the_schedules(cell, monkeypatch, options, rates):
    seen = []
    step = torch.optim.AdamW.step

    def noting(self, *arguments, **values):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **values)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    training = cell(learning_rate=1e-3, num_train_epochs=1, max_train_samples=24, **options)
    training.train()
    assert len(seen) == 6
    if rates is not None:
        assert seen == pytest.approx([1e-3 * rate for rate in rates])
    assert [training.training._rate_of(number) for number in range(1, 7)] == pytest.approx(seen)


@pytest.mark.parametrize(("most", "expected"), [(0.01, 0.01), (0, None)])
def test_gradients_are_clipped_at_the_norm_that_is_asked_for(cell, monkeypatch, most, expected):
    norms = []
    step = torch.optim.AdamW.step

    def noting(self, *arguments, **values):
        grads = [parameter.grad for group in self.param_groups for parameter in group["params"]]
        norms.append(torch.stack([grad.norm() for grad in grads if grad is not None]).norm().item())
        return step(self, *arguments, **values)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    cell(max_grad_norm=most, num_train_epochs=1).train()
    if expected is None:
        assert max(norms) > 1
    else:
        assert max(norms) == pytest.approx(expected, rel=1e-3)


def test_batches_of_like_length_are_those_of_trainer(cell):
    rows = cell().tokens.split("train")
    run = builders.run(PAIR, train_sampling_strategy="group_by_length", seed=5)
    generator = torch.Generator().manual_seed(5 * 1_000_003 + 2)
    theirs = LengthGroupedSampler(4, lengths=rows.lengths.tolist(), generator=generator)
    assert Order(rows, run).in_epoch(2).tolist() == list(theirs)
    assert Order(rows, builders.run(PAIR, seed=5)).in_epoch(2).tolist() != list(theirs)


def test_bf16_is_near_fp32_over_fp32_weights_and_recorded(cell, fresh_accelerator):
    half = cell(precision="bf16", num_train_epochs=1)
    losses, weights = trained(half)
    fresh_accelerator()
    expected, _ = trained(cell(num_train_epochs=1))
    assert not torch.equal(losses, expected)
    torch.testing.assert_close(losses, expected, rtol=0.1, atol=0.05)
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float32}
    assert describe_device(half.run)["precision"] == "bf16"
    assert numpy.stack(half.predict("validation")[0].column("logits").to_numpy()).dtype == numpy.float32


def test_auto_is_fp32_where_there_is_no_gpu(cell):
    assert precision_of(builders.run(PAIR, precision="auto")) == "fp32"
    assert cell(precision="auto").accelerator.mixed_precision == "no"


@pytest.mark.parametrize(("has_bf16", "asked", "is_used"), [(True, "auto", "bf16"), (False, "auto", "fp32")])
def test_auto_is_bf16_where_the_gpu_has_it(monkeypatch, has_bf16, asked, is_used):
    """A mock: CUDA says what it would say on such a GPU."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert precision_of(builders.run(PAIR, precision=asked, device="cuda")) == is_used


def test_bf16_on_a_gpu_without_it_is_an_error(monkeypatch):
    """A mock, as above."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    with pytest.raises(TrainingError, match="precision: bf16 is not supported by Old GPU; set precision: auto"):
        precision_of(builders.run(PAIR, precision="bf16", device="cuda"))


def test_tf32_is_for_gpus_that_have_it(monkeypatch):
    """A mock, as above."""
    asked = builders.run(PAIR, precision="tf32", device="cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert precision_of(asked) == "tf32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    with pytest.raises(TrainingError, match="precision: tf32 is not supported by Old GPU; set precision: auto"):
        precision_of(asked)


FP32_OPERATIONS = {
    "matmul": torch.backends.cuda.matmul,
    "conv": torch.backends.cudnn.conv,
    "rnn": torch.backends.cudnn.rnn,
}


@pytest.fixture
def settings_of_fp32():
    """Return how torch computes what is fp32; it computes so again after the test."""
    before = {name: operations.fp32_precision for name, operations in FP32_OPERATIONS.items()}
    legacy = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield lambda: {operations.fp32_precision for operations in FP32_OPERATIONS.values()}
    torch.set_float32_matmul_precision(legacy[0])
    torch.backends.cudnn.allow_tf32 = legacy[1]
    for name, operations in FP32_OPERATIONS.items():
        operations.fp32_precision = before[name]


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee"), ("auto", "ieee")]
)
def test_what_is_fp32_is_computed_in_tf32_for_that_precision_only(
    settings_of_fp32, fresh_accelerator, precision, expected
):
    """Whatever the process computed in before: another precision, or a library's setting."""
    for before in ("tf32", "ieee"):
        for operations in FP32_OPERATIONS.values():
            operations.fp32_precision = before
        fresh_accelerator()
        accelerator = prepare_device(builders.run(PAIR, precision=precision))  # of a CPU, which has no such operations
        assert settings_of_fp32() == {expected}
        assert accelerator.mixed_precision == ("bf16" if precision == "bf16" else "no")
        # torch reads the older settings in places, and raises an error where they contradict these.
        with torch.backends.cudnn.flags(enabled=True):
            assert torch.get_float32_matmul_precision() == ("high" if expected == "tf32" else "highest")


def test_a_run_for_other_processes_than_were_started_is_an_error(cell):
    with pytest.raises(TrainingError, match=r"the run needs 4 processes \(gpus: 2, nodes: 2\), but 1 were started"):
        cell(gpus=2, nodes=2)


def test_scores_of_epochs_change_no_number_of_the_training(cell):
    scored = cell(eval_strategy="epoch")
    assert_same(trained(scored), trained(cell()), rtol=0, atol=0)
    assert [(entry["epoch"], entry["step"]) for entry in scored.epochs.curve] == [(1, 18), (2, 36)]
    assert scored.epochs.curve[0].keys() >= {"eval_accuracy", "eval_loss", "eval_runtime"}
    assert scored.epochs.curve[0]["eval_loss"] != scored.epochs.curve[1]["eval_loss"]


def test_time_to_score_epochs_is_not_training_time(cell, monkeypatch):
    scored = cell(eval_strategy="epoch")
    seconds, score = itertools.count(1), scored.epochs.score
    spent = []

    def slow_score(*arguments):
        spent.append(100_000)
        return score(*arguments)

    clock = SimpleNamespace(perf_counter=lambda: next(seconds) + sum(spent))
    monkeypatch.setattr("gluegrid.training.trainer.time", clock)
    monkeypatch.setattr(scored.epochs, "score", slow_score)
    assert 0 < scored.train()["train_runtime"] < 1000
    assert len(spent) == 2


def test_epochs_scores_go_on_where_a_training_was_cut_off(tmp_path, cell):
    def keeper(is_time):
        return keeper_that_leaves(tmp_path, is_time, {"run_sha256": "r"}, maker={})

    def is_time(training):
        return training.step == 36 and len(training.epochs.curve) == 1

    whole = cell(eval_strategy="epoch", save_model="best")
    expected = trained(whole)
    with pytest.raises(Stopped):
        cell(eval_strategy="epoch", save_model="best").train(keeper(is_time))
    again = cell(eval_strategy="epoch", save_model="best")
    again.train(keeper(lambda training: False))
    assert_same((again.training.state()["losses"], again.model.state_dict()), expected, rtol=0, atol=0)

    def scores(epochs):
        timed = ("runtime", "per_second")
        return [{key: value for key, value in entry.items() if not key.endswith(timed)} for entry in epochs.curve]

    assert scores(again.epochs) == scores(whole.epochs)
    assert again.epochs.best["epoch"] == whole.epochs.best["epoch"]


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    return make_resources(tmp_path_factory.mktemp("resources"))


def test_a_cell_with_all_that_can_be_kept_keeps_it(tmp_path, resources):
    """By scripts/train.py: epochs' scores, the best epoch's model with adapters merged, and TensorBoard's files."""
    head = write_head(tmp_path / "head.json", report_to=["tensorboard"])
    of_tests = TrainableCell(tmp_path, resources, epochs=3, head=head)
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0, "target_modules": "all-linear"}
    of_tests.write_run(eval_strategy="epoch", save_model="best", lora=lora, learning_rate=0.02)
    assert of_tests.train() == 0, of_tests.log.read_text()
    record, results = of_tests.record, read_json(of_tests.results)
    assert [entry["epoch"] for entry in record["curve"]] == [1, 2, 3]
    assert record["curve"][-1]["eval_accuracy"] == results["eval_accuracy"]
    best = max(record["curve"], key=lambda entry: entry["eval_accuracy"])
    assert record["saved_model"]["epoch"] == best["epoch"]
    assert record["saved_model"]["score"] == best["eval_accuracy"]
    folder = of_tests.results.parent / "model"
    assert record["saved_model"]["files"].keys() == {path.name for path in folder.iterdir()}
    assert "packed" not in (folder / "config.json").read_text()
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.id2label == dict(enumerate(TASK.labels))
    assert not any("lora" in name for name in model.state_dict())
    assert scored(model, resources) == pytest.approx(best["eval_accuracy"])
    assert list((tmp_path / "results/e/trackers").rglob("events.out.tfevents*"))
    assert record["train_tokens_per_second"] > 0
    assert 0 < record["utilisation"]["cpu"] < 1.5
    assert record["utilisation"]["gpu"] is None
    of_tests.write_run(seed=42)
    of_tests.results.unlink()
    assert of_tests.train() == 0, of_tests.log.read_text()
    assert not folder.exists()  # it was of another run


def scored(model, resources):
    """Return the accuracy of a model on the validation split, one example at a time."""
    from gluegrid.training.dataset import Rows

    rows = Rows(resources / "tokens/validation.arrow")
    right = 0
    for number in range(len(rows)):
        columns = {"input_ids": rows.input_ids[number], "token_type_ids": rows.token_type_ids[number]}
        inputs = {name: torch.tensor(values.astype(numpy.int64))[None] for name, values in columns.items()}
        logits = model(**inputs).logits
        right += int(logits.argmax()) == rows.labels[number]
    return right / len(rows)
