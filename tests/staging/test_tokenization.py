import dataclasses
import json
import logging
import re
import shutil

import builders
import pyarrow
import pyarrow.parquet
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.common.manifests import check_files
from gluegrid.staging import parquet_files, tokenization
from gluegrid.staging.examples import Examples
from gluegrid.staging.tokenization import Encoder, tokenize_task
from gluegrid.training.dataset import Tokens

SINGLE = builders.task()
PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
AWKWARD = {
    "chinese": "猫坐在垫子上 the cat",
    "emoji": "the cat 🐈\u200d⬛ sat 👍🏽",
    "control": "the\x00cat\x07\tsat\u200b\ufeff\r\n on\x1fmat",
    "controls only": "\x00\x01\x1f\x7f\u200b",
    "bidirectional": "\u202ethe cat\u202c \u2067sat\u2069 קת",
    "no characters": "\uffff\ufffd\U0010ffff\ue000",
    "one word": "x" * 50_000,
    "empty": "",
    "blank": " \n\t ",
    "long": "the cat sat . " * 1250,
    "long and chinese": "猫坐在垫子上" * 800,
    "combining": "e\u0301 É ﬁ ①",
    "special tokens": "[SEP] the [PAD] cat [CLS]",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The manifest of a staged tiny model."""
    folder = tmp_path_factory.mktemp("tiny")
    return builders.stage_model(folder / "staged", builders.write_model(folder / "model"))


def tokens_of(folder, tokenizer, data, task, max_seq_length=16):
    """Tokenise; return the columns of each split, and the manifest."""
    manifest = folder / "tokens" / "manifest.json"
    tokenize_task(tokenizer, data, task, max_seq_length, manifest)
    splits = {split: read_arrow(manifest.parent / f"{split}.arrow") for split in task.splits}
    return splits, read_json(manifest)


def read_arrow(path):
    with pyarrow.OSFile(str(path)) as source:
        return pyarrow.ipc.open_stream(source).read_all().to_pydict()


def expected(tokenizer, columns, task, max_seq_length):
    """Return what run_glue.py feeds its model: AutoTokenizer with truncation and without padding."""
    from transformers import AutoTokenizer

    texts = [columns[name] for name in task.text_columns]
    return AutoTokenizer.from_pretrained(tokenizer)(*texts, truncation=True, max_length=max_seq_length)


def assert_equal_to_transformers(folder, tokenizer, task, columns, max_seq_length=16):
    data = builders.task_manifest(folder, task, train=columns, validation=columns)
    splits, _ = tokens_of(folder, tokenizer, data, task, max_seq_length)
    wanted = expected(tokenizer.parent, columns, task, max_seq_length)
    assert splits["train"]["input_ids"] == wanted["input_ids"]
    assert splits["train"]["token_type_ids"] == wanted["token_type_ids"]
    assert splits["train"]["label"] == columns["label"]
    return splits["train"]


@pytest.mark.parametrize("task", [SINGLE, PAIR], ids=["single", "pair"])
@pytest.mark.parametrize("max_seq_length", [5, 9, 64])
def test_tokens_are_those_of_transformers(tmp_path, tiny, task, max_seq_length):
    assert_equal_to_transformers(tmp_path, tiny, task, builders.rows(40, task), max_seq_length)


@pytest.mark.parametrize(("first", "second"), [(30, 2), (2, 30), (30, 29), (1, 1), (30, 0)])
def test_the_longer_text_of_a_pair_is_truncated_first(tmp_path, tiny, first, second):
    columns = {"first": ["cat " * first], "second": ["dog " * second], "label": [2]}
    row = assert_equal_to_transformers(tmp_path, tiny, PAIR, columns)
    assert len(row["input_ids"][0]) == min(16, first + second + 3)


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("task", [SINGLE, PAIR], ids=["single", "pair"])
def test_awkward_texts_are_tokenised_as_by_transformers(tmp_path, tiny, task, name):
    texts = [AWKWARD[name], "the dog ran"]
    columns = dict(zip(task.text_columns, (texts, texts[::-1]), strict=False)) | {"label": [1, 0]}
    assert_equal_to_transformers(tmp_path, tiny, task, columns)


@pytest.mark.parametrize(
    ("name", "columns", "label"),
    [
        ("cola", ["sentence"], "label"),
        ("mnli", ["premise", "hypothesis"], "label"),
        ("stsb", ["sentence1", "sentence2"], "label"),
    ],
)
def test_real_texts_are_tokenised_as_by_transformers(tmp_path, shared, name, columns, label):
    tokenizer = real_tokenizer(tmp_path, shared)
    table = pyarrow.parquet.read_table(shared / "glue" / name / "train-00000-of-00001.parquet").slice(0, 300)
    task = builders.task(text_columns=columns, labels=None if name == "stsb" else builders.NLI_LABELS)
    for max_seq_length in (24, 128, 512):
        folder = tmp_path / str(max_seq_length)
        assert_equal_to_transformers(folder, tokenizer, task, table.to_pydict(), max_seq_length)


def real_tokenizer(folder, shared):
    """Return the manifest of a real model of which only the tokenizer is staged."""
    from gluegrid.models.tokenizer import describe_tokenizer

    model = shared / "models" / "minilm-l6-h384"
    assert read_json(model / "tokenizer.json")["truncation"]["max_length"] == 128
    manifest = folder / "staged" / "manifest.json"
    manifest.parent.mkdir()
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (manifest.parent / file).write_bytes((model / file).read_bytes())
    content = {"source": "./x", "tokenizer": describe_tokenizer(manifest.parent)}
    manifest.write_text(json.dumps(content), encoding="utf-8")
    return manifest


def written_tokenizer(folder, tokenizer):
    """Return the manifest of a tokenizer made here."""
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer_backend.json"))
    described = {
        "file": "tokenizer_backend.json",
        "sha256": sha256(folder / "tokenizer_backend.json"),
        "max_length": None,
        "vocabulary": tokenizer.get_vocab_size(),
        "pad_token_id": 0,
        "token_type_ids": True,
    }
    (folder / "manifest.json").write_text(json.dumps({"source": "./made", "tokenizer": described}), encoding="utf-8")
    return folder / "manifest.json"


def pair_of(first, second):
    return Examples("train.parquet", 0, ["first", "second"], [[first], [second]], [0], [0])


@pytest.fixture(scope="module")
def kinds(tiny, tmp_path_factory):
    """Manifests of tokenizers that treat a text word by word, and as a whole."""
    whole = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="?"))
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=200, special_tokens=["[PAD]", "?"], show_progress=False)
    whole.train_from_iterator([builders.sentence(number) for number in range(50)], trainer)
    return {"words": tiny, "whole": written_tokenizer(tmp_path_factory.mktemp("whole"), whole)}


WORDS = st.sampled_from([*builders.WORDS, "trees", "中文", "[SEP]", "\U0001f408", "sings" * 9, "\x00", ".!."])
TEXTS = st.tuples(st.lists(WORDS, max_size=40), st.sampled_from([" ", "", "\n"])).map(
    lambda made: made[1].join(made[0])
)
PAIRS = st.one_of(
    st.tuples(TEXTS, TEXTS),
    TEXTS.map(lambda text: (text, text)),
    TEXTS.map(lambda text: (text + " cat", text)),
    TEXTS.map(lambda text: (text, text + " cat")),
)


@pytest.mark.parametrize("kind", ["words", "whole"])
@pytest.mark.parametrize("spare", [1, 6, 60])
@settings(max_examples=150, deadline=None)
@given(pair=PAIRS, max_length=st.integers(4, 20))
def test_a_pair_that_is_shortened_first_gives_the_same_tokens(kinds, kind, spare, pair, max_length):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "LONG", 1)
        patch.setattr(tokenization, "SPARE_TOKENS", spare)
        of_kind = Encoder(kinds[kind], max_length)
        (made,) = of_kind.encode(pair_of(*pair))
    whole = of_kind.tokenizer.encode(*pair)
    assert (made.ids, made.type_ids) == (whole.ids, whole.type_ids)


@pytest.mark.parametrize("kind", ["words", "whole"])
def test_long_pairs_are_shortened(kinds, kind):
    text = "the cat sat " * 400
    first, second = Encoder(kinds[kind], 16)._shortened_pair(text, text)
    assert text.startswith(first)
    assert len(first) < len(text) / 2
    assert len(second) < len(text) / 2


def test_a_text_whose_end_decides_its_beginning_is_not_shortened(tmp_path):
    looks_ahead = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "cat": 1, "dog": 2}, unk_token="?"))
    looks_ahead.normalizer = tokenizers.normalizers.Replace(tokenizers.Regex("cat(?=.*end)"), "dog")
    looks_ahead.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    of_kind = Encoder(written_tokenizer(tmp_path / "made", looks_ahead), 8)
    (made,) = of_kind.encode(pair_of("cat " * 300 + "end", "cat " * 300))
    assert made.ids == [2] * 4 + [1] * 4


@pytest.mark.parametrize(("first", "second"), [(5000, 5000), (5001, 5000), (5000, 1), (1, 5000), (600, 700)])
def test_a_pair_of_5000_words_each_is_shortened_before_it_is_truncated(tmp_path, shared, first, second):
    of_model = Encoder(real_tokenizer(tmp_path, shared), 128)
    texts = "unaffable cat " * (first // 2) + "dog", "a dog , " * (second // 3) + "cat"
    # Truncation takes a time that grows with the product of both lengths.
    assert max(map(len, of_model._shortened_pair(*texts))) < 5000
    (made,) = of_model.encode(pair_of(*texts))
    assert len(made.ids) == 128 if min(first, second) > 1 else len(made.ids) > 4


@pytest.mark.parametrize("max_seq_length", [32, 127])
def test_long_pairs_of_real_words_are_tokenised_as_by_transformers(tmp_path, shared, max_seq_length):
    texts = ["unaffable " * 150, "The cat, 猫, sat [SEP] down. " * 40, "cat " * 450, "cat " * 451, "x" * 3000]
    columns = {"first": texts * 5, "second": [text for text in texts for _ in texts], "label": [0] * 25}
    assert_equal_to_transformers(tmp_path, real_tokenizer(tmp_path, shared), PAIR, columns, max_seq_length)


def test_a_word_of_a_million_letters_is_one_unknown_token(tmp_path, shared):
    of_model = Encoder(real_tokenizer(tmp_path, shared), 128)
    assert of_model.encode(pair_of("x" * 1_000_000, "the cat"))[0].tokens[:3] == ["[CLS]", "[UNK]", "[SEP]"]


def test_special_tokens_that_stand_in_a_text_are_read_as_such(tmp_path, shared):
    columns = {"sentence": ["a [SEP] [MASK]b", "[CLS]", "[sep] [PAD]"], "label": [0, 1, 0]}
    made = assert_equal_to_transformers(tmp_path, real_tokenizer(tmp_path, shared), SINGLE, columns)
    assert made["input_ids"][0] == [101, 1037, 102, 103, 1038, 102]


def test_a_text_that_the_tokenizer_cannot_take_is_named(tmp_path):
    without_unknown = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[PAD]": 0, "cat": 1}, unk_token="[UNK]"))
    manifest = written_tokenizer(tmp_path / "staged", without_unknown)
    columns = {"sentence": ["cat", "cat", "dog", "cat"], "label": [0, 1, 0, 1]}
    data = builders.task_manifest(tmp_path, SINGLE, train=columns, validation=columns)
    with pytest.raises(DataError, match=r"train-.*\.parquet: the tokenizer fails on sentence in row 2: .*\[UNK\]"):
        tokens_of(tmp_path, manifest, data, SINGLE)


def test_truncation_and_padding_in_the_tokenizers_file_are_ignored(tmp_path):
    model = builders.write_model(tmp_path / "model")
    path = model / "tokenizer.json"
    padding = {"strategy": {"Fixed": 40}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    truncation = {"max_length": 5, "strategy": "OnlyFirst", "stride": 0, "direction": "Left"}
    baked = {"padding": padding | {"pad_to_multiple_of": None}, "truncation": truncation}
    path.write_text(json.dumps(read_json(path) | baked), encoding="utf-8")
    tokenizer = builders.stage_model(tmp_path / "staged", model)
    row = assert_equal_to_transformers(tmp_path, tokenizer, SINGLE, {"sentence": ["cat " * 9], "label": [0]})
    assert len(row["input_ids"][0]) == 11


def test_a_length_above_the_models_limit_is_cut_to_it(tmp_path, tiny):
    data = builders.task_manifest(tmp_path, SINGLE, train={"sentence": ["cat " * 500], "label": [0]})
    splits, manifest = tokens_of(tmp_path, tiny, data, SINGLE, max_seq_length=512)
    assert len(splits["train"]["input_ids"][0]) == 64
    assert manifest["made_from"]["truncated_to"] == 64
    assert manifest["splits"]["train"] == {"rows": 1, "tokens": 64, "longest": 64}


def test_the_positions_of_a_roberta_are_two_fewer_than_its_table_has(tmp_path):
    model = builders.write_model(tmp_path / "model", "roberta", pad_token_id=1, max_position_embeddings=34)
    assert read_json(builders.stage_model(tmp_path / "staged", model))["tokenizer"]["max_length"] == 32


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    model = builders.write_model(tmp_path / "model")
    for path in model.glob("*token*"):
        path.unlink()
    staged = builders.stage_model(tmp_path / "staged", model)
    data = builders.task_manifest(tmp_path, SINGLE)
    with pytest.raises(DataError, match="has no tokenizer; set `tokenizer:`"):
        tokens_of(tmp_path, staged, data, SINGLE)


def test_a_tokenizer_without_a_padding_token_is_refused(tmp_path, tiny):
    manifest = tmp_path / "staged" / "manifest.json"
    shutil.copytree(tiny.parent, manifest.parent)
    content = read_json(manifest)
    content["tokenizer"]["pad_token_id"] = None
    manifest.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="has a tokenizer without a padding token; set `tokenizer:`"):
        tokens_of(tmp_path, manifest, builders.task_manifest(tmp_path, SINGLE), SINGLE)


def test_a_split_in_two_files_is_read_in_their_order(tmp_path, tiny):
    builders.task_manifest(tmp_path, SINGLE)
    source = tmp_path / "parquet"
    for part, label in ((0, [0, 0]), (1, [1, 1, 1])):
        table = pyarrow.table({"sentence": ["cat"] * len(label), "label": label})
        pyarrow.parquet.write_table(table, source / f"train-0000{part}-of-00002.parquet")
    (source / "train-00000-of-00001.parquet").unlink()
    train = tokens_of(tmp_path, tiny, builders.stage_task(tmp_path / "again", source), SINGLE)[0]["train"]
    assert train["label"] == [0, 0, 1, 1, 1]
    assert train["idx"] == [0, 1, 2, 3, 4]


def test_small_batches_give_the_same_tokens(tmp_path, tiny, monkeypatch):
    columns = builders.rows(40, SINGLE) | {"sentence": ["cat"] * 20 + ["the cat sat " * 90] * 20}
    data = builders.task_manifest(tmp_path, SINGLE, train=columns)
    whole, _ = tokens_of(tmp_path / "whole", tiny, data, SINGLE)
    monkeypatch.setattr(parquet_files, "ROWS_AT_ONCE", 7)
    in_sevens, _ = tokens_of(tmp_path / "sevens", tiny, data, SINGLE)
    assert in_sevens == whole
    assert batches(tmp_path / "sevens") == [7, 7, 7, 7, 7, 5]
    monkeypatch.setattr(parquet_files, "BYTES_AT_ONCE", 200)
    in_bytes, _ = tokens_of(tmp_path / "bytes", tiny, data, SINGLE)
    assert in_bytes == whole
    assert max(batches(tmp_path / "bytes")) < 7


def batches(folder):
    with pyarrow.OSFile(str(folder / "tokens" / "train.arrow")) as source:
        return [batch.num_rows for batch in pyarrow.ipc.open_stream(source)]


def test_progress_says_how_far_and_how_long(tmp_path, tiny, monkeypatch, caplog):
    monkeypatch.setattr(parquet_files, "ROWS_AT_ONCE", 6)
    data = builders.task_manifest(tmp_path, SINGLE)
    with caplog.at_level(logging.INFO):
        tokens_of(tmp_path / "quick", tiny, data, SINGLE)
    assert "left" not in caplog.text
    monkeypatch.setattr(tokenization, "SECONDS_BETWEEN_LOG_LINES", 0)
    with caplog.at_level(logging.INFO):
        tokens_of(tmp_path / "slow", tiny, data, SINGLE)
    lines = [message for message in caplog.messages if "left" in message]
    assert [re.sub(r"\d+ s", "0 s", line) for line in lines[:3]] == [
        "train: 6 of 24 rows, 25 %, 0 s left",
        "train: 12 of 24 rows, 50 %, 0 s left",
        "train: 18 of 24 rows, 75 %, 0 s left",
    ]


def test_a_second_call_makes_nothing_again(tmp_path, tiny, caplog):
    data = builders.task_manifest(tmp_path, SINGLE)
    tokens_of(tmp_path, tiny, data, SINGLE)
    before = (tmp_path / "tokens" / "train.arrow").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        tokens_of(tmp_path, tiny, data, SINGLE)
    assert "already tokenized" in caplog.text
    assert (tmp_path / "tokens" / "train.arrow").stat().st_mtime_ns == before


def test_other_data_at_the_same_place_are_tokenised_again(tmp_path, tiny):
    data = builders.task_manifest(tmp_path, SINGLE)
    first, old = tokens_of(tmp_path, tiny, data, SINGLE)
    data = builders.task_manifest(tmp_path, SINGLE, train=builders.rows(7, SINGLE))
    second, new = tokens_of(tmp_path, tiny, data, SINGLE)
    assert (len(first["train"]["label"]), len(second["train"]["label"])) == (24, 7)
    assert old["made_from"]["data_sha256"] != new["made_from"]["data_sha256"]
    assert old["files"]["train.arrow"] != new["files"]["train.arrow"]


def test_the_same_tokens_under_another_name_are_used(tmp_path, tiny, caplog):
    data = builders.task_manifest(tmp_path, SINGLE)
    first, old = tokens_of(tmp_path, tiny, data, SINGLE)
    (tmp_path / "tokens").rename(tmp_path / "alias-128")
    with caplog.at_level(logging.INFO):
        second, new = tokens_of(tmp_path, tiny, data, SINGLE)
    assert f"using the same tokens from {tmp_path / 'alias-128'}" in caplog.messages
    assert (first, old) == (second, new)
    shutil.rmtree(tmp_path / "alias-128")
    check_files(tmp_path / "tokens/manifest.json")


@pytest.mark.parametrize("damage", ["other definition", "flipped", "no manifest", "no file", "no JSON"])
def test_tokens_under_another_name_that_are_others_or_broken_are_left(tmp_path, tiny, caplog, damage):
    data = builders.task_manifest(tmp_path, SINGLE)
    first, _ = tokens_of(tmp_path, tiny, data, SINGLE)
    other = tmp_path / "alias-128"
    (tmp_path / "tokens").rename(other)
    if damage == "flipped":
        (other / "train.arrow").write_bytes((other / "train.arrow").read_bytes()[::-1])
    elif damage == "no file":
        (other / "train.arrow").unlink()
    elif damage == "no manifest":
        (other / "manifest.json").unlink()
    elif damage == "no JSON":
        (other / "manifest.json").write_text('{"made_from": []')
    task = dataclasses.replace(SINGLE, labels=["c", "a", "b"]) if damage == "other definition" else SINGLE
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    with caplog.at_level(logging.INFO):
        second, new = tokens_of(tmp_path, tiny, data, task)
    assert not [line for line in caplog.messages if "the same tokens" in line]
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before
    assert new["made_from"]["labels"] == task.labels
    assert first["train"]["input_ids"] == second["train"]["input_ids"]


def test_tokens_whose_rows_an_earlier_release_has_misnumbered_are_made_anew(tmp_path, tiny, caplog):
    task = dataclasses.replace(SINGLE, text_columns=["idx"])
    columns = builders.rows(5, SINGLE) | {"idx": ["dog"] * 5}
    data = builders.task_manifest(tmp_path, task, train=columns, validation=columns)
    tokens_of(tmp_path, tiny, data, task)
    (tmp_path / "tokens").rename(tmp_path / "alias-128")
    with caplog.at_level(logging.INFO):
        splits, _ = tokens_of(tmp_path, tiny, data, task)
    assert not [line for line in caplog.messages if "the same tokens" in line]
    assert splits["train"]["idx"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("change", [{"labels": ["no", "yes", "maybe"]}, {"text_columns": ["other"]}])
def test_another_definition_is_tokenised_again(tmp_path, tiny, change):
    columns = builders.rows(5, SINGLE) | {"other": ["dog"] * 5}
    data = builders.task_manifest(tmp_path, SINGLE, train=columns, validation=columns)
    _, old = tokens_of(tmp_path, tiny, data, SINGLE)
    _, new = tokens_of(tmp_path, tiny, data, dataclasses.replace(SINGLE, **change))
    assert old["made_from"] != new["made_from"]


def test_no_cell_is_trained_on_tokens_whose_labels_were_taken_for_others(tmp_path, tiny):
    """As a release left them that did not look at the names in the data."""
    features = {"label": {"names": ["yes", "no"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table(builders.rows(8, SINGLE)).replace_schema_metadata(metadata)
    data = builders.task_manifest(tmp_path, SINGLE, train=table, validation=table)
    _, content = tokens_of(tmp_path, tiny, data, dataclasses.replace(SINGLE, labels=["yes", "no"]))
    manifest = tmp_path / "tokens" / "manifest.json"
    write_json(manifest, content | {"made_from": content["made_from"] | {"labels": SINGLE.labels}})
    with pytest.raises(
        DataError,
        match=r"its own metadata numbers its labels \[yes, no\] from 0, but the task's `labels` are \[no, yes\]",
    ):
        Tokens(builders.run(SINGLE, max_seq_length=16), manifest, tiny, data)
