"""A task's own files, as people write them, become parquet files; what does not fit is named with its place."""

import dataclasses
import json
import math
from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gluegrid.analysis.predictions import read_labels
from gluegrid.common.errors import DataError
from gluegrid.experiment.task import Task
from gluegrid.experiment.task_files import files_of_splits
from gluegrid.staging import parquet_files
from gluegrid.staging.columns import LabelReader
from gluegrid.staging.convert import convert
from gluegrid.staging.examples import Split
from gluegrid.verification.resources import Staged, labels_of

REVIEWS = {"source": "./mine", "text_columns": ["review"], "label_column": "mood", "labels": ["bad", "good"]}
ROWS = [
    ("a plain one", "good"),
    ('it said "well", and\nwent on', "bad"),
    ("", "good"),
    ("null", "bad"),
    ("NA", "good"),
    ("007", "bad"),
    ("1.0", "good"),
    ("  spaces, and\ttab  ", "bad"),
    ("größer 中文 \U0001f600 \u2028 \x85", "good"),
    ("x" * 300_000, "bad"),
]


def reviews(**changes) -> Task:
    return builders.task(**REVIEWS | changes)


def converted(folder: Path, task: Task, **files: bytes | list) -> dict[str, dict]:
    """Write files, convert them; return the columns of each split. `train_csv` stands for train.csv."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pyarrow.parquet.write_table(pyarrow.table(content), path)
    names = [path.name for path in folder.iterdir()]
    convert(folder, task, files_of_splits(names, vars(task)))
    return {
        path.name.partition("-00000-of-00001.parquet")[0]: pyarrow.parquet.read_table(path).to_pydict()
        for path in folder.iterdir()
    }


def only_train(content: bytes | dict, suffix: str = "csv", folder: Path | None = None, **changes) -> dict:
    """Convert one file as the training split; return its columns."""
    task = reviews(files={"train": [f"train.{suffix}"]}, validation={}, **changes)
    return converted(folder, task, **{f"train_{suffix}": content})["train"]


def csv_of(rows: list[tuple[str, ...]], delimiter: str = ",", end: str = "\r\n") -> bytes:
    """Write rows as RFC 4180 has it: quotes around what holds separators, quotes or line ends."""

    def field(text: str) -> str:
        quoted = text.replace('"', '""')
        return f'"{quoted}"' if any(mark in text for mark in f'{delimiter}"\r\n') else text

    return "".join(delimiter.join(map(field, row)) + end for row in rows).encode()


OBJECTS = [{"review": text, "mood": mood, "more": [1]} for text, mood in ROWS]
WITHOUT_TABS = [(text.replace("\t", " "), mood) for text, mood in ROWS]
FORMATS = {
    "csv": ("csv", csv_of([("review", "mood"), *ROWS])),
    "csv of Excel": ("csv", b"\xef\xbb\xbf" + csv_of([("review", "mood"), *ROWS])),
    "csv of other ends": ("csv", csv_of([("review", "mood"), *ROWS], end="\n").rstrip()),
    "csv with more": ("csv", csv_of([("more", "mood", "review"), *(("1", mood, text) for text, mood in ROWS)])),
    "CSV": ("CSV", csv_of([("review", "mood"), *ROWS])),
    "json": ("json", json.dumps(OBJECTS).encode()),
    "json under data": ("json", json.dumps({"version": 1, "data": OBJECTS}, ensure_ascii=False).encode()),
    "json of Windows": ("json", b"\xef\xbb\xbf" + json.dumps(OBJECTS).encode()),
    "jsonl": ("jsonl", "\n".join(map(json.dumps, OBJECTS)).encode()),
    "jsonl with empty lines": (
        "jsonl",
        "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in OBJECTS).encode(),
    ),
    "parquet": ("parquet", {"review": [text for text, _ in ROWS], "mood": [mood for _, mood in ROWS]}),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_texts_as_they_are(tmp_path, kind):
    suffix, content = FORMATS[kind]
    columns = only_train(content, suffix, tmp_path / "it")
    assert columns["review"] == [text for text, _ in ROWS]
    assert columns["mood"] == [1, 0] * 5
    assert columns["idx"] == list(range(10))


def test_tabs_separate_columns_of_a_tsv(tmp_path):
    columns = only_train(csv_of([("review", "mood"), *WITHOUT_TABS], "\t"), "tsv", tmp_path / "it")
    assert columns["review"] == [text for text, _ in WITHOUT_TABS]


def test_empty_lines_of_a_csv_are_no_rows(tmp_path):
    assert only_train(b"review,mood\n\na,good\n\n\nb,bad\n\n", folder=tmp_path / "it")["review"] == ["a", "b"]


SEVERAL_LINES = {
    "labels last": b'review,mood\n"Sir,\nwell, well\nbye",good\n"b\nc, d",bad\n',
    "labels first": b'mood,review\ngood,"Sir,\nwell, well\nbye"\nbad,"b\nc, d"\n',
}


@pytest.mark.parametrize("kind", SEVERAL_LINES)
def test_texts_of_several_lines_are_read_and_said(tmp_path, caplog, kind):
    with caplog.at_level("INFO"):
        columns = only_train(SEVERAL_LINES[kind], folder=tmp_path / "it")
    assert columns["review"] == ["Sir,\nwell, well\nbye", "b\nc, d"]
    assert columns["mood"] == [1, 0]
    assert caplog.messages[-1] == (
        "mine/train.csv: 3 fewer rows than lines: 2 rows with quotes span several lines;"
        " the longest is row 0, from line 2 to line 4"
    )


def test_without_labels_a_number_beside_the_text_shows_a_row(tmp_path, caplog):
    task = reviews(files={"train": ["t.csv"], "hard": ["hard.csv"]}, validation={}, test=["hard"])
    train = b"review,mood\na,1\n"
    with pytest.raises(
        DataError, match=r"^mine/hard.csv: row 1 is in quotes from line 3 to line 4, but its lines look like"
    ):
        converted(tmp_path / "it", task, t_csv=train, hard_csv=b'id,review\n1,a\n2,"b\n3,c"\n')
    with caplog.at_level("INFO"):
        columns = converted(tmp_path / "other", task, t_csv=train, hard_csv=b'id,review\n1,a\n2,"b\nwell,c"\n')
    assert columns["hard"]["review"] == ["a", "b\nwell,c"]
    assert "mine/hard.csv: 1 fewer rows than lines: " in caplog.text


QUOTES_OF_TEXTS = [("a", "good"), ('"b" or c', "bad"), ('5" d', "good"), ('"e', "bad"), ('f"', "good"), ('""', "bad")]


def test_a_tsv_is_read_without_quoting_where_it_can_be_read_in_no_other_way(tmp_path, caplog):
    content = "".join(f"{review}\t{mood}\n" for review, mood in [("review", "mood"), *QUOTES_OF_TEXTS])
    with caplog.at_level("INFO"):
        columns = only_train(content.encode(), "tsv", tmp_path / "it")
    assert columns["review"] == [review for review, _ in QUOTES_OF_TEXTS]
    assert columns["mood"] == [int(mood == "good") for _, mood in QUOTES_OF_TEXTS]
    assert "mine/train.tsv: read without quoting" in caplog.text


def test_a_tsv_without_quoting_loses_no_row_between_two_quotes(tmp_path):
    content = b'mood\treview\ngood\ta\nbad\t"b\ngood\tc\nbad\td"\ngood\te\n'
    assert only_train(content, "tsv", tmp_path / "it")["review"] == ["a", '"b', "c", 'd"', "e"]


def test_a_file_of_any_separator_is_read_without_quoting_where_the_task_says_so(tmp_path):
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        content = "".join(f"{delimiter.join(row)}\n" for row in [("review", "mood"), ("a", "bad"), ('"b"', "good")])
        columns = only_train(content.encode(), suffix, tmp_path / suffix, quoting="none")
        assert columns["review"] == ["a", '"b"']


def test_without_quoting_no_row_is_swallowed(tmp_path):
    content = b'mood,review\ngood,a\nbad,"b\ngood,c\nbad,d"\ngood,e\n'
    assert only_train(content, folder=tmp_path / "it", quoting="none")["review"] == ["a", '"b', "c", 'd"', "e"]


def test_uneven_rows_are_left_out_and_said_where_the_task_says_so(tmp_path, caplog):
    content = b"id\treview\tmood\n0\ta\tgood\n1\tb\n\tc\tgood\n3\td\te\tbad\n4\tf\tbad\n"
    task = reviews(files={"train": ["t.tsv"]}, cut_from_train={"validation": 0.4}, quoting="none", uneven_rows="skip")
    with caplog.at_level("INFO"):
        columns = converted(tmp_path / "it", task, t_tsv=content)
    assert sorted(columns["train"]["review"] + columns["validation"]["review"]) == ["a", "c", "f"]
    assert sorted(columns["train"]["idx"] + columns["validation"]["idx"]) == [0, 1, 2]
    said = [message for message in caplog.messages if "skipped" in message]
    assert said == ["mine/t.tsv: skipped 2 rows whose number of columns differs from the header's: line 3, 5"]


def test_a_file_of_which_all_rows_would_be_left_out_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"mine/train.csv: none of its 2 rows has the 2 columns of its header or of `columns`"
    ):
        only_train(b"review,mood\na\nb\n", folder=tmp_path / "it", uneven_rows="skip")


def test_columns_are_those_of_a_file_without_a_header(tmp_path):
    task = reviews(
        files={"train": ["t.csv"], "validation": ["v.csv"], "hard": ["h.csv"], "bare": ["b.csv"]},
        test=["hard", "bare"],
        columns=["id", "mood", "review"],
    )
    files = {
        "t_csv": b'1,good,"a, b"\n2,bad,c\n',
        "v_csv": b"mood,review\ngood,d\n",  # with a header of its own
        "h_csv": b"1,e\n2,f\n",  # without labels
        "b_csv": b"id,review\n1,g\n",
    }
    columns = converted(tmp_path / "it", task, **files)
    assert {split: of_split["review"] for split, of_split in columns.items()} == {
        "train": ["a, b", "c"],
        "validation": ["d"],
        "hard": ["e", "f"],
        "bare": ["g"],
    }
    assert columns["train"]["mood"] == [1, 0]


IN_OBJECTS = [
    {"a": {"b": "one"}, "a.b.c": "literal", "meta": {"label": "good", "more": {"x": 1}}},
    {"a": {"b": "two"}, "a.b.c": "again", "meta": {"label": "bad", "more": None}},
]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet", "arrow"])
def test_a_column_may_lie_in_objects(tmp_path, suffix):
    content = {
        "json": json.dumps(IN_OBJECTS).encode(),
        "jsonl": "\n".join(map(json.dumps, IN_OBJECTS)).encode(),
        "parquet": {name: [row[name] for row in IN_OBJECTS] for name in IN_OBJECTS[0]},
    }
    content["arrow"] = arrow_of(content["parquet"])
    for name, texts in (("a.b", ["one", "two"]), ("a.b.c", ["literal", "again"])):
        columns = only_train(
            content[suffix], suffix, tmp_path / name, text_columns=[name], label_column="meta.label", revision="2"
        )
        assert columns == {"idx": [0, 1], name: texts, "meta.label": [1, 0]}
    with pytest.raises(
        DataError, match=r"has no column 'meta\.labels'; it has: .*meta\.label.* Did you mean 'meta.label'"
    ):
        only_train(content[suffix], suffix, tmp_path / "it", text_columns=["a.b"], label_column="meta.labels")


def arrow_of(columns: dict, metadata: dict | None = None, of_rows: int = 1) -> bytes:
    table = pyarrow.table(columns)
    table = table.replace_schema_metadata(metadata)
    stream = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, of_rows)
    return stream.getvalue().to_pybytes()


CLASSES = {"mood": {"names": ["good", "bad"], "_type": "ClassLabel"}}


def test_the_names_in_an_arrow_files_metadata_are_those_of_its_numbers(tmp_path):
    metadata = {"huggingface": json.dumps({"info": {"features": CLASSES}})}
    content = arrow_of({"review": ["a", "b"], "mood": [0, 1]}, metadata)
    assert only_train(content, "arrow", tmp_path / "it")["mood"] == [1, 0]


def test_the_names_of_numbers_in_structs_are_known_too(tmp_path):
    metadata = {"huggingface": json.dumps({"info": {"features": {"meta": CLASSES}}})}
    content = arrow_of({"review": ["a", "b"], "meta": [{"mood": 0}, {"mood": 1}]}, metadata)
    columns = only_train(content, "arrow", tmp_path / "it", label_column="meta.mood")
    assert columns["meta.mood"] == [1, 0]


@pytest.mark.parametrize("left", [-1, -8, -100])
def test_an_arrow_file_that_is_cut_off_is_never_taken_for_a_whole_one(tmp_path, left):
    content = arrow_of({"review": ["a", "b"], "mood": [0, 1]})
    with pytest.raises(
        DataError, match=r"^mine/train\.arrow: is not a readable Arrow file: it is cut off, or not an Arrow stream"
    ):
        only_train(content[:left], "arrow", tmp_path / "it")


def test_a_json_may_be_of_lines(tmp_path):
    content = b'{"review": "a", "mood": 1}\n\n{"review": "b", "mood": 0}\n'
    assert only_train(content, "json", tmp_path / "it")["review"] == ["a", "b"]
    with pytest.raises(DataError, match=r"^mine/train\.json: line 4: cannot be read as JSON: "):
        only_train(content + b"{", "json", tmp_path / "other")


def test_an_encoding_that_the_task_names_is_that_of_its_files(tmp_path):
    for suffix, content in (
        ("csv", b"review,mood\n\xe9t\xe9,bad\n"),
        ("json", b'[{"review": "\xe9t\xe9", "mood": 0}]'),
    ):
        assert only_train(content, suffix, tmp_path / suffix, encoding="latin-1")["review"] == ["été"]


def test_an_encoding_that_would_garble_utf_8_is_refused(tmp_path):
    content = "review,mood\nété,bad\nGröße,good\nnaïve,bad\nplain,bad\n"
    with pytest.raises(
        DataError, match=r"^mine/train\.csv: all its texts seem to be UTF-8, but `encoding` is cp1252; leave"
    ):
        only_train(content.encode(), folder=tmp_path / "it", encoding="cp1252")
    mixed = content.encode() + "à,bad\n".encode("latin-1")
    assert only_train(mixed, folder=tmp_path / "other", encoding="cp1252")["review"][-1] == "à"


def test_bytes_that_are_not_of_the_named_encoding_are_one_line(tmp_path):
    with pytest.raises(DataError) as caught:
        only_train(b"review,mood\na,bad\n\x81\xff,bad\n", folder=tmp_path / "it", encoding="cp1252")
    assert str(caught.value) == (
        "mine/train.csv: column 'review' has text that is not cp1252 in row 1 (line 3): '\\udc81ÿ'; `encoding` is"
        " cp1252: set the one in which the file was written"
    )


def test_nothing_but_the_made_files_is_left(tmp_path):
    only_train(FORMATS["csv"][1], folder=tmp_path / "it")
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["train-00000-of-00001.parquet"]


def test_a_file_named_as_one_that_is_made_is_replaced(tmp_path):
    task = reviews(cut_from_train={"validation": 0.5})
    (tmp_path / "it").mkdir()
    table = pyarrow.table({"review": ["a", "b"], "mood": ["good", "bad"]})
    for part in range(2):
        pyarrow.parquet.write_table(table, tmp_path / "it" / f"train-0000{part}-of-00002.parquet")
    columns = converted(tmp_path / "it", task)
    assert {split: len(values["idx"]) for split, values in columns.items()} == {"train": 2, "validation": 2}


def test_several_files_make_a_split_in_their_order(tmp_path):
    task = reviews(files={"train": ["part-*.csv"], "validation": ["b.json", "a.csv"]})
    files = {
        "part-2_csv": b"review,mood\nsecond,good\n",
        "part-1_csv": b"mood,review\nbad,first\n",
        "a_csv": b"review,mood\na,good\n",
        "b_json": b'[{"review": "b", "mood": 0}]',
    }
    columns = converted(tmp_path / "it", task, **files)
    assert columns["train"] == {"idx": [0, 1], "review": ["first", "second"], "mood": [0, 1]}
    assert columns["validation"]["review"] == ["b", "a"]


def test_files_of_a_pattern_are_read_by_name_however_a_source_lists_them():
    names = ["b-2.csv", "b-10.csv", "b-1.csv", "more/b-3.csv"]
    assert files_of_splits(names, vars(reviews(files={"train": ["b-*.csv"]})))["train"] == [
        "b-1.csv",
        "b-10.csv",
        "b-2.csv",
    ]


def test_two_texts_and_a_number(tmp_path):
    task = reviews(
        text_columns=["one", "two"], label_column="score", labels=None, files={"train": ["a.csv"]}, validation={}
    )
    columns = converted(tmp_path / "it", task, a_csv=b"one,two,score\na,b,4.75\nc,d,-1\ne,f, 5e-1\n")["train"]
    assert columns == {"idx": [0, 1, 2], "one": ["a", "c", "e"], "two": ["b", "d", "f"], "score": [4.75, -1, 0.5]}


def test_a_column_of_text_that_is_called_idx_stays_text(tmp_path):
    columns = only_train(b"idx,mood\na,good\n", folder=tmp_path / "it", text_columns=["idx"])
    assert columns == {"idx": ["a"], "mood": [1]}


def numbers_of(folder: Path, task: Task, **files: bytes) -> tuple[dict, dict, dict]:
    """Convert files; return the numbers, the texts, and the numbers as verification has them, of each split's rows."""
    rows = {split: len(next(iter(columns.values()))) for split, columns in converted(folder, task, **files).items()}
    names = sorted(path.name for path in folder.iterdir())
    data = {"source": "./mine", "rows": rows, "source_files": {}, "files": {name: {} for name in names}}
    manifest = folder / "manifest.json"
    numbers, texts = {}, {}
    for split in task.splits:
        of_split = list(Split(manifest, data, task, split))
        numbers[split] = [number for some in of_split for number in some.idx]
        texts[split] = [text for some in of_split for text in some.texts[0]]
    verified = {split: labels_of(Staged(manifest, data), task, split).idx.tolist() for split in task.splits}
    return numbers, texts, verified


COLUMNS = {"neither": ("review", "mood"), "the text": ("idx", "mood"), "the label": ("review", "idx")}


@pytest.mark.parametrize("named", COLUMNS)
@pytest.mark.parametrize("labels", [["bad", "good"], None], ids=["classes", "numbers"])
def test_a_row_has_its_number_in_the_file_whatever_is_called_idx(tmp_path, monkeypatch, named, labels):
    monkeypatch.setattr(parquet_files, "ROWS_AT_ONCE", 7)
    text, label = COLUMNS[named]
    content = csv_of([(label, text), *((str(row % 2), f"row {row}") for row in range(25))])
    again = csv_of([(label, text), *((str(row % 2), f"row {row}") for row in range(25, 40))])
    cut = {"validation": 0.2, "hard": 0.1}
    task = reviews(text_columns=[text], label_column=label, labels=labels, cut_from_train=cut, test=["hard", "apart"])
    task = dataclasses.replace(task, files={"train": ["a.csv", "b.csv"], "apart": ["c.csv"]})
    numbers, texts, verified = numbers_of(tmp_path / "it", task, a_csv=content, b_csv=again, c_csv=content)
    assert {split: len(of_split) for split, of_split in numbers.items()} == {
        "train": 28,
        "validation": 8,
        "hard": 4,
        "apart": 25,
    }
    assert texts == {split: [f"row {number}" for number in of_split] for split, of_split in numbers.items()}
    assert verified == numbers


# Labels

STARS = ["1", "2", "3"]
LABELS = [
    # labels, format, what stands there, the number of the class
    (["bad", "good"], "csv", "good", 1),
    (["bad", "good"], "csv", "1", 1),
    (["bad", "good"], "csv", " 1.0", 1),
    (["bad", "good"], "json", 1.0, 1),
    (["bad", "good"], "json", True, 1),
    (["true", "false"], "json", True, 0),
    (["False", "True"], "json", True, 1),
    (["true", "false"], "csv", "false", 1),
    # Names that are numbers are never taken for numbers of classes.
    (STARS, "csv", "1", 0),
    (STARS, "csv", "3.0", 2),
    (STARS, "json", 3, 2),
    (["-1", "0", "1"], "json", -1, 0),
    (["-1", "0", "1"], "csv", "1", 2),
]


def with_label(value: object, suffix: str) -> bytes:
    if suffix == "csv":
        return f"review,mood\na,{value}\n".encode()
    return json.dumps([{"review": "a", "mood": value}]).encode()


@pytest.mark.parametrize(("labels", "suffix", "value", "expected"), LABELS)
def test_labels_are_names_or_numbers(tmp_path, labels, suffix, value, expected):
    assert only_train(with_label(value, suffix), suffix, tmp_path / "it", labels=labels)["mood"] == [expected]


@pytest.mark.parametrize(
    ("suffix", "value", "shown"), [("csv", "0", "'0'"), ("json", 0, "0"), ("csv", "4", "'4'"), ("json", "-1", "'-1'")]
)
def test_a_number_that_is_no_name_is_none_where_names_are_numbers(tmp_path, suffix, value, shown):
    with pytest.raises(DataError) as caught:
        only_train(with_label(value, suffix), suffix, tmp_path / "it", labels=STARS)
    assert f"column 'mood' has {shown} in row 0" in str(caught.value)
    assert "; allowed: 1, 2, 3" in str(caught.value)


HIDDEN = {
    "no column": ("csv", b"review\na\nb\n"),
    "empty": ("csv", b"review,mood\na,\nb,\n"),
    "-1": ("csv", b"review,mood\na,-1\nb,-1.0\n"),
    "no key": ("json", b'[{"review": "a"}, {"review": "b"}]'),
    "null": ("jsonl", b'{"review": "a", "mood": null}\n{"review": "b"}'),
    "no column of parquet": ("parquet", {"review": ["a", "b"]}),
    "null of parquet": ("parquet", {"review": ["a", "b"], "mood": [None, -1]}),
}


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("labels", [["bad", "good"], None], ids=["classes", "numbers"])
def test_labels_of_test_splits_may_be_hidden(tmp_path, kind, labels):
    suffix, content = HIDDEN[kind]
    task = reviews(files={"train": ["t.csv"], "hard": [f"hard.{suffix}"]}, validation={}, test=["hard"], labels=labels)
    columns = converted(tmp_path / "it", task, t_csv=b"review,mood\na,1\n", **{f"hard_{suffix}": content})
    assert columns["hard"]["mood"] == [-1, -1]
    assert columns["hard"]["review"] == ["a", "b"]


def test_labels_of_test_splits_that_are_there_are_kept(tmp_path):
    task = reviews(files={"train": ["t.csv"], "hard": ["hard.csv"]}, validation={}, test=["hard"])
    columns = converted(tmp_path / "it", task, t_csv=b"review,mood\na,1\n", hard_csv=b"review,mood\na,good\nb,\n")
    assert columns["hard"]["mood"] == [1, -1]


# What does not fit

SEPARATED = "; columns must be separated by commas (.csv)"
REFUSED = {
    "another label": (
        *("csv", b'review,mood\n"a\nb",good\n\nc,goood\n'),
        "column 'mood' has 'goood' in row 1 (line 5); allowed: 0 to 1 (bad, good). Did you mean 'good'?",
    ),
    "a label in capitals": (
        "jsonl",
        b'\n{"review": "a", "mood": "Good"}',
        "column 'mood' has 'Good' in row 0 (line 2)",
    ),
    "a label above": ("json", b'[{"review": "a", "mood": 2}]', "column 'mood' has 2 in row 0; allowed: 0 to 1"),
    "a list as label": ("json", b'[{"review": "a", "mood": [1]}]', "column 'mood' has [1] in row 0; allowed: 0 to 1"),
    "no number": ("json", b'[{"review": "a", "mood": NaN}]', "column 'mood' has nan in row 0; allowed: 0 to 1"),
    "no label": ("csv", b"review,mood\na,good\nb,\n", "column 'mood' has '' in row 1 (line 3); allowed: 0 to 1"),
    "a hidden label": (
        *("csv", b"review,mood\na,-1\n"),
        "column 'mood' has '-1' in row 0 (line 2); allowed: 0 to 1 (bad, good); -1 hides a label, which only splits",
    ),
    "no text": ("jsonl", b'{"review": "a", "mood": 1}\n{"mood": 1}', "column 'review' has no text in row 1 (line 2)"),
    "a number as text": ("json", b'[{"review": 5, "mood": 1}]', "column 'review' has 5, which is not text, in row 0"),
    "bytes as text": (
        "parquet",
        {"review": [b"a"], "mood": [1]},
        "column 'review' has b'a', which is not text, in row 0",
    ),
    "another column": (
        *("csv", b"text,reviw,mood\na,b,good\n"),
        "has no column 'review'; it has: text, reviw, mood. Did you mean 'reviw'?",
    ),
    "a space in the header": ("csv", b"review, mood\na,good\n", "has no column 'mood'; it has: review,  mood. Did you"),
    "another column of json": ("json", b'[{"text": "a", "mood": 1}]', "has no column 'review'; it has: text, mood"),
    "another column of parquet": (
        "parquet",
        {"text": ["a"], "mood": [1]},
        "has no column 'review'; it has: text, mood",
    ),
    "semicolons": ("csv", b"review;mood\na;good\n", f"has no column 'review'; it has: review;mood{SEPARATED}"),
    "no header": (
        *("csv", b"a fine film,good\n"),
        "has no column 'review'; it has: a fine film, good; if its first line is a row, not a header, name its 2",
    ),
    "no header, and numbers": (
        *("tsv", b"gj04\t1\t\tthe story\n"),
        "has no column 'review'; it has: gj04, 1, , the story; if its first line is a row, not a header, name its 4",
    ),
    "a header in another encoding": (
        *("csv", "größe,mood\na,good\n".encode("latin-1")),
        r"has no column 'review'; it has: 'gr\udcf6\udcdfe', mood; it may be cp1252: if so, set `encoding: cp1252`",
    ),
    "whole rows within quotes": (
        *("csv", b'mood,review\ngood,"well, a\nbad,b\ngood,c\nbad,well, d"\n'),
        "row 0 is in quotes from line 2 to line 5, but its lines",
    ),
    "a column twice": ("csv", b"review,mood,review\na,good,b\n", "has 2 columns named 'review'; rename all but one"),
    "a key twice": (
        *("json", b'[{"review": "a", "mood": 1, "review": "b"}]'),
        "cannot be read as JSON: the key 'review' appears twice in an object",
    ),
    "nothing": ("csv", b"", "is empty; its first line must name the columns"),
    "a mark of Excel's alone": ("csv", b"\xef\xbb\xbf\r\n", "is empty; its first line must name the columns"),
    "no rows": ("csv", b"review,mood\n\n", "has no rows"),
    "no objects": ("json", b"[]", "has no rows"),
    "no lines": ("jsonl", b"\n", "has no rows"),
    "no rows of parquet": ("parquet", {"review": pyarrow.array([], "string"), "mood": []}, "has no rows"),
    "a row too long": (
        *("csv", b'review,mood\n"a\nb",good\nwell, well,bad\n'),
        "row 1 (line 4) has 3 columns, but the header has 2; put texts that contain separators in quotes",
    ),
    "a row too short": ("csv", b"review,mood\na,good\nb\n", "row 1 (line 3) has 1 columns, but the header has 2"),
    "no UTF-8": (
        *("csv", b"review,mood\na,good\n\xe9t\xe9,bad\n"),
        r"column 'review' has text that is not UTF-8 in row 1 (line 3): '\udce9t\udce9'",
    ),
    "no UTF-8 in a label": (
        *("csv", b"review,mood\na,g\xf6od\n"),
        r"column 'mood' has text that is not UTF-8 in row 0 (line 2): 'g\udcf6od'; it may be cp1252: if so, set",
    ),
    "no UTF-8 in json": (
        "jsonl",
        b'{"review": "\xff", "mood": 1}',
        "column 'review' has text that is not UTF-8 in row 0",
    ),
    "half a pair": (
        "json",
        rb'[{"review": "\ud800", "mood": 1}]',
        "column 'review' has text that is not UTF-8 in row 0",
    ),
    "UTF-16": (
        *("csv", "review,mood\na,good\n".encode("utf-16-le")),
        "is not UTF-8; it may be utf-16-le: if so, set `encoding: utf-16-le`",
    ),
    "a quote that does not end": (
        *("csv", b'review,mood\na,good\n"b,good\nc,bad\n'),
        "cannot be read at line 3: unexpected end of data; put texts that contain quotes in quotes",
    ),
    # pyarrow's reader makes one row of these two.
    "quotes that do not belong together": (
        *("csv", b'review,mood\n"a,good\n"b,bad\n'),
        "cannot be read at line 2: ',' expected after '\"'",
    ),
    "a tab within quotes": ("tsv", b'review\tmood\n"a\tb"\tgood\n', "row 0 (line 2) has a tab within quotes"),
    "neither with quotes nor without": (
        *("tsv", b'review\tmood\na\tgood\n"b" or c\tbad\nd\n'),
        r"row 2 (line 4) has 1 columns, but the header has 2; without quoting, texts must not contain tabs",
    ),
    "quotes that do not end, and a tab": (
        *("tsv", b'review\tmood\n"a\nb"\tgood\n"c" or d\tbad\n'),
        r"""cannot be read at line 4: '\t' expected after '"'; put texts that contain quotes in quotes""",
    ),
    "rows in quotes": (
        *("csv", b'mood,review\ngood,a\nbad,"b\ngood,c\nbad,d"\ngood,e\n'),
        "row 1 is in quotes from line 3 to line 5, but its lines look like whole rows; put texts that",
    ),
    "two rows in quotes, labels last": (
        *("csv", b'review,mood\r\n"a,1\r\nb",0\r\n'),
        "row 0 is in quotes from line 2 to line 3, but its lines",
    ),
    "rows in quotes of another column": (
        *("csv", b'mood,review,more\ngood,"a, b","c\nbad,d,e"\n'),
        "row 0 is in quotes from line 2 to line 3, but its lines",
    ),
    "rows in quotes of the header": (
        *("csv", b'mood,review,"more\ngood,a,b\nbad,c,d"\ngood,e,f\n'),
        "the header is in quotes from line 1 to line 3, but its lines",
    ),
    "a quote that ends too late": (
        *("csv", b'mood,review\ngood,a\nbad,"b\ngood,c\nbad,"d"\n'),
        "cannot be read at line 3: ',' expected after '\"'; put texts that contain quotes in quotes, and double"
        " those inside (a quote in it makes the text run on to line 5)",
    ),
    "no json": ("json", b'[{"review": "a", "mood": 1},\n{]', "cannot be read as JSON: Expecting property name"),
    "a cut line": ("jsonl", b'{"review": "a", "mood": 1}\n{"review": "b", "mo', "line 2: cannot be read as JSON: "),
    "one object": ("json", b'{"review": "a"}', "must hold a list of objects, at its top level or under 'data'"),
    "columns of json": ("json", b'{"review": {"0": "a"}}', "must hold a list of objects"),
    "lists": ("json", b'[["a", 1]]', "row 0 is ['a', 1], not an object"),
    "deep": ("json", b"[" * 100_000, "cannot be read as JSON: "),
    "no parquet": ("parquet", b"review,mood\n", "is not a readable parquet file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line_with_file_and_place(tmp_path, case):
    suffix, content, expected = REFUSED[case]
    with pytest.raises(DataError) as caught:
        only_train(content, suffix, tmp_path / "it")
    message = str(caught.value)
    assert message.startswith(f"mine/train.{suffix}: {expected}")
    assert len(message) < 700
    assert "\n" not in message and message.isascii() and message.isprintable()


def test_a_regression_takes_numbers_alone(tmp_path):
    with pytest.raises(DataError, match=r"column 'mood' has '3,5' in row 0 \(line 2\); allowed: a number$"):
        only_train(b'review,mood\na,"3,5"\n', folder=tmp_path / "it", labels=None)


def test_rows_are_counted_in_each_file(tmp_path):
    task = reviews(files={"train": ["*.csv"]}, validation={})
    with pytest.raises(DataError, match=r"^mine/b.csv: column 'mood' has 'x' in row 1 \(line 3\)"):
        converted(tmp_path / "it", task, a_csv=b"review,mood\na,good\n", b_csv=b"review,mood\na,good\nb,x\n")


def test_a_label_column_that_is_there_twice_is_refused_where_it_may_lack_too(tmp_path):
    task = reviews(files={"train": ["t.csv"], "hard": ["hard.csv"]}, validation={}, test=["hard"])
    with pytest.raises(DataError, match=r"^mine/hard\.csv: has 2 columns named 'mood'"):
        converted(tmp_path / "it", task, t_csv=b"review,mood\na,1\n", hard_csv=b"review,mood,mood\na,1,0\n")


# Cuts


def many(rows: int) -> bytes:
    return csv_of([("review", "mood"), *((f"review {row}", ["bad", "good"][row % 2]) for row in range(rows))])


def test_a_cut_leaves_no_row_out_and_takes_none_twice(tmp_path):
    task = reviews(files={"train": ["a.csv", "b.csv"]}, cut_from_train={"validation": 0.1, "hard": 0.25}, test=["hard"])
    columns = converted(tmp_path / "it", task, a_csv=many(15_000), b_csv=many(10))
    assert {split: len(values["idx"]) for split, values in columns.items()} == {
        "train": 15_010 - 1501 - 3752,
        "validation": 1501,
        "hard": 3752,
    }
    assert sorted(row for values in columns.values() for row in values["idx"]) == list(range(15_010))
    for values in columns.values():
        assert values["idx"] == sorted(values["idx"])
        assert values["review"] == [f"review {row % 15_000}" for row in values["idx"]]
        assert values["mood"] == [row % 2 for row in values["idx"]]


def test_labels_of_a_test_split_that_is_cut_are_not_hidden(tmp_path):
    task = reviews(files={"train": ["a.csv"]}, cut_from_train={"hard": 0.5}, validation={}, test=["hard"])
    with pytest.raises(DataError, match="column 'mood' has '-1' in row 1"):
        converted(tmp_path / "it", task, a_csv=b"review,mood\na,good\nb,-1\n")


def test_the_same_files_are_made_each_time(tmp_path):
    task = reviews(files={"train": ["a.csv"]}, cut_from_train={"validation": 0.3})
    for name in ("one", "two"):
        converted(tmp_path / name, task, a_csv=many(40))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


# The other code that reads labels

TEXTS = st.sampled_from(["bad", "good", "0", "1", "1.0", "2", "01", "-1", "3e0"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from([["bad", "good"], STARS, ["0", "1"], None]))
def test_verification_reads_texts_as_the_same_labels(tmp_path, texts, labels):
    task = builders.task(labels=labels)
    read = [LabelReader(task, may_be_hidden=True).read(text) for text in texts]
    path = builders.write_split(tmp_path, "test", {"label": texts})
    if None in read:
        return
    assert numpy.array_equal(read_labels([path], task).label, numpy.array(read))
    assert not any(map(math.isnan, read))
