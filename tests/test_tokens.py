import dataclasses
import json
import logging

import builders
import pyarrow
import pyarrow.parquet
import pytest

from gluegrid.errors import DataError
from gluegrid.files import read_json
from gluegrid.tokens import tokenize_task

SINGLE = builders.task()
PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
REGRESSION = builders.task(labels=None, metrics=["pearson"])
NO_TEXTS = pyarrow.array([], pyarrow.string())
AWKWARD = {
    "chinese": "猫坐在垫子上 the cat",
    "emoji": "the cat 🐈\u200d⬛ sat 👍🏽",
    "control": "the\x00cat\x07\tsat\u200b\ufeff\r\n on\x1fmat",
    "empty": "",
    "blank": " \n\t ",
    "long": "the cat sat . " * 1250,
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
    model = shared / "models" / "minilm-l6-h384"
    assert read_json(model / "tokenizer.json")["truncation"]["max_length"] == 128
    tokenizer = tmp_path / "staged" / "manifest.json"
    tokenizer.parent.mkdir()
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (tokenizer.parent / file).write_bytes((model / file).read_bytes())
    describe(tokenizer)
    table = pyarrow.parquet.read_table(shared / "glue" / name / "train-00000-of-00001.parquet").slice(0, 300)
    task = builders.task(text_columns=columns, labels=None if name == "stsb" else builders.NLI_LABELS)
    for max_seq_length in (24, 128, 512):
        folder = tmp_path / str(max_seq_length)
        assert_equal_to_transformers(folder, tokenizer, task, table.to_pydict(), max_seq_length)


def describe(manifest):
    """Write the manifest of a model's files that were put into their place by hand."""
    from gluegrid.model_tokenizer import describe_tokenizer

    tokenizer = describe_tokenizer(manifest.parent)
    manifest.write_text(json.dumps({"source": "./x", "tokenizer": tokenizer}), encoding="utf-8")


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


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (SINGLE, {"sentence": None}, r"has no column 'sentence'; it has: label, idx"),
        (SINGLE, {"label": None}, r"has no column 'label'; it has: sentence, idx"),
        (SINGLE, {"label": [0, 1, 2]}, r"column 'label' has 2 in row 2; allowed: 0 to 1"),
        (SINGLE, {"label": [0, -2, 1]}, r"column 'label' has -2 in row 1; allowed: 0 to 1"),
        (SINGLE, {"label": [0, None, 1]}, r"column 'label' has None in row 1; allowed: 0 to 1"),
        (SINGLE, {"label": [0, 0.5, 1]}, r"column 'label' holds double, which is no label"),
        (SINGLE, {"label": ["no", "yes", "no"]}, r"column 'label' holds string, which is no label"),
        (REGRESSION, {"label": [0.5, None, 1]}, r"column 'label' has None in row 1; allowed: a number"),
        (REGRESSION, {"label": [0.5, 1, float("nan")]}, r"column 'label' has nan in row 2; allowed: a number"),
        (SINGLE, {"sentence": ["a", None, "b"]}, r"column 'sentence' has no text in row 1"),
        (SINGLE, {"sentence": [1, 2, 3]}, r"column 'sentence' holds int64, not text"),
        (SINGLE, {"sentence": [["a"], [], ["b"]]}, r"column 'sentence' holds list<.*>, not text"),
        (SINGLE, {"sentence": NO_TEXTS, "label": [], "idx": []}, r"has no rows"),
    ],
)
def test_data_that_do_not_fit_their_task_are_refused_with_file_column_and_row(tmp_path, tiny, task, changes, message):
    columns = builders.rows(3, task) | changes
    columns = {name: values for name, values in columns.items() if values is not None}
    data = builders.task_manifest(tmp_path, task, validation=columns)
    with pytest.raises(DataError, match=r"validation-00000-of-00001\.parquet: " + message):
        tokens_of(tmp_path, tiny, data, task)
    assert not (tmp_path / "tokens" / "manifest.json").exists()


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path, tiny):
    data = builders.task_manifest(tmp_path, SINGLE)
    with pytest.raises(DataError, match="'tiny' has no split 'dev'; it has: train, validation"):
        tokens_of(tmp_path, tiny, data, dataclasses.replace(SINGLE, validation={"dev": ""}))


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, tiny, keep):
    data = builders.task_manifest(tmp_path, SINGLE)
    path = data.parent / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet: is no readable parquet file"):
        tokens_of(tmp_path, tiny, data, SINGLE)


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    model = builders.write_model(tmp_path / "model")
    for path in model.glob("*token*"):
        path.unlink()
    staged = builders.stage_model(tmp_path / "staged", model)
    data = builders.task_manifest(tmp_path, SINGLE)
    with pytest.raises(DataError, match="has no tokenizer; name another model's"):
        tokens_of(tmp_path, staged, data, SINGLE)


def test_hidden_labels_of_a_test_split_are_kept(tmp_path, tiny):
    task = dataclasses.replace(SINGLE, test=["test"])
    data = builders.task_manifest(tmp_path, task, test={"sentence": ["cat", "dog"], "label": [-1, -1]})
    assert tokens_of(tmp_path, tiny, data, task)[0]["test"]["label"] == [-1, -1]


@pytest.mark.parametrize(("idx", "expected"), [([7, 3, 5], [7, 3, 5]), (None, [0, 1, 2]), (["a", "b", "c"], [0, 1, 2])])
def test_idx_is_the_datas_own_where_it_has_numbers(tmp_path, tiny, idx, expected):
    columns = builders.rows(3, SINGLE) | {"idx": idx}
    if idx is None:
        del columns["idx"]
    data = builders.task_manifest(tmp_path, SINGLE, train=columns)
    assert tokens_of(tmp_path, tiny, data, SINGLE)[0]["train"]["idx"] == expected


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


def test_one_row_is_enough(tmp_path, tiny):
    row = assert_equal_to_transformers(tmp_path, tiny, SINGLE, {"sentence": ["the cat"], "label": [1]})
    assert len(row["input_ids"]) == 1


def test_a_second_call_makes_nothing_again(tmp_path, tiny, caplog):
    data = builders.task_manifest(tmp_path, SINGLE)
    tokens_of(tmp_path, tiny, data, SINGLE)
    before = (tmp_path / "tokens" / "train.arrow").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        tokens_of(tmp_path, tiny, data, SINGLE)
    assert "already tokenised" in caplog.text
    assert (tmp_path / "tokens" / "train.arrow").stat().st_mtime_ns == before


def test_other_data_at_the_same_place_are_tokenised_again(tmp_path, tiny):
    data = builders.task_manifest(tmp_path, SINGLE)
    first, old = tokens_of(tmp_path, tiny, data, SINGLE)
    data = builders.task_manifest(tmp_path, SINGLE, train=builders.rows(7, SINGLE))
    second, new = tokens_of(tmp_path, tiny, data, SINGLE)
    assert (len(first["train"]["label"]), len(second["train"]["label"])) == (24, 7)
    assert old["made_from"]["data_sha256"] != new["made_from"]["data_sha256"]
    assert old["files"]["train.arrow"] != new["files"]["train.arrow"]


@pytest.mark.parametrize("change", [{"labels": ["no", "yes", "maybe"]}, {"text_columns": ["other"]}])
def test_another_definition_is_tokenised_again(tmp_path, tiny, change):
    columns = builders.rows(5, SINGLE) | {"other": ["dog"] * 5}
    data = builders.task_manifest(tmp_path, SINGLE, train=columns, validation=columns)
    _, old = tokens_of(tmp_path, tiny, data, SINGLE)
    _, new = tokens_of(tmp_path, tiny, data, dataclasses.replace(SINGLE, **change))
    assert old["made_from"] != new["made_from"]
