"""A trained model as a folder: transformers loads it offline, and it computes what was trained."""

import json
import os
import socket

import builders
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from rendering import RENDERER, texts_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from gluegrid.common.errors import TransientError
from gluegrid.experiment.options import LORA
from gluegrid.models.classifier import load_model
from gluegrid.models.lora import merged, with_adapters
from gluegrid.models.packing import make_packable
from gluegrid.staging.examples import Examples
from gluegrid.staging.tokenization import Encoder
from gluegrid.training.saved_model import model_card, write_model

pytestmark = pytest.mark.usefixtures("one_thread", "no_network")

PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
TEXTS = ("the cat sat on the mat", "a dog ran")
ABOUT = {
    "results": {"eval_accuracy": 0.8125, "eval_pearson": None},
    "epoch": 2,
    "run_sha256": "0" * 64,
    "task_files": {"train-00000-of-00001.parquet": "1" * 64},
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "versions": {"torch": "2.0", "snakemake": None},
}
EVIL = "<b>x</b> | `a` [l](http://e.v) *y*\n# z\n---\nlicense: mit"


@pytest.fixture
def no_network(monkeypatch):
    """Let every connection fail."""

    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def trained(folder, of_task, seed=1):
    """Return the model with other weights in every part, and its order of labels."""
    model, order, _ = load_model(folder, of_task, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs = {"input_ids": torch.tensor([[2, 11, 12, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    labels = torch.tensor([1.5] if of_task.is_regression else [1])
    model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    return model.eval(), order


def logits(model, encoding):
    inputs = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
    with torch.no_grad():
        return model(**{name: torch.tensor([values]) for name, values in inputs.items()}).logits[0]


def encoding_of(tokenizer_manifest, *texts):
    """Return the tokens as training had them."""
    examples = Examples("file", 0, ["text"] * len(texts), [[text] for text in texts], labels=[0], idx=[0])
    return Encoder(tokenizer_manifest, 16).encode(examples)[0]


def write(folder, model, tokenizer_folder, of_task, about=ABOUT, **changes):
    write_model(folder, model, tokenizer_folder, builders.run(of_task, **changes), about)
    return folder


@pytest.mark.parametrize(("kind", "values"), [("bert", {}), ("albert", {"embedding_size": 16}), ("modernbert", {})])
def test_the_loaded_model_computes_what_the_trained_one_did(tmp_path, kind, values):
    staged = builders.stage_model(tmp_path / "staged", builders.write_model(tmp_path / "model", kind, **values))
    task = builders.task()
    model, _ = trained(staged.parent, task)
    folder = write(tmp_path / "saved", model, staged.parent, task)
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(loaded) is type(model)
    expected = logits(model, encoding_of(staged, TEXTS[0]))
    torch.testing.assert_close(logits(loaded.eval(), encoding_of(staged, TEXTS[0])), expected, atol=1e-6, rtol=1e-6)
    [answer] = pipeline("text-classification", model=str(folder), device="cpu")([TEXTS[0]])
    assert answer["label"] == task.labels[expected.argmax()]
    assert answer["score"] == pytest.approx(expected.softmax(0).max().item(), abs=1e-5)
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "README.md",
        "tokenizer.json",
    }
    assert not [path.name for path in folder.iterdir() if str(tmp_path) in path.read_text(errors="replace")]


def test_adapters_trained_without_padding_are_in_the_weights_that_are_written(tmp_path):
    source = builders.write_model(tmp_path / "model")
    task = builders.task()
    model, *_ = load_model(source, task, seed=1)
    with_adapters(model, LORA | {"target_modules": "all-linear"}, set(), seed=1)
    for name, weights in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weights, std=0.2)
    assert make_packable(model, 16) is None
    staged = builders.stage_model(tmp_path / "staged", source)
    folder = write(tmp_path / "saved", merged(model), staged.parent, task)
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    encoding = encoding_of(staged, TEXTS[0])
    expected = logits(model.eval(), encoding)
    assert not torch.allclose(expected, logits(load_model(source, task, seed=1)[0].eval(), encoding), atol=0.1)
    torch.testing.assert_close(logits(loaded.eval(), encoding), expected, atol=1e-5, rtol=1e-5)
    assert "packed" not in (folder / "config.json").read_text()


def test_a_regression_gives_its_number(tmp_path):
    staged = builders.stage_model(tmp_path / "staged", builders.write_model(tmp_path / "model", labels=["a", "b"]))
    task = builders.task(text_columns=["first", "second"], labels=None, metrics=["pearson"])
    model, _ = trained(staged.parent, task)
    folder = write(tmp_path / "saved", model, staged.parent, task)
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 1
    answer = pipeline("text-classification", model=str(folder), device="cpu")({"text": TEXTS[0], "text_pair": TEXTS[1]})
    encoding = encoding_of(staged, *TEXTS)
    with torch.no_grad():
        tokens = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
        expected = model(**{name: torch.tensor([values]) for name, values in tokens.items()}).logits.item()
    assert answer["score"] == pytest.approx(expected, abs=1e-5)
    assert "The `score` that it returns is the prediction." in (folder / "README.md").read_text()


def test_a_checkpoints_own_order_of_labels_keeps_its_names(tmp_path):
    names = ["contradiction", "entailment", "neutral"]
    source = builders.write_model(tmp_path / "model", labels=names)
    staged = builders.stage_model(tmp_path / "staged", source)
    model, order = trained(staged.parent, PAIR)
    assert order == [1, 2, 0]
    folder = write(tmp_path / "saved", model, staged.parent, PAIR)
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.id2label == dict(enumerate(names))
    classify = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
    answers = {answer["label"]: answer["score"] for answer in classify({"text": TEXTS[0], "text_pair": TEXTS[1]})}
    encoding = encoding_of(staged, *TEXTS)
    tokens = {"input_ids": torch.tensor([encoding.ids]), "token_type_ids": torch.tensor([encoding.type_ids])}
    with torch.no_grad():
        # As the predictions of the cell: in the order of the data's labels.
        in_order_of_data = model(**tokens).logits[0].softmax(0)[order].tolist()
    assert [answers[label] for label in PAIR.labels] == pytest.approx(in_order_of_data, abs=1e-5)


@pytest.mark.parametrize(("kind", "values"), [("roberta", {"type_vocab_size": 1}), ("distilbert", {})])
def test_a_borrowed_tokenizer_makes_the_tokens_of_training(tmp_path, kind, values):
    lender = builders.stage_model(tmp_path / "lender", builders.write_model(tmp_path / "bert"))
    source = builders.write_model(tmp_path / "model", kind, **values)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source / name).unlink()
    model, _ = trained(source, PAIR)
    folder = write(tmp_path / "saved", model, lender.parent, PAIR)
    encoding = encoding_of(lender, *TEXTS)
    assert 1 in encoding.type_ids
    tokens = AutoTokenizer.from_pretrained(folder)(*TEXTS)
    assert tokens["input_ids"] == encoding.ids
    assert "token_type_ids" not in tokens
    answer = pipeline("text-classification", model=str(folder), device="cpu")({"text": TEXTS[0], "text_pair": TEXTS[1]})
    assert answer["label"] == PAIR.labels[logits(model, encoding).argmax()]


def test_a_model_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    source = builders.write_model(tmp_path / "model")
    model, _ = trained(source, builders.task())
    folder = write(tmp_path / "out" / "saved", model, source, builders.task())
    (folder / "of_an_older_one").touch()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("gluegrid.training.saved_model.model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(folder, model, source, builders.task())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    write(folder, model, source, builders.task())
    assert not (folder / "of_an_older_one").exists()
    assert list(folder.parent.iterdir()) == [folder]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o666 & ~_umask()}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_full_disk_is_told_as_one(tmp_path, monkeypatch):
    source = builders.write_model(tmp_path / "model")
    model, _ = trained(source, builders.task())
    # A mock: no disk is full here.
    monkeypatch.setattr(model, "save_pretrained", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(TransientError, match=r"saved: cannot be written because the disk"):
        write(tmp_path / "saved", model, source, builders.task())
    assert not (tmp_path / "saved").exists()


def card_of(run, **changes):
    return model_card(run, ABOUT | changes)


def front_matter(card):
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_says_what_the_model_is_and_what_it_was_made_from():
    run = builders.run(
        builders.task(source="nyu-mll/glue", labels=["no", "yes"]),
        model={"name": "base", "source": "org/base", "revision": "abc"},
        lora={"r": 8},
    )
    head, body = front_matter(card_of(run))
    assert head["base_model"] == "org/base"
    assert head["datasets"] == ["nyu-mll/glue"]
    assert head["metrics"] == ["accuracy"]
    assert head["tags"] == ["text-classification", "gluegrid", "tiny"]
    texts = texts_of(body)
    for text in ("base fine-tuned on tiny", "`eval_accuracy`", "0.8125", "`learning_rate`", "`0.001`", "`{'r': 8}`"):
        assert text in texts
    assert "`org/base`, revision `abc`" in texts
    assert "`" + "1" * 64 + "`" in texts
    assert "`0123456789abcdef`, with changes" in texts
    assert "`torch 2.0`" in texts
    assert any("after epoch 2 of 3" in text and "the labels no, yes" in text for text in texts)


def test_the_hub_reads_the_scores_of_each_validation_split_from_the_card(tmp_path):
    task = builders.task(
        source="nyu-mll/glue",
        folder="mnli",
        metrics=["accuracy", "macro_f1"],
        validation={"validation_matched": "", "validation_mismatched": "_mm"},
    )
    scores = {"eval_accuracy": 0.8, "eval_macro_f1": 0.75, "eval_accuracy_mm": 0.7, "eval_macro_f1_mm": None}
    card = card_of(builders.run(task, model={"name": "base", "source": "org/base", "revision": "abc"}), results=scores)
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.model_name == "base fine-tuned on tiny"
    found = {(each.dataset_split, each.metric_type): each.metric_value for each in data.eval_results}
    assert found == {
        ("validation_matched", "accuracy"): 0.8,
        ("validation_matched", "macro_f1"): 0.75,
        ("validation_mismatched", "accuracy"): 0.7,
    }
    first = data.eval_results[0]
    assert (first.task_type, first.task_name) == ("text-classification", "tiny")
    assert (first.dataset_type, first.dataset_config, first.dataset_revision) == ("nyu-mll/glue", "mnli", "1")
    assert data.to_dict()["model-index"] == front_matter(card)[0]["model-index"]


def test_a_model_without_a_defined_score_has_none_for_the_hub():
    head, _ = front_matter(card_of(builders.run(builders.task(labels=None, metrics=["pearson"]))))
    assert "model-index" not in head


def test_the_card_does_not_say_where_folders_of_the_user_lie():
    run = builders.run(
        builders.task(source="/secret/data/set"), model={"name": "m", "source": "~/secret/m", "revision": "1"}
    )
    card = card_of(run)
    assert "secret" not in card
    head, _ = front_matter(card)
    assert not {"base_model", "datasets"} & head.keys()


def test_names_of_the_user_are_text_in_the_card():
    task = builders.task(name=EVIL, source=f"org/{EVIL}", labels=[EVIL, "no"], metrics=[EVIL])
    run = builders.run(task, model={"name": EVIL, "source": f"org/{EVIL}", "revision": EVIL}, variant=EVIL)
    card = card_of(run, task_files={EVIL: "0"}, versions={EVIL: EVIL}, git={"commit": EVIL, "dirty": False})
    head, body = front_matter(card)
    assert "license" not in head
    assert head["base_model"] == "org/" + " ".join(EVIL.split())
    texts_of(body)
    kinds = {token.type for token in RENDERER.parse(body)}
    assert not kinds & {"html_block", "hr", "blockquote_open", "bullet_list_open"}
    assert [token.tag for token in RENDERER.parse(body) if token.type == "heading_open"] == ["h1", *["h2"] * 4]


def test_a_result_that_is_missing_is_a_dash():
    task = builders.task(labels=None, metrics=["pearson"])
    assert "| `eval_pearson` | - |" in card_of(builders.run(task))
