"""Names that data have for the numbers of their labels are gone by, or said where they contradict the task's labels."""

import json
import logging
from pathlib import Path

import builders
import pyarrow
import pyarrow.parquet
import pytest

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json
from gluegrid.staging.convert import convert
from gluegrid.staging.examples import Split, check_label_names
from gluegrid.staging.label_names import LabelNames, names_in_cards

LABELS = ["no", "yes"]
THREE = ["no", "maybe", "yes"]


def named(names: list[str], labels: list, column: str = "label", **kinds) -> pyarrow.Table:
    """Return a table as `datasets` writes it, whose metadata name the numbers of a column."""
    feature = {"names": names, "_type": "ClassLabel"} | kinds
    metadata = {"huggingface": json.dumps({"info": {"features": {column: feature}}})}
    rows = {"sentence": [f"sentence {row}" for row in range(len(labels))], column: labels}
    return pyarrow.table(rows).replace_schema_metadata(metadata)


def staged(folder: Path, tables: dict[str, pyarrow.Table], **of_manifest) -> Path:
    """Stage splits as they are named on the hub; return their manifest, as this release writes it."""
    for split, table in tables.items():
        builders.write_split(folder / "data", split, table)
    manifest = builders.stage_task(folder / "task", folder / "data")
    write_json(manifest, read_json(manifest) | {"label_names": {}} | of_manifest)
    return manifest


def labels_in(manifest: Path, task, split: str = "train") -> list[int]:
    """Read all splits of staged data, as tokenising does; return the labels of one."""
    splits = {name: Split(manifest, read_json(manifest), task, name) for name in task.splits}
    for each in splits.values():
        each.check()
    return [label for examples in splits[split] for label in examples.labels]


# Parquet files named as on the hub are used as they are


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (LABELS, LABELS),
        (["No", "YES"], LABELS),
        (["no", "yes", "maybe"], LABELS),
        (LABELS, ["no", "yes", "maybe"]),
        (["0", "1"], LABELS),
        (["LABEL_0", "label_1"], LABELS),
        (LABELS, ["0", "1"]),
        (["neg", "pos"], ["Negative", "Positive"]),
        (["1 star", "2 stars"], ["1", "2"]),
        # Where only capitals tell names apart, they count.
        (["a", "A"], ["a", "A"]),
    ],
)
def test_numbers_are_classes_where_the_datas_names_say_nothing_else(tmp_path, names, labels):
    table = named(names, [0, 1, 1])
    manifest = staged(tmp_path, {"train": table, "validation": table})
    assert labels_in(manifest, builders.task(labels=labels)) == [0, 1, 1]


CONTRADICTING = [
    (["yes", "no"], LABELS),
    (["YES", "NO"], LABELS),
    (["no", "maybe", "yes"], LABELS),
    (LABELS, THREE),
    (["yes", "other"], LABELS),
    (["a", "A"], ["A", "a"]),
    (["1", "0"], ["0", "1"]),
    (["pos", "neg"], ["negative", "positive"]),
    (["no_answer", "yes"], ["no", "other"]),
    (["n", "nn"], ["nnn", "n"]),
    # Of these nobody can know which is which.
    (["negative", "positive"], LABELS),
    (["no", "yep"], LABELS),
    (["no", "sure"], ["not_sure", "no_way"]),
    (["1", "2"], LABELS),
]


@pytest.mark.parametrize(("names", "labels"), CONTRADICTING)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_names_that_contradict_the_labels_end_tokenising_with_both(tmp_path, names, labels, split):
    fitting = named(labels, [0, 1])
    manifest = staged(tmp_path, {"train": fitting, "validation": fitting, split: named(names, [0, 1])})
    with pytest.raises(DataError) as caught:
        labels_in(manifest, builders.task(labels=labels))
    said = f"its own metadata numbers its labels [{', '.join(names)}] from 0, but the task's `labels` are"
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path}/data/{split}-00000-of-00001.parquet: column 'label' has 0 in row 0: {said} [{', '.join(labels)}]"
    )
    assert f"; write `labels: [{', '.join(names)}]`" in message


def test_texts_and_hidden_labels_have_no_order_that_could_be_another(tmp_path):
    task = builders.task(test=["test"])
    by_card = {f"{split}-00000-of-00001.parquet": {"label": ["yes", "no"]} for split in ("train", "validation")}
    texts = pyarrow.table({"sentence": ["a", "b"], "label": ["yes", "no"]})
    hidden = named(["yes", "no"], [-1, -1])
    manifest = staged(tmp_path, {"train": texts, "validation": texts, "test": hidden}, label_names=by_card)
    assert labels_in(manifest, task) == [1, 0]
    assert labels_in(manifest, task, "test") == [-1, -1]


def test_a_regression_has_numbers_whatever_they_are_called(tmp_path):
    table = named(["1 star", "2 stars"], [0, 1])
    manifest = staged(tmp_path, {"train": table, "validation": table})
    task = builders.task(labels=None, metrics=["pearson"])
    assert labels_in(manifest, task) == [0, 1]


def test_a_cards_names_count_as_the_files_own_and_both_must_agree(tmp_path):
    plain = pyarrow.table({"sentence": ["a", "b"], "label": [0, 1]})
    by_card = {"train-00000-of-00001.parquet": {"label": ["yes", "no"]}}
    manifest = staged(tmp_path, {"train": plain, "validation": plain}, label_names=by_card)
    with pytest.raises(DataError, match=r"0: the dataset's card \(as it was when .*/task was staged\) numbers its l"):
        labels_in(manifest, builders.task())
    assert labels_in(manifest, builders.task(labels=["yes", "no"])) == [0, 1]
    manifest = staged(tmp_path, {"train": named(LABELS, [0, 1]), "validation": plain}, label_names=by_card)
    with pytest.raises(
        DataError, match=r"own metadata .* \[no, yes\] from 0, but the dataset's card .* \[yes, no\]; corr"
    ):
        labels_in(manifest, builders.task())


@pytest.mark.parametrize(
    "written",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"info": 5}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": ["ClassLabel"]}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": null}}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["yes", 5]}}}}',
        b'{"info": {"features": {"label": {"_type": "Value", "dtype": "int64"}}}}',
    ],
)
def test_metadata_that_name_nothing_are_no_names(tmp_path, written):
    table = pyarrow.table({"sentence": ["a", "b"], "label": [0, 1]}).replace_schema_metadata({"huggingface": written})
    manifest = staged(tmp_path, {"train": table, "validation": table})
    assert labels_in(manifest, builders.task()) == [0, 1]


@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli", "ax"])
def test_the_datas_names_of_glue_are_those_of_the_registry(shared, name):
    from gluegrid.experiment.config import load_registry
    from gluegrid.staging.parquet_files import label_names

    for path in (shared / "glue" / name).glob("*.parquet"):
        assert label_names(path)["label"] == load_registry()[name]["labels"]


# What an earlier release has staged without looking at names


def staged_earlier(folder: Path, names: list[str]) -> Path:
    """Stage data that have these names as an earlier release did; return their manifest."""
    table = named(names, [0, 1])
    manifest = staged(folder, {"train": table, "validation": table})
    write_json(manifest, {key: value for key, value in read_json(manifest).items() if key != "label_names"})
    return manifest


def test_an_order_that_is_another_is_refused_whoever_staged_the_data(tmp_path):
    manifest = staged_earlier(tmp_path, ["yes", "no"])
    with pytest.raises(
        DataError, match=r"train-.*: its own metadata numbers its labels \[yes, no\] from 0, but the .* are \[no, yes\]"
    ):
        check_label_names(manifest, read_json(manifest), builders.task())
    with pytest.raises(DataError, match=r"\[yes, no\] from 0, but the task's `labels` are \[no, yes\]"):
        labels_in(manifest, builders.task())


def test_data_that_call_their_classes_otherwise_go_on_being_read_by_their_numbers(tmp_path):
    manifest = staged_earlier(tmp_path, ["negative", "positive"])
    assert check_label_names(manifest, read_json(manifest), builders.task()) is None
    assert labels_in(manifest, builders.task()) == [0, 1]


# Named files are read by the names


def converted(folder: Path, labels: list[str], **files: pyarrow.Table | bytes) -> dict[str, list[int]]:
    """Convert the file of each split, such as train_csv; return their labels."""
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pyarrow.parquet.write_table(content, path)
    of_splits = {name.partition("_")[0]: [name.replace("_", ".")] for name in files}
    task = builders.task(labels=labels, files=of_splits, validation=dict.fromkeys(set(of_splits) - {"train"}, ""))
    convert(folder, task, of_splits)
    return {
        split: pyarrow.parquet.read_table(folder / f"{split}-00000-of-00001.parquet")["label"].to_pylist()
        for split in of_splits
    }


def test_each_file_is_read_by_its_own_names(tmp_path):
    files = {"train_parquet": named(["yes", "no"], [0, 0, 1]), "validation_parquet": named(["No", "Yes"], [0, 1, 1])}
    assert converted(tmp_path, LABELS, **files) == {"train": [1, 1, 0], "validation": [0, 1, 1]}


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["yes", "no"], THREE, [2, 0]),
        (["pos", "neg"], ["negative", "positive"], [1, 0]),
        (["yes", "no", "never seen"], LABELS, [1, 0]),
        (["0", "1"], LABELS, [0, 1]),
        (LABELS, ["0", "1"], [0, 1]),
        # Stars, of which the number 0 is the first.
        (["1", "2", "3"], ["1", "2", "3"], [0, 1]),
        (["-1", "0", "1"], ["1", "0", "-1"], [2, 1]),
    ],
)
def test_numbers_are_the_classes_of_their_names(tmp_path, names, labels, expected):
    assert converted(tmp_path, labels, train_parquet=named(names, [0, 1])) == {"train": expected}


def test_a_number_whose_name_no_label_has_is_refused_with_both(tmp_path):
    with pytest.raises(DataError) as caught:
        converted(tmp_path, LABELS, train_parquet=named(["yes", "no", "maybe"], [0, 2]))
    assert str(caught.value) == (
        "tiny/train.parquet: column 'label' has 2 in row 1: its own metadata numbers its labels"
        " [yes, no, maybe] from 0, but the task's `labels` are [no, yes]; write `labels: [yes, no, maybe]`"
    )


HEAD = """---
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names:
{}---

# Mine
"""
ROWS = b"sentence,label\na,0\nb,1\nc,yes\n"


def test_a_csv_is_read_by_the_names_of_the_card(tmp_path):
    (tmp_path / "README.md").write_text(HEAD.format("          0: yes\n          1: no\n"))
    assert converted(tmp_path, LABELS, train_csv=ROWS) == {"train": [1, 0, 1]}


def test_a_card_that_calls_classes_otherwise_does_not_matter_to_names(tmp_path):
    (tmp_path / "README.md").write_text(HEAD.format("          '0': negative\n          '1': positive\n"))
    assert converted(tmp_path, LABELS, train_csv=b"sentence,label\na,yes\nb,no\n") == {"train": [1, 0]}
    with pytest.raises(
        DataError, match=r"'0' in row 0 \(line 2\): the dataset's card numbers .* \[negative, positive\]"
    ):
        converted(tmp_path, LABELS, train_csv=ROWS)


# Cards

OF_GLUE = """---
configs:
- config_name: cola
  data_files:
  - split: train
    path: cola/train-*
- config_name: swapped
  data_files: [{split: train, path: [other/*.csv, more/a.csv]}]
- config_name: deep
  data_dir: deep
dataset_info:
- config_name: cola
  features:
  - {name: label, dtype: {class_label: {names: {'0': bad, '1': good}}}}
  - {name: sentence, dtype: string}
- config_name: swapped
  features:
  - {name: label, dtype: {class_label: {names: [good, bad]}}}
- config_name: deep
  features:
  - {name: label, dtype: {class_label: {names: {'0': x, '1': y}}}}
---
"""


@pytest.mark.parametrize(
    ("file", "configuration", "names"),
    [
        ("cola/train-00000-of-00001.parquet", "", ["bad", "good"]),
        ("other/x.csv", "cola", ["good", "bad"]),
        ("more/a.csv", "", ["good", "bad"]),
        ("deep/er/a.csv", "", ["x", "y"]),
        ("more/b.csv", "cola", ["bad", "good"]),
        ("swapped/b.csv", "", ["good", "bad"]),
        ("b.csv", "", None),  # the configurations do not agree, and it is of none
    ],
)
def test_a_card_of_many_configurations_is_asked_for_that_of_the_file(tmp_path, file, configuration, names):
    (tmp_path / "README.md").write_text(OF_GLUE)
    found = names_in_cards(tmp_path, [file], configuration)
    assert found == ({file: {"label": names}} if names else {})


def test_names_may_stand_in_the_older_file(tmp_path):
    features = {"label": {"num_classes": 2, "names": ["bad", "good"], "_type": "ClassLabel"}}
    (tmp_path / "dataset_infos.json").write_text(json.dumps({"default": {"features": features}}))
    assert names_in_cards(tmp_path, ["a.csv"]) == {"a.csv": {"label": ["bad", "good"]}}


@pytest.mark.parametrize(
    ("card", "is_said"),
    [
        ("", False),
        ("# Mine\n", False),
        ("---\nlicense: mit\n---\n", False),
        ("---\nnever ended\n", False),
        ("---\n- a\n---\n", False),
        (HEAD.format("          - yes\n          -\n            - no\n"), False),
        (HEAD.format("          1: no\n          2: yes\n"), False),
        ("---\nconfigs: 5\ndataset_info: [5, {features: 5}, {features: [5, {name: label, dtype: [5]}]}]\n---\n", False),
        ("---\nconfigs: [{data_files: [[5], {path: {path: 5}}]}]\n---\n", False),
        ("---\na: [\n---\n", True),
        (f"---\na: {'[' * 40}\n---\n", True),
        (f"---\na: {'x' * 1_000_001}\n---\n", True),
        ("---\na: &a [*a]\n---\n", True),
    ],
)
def test_a_card_without_names_has_none_and_one_that_cannot_be_read_is_said(tmp_path, caplog, card, is_said):
    (tmp_path / "README.md").write_text(card)
    with caplog.at_level(logging.WARNING):
        assert names_in_cards(tmp_path, ["a.csv"]) == {}
    assert [record.getMessage()[:51] for record in caplog.records] == (
        ["README.md: its names of labels, if any, are ignored"] if is_said else []
    )


def test_an_older_file_that_cannot_be_read_is_said(tmp_path, caplog):
    (tmp_path / "dataset_infos.json").write_text("[")
    assert names_in_cards(tmp_path, ["a.csv"]) == {}
    assert "names of labels, if any, are ignored: dataset_infos.json: cannot be read as JSON" in caplog.text


def test_long_lists_of_names_keep_the_message_short():
    names = LabelNames([f"class number {number}" for number in reversed(range(1000))], "it")
    assert len(names.difference([f"class number {number}" for number in range(1000)])) < 500
