"""Local data, looked at before anything runs: what of the experiment file does not suit them, and their sizes."""

import gzip
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import builders
import pyarrow
import pyarrow.parquet
import pytest

from gluegrid.common.errors import ConfigError
from gluegrid.execution import invocation
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.cost_model import ROWS_OF_AN_UNKNOWN_TASK, task_size
from gluegrid.operations.local_data import look_at_local_data
from gluegrid.staging import local_data
from gluegrid.workflow.experiment_file import experiment_of_workflow

ENTRY = {"text_columns": ["text"], "labels": ["bad", "good"], "metrics": ["accuracy"]}
OF_ONE_FILE = ENTRY | {"source": "./reviews.csv", "cut_from_train": {"validation": 0.25}}
AS_ON_THE_HUB = ENTRY | {"source": "./hub", "test": []}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Set first, so that what a head sets is undone after the test.
    monkeypatch.setenv(invocation.VARIABLE, "none yet")
    monkeypatch.delenv(invocation.VARIABLE)
    write_csv("reviews.csv", 8)


def write_csv(name: str, rows: int, text: str = "as it is") -> None:
    lines = (f"{text},{'bad' if row % 2 else 'good'}\n" for row in range(rows))
    Path(name).write_text("text,label\n" + "".join(lines), encoding="utf-8")


def write_as_on_the_hub(split: str, names: list[str] | None = None, rows: int = 6, **columns) -> None:
    values = {"text": ["as it is"] * rows, "label": [row % 2 for row in range(rows)]} | columns
    features = {"label": {"names": names, "_type": "ClassLabel"}} if names else {}
    table = pyarrow.table(values).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    Path("hub").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table, f"hub/{split}-00000-of-00001.parquet")


def file_of(**tasks: dict) -> Path:
    """Write an experiment file; each task is a line of it from line 3 on."""
    lines = [f"  {name}: {json.dumps(entry)}" for name, entry in tasks.items()]
    head = ["models: {base: {source: org/bert-base, revision: v1}}", "tasks:"]
    path = Path("mine.yaml")
    path.write_text("\n".join([*head, *lines, "experiment: mine", ""]), encoding="utf-8")
    return path


def looked_at(**tasks: dict) -> Experiment:
    return load_experiment(file_of(**tasks), None, look_at_local_data)


def mistakes_of(**tasks: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        looked_at(**tasks)
    return caught.value.problems


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            OF_ONE_FILE | {"text_columns": ["tekst"]},
            "text_columns: ./reviews.csv: has no column 'tekst'; it has: text, label. Did you mean 'text'?",
        ),
        (
            OF_ONE_FILE | {"label_column": "lable"},
            "label_column: ./reviews.csv: has no column 'lable'; it has: text, label. Did you mean 'label'?",
        ),
        (
            OF_ONE_FILE | {"labels": ["bad", "goods"]},
            "labels: ./reviews.csv: column 'label' has 'good' in row 0 (line 2); allowed: 0 to 1 (bad, goods)."
            " Did you mean 'goods'?",
        ),
        (
            OF_ONE_FILE | {"cut_from_train": {"validation": 0.01}},
            "cut_from_train: cut_from_train (validation 0.01) would leave a split without rows; the split 'train' has"
            " 8",
        ),
        (
            {key: OF_ONE_FILE[key] for key in ("source", "text_columns", "cut_from_train")} | {"metrics": ["pearson"]},
            "labels: ./reviews.csv: column 'label' has 'good' in row 0 (line 2); allowed: a number",
        ),
    ],
    ids=["column of texts", "column of labels", "labels", "cut", "no number"],
)
def test_what_does_not_suit_a_file_is_told_with_the_line_of_its_key(entry, expected):
    assert mistakes_of(right=OF_ONE_FILE, mine=entry) == [f"mine.yaml:4: tasks.mine.{expected}"]


def test_a_label_far_down_is_found_with_its_row():
    write_csv("reviews.csv", 4000)
    text = Path("reviews.csv").read_text().splitlines()
    text[3173] = "as it is,goood"
    Path("reviews.csv").write_text("\n".join(text))
    (line,) = mistakes_of(mine=OF_ONE_FILE)
    assert "has 'goood' in row 3172 (line 3174)" in line
    assert line.endswith("Did you mean 'good'?")


def test_each_key_of_a_task_is_told_once_and_all_tasks_are():
    for split in ("train", "validation"):
        write_as_on_the_hub(split)
    wrong = {"one": AS_ON_THE_HUB | {"text_columns": ["a"]}, "other": OF_ONE_FILE | {"label_column": "b"}}
    assert [line.split(": ")[1] for line in mistakes_of(**wrong)] == [
        "tasks.one.text_columns",
        "tasks.other.label_column",
    ]


def test_data_in_the_layout_of_the_hub_are_read_as_when_they_are_staged():
    write_as_on_the_hub("train", ["good", "bad"])
    write_as_on_the_hub("validation")
    (line,) = mistakes_of(mine=AS_ON_THE_HUB)
    assert line.startswith("mine.yaml:3: tasks.mine.labels: hub/train-00000-of-00001.parquet: column 'label' has 0 in")
    assert "numbers its labels [good, bad] from 0, but the task's `labels` are [bad, good]" in line
    write_as_on_the_hub("train", text=[1] * 6)
    (line,) = mistakes_of(mine=AS_ON_THE_HUB)
    assert line.endswith(
        "tasks.mine.text_columns: hub/train-00000-of-00001.parquet: column 'text' holds int64, not text"
    )
    write_as_on_the_hub("train")
    (line,) = mistakes_of(mine=AS_ON_THE_HUB | {"validation": {"dev": ""}})
    assert line.startswith("mine.yaml:3: tasks.mine.validation: hub: task 'mine' has no split 'dev'")
    assert looked_at(mine=AS_ON_THE_HUB).warnings == []


def test_files_that_cannot_be_read_are_a_warning_and_stop_no_other_task():
    write_as_on_the_hub("train")
    Path("hub/validation-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    Path("broken.csv").write_text("text,label\n" + "fine,good\n" * 20 + '"as it is,good\n')
    experiment = looked_at(
        hub=AS_ON_THE_HUB, csv=OF_ONE_FILE | {"source": "./broken.csv"}, gone=OF_ONE_FILE | {"revision": "1"}
    )
    hub, csv = experiment.warnings
    assert re.fullmatch(
        r"mine.yaml:3: tasks.hub.source: hub/validation\S+: is not a readable parquet .* will fail", hub
    )
    assert csv.startswith("mine.yaml:4: tasks.csv.source: ./broken.csv: cannot be read at line 22:")
    assert task_size(experiment, experiment.cell("base", "gone", "base", "42")).train.rows == 6
    # By their size, though they cannot be read.
    assert task_size(experiment, experiment.cell("base", "csv", "base", "42")).train.rows == 16


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(monkeypatch):
    os.mkfifo("pipe.csv")
    monkeypatch.setattr(local_data, "files_of_splits", lambda names, entry: {"train": ["pipe.csv"]})
    seen, (error,) = local_data.look(builders.task(source="./", files={"train": ["pipe.csv"]}))
    assert (seen, str(error)) == ({}, "pipe.csv: is not a file, or is a broken link; put the file itself there")


def test_many_rows_in_a_small_file_are_not_all_read(monkeypatch):
    write_as_on_the_hub("train", rows=30_000)
    write_as_on_the_hub("validation")
    monkeypatch.setattr(local_data, "MOST_ROWS", 10_000)
    experiment = looked_at(hub=AS_ON_THE_HUB)
    (lengths,) = {sum(seen.lengths.values()) for name, seen in experiment.data_seen["hub"].items() if name == "train"}
    assert lengths < 30_000 == experiment.data_seen["hub"]["train"].rows


def test_what_is_staged_is_not_looked_at(monkeypatch):
    experiment = looked_at(mine=OF_ONE_FILE)
    manifest = Path(experiment.task_manifest("mine"))
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"rows": {"train": 60, "validation": 20}}))
    monkeypatch.setattr(local_data, "look", lambda task: pytest.fail("looked at it"))
    staged = looked_at(mine=OF_ONE_FILE)
    size = task_size(staged, staged.cell("base", "mine", "base", "42"))
    assert (size.train.rows, size.predicted_rows, size.is_guessed) == (60, 20, False)


def size_of(max_seq_length: int = 128, **entry):
    experiment = looked_at(mine=OF_ONE_FILE | entry | {"max_seq_length": max_seq_length})
    return task_size(experiment, experiment.cell("base", "mine", "base", "42"))


def test_rows_are_counted_and_a_cut_has_its_share():
    write_csv("reviews.csv", 400)
    size = size_of()
    assert (size.train.rows, [split.rows for split in size.validation]) == (300, [100])
    assert not size.is_counted and not size.is_guessed
    write_as_on_the_hub("train", rows=50)
    write_as_on_the_hub("validation", rows=20)
    experiment = looked_at(hub=AS_ON_THE_HUB)
    size = task_size(experiment, experiment.cell("base", "hub", "base", "42"))
    assert (size.train.rows, size.predicted_rows) == (50, 20)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the boy who cried wolf was not believed when the wolf came", 15),
        ("\u8fd9\u90e8\u7535\u5f71\u975e\u5e38\u597d\u770b\u6211\u4eec\u90fd\u5f88\u559c\u6b22", 17),
        ("word " * 400, 64),
    ],
    ids=["English", "Chinese", "longer than what is kept"],
)
def test_tokens_follow_from_the_texts_up_to_the_length_that_is_kept(text, tokens):
    write_csv("reviews.csv", 40, text)
    assert size_of(64).train.tokens_of_a_row == pytest.approx(tokens, rel=0.2)
    assert size_of(16).train.tokens_of_a_row <= 16


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "json", "parquet", "arrow"])
def test_of_a_large_file_a_part_is_read_and_the_number_of_its_rows_is_near(monkeypatch, suffix):
    monkeypatch.setattr(local_data, "READ_WHOLE", 10_000)
    monkeypatch.setattr(local_data, "ROWS_OF_MORE", 1)
    rows = [{"text": f"the row of number {row:05}", "label": row % 2} for row in range(30_000)]
    rows[29_999]["label"] = "none"  # so far nobody reads
    file = Path(f"large.{suffix}")
    if suffix in ("csv", "csv.gz"):
        text = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
        file.write_bytes(gzip.compress(text.encode()) if suffix == "csv.gz" else text.encode())
    elif suffix in ("parquet", "arrow"):
        texts, labels = [row["text"] for row in rows], [str(row["label"]) for row in rows]
        table = pyarrow.table({"text": texts, "label": labels})
        if suffix == "parquet":
            pyarrow.parquet.write_table(table, file)
        else:
            with pyarrow.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table, 1000)
    else:
        file.write_text(json.dumps(rows) if suffix == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    size = size_of(source=f"./large.{suffix}")
    assert size.train.rows + size.predicted_rows == pytest.approx(30_000, rel=0.05)
    assert 4 < size.train.tokens_of_a_row < 16


def test_what_is_on_the_hub_is_a_guess_until_it_is_fetched():
    experiment = looked_at(mine=OF_ONE_FILE | {"source": "org/reviews", "revision": "1", "files": {"train": "a.csv"}})
    size = task_size(experiment, experiment.cell("base", "mine", "base", "42"))
    assert (size.train.rows, size.is_guessed) == (ROWS_OF_AN_UNKNOWN_TASK, True)


def test_what_another_tokenizer_has_made_tells_the_lengths():
    experiment = looked_at(mine=OF_ONE_FILE)
    cell = experiment.cell("base", "mine", "base", "42")
    experiment.data_seen.clear()
    there = Path(experiment.tokens_manifest(cell).replace("org--bert-base@v1", "another@v2"))
    there.parent.mkdir(parents=True)
    there.write_text(json.dumps({"splits": {name: {"rows": 60, "tokens": 900} for name in ("train", "validation")}}))
    size = task_size(experiment, cell)
    assert (size.train.rows, size.train.tokens, size.is_counted) == (60, 900, False)


def test_the_head_looks_and_its_jobs_do_not():
    path = file_of(mine=OF_ONE_FILE | {"label_column": "lable"})
    settings = SimpleNamespace(configfiles=[path], config={})
    with pytest.raises(
        SystemExit, match=r"^mine.yaml:3: tasks.mine.label_column: ./reviews.csv: has no column 'lable'"
    ):
        experiment_of_workflow(SimpleNamespace(is_main_process=True, config_settings=settings, basedir="."))
    assert (
        experiment_of_workflow(SimpleNamespace(is_main_process=False, config_settings=settings, basedir=".")).name
        == "mine"
    )
