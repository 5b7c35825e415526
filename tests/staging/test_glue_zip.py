"""GLUE's own zip, with the headers of its files and what is odd about their rows, read as the registry's tasks."""

import logging
from pathlib import Path

import pyarrow.parquet
import pytest

from gluegrid.experiment.config import TASK_DEFAULTS, load_registry
from gluegrid.experiment.folder_layouts import keys_of_layout
from gluegrid.experiment.sources import files_below
from gluegrid.experiment.task import Task, definition
from gluegrid.experiment.task_files import depth_of, files_of_splits
from gluegrid.staging.convert import convert

PAIRS = ["index", "sentence1", "sentence2"]
OF_STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
OF_MNLI = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
OF_MNLI += ["sentence1_parse", "sentence2_parse", "sentence1", "sentence2"]
OF_MRPC = ["#1 ID", "#2 ID", "#1 String", "#2 String"]
LOOSE = ['"a', 'b" c', 'the 5" plot', '""', "'d", "größer"]  # of which each stands in a row of its own
# Folder, columns of train, dev and test, columns of text, and of labels: as they stand there, with their number here.
ZIP = {
    "sst2": ("SST-2", ["sentence", "label"], None, ["index", "sentence"], ["sentence"], {"0": 0, "1": 1}),
    "mrpc": (
        *("MRPC", ["Quality", *OF_MRPC], None, ["index", *OF_MRPC]),
        *(["#1 String", "#2 String"], {"1": 1, "0": 0}),
    ),
    "stsb": ("STS-B", [*OF_STSB, "score"], None, OF_STSB, ["sentence1", "sentence2"], {"5.000": 5.0, "3.25": 3.25}),
    "qqp": (
        *("QQP", ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], None),
        *(["id", "question1", "question2"], ["question1", "question2"], {"0": 0, "1": 1}),
    ),
    "mnli": (
        *("MNLI", [*OF_MNLI, "label1", "gold_label"], [*OF_MNLI, "label1", "label2", "gold_label"], OF_MNLI),
        *(["sentence1", "sentence2"], {"contradiction": 2, "entailment": 0, "neutral": 1}),
    ),
    "qnli": (
        *("QNLI", ["index", "question", "sentence", "label"], None, ["index", "question", "sentence"]),
        *(["question", "sentence"], {"not_entailment": 1, "entailment": 0}),
    ),
    "rte": ("RTE", [*PAIRS, "label"], None, PAIRS, ["sentence1", "sentence2"], {"not_entailment": 1, "entailment": 0}),
    "wnli": ("WNLI", [*PAIRS, "label"], None, PAIRS, ["sentence1", "sentence2"], {"1": 1, "0": 0}),
}


def rows_of(columns: list[str], texts: list[str], labels: list[str]) -> list[list[str]]:
    """Return a row for each loose text: it in the columns of text, a label in the last or the first of the others."""
    label = columns.index("Quality") if "Quality" in columns else len(columns) - 1
    rows = [[text if name in texts else str(number) for name in columns] for number, text in enumerate(LOOSE)]
    for number, row in enumerate(rows):
        if columns[label] not in texts:
            row[label] = labels[number % len(labels)]
    return rows


def write(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8", newline="")


def converted(task: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, dict]:
    """Read the task as the registry names it from the folder; return the columns of each split."""
    monkeypatch.chdir(folder)
    entry = TASK_DEFAULTS | load_registry()[task] | {"source": "./zip", "revision": "1"}
    entry |= keys_of_layout(entry)
    of_task = Task(name=task, **definition(entry))
    convert(Path("zip"), of_task, files_of_splits(files_below(Path("zip"), depth_of(entry)), entry))
    made = {
        path.name.partition("-00000")[0]: pyarrow.parquet.read_table(path) for path in Path("zip").glob("*.parquet")
    }
    return {
        split: {
            "idx": table["idx"].to_pylist(),
            "texts": [table[name].to_pylist() for name in of_task.text_columns],
            "labels": table[of_task.label_column].to_pylist(),
        }
        for split, table in made.items()
    }


@pytest.mark.parametrize("task", ZIP)
def test_each_task_is_read_as_it_stands(tmp_path, monkeypatch, task):
    folder, of_train, of_dev, of_test, texts, labels = ZIP[task]
    dev, test = ("dev_matched", "test_mismatched") if task == "mnli" else ("dev", "test")
    names = ["train", "dev", "test"] if task != "mnli" else ["train"]
    names += [f"{kind}_{genre}" for kind in ("dev", "test") for genre in ("matched", "mismatched") if task == "mnli"]
    for name in names:
        columns = of_train if name == "train" else of_test if name.startswith("test") else (of_dev or of_train)
        write(tmp_path / "zip" / folder / f"{name}.tsv", [columns, *rows_of(columns, texts, list(labels))])
    columns = converted(task, monkeypatch, tmp_path)
    assert columns.keys() == {name.replace("dev", "validation") for name in names}
    numbers = [*labels.values()]
    of_labels = [numbers[row % len(numbers)] for row in range(len(LOOSE))]
    expected = {"idx": [*range(len(LOOSE))], "texts": [LOOSE] * len(texts), "labels": of_labels}
    assert columns["train"] == columns[dev.replace("dev", "validation")] == expected
    assert columns[test] == expected | {"labels": [-1] * len(LOOSE)}


def test_cola_has_no_header_but_in_its_test_split(tmp_path, monkeypatch):
    rows = [["gj04", str(number % 2), "*", text] for number, text in enumerate(LOOSE)]
    for name in ("train", "dev"):
        write(tmp_path / "zip/CoLA" / f"{name}.tsv", rows)
    write(
        tmp_path / "zip/CoLA/test.tsv", [["index", "sentence"], *([str(row), text] for row, text in enumerate(LOOSE))]
    )
    columns = converted("cola", monkeypatch, tmp_path)
    assert (
        columns["train"]
        == columns["validation"]
        == {
            "idx": [*range(6)],
            "texts": [LOOSE],
            "labels": [0, 1] * 3,
        }
    )
    assert columns["test"] == {"idx": [*range(6)], "texts": [LOOSE], "labels": [-1] * 6}


def test_the_diagnostic_set_is_read(tmp_path, monkeypatch):
    write(tmp_path / "zip/diagnostic/diagnostic.tsv", [PAIRS, ["0", "a", '"b'], ["1", "c", "d"]])
    assert converted("ax", monkeypatch, tmp_path) == {
        "test": {"idx": [0, 1], "texts": [["a", "c"], ['"b', "d"]], "labels": [-1, -1]}
    }


def test_broken_lines_of_qqp_are_left_out_and_counted_as_by_the_readers_of_glue(tmp_path, monkeypatch, caplog):
    columns = ZIP["qqp"][1]
    rows = [
        columns,
        ["0", "1", "2", "a", "b", "0"],
        [
            "3",
            "4",
            "5",
            "a text of",
        ],
        ["two lines?", "c", "1"],
    ]
    rows += [["6", "7", "8", "d", "e", "1"], ["9", "10", "11", "f\tg", "h", "0"]]
    for name in ("train", "dev"):
        write(tmp_path / "zip/QQP" / f"{name}.tsv", rows)
    with caplog.at_level(logging.WARNING):
        made = converted("qqp", monkeypatch, tmp_path)
    assert made["train"] == {"idx": [0, 1], "texts": [["a", "d"], ["b", "e"]], "labels": [0, 1]}
    assert caplog.messages == [
        f"zip/QQP/{name}.tsv: skipped 3 rows whose number of columns differs from the header's: line 3, 4, 6"
        for name in ("train", "dev")
    ]
