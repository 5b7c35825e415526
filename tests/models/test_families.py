"""Encoders of every family on all nine tasks of GLUE, with real rows, beside transformers' own models and Trainer."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import builders
import numpy
import pyarrow.parquet
import pytest
import torch
from encoder_families import FAMILIES, write_family, write_sentencepiece
from reference_trainer import trained_by_transformers
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
)

from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.task import Task, definition
from gluegrid.staging.tokenization import tokenize_task
from gluegrid.training.cell_trainer import CellTraining
from gluegrid.training.dataset import Tokens

GLUE = [name for name, entry in load_registry().items() if entry.get("train", "train")]
TRAINED, SCORED = 24, 9
MAX_SEQ_LENGTH = 96
VALUES = {"learning_rate": 3e-3, "max_seq_length": MAX_SEQ_LENGTH}
ORDER_OF_ROBERTA_LARGE_MNLI = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class StagedTask:
    """A task of GLUE with few rows: their texts by split, and the manifest."""

    task: Task
    columns: dict[str, dict]
    manifest: Path

    def texts(self, split: str) -> list[tuple[str, ...]]:
        """Return a split's texts, one or two of each row."""
        return list(zip(*(self.columns[split][name] for name in self.task.text_columns), strict=True))


@dataclass(frozen=True)
class StagedFamily:
    """A family's model, as it was written (with a head of two labels) and staged. Makes tokens once for each task."""

    name: str
    source: Path
    manifest: Path
    tokens_of_tasks: dict

    def tokens(self, staged: StagedTask, max_seq_length: int = MAX_SEQ_LENGTH) -> Tokens:
        """Return the tokens of a task."""
        task = staged.task
        if task.name not in self.tokens_of_tasks:
            manifest = self.manifest.parents[1] / "tokens" / task.name / "manifest.json"
            tokenize_task(self.manifest, staged.manifest, task, max_seq_length, manifest)
            run = builders.run(task, max_seq_length=max_seq_length)
            self.tokens_of_tasks[task.name] = Tokens(run, manifest, self.manifest, staged.manifest)
        return self.tokens_of_tasks[task.name]

    def cell(self, staged: StagedTask, model: Path | None = None, **changes) -> CellTraining:
        """Return the training of this model, or of another with the same tokenizer, on a task."""
        values = VALUES | changes
        tokens = self.tokens(staged, values["max_seq_length"])
        return CellTraining(builders.run(staged.task, **values), model or self.manifest.parent, tokens)


def staged_task(folder: Path, shared: Path, name: str) -> StagedTask:
    """Stage the first rows of a task of the registry; AX as a third test split of mnli, with which it is scored."""
    registry = load_registry()
    values = TASK_DEFAULTS | registry[name] | {"source": f"./{name}", "folder": "", "revision": "1"}
    files = {split: shared / "glue" / name / f"{split}-00000-of-00001.parquet" for split in values["test"]}
    # The shared copy of qqp has no test split.
    values["test"] = [split for split, path in files.items() if path.exists()]
    ax = {} if name != "mnli" else {"ax": shared / "glue" / "ax" / "test-00000-of-00001.parquet"}
    values["test"] += ax
    task = Task(name=name, **definition(values))
    columns = {}
    for split in task.splits:
        path = ax.get(split, shared / "glue" / name / f"{split}-00000-of-00001.parquet")
        count = TRAINED if split == task.train else SCORED
        columns[split] = pyarrow.parquet.read_table(path).slice(0, count).to_pydict()
    return StagedTask(task, columns, builders.task_manifest(folder, task, **columns))


@pytest.fixture(scope="module")
def glue(tmp_path_factory, shared, one_thread) -> dict[str, StagedTask]:
    """The nine tasks, staged once."""
    return {name: staged_task(tmp_path_factory.mktemp(name), shared, name) for name in GLUE}


@pytest.fixture(scope="module")
def texts(glue) -> list[str]:
    """What tokenizers are trained on."""
    return [text for staged in glue.values() for pair in staged.texts("train") for text in pair]


def staged_family(folder: Path, name: str, texts: list[str], **options) -> StagedFamily:
    """Write and stage a model of a family."""
    source = write_family(folder / "source", name, texts, **options)
    return StagedFamily(name, source, builders.stage_model(folder / "model", source), {})


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory, texts) -> StagedFamily:
    """A family's model, staged once."""
    return staged_family(tmp_path_factory.mktemp(request.param), request.param, texts)


def plain_logits(training: CellTraining, source: Path, texts: list, max_length: int = MAX_SEQ_LENGTH):
    """Return what transformers' own model computes with the trained weights, for each example alone, unpadded."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = copy.deepcopy(training.model.config)
    plain = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    plain.load_state_dict(training.model.state_dict())
    with torch.no_grad():
        return numpy.concatenate(
            [
                plain(**tokenizer(*pair, truncation=True, max_length=max_length, return_tensors="pt")).logits.numpy()
                for pair in texts
            ]
        )


def logits_of(table) -> numpy.ndarray:
    return numpy.stack(table.column("logits").to_numpy())


def losses_of(training: CellTraining) -> numpy.ndarray:
    return training.training.state()["losses"].numpy()


@pytest.mark.parametrize("name", GLUE)
def test_a_family_learns_a_task_and_predicts_as_transformers_does(family, glue, name):
    staged = glue[name]
    # Every step on the same rows.
    training = family.cell(staged, max_train_samples=8, per_device_train_batch_size=8, num_train_epochs=20)
    metrics = training.train()
    losses = losses_of(training)
    assert losses.shape == (20,)
    assert numpy.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
    assert metrics["train_samples"] == 8
    outputs = {"stsb": 1, "mnli": 3}.get(name, 2)
    for split in [*staged.task.validation, *staged.task.test]:
        table, _ = training.predict(split)
        assert table["idx"].to_pylist() == staged.columns[split]["idx"]
        assert logits_of(table).shape == (SCORED, outputs)
        assert logits_of(table) == pytest.approx(plain_logits(training, family.source, staged.texts(split)), abs=1e-4)


def test_the_splits_of_each_task_are_those_of_the_registry(glue):
    scored = {name: [*staged.task.validation, *staged.task.test] for name, staged in glue.items()}
    mnli = ["validation_matched", "validation_mismatched", "test_matched", "test_mismatched", "ax"]
    assert scored.pop("mnli") == mnli
    assert scored.pop("qqp") == ["validation"]
    assert {tuple(splits) for splits in scored.values()} == {("validation", "test")}


def test_encoders_that_are_one_module_are_trained_without_padding(family, glue):
    packed = family.cell(glue["cola"]).forward.why_padded is None
    assert packed == (family.name in ("bert", "roberta", "distilbert", "albert", "electra"))


def test_both_validation_splits_of_mnli_are_scored(family, glue):
    metrics = family.cell(glue["mnli"]).evaluate()
    assert {"eval_accuracy", "eval_accuracy_mm"} <= metrics.keys()
    assert (metrics["eval_samples"], metrics["eval_samples_mm"]) == (SCORED, SCORED)


@pytest.mark.parametrize(("name", "outputs"), [("mnli", 3), ("stsb", 1)])
def test_a_head_of_two_labels_is_drawn_anew_and_all_else_is_kept(family, glue, name, outputs):
    loaded = family.cell(glue[name]).model.state_dict()
    saved = load_file(family.source / "model.safetensors")
    assert loaded.keys() == saved.keys()
    anew = {key for key, weight in saved.items() if weight.shape != loaded[key].shape}
    assert anew
    assert {(saved[key].shape[0], loaded[key].shape[0]) for key in anew} == {(2, outputs)}
    for key in saved.keys() - anew:
        assert torch.equal(loaded[key], saved[key])


def test_a_checkpoint_of_its_pretraining_keeps_its_encoder_and_is_given_a_head(tmp_path, family, glue):
    cls = AutoModelForPreTraining if family.name == "electra" else AutoModelForMaskedLM
    pretrained = cls.from_config(AutoConfig.from_pretrained(family.source))
    source = builders.copy(family.source, tmp_path / "source")
    pretrained.save_pretrained(source)
    staged = builders.stage_model(tmp_path / "model", source)
    training = family.cell(glue["mnli"], staged.parent)
    expected = pretrained.base_model.state_dict()
    found = {name: weight for name, weight in training.model.base_model.state_dict().items() if "pooler" not in name}
    assert found.keys() == {name for name in expected if "pooler" not in name}
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())
    assert logits_of(training.predict("validation_matched")[0]).shape == (SCORED, 3)


@pytest.mark.parametrize(
    ("name", "file", "unknown"), [("albert", "spiece.model", "<unk>"), ("deberta-v3", "spm.model", "[UNK]")]
)
def test_a_tokenizer_that_is_a_file_of_sentencepiece_alone_makes_the_same_tokens(
    tmp_path, texts, glue, name, file, unknown
):
    """As deberta-v3-base has it."""
    family = staged_family(tmp_path / "one", name, texts)
    expected = family.tokens(glue["rte"])
    source = builders.copy(family.source, tmp_path / "source")
    vocabulary = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    write_sentencepiece(source / file, vocabulary, unknown)
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").unlink()
    manifest = builders.stage_model(tmp_path / "other" / "model", source)
    found = StagedFamily(name, source, manifest, {}).tokens(glue["rte"])
    for split in glue["rte"].task.splits:
        pairs = zip(expected.split(split).input_ids, found.split(split).input_ids, strict=True)
        assert all(numpy.array_equal(*pair) for pair in pairs)


def test_a_checkpoint_with_labels_in_another_order_predicts_in_the_datas(tmp_path, family, texts, glue):
    source = write_family(tmp_path / "mnli", family.name, texts, labels=ORDER_OF_ROBERTA_LARGE_MNLI)
    staged = glue["mnli"]
    training = family.cell(staged, source, max_train_samples=8, per_device_train_batch_size=8, num_train_epochs=6)
    before = plain_logits(training, source, staged.texts("train")[:8])[:, ::-1]
    training.train()
    # The first loss is that of the checkpoint's own head for the data's labels.
    labels = torch.tensor(staged.columns["train"]["label"][:8])
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(before.copy()), labels)
    assert losses_of(training)[0] == pytest.approx(expected.item(), rel=1e-4)
    table, _ = training.predict("validation_matched")
    after = plain_logits(training, source, staged.texts("validation_matched"))[:, ::-1]
    assert logits_of(table) == pytest.approx(after, abs=1e-4)


@pytest.mark.parametrize("name", ["qqp", "stsb"])
def test_losses_are_those_of_transformers_trainer(tmp_path, family, glue, name):
    training = family.cell(glue[name], learning_rate=1e-3, num_train_epochs=4)
    tokenizer = AutoTokenizer.from_pretrained(family.source)
    pad = DataCollatorWithPadding(tokenizer)

    def collate(examples):
        names = {*tokenizer.model_input_names, "label"}
        return pad([{key: value for key, value in example.items() if key in names} for example in examples])

    trainer, _ = trained_by_transformers(training, tmp_path, family.manifest.parent, collate)
    training.train()
    assert len(trainer.losses) == 24
    assert losses_of(training) == pytest.approx(numpy.array(trainer.losses), rel=1e-4)


def test_bf16_is_near_fp32(family, glue, fresh_accelerator):
    values = {"learning_rate": 1e-3, "num_train_epochs": 2}
    expected = family.cell(glue["mrpc"], **values)
    expected.train()
    fresh_accelerator()
    half = family.cell(glue["mrpc"], **values, precision="bf16")
    half.train()
    assert half.forward.why_padded == expected.forward.why_padded
    assert not numpy.array_equal(losses_of(half), losses_of(expected))
    assert losses_of(half) == pytest.approx(losses_of(expected), rel=0.05)
    predictions = [logits_of(cell.predict("validation")[0]) for cell in (half, expected)]
    assert predictions[0] == pytest.approx(predictions[1], abs=0.05)


PAIR = builders.task(name="long", text_columns=["first", "second"])
LONGEST = 512


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory, texts) -> StagedTask:
    """Short pairs of texts, two of 512 tokens and more among them in each split."""
    columns = builders.rows(12, PAIR)
    columns["first"][3] = " ".join(texts)
    columns["first"][8], columns["second"][8] = " ".join(texts[:40]), " ".join(texts[40:80])
    splits = dict.fromkeys(PAIR.splits, columns)
    return StagedTask(PAIR, splits, builders.task_manifest(tmp_path_factory.mktemp("long"), PAIR, **splits))


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_as_long_as_the_model_takes_them_among_short_ones(tmp_path, texts, long_rows, name):
    family = staged_family(tmp_path, name, texts, positions=LONGEST)
    training = family.cell(long_rows, max_seq_length=2 * LONGEST, num_train_epochs=1)
    lengths = sorted(training.tokens.split("train").lengths)
    assert lengths[-2:] == [LONGEST, LONGEST]
    assert lengths[-3] < 64
    training.train()
    assert numpy.isfinite(losses_of(training)).all()
    table, _ = training.predict("validation")
    expected = plain_logits(training, family.source, long_rows.texts("validation"), LONGEST)
    assert logits_of(table) == pytest.approx(expected, abs=1e-4)
