"""Folders as data sets commonly come in: their files are found, none is guessed, and what lacks is one line."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from gluegrid.common.errors import StagingError
from gluegrid.experiment import sources
from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.folder_layouts import keys_of_layout
from gluegrid.experiment.sources import files_below

OWN = TASK_DEFAULTS | {"source": "./data", "text_columns": ["text"], "labels": ["neg", "pos"]}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*names: str, folder: str = "data") -> None:
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def save_to_disk(folder: str, shards: Iterable[str]) -> None:
    """Write what `datasets` writes beside the shards of a split."""
    touch(*shards, folder=folder)
    state = {"_data_files": [{"filename": name} for name in shards], "_fingerprint": "0"}
    Path(folder, "state.json").write_text(json.dumps(state))
    Path(folder, "dataset_info.json").write_text("{}")


def save_dict_to_disk(folder: str, splits: dict[str, list[str]]) -> None:
    for split, shards in splits.items():
        save_to_disk(f"{folder}/{split}", shards)
    Path(folder, "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


SHARDS = [f"data-{number:05}-of-00011.arrow" for number in range(11)]
ONE = ["data-00000-of-00001.arrow"]


def test_the_shards_of_a_saved_data_set_are_read_in_the_order_of_its_state():
    backwards = SHARDS[::-1]
    save_dict_to_disk("data", {"train": backwards, "validation": ONE, "unsupervised": ONE})
    assert keys_of_layout(OWN) == {
        "files": {"train": [f"train/{name}" for name in backwards], "validation": [f"validation/{ONE[0]}"]}
    }


def test_splits_of_a_saved_data_set_are_those_that_the_task_names():
    save_dict_to_disk("data", {"train": ONE, "dev": ONE, "test": ONE})
    assert [*keys_of_layout(OWN | {"validation": {"dev": ""}})["files"]] == ["train", "dev", "test"]
    assert [*keys_of_layout(OWN | {"cut_from_train": {"validation": 0.1}})["files"]] == ["train", "test"]
    with pytest.raises(StagingError, match=r"^it has no split 'validation'; it has: dev, test, train; use these under"):
        keys_of_layout(OWN)


def test_a_single_saved_split_is_that_of_training():
    save_to_disk("data", ONE)
    assert keys_of_layout(OWN | {"cut_from_train": {"validation": 0.1}}) == {"files": {"train": ONE}}
    assert keys_of_layout(OWN | {"train": None, "validation": {}, "test": []}) == {"files": {}}


def test_a_saved_data_set_in_a_folder_of_its_source_is_found():
    save_dict_to_disk("data/saved", {"train": ONE, "validation": ONE})
    assert keys_of_layout(OWN | {"folder": "saved"})["files"]["train"] == [f"train/{ONE[0]}"]


BROKEN = {
    "a shard": (
        "data/train/data-00001-of-00011.arrow",
        None,
        r"data/train/data-00001-of-00011\.arrow: is missing, but",
    ),
    "the state": ("data/train/state.json", None, "data/train/state.json: cannot be read: No such file"),
    "half a state": ("data/train/state.json", "{", "data/train/state.json: cannot be read as JSON: "),
    "another state": (
        "data/train/state.json",
        '{"_data_files": 3}',
        "state.json: lacks the list '_data_files' that save_to",
    ),
    "no files": (
        "data/train/state.json",
        '{"_data_files": []}',
        "state.json: lacks the list '_data_files' that save_to",
    ),
    "rows in another order": (
        "data/train/state.json",
        json.dumps({"_data_files": [{"filename": ONE[0]}], "_indices_data_files": [{"filename": "indices.arrow"}]}),
        "data/train: was saved as a selection of rows by an old release of `datasets`, which is not supported; load",
    ),
    "splits": ("data/dataset_dict.json", "[]", "data/dataset_dict.json: does not contain a JSON object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_lacks_of_a_saved_data_set_is_one_line(case):
    name, content, expected = BROKEN[case]
    save_dict_to_disk("data", {"train": SHARDS, "validation": ONE})
    if content is None:
        Path(name).unlink()
    else:
        Path(name).write_text(content)
    with pytest.raises(StagingError, match=expected) as caught:
        keys_of_layout(OWN)
    assert "\n" not in str(caught.value)


def entry_of(task: str, **changes: object) -> dict:
    return TASK_DEFAULTS | load_registry()[task] | {"source": "./data"} | changes


GLUE = {
    "cola": ("CoLA", ["sentence"], "label"),
    "sst2": ("SST-2", ["sentence"], "label"),
    "mrpc": ("MRPC", ["#1 String", "#2 String"], "Quality"),
    "stsb": ("STS-B", ["sentence1", "sentence2"], "score"),
    "qqp": ("QQP", ["question1", "question2"], "is_duplicate"),
    "qnli": ("QNLI", ["question", "sentence"], "label"),
    "rte": ("RTE", ["sentence1", "sentence2"], "label"),
    "wnli": ("WNLI", ["sentence1", "sentence2"], "label"),
}


@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parametrize("place", ["", "glue_data/", "itself"])
def test_the_zip_of_glue_is_known(task, place):
    folder, texts, label = GLUE[task]
    prefix = "" if place == "itself" else f"{place}{folder}/"
    source = f"data/{folder}" if place == "itself" else "data"
    touch(*(f"{prefix}{name}.tsv" for name in ("train", "dev", "test")), folder=source)
    keys = keys_of_layout(entry_of(task, source=f"./{source}"))
    assert keys.pop("columns", None) == (["source", "label", "mark", "sentence"] if task == "cola" else None)
    assert keys == {
        "folder": None,
        "files": {
            "train": [f"{prefix}train.tsv"],
            "validation": [f"{prefix}dev.tsv"],
            "test": [f"{prefix}test.tsv"],
        },
        "text_columns": texts,
        "label_column": label,
        "quoting": "none",
        "uneven_rows": "skip",
    }


def test_the_zip_of_glue_has_two_validation_splits_of_mnli():
    kinds = ("dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
    touch("MNLI/train.tsv", *(f"MNLI/{kind}.tsv" for kind in kinds))
    keys = keys_of_layout(entry_of("mnli"))
    assert keys["files"] == {
        "train": ["MNLI/train.tsv"],
        "validation_matched": ["MNLI/dev_matched.tsv"],
        "validation_mismatched": ["MNLI/dev_mismatched.tsv"],
        "test_matched": ["MNLI/test_matched.tsv"],
        "test_mismatched": ["MNLI/test_mismatched.tsv"],
    }
    assert (keys["text_columns"], keys["label_column"]) == (["sentence1", "sentence2"], "gold_label")


@pytest.mark.parametrize("name", ["diagnostic/diagnostic.tsv", "AX/AX.tsv", "AX/test.tsv"])
def test_the_zip_of_glue_has_the_diagnostic_set(name):
    touch(name)
    keys = keys_of_layout(entry_of("ax"))
    assert (keys["files"], keys["text_columns"]) == ({"test": [name]}, ["sentence1", "sentence2"])


def test_columns_that_were_named_otherwise_than_in_the_registry_are_kept():
    touch("MRPC/train.tsv", "MRPC/dev.tsv")
    assert keys_of_layout(entry_of("mrpc", text_columns=["#2 String"]))["text_columns"] == ["#2 String"]


def test_what_the_zip_of_glue_lacks_is_one_line():
    touch("RTE/train.tsv", "RTE/test.tsv", "MRPC/msr_paraphrase_train.txt")
    with pytest.raises(StagingError, match=r"^it has no split 'validation'; it has: test, train; "):
        keys_of_layout(entry_of("rte"))
    with pytest.raises(StagingError, match=r"^MRPC/msr_paraphrase_train.txt: is Microsoft's MRPC"):
        keys_of_layout(entry_of("mrpc"))


def test_files_named_as_on_the_hub_win_over_those_of_the_zip():
    touch("rte/train-00000-of-00001.parquet", "RTE/train.tsv", "RTE/dev.tsv")
    assert keys_of_layout(entry_of("rte")) == {}


def test_the_hubs_conversion_is_known():
    touch(*(f"default/train/{number:04}.parquet" for number in range(2)), "default/validation/0000.parquet")
    keys = {
        "folder": "default",
        "files": {"train": ["train/0000.parquet", "train/0001.parquet"], "validation": ["validation/0000.parquet"]},
    }
    assert keys_of_layout(OWN) == keys
    touch("other/train/0000.parquet", "other/validation/0000.parquet")
    with pytest.raises(
        StagingError, match=r"^it has several configurations; name one of them under `folder`: default, o"
    ):
        keys_of_layout(OWN)
    assert keys_of_layout(OWN | {"folder": "default"}) == keys


@pytest.mark.parametrize(
    "changes", [{"files": {"train": ["a.csv"]}}, {"source": "org/data"}, {"source": "./nowhere"}, {"source": "./a.csv"}]
)
def test_nothing_is_looked_for_elsewhere(changes):
    save_dict_to_disk("data", {"train": ONE, "validation": ONE})
    assert keys_of_layout(OWN | changes) == {}


def test_a_folder_is_looked_at_as_deep_as_asked_for_but_for_hidden_folders_and_circles():
    touch("a.csv", "b/c.csv", "b/c/d.csv", ".git/x.csv", "b/.cache/x.csv", ".hidden.csv")
    Path("data/b/c/again").symlink_to(Path("data").resolve())
    Path("data/gone").symlink_to("nowhere")
    Path("data/itself").symlink_to("itself")
    no_files = ["gone", "itself"]  # which whoever wants them names
    assert files_below(Path("data"), 0) == [".hidden.csv", "a.csv", *no_files]
    assert files_below(Path("data")) == [".hidden.csv", "a.csv", "b/c.csv", *no_files]
    assert files_below(Path("data"), 8) == [".hidden.csv", "a.csv", "b/c.csv", "b/c/d.csv", *no_files]


def test_a_folder_with_more_than_any_data_set_is_one_line(monkeypatch):
    monkeypatch.setattr(sources, "MOST_ENTRIES", 5)
    touch(*(f"{number}/it.csv" for number in range(3)))
    with pytest.raises(
        StagingError, match=r"^it contains more than 5 files and folders, too many to search; name the folder"
    ):
        files_below(Path("data"))
    assert keys_of_layout(OWN) == {}
