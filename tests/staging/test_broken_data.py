"""What a user's parquet files may hold, and what docs/data.md says of it."""

import dataclasses
import datetime
import decimal
import json
import math
import os
import re
import subprocess
import sys

import builders
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from waiting import HANG

from gluegrid.common.errors import DataError, GluegridError, StagingError
from gluegrid.common.files import read_json
from gluegrid.staging.columns import Place, texts_of
from gluegrid.staging.tokenization import tokenize_task

SINGLE = builders.task()
PAIR = builders.task(text_columns=["first", "second"], labels=builders.NLI_LABELS)
REGRESSION = builders.task(labels=None, metrics=["pearson", "spearmanr"])
WITH_TEST = builders.task(test=["test"])
TEXTS = ["the cat", "a dog sat", "the tree"]
NO_UTF8 = [b"the cat", b"a \xff\xfe dog", b"\xed\xa0\x80"]
MOMENT = datetime.datetime(2024, 5, 6)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The manifest of a staged tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    return builders.stage_model(folder / "staged", builders.write_model(folder / "model"))


def tokenise(tokenizer, data, task):
    """Tokenise beside the data; return the columns of the training split."""
    manifest = data.parent.parent / "tokens" / "manifest.json"
    tokenize_task(tokenizer, data, task, 16, manifest)
    with pyarrow.OSFile(str(manifest.parent / f"{task.train}.arrow")) as source:
        return pyarrow.ipc.open_stream(source).read_all().to_pydict()


def refusal(tokenizer, data, task):
    """Return the message with which tokenising ends; it is short, and nothing is left that looks like tokens."""
    with pytest.raises(DataError) as caught:
        tokenise(tokenizer, data, task)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    assert not (data.parent.parent / "tokens" / "manifest.json").exists()
    return message


def staged(folder, table, task=SINGLE, name="train-00000-of-00001.parquet", **options):
    """Stage a task whose other splits are healthy; one file's table is the given one."""
    for split in task.splits:
        builders.write_split(folder / "parquet", split, builders.rows(5, task))
    pyarrow.parquet.write_table(table, folder / "parquet" / name, **options)
    return builders.stage_task(folder / "task", folder / "parquet")


def columns(task=SINGLE, **changes):
    """Return a table of three rows; a column that is None is left out."""
    of_rows = builders.rows(3, task) | changes
    return pyarrow.table({name: values for name, values in of_rows.items() if values is not None})


def strings(values):
    """Return bytes as a column that claims to be text."""
    ends = numpy.cumsum([0, *map(len, values)]).astype(numpy.int32)
    buffers = [None, pyarrow.py_buffer(ends.tobytes()), pyarrow.py_buffer(b"".join(values))]
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), buffers)


def categories(values, kind=None):
    return pyarrow.array(values, kind).dictionary_encode()


GOOD_TEXTS = {
    "large": pyarrow.array(TEXTS, pyarrow.large_string()),
    "view": pyarrow.array(TEXTS).cast(pyarrow.string_view()),
    "categories": categories(TEXTS),
    "large categories": categories(TEXTS, pyarrow.large_string()),
}


@pytest.mark.parametrize("kind", GOOD_TEXTS)
def test_every_kind_of_text_column_works(tmp_path, tiny, kind):
    plain = tokenise(tiny, staged(tmp_path / "plain", columns(sentence=TEXTS)), SINGLE)
    assert tokenise(tiny, staged(tmp_path / "odd", columns(sentence=GOOD_TEXTS[kind])), SINGLE) == plain


GOOD_LABELS = {
    "bytes": pyarrow.array([1, 0, 1], pyarrow.int8()),
    "unsigned": pyarrow.array([1, 0, 1], pyarrow.uint64()),
    "booleans": [True, False, True],
    "halves": pyarrow.array(numpy.array([1, 0, 1], numpy.float16)),
    "floats": [1.0, -0.0, 1.0],
    "decimals": [decimal.Decimal("1.00"), decimal.Decimal("0.00"), decimal.Decimal("1.00")],
    "categories": categories([1, 0, 1]),
    "categories of floats": categories([1.0, 0.0, 1.0]),
    "names": ["yes", "no", "yes"],
    "categories of names": categories(["yes", "no", "yes"]),
    "names and numbers": ["yes", "0", "1"],
    "numbers as text": ["1", "0.0", " 1e0"],
}


@pytest.mark.parametrize("kind", GOOD_LABELS)
def test_labels_are_taken_by_value(tmp_path, tiny, kind):
    labels = tokenise(tiny, staged(tmp_path, columns(label=GOOD_LABELS[kind])), SINGLE)["label"]
    assert labels == [1, 0, 1]
    assert {type(label) for label in labels} == {int}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 20_000_001, -1], [1, 20_000_000, -1]),
        ([True, False, True], [1, 0, 1]),
        ([decimal.Decimal("2.5"), decimal.Decimal("-1.0"), decimal.Decimal("0.1")], [2.5, -1, numpy.float32(0.1)]),
        ([0.1, 3e38, 1e-60], [numpy.float32(0.1), numpy.float32(3e38), 0]),
        (categories([2.5, 0.5, 2.5]), [2.5, 0.5, 2.5]),
        (["2.5", "-1", " .5"], [2.5, -1, 0.5]),
    ],
)
def test_numbers_of_a_regression_are_stored_with_32_bits(tmp_path, tiny, values, expected):
    assert tokenise(tiny, staged(tmp_path, columns(label=values), REGRESSION), REGRESSION)["label"] == expected


REFUSED = {
    # texts
    "no column": (SINGLE, {"sentence": None}, "has no column 'sentence'; it has: label, idx"),
    "null text": (SINGLE, {"sentence": ["a", None, "b"]}, "column 'sentence' has no text in row 1"),
    "null category": (SINGLE, {"sentence": categories(["a", "b", None])}, "column 'sentence' has no text in row 2"),
    "nulls only": (SINGLE, {"sentence": pyarrow.nulls(3)}, "column 'sentence' has no text in row 0"),
    "numbers": (SINGLE, {"sentence": [1, 2, 3]}, "column 'sentence' holds int64, not text"),
    "moments": (SINGLE, {"sentence": [MOMENT] * 3}, "column 'sentence' holds timestamp[us], not text"),
    "bytes": (SINGLE, {"sentence": NO_UTF8}, "column 'sentence' holds binary, not text"),
    "lists": (SINGLE, {"sentence": [["a"], [], ["b"]]}, "column 'sentence' holds list<element: string>, not text"),
    "structs": (SINGLE, {"sentence": [{"en": "a"}] * 3}, "column 'sentence' holds struct<en: string>, not text"),
    "number categories": (
        SINGLE,
        {"sentence": categories([1, 2, 1])},
        "column 'sentence' holds int64, not text",
    ),
    "no UTF-8": (
        SINGLE,
        {"sentence": strings(NO_UTF8)},
        r"column 'sentence' has bytes that are not UTF-8 in row 1: b'a \xff\xfe dog'",
    ),
    "no UTF-8, large": (
        SINGLE,
        {
            "sentence": strings(NO_UTF8[::-1])
            .cast(pyarrow.binary())
            .cast(pyarrow.large_binary())
            .view(pyarrow.large_string())
        },
        r"column 'sentence' has bytes that are not UTF-8 in row 0: b'\xed\xa0\x80'",
    ),
    "no UTF-8, categories": (
        SINGLE,
        {"sentence": pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1, 2], pyarrow.int8()), strings(NO_UTF8))},
        "column 'sentence' cannot be read from row 0 on: Invalid UTF8 payload",
    ),
    # class labels
    "no label column": (SINGLE, {"label": None}, "has no column 'label'; it has: sentence, idx"),
    "label above": (SINGLE, {"label": [0, 1, 2]}, "column 'label' has 2 in row 2; allowed: 0 to 1 (no, yes)"),
    "label below": (SINGLE, {"label": [0, -2, 1]}, "column 'label' has -2 in row 1; allowed: 0 to 1 (no, yes)"),
    "hidden label": (
        SINGLE,
        {"label": [0, -1, 1]},
        "column 'label' has -1 in row 1; allowed: 0 to 1 (no, yes); -1 hides a label, which only splits under `test:`",
    ),
    "null label": (SINGLE, {"label": [0, None, 1]}, "column 'label' has no value in row 1; allowed: 0 to 1"),
    "null labels only": (SINGLE, {"label": pyarrow.nulls(3)}, "column 'label' has no value in row 0; allowed: 0 to 1"),
    "fraction": (SINGLE, {"label": [0, 0.5, 1]}, "column 'label' has 0.5 in row 1; allowed: 0 to 1"),
    "decimal fraction": (SINGLE, {"label": [decimal.Decimal("0.5")] * 3}, "column 'label' has 0.5 in row 0; allowed:"),
    "NaN label": (SINGLE, {"label": [0, 1, math.nan]}, "column 'label' has nan in row 2; allowed: 0 to 1"),
    "infinite label": (SINGLE, {"label": [0, math.inf, 1]}, "column 'label' has inf in row 1; allowed: 0 to 1"),
    "huge label": (
        SINGLE,
        {"label": pyarrow.array([0, 2**64 - 1, 1], pyarrow.uint64())},
        "column 'label' has 18446744073709551615 in row 1; allowed: 0 to 1",
    ),
    "names": (
        SINGLE,
        {"label": ["no", "yes ", "no"]},
        "column 'label' has 'yes ' in row 1; allowed: 0 to 1 (no, yes). Did you mean 'yes'?",
    ),
    "name categories": (SINGLE, {"label": categories(["No"] * 3)}, "column 'label' has 'No' in row 0; allowed: 0 to 1"),
    "digits": (SINGLE, {"label": ["0", "1", "2"]}, "column 'label' has '2' in row 2; allowed: 0 to 1"),
    "digits with an underscore": (SINGLE, {"label": ["0", "0_1", "0"]}, "column 'label' has '0_1' in row 1; allowed:"),
    "empty name": (SINGLE, {"label": ["no", "", "no"]}, "column 'label' has '' in row 1; allowed: 0 to 1"),
    "long name": (
        SINGLE,
        {"label": ["no" * 99, "", ""]},
        f"column 'label' has '{'no' * 28}... in row 0; allowed:",
    ),
    "braces": (SINGLE, {"label": ["{row}"] * 3}, "column 'label' has '{row}' in row 0; allowed: 0 to 1"),
    "label no UTF-8": (SINGLE, {"label": strings(NO_UTF8)}, "column 'label' has bytes that are not UTF-8 in row 1"),
    "moment as label": (
        SINGLE,
        {"label": [MOMENT] * 3},
        "column 'label' holds timestamp[us], which cannot be labels",
    ),
    "list as label": (
        SINGLE,
        {"label": [[1], [0], [1]]},
        "column 'label' holds list<element: int64>, which",
    ),
    "bytes as label": (
        SINGLE,
        {"label": NO_UTF8},
        "column 'label' holds binary, which cannot be labels; allowed: 0 to 1",
    ),
    # a regression's labels
    "null number": (REGRESSION, {"label": [0.5, None, 1]}, "column 'label' has no value in row 1; allowed: a number"),
    "NaN": (REGRESSION, {"label": [0.5, 1, math.nan]}, "column 'label' has nan in row 2; allowed: a number"),
    "infinity": (REGRESSION, {"label": [0.5, -math.inf, 1]}, "column 'label' has -inf in row 1; allowed: a number"),
    "above 32 bits": (REGRESSION, {"label": [0.5, 1, 1e39]}, "column 'label' has 1e+39 in row 2; allowed: a number"),
    "text": (REGRESSION, {"label": ["0.5", "1,5", "2"]}, "column 'label' has '1,5' in row 1; allowed: a number"),
    "day": (REGRESSION, {"label": [MOMENT.date()] * 3}, "column 'label' holds date32[day], which cannot be labels"),
    # the examples' numbers
    "null idx": (
        SINGLE,
        {"idx": pyarrow.array([0, None, 2])},
        "column 'idx' has no value in row 1; number all",
    ),
    "huge idx": (
        SINGLE,
        {"idx": pyarrow.array([0, 1, 2**63], pyarrow.uint64())},
        "column 'idx' has 9223372036854775808 in row 2; number all examples, or remove the column",
    ),
    # tables
    "no rows": (SINGLE, {"sentence": pyarrow.array([], pyarrow.string()), "label": [], "idx": []}, "has no rows"),
    "no columns": (SINGLE, dict.fromkeys(("sentence", "label", "idx")), "has no column 'sentence'; it has: none"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_data_that_do_not_fit_are_refused_with_file_column_and_row(tmp_path, tiny, case, split):
    task, changes, expected = REFUSED[case]
    data = staged(tmp_path, columns(task, **changes), task, name=f"{split}-00000-of-00001.parquet")
    # The user's own file, not its copy below resources/.
    file = tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"
    assert f"{file}: {expected}" in refusal(tiny, data, task)


def test_a_row_is_counted_from_0_in_its_own_file(tmp_path, tiny):
    healthy = builders.rows(12_000, SINGLE)
    broken = healthy | {"sentence": [*healthy["sentence"][:11_777], None, *healthy["sentence"][11_778:]]}
    staged(tmp_path, pyarrow.table(healthy), name="train-00000-of-00002.parquet")
    staged(tmp_path, pyarrow.table(broken), name="train-00001-of-00002.parquet", row_group_size=5000)
    (tmp_path / "parquet" / "train-00000-of-00001.parquet").unlink()
    data = builders.stage_task(tmp_path / "task", tmp_path / "parquet")
    message = refusal(tiny, data, SINGLE)
    assert message.endswith("train-00001-of-00002.parquet: column 'sentence' has no text in row 11777")


def test_categories_that_are_not_there_are_an_error():
    """Damage can leave the numbers of the categories and take their names."""
    broken = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 7]), pyarrow.array(["cat"]), safe=False)
    with pytest.raises(DataError, match=r"^train: column 'sentence' cannot be read: .*index"):
        texts_of(Place("train", "sentence", 0), broken)


def test_a_file_of_the_hub_is_named_by_its_copy(tmp_path, tiny):
    data = staged(tmp_path, columns(label=[0, 1, 7]))
    data.write_text(json.dumps(read_json(data) | {"source": "org/name"}), encoding="utf-8")
    assert refusal(tiny, data, SINGLE).startswith(
        f"{data.parent / 'train-00000-of-00001.parquet'}: column 'label' has 7"
    )


def test_a_folder_may_have_braces_in_its_name(tmp_path, tiny):
    data = staged(tmp_path / "{row}{}", columns(sentence=REFUSED["no UTF-8, categories"][1]["sentence"]))
    assert "{row}{}/parquet/train-00000-of-00001.parquet: column 'sentence' cannot be" in refusal(tiny, data, SINGLE)


def test_a_broken_second_text_of_a_pair_is_named(tmp_path, tiny):
    data = staged(tmp_path, columns(PAIR, second=["a", "b", None]), PAIR)
    assert "column 'second' has no text in row 2" in refusal(tiny, data, PAIR)


def test_a_broken_validation_split_is_told_before_the_training_split_is_tokenised(tmp_path, tiny):
    data = staged(tmp_path, columns(label=[0, 9, 1]), name="validation-00000-of-00001.parquet")
    refusal(tiny, data, SINGLE)
    assert not (tmp_path / "tokens" / "train.arrow").exists()


@pytest.mark.parametrize("name", ["sentence", "label", "idx"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, tiny, name):
    table = columns()
    data = staged(tmp_path, table.append_column(name, table.column(name)))
    assert f"train-00000-of-00001.parquet: has 2 columns named '{name}'; rename all but one" in refusal(
        tiny, data, SINGLE
    )


def test_other_columns_are_not_read(tmp_path, tiny):
    plain = tokenise(tiny, staged(tmp_path / "plain", columns()), SINGLE)
    others = {
        "sentence.en": [{"deep": [1]}] * 3,
        "label.text": strings(NO_UTF8),
        "\n": pyarrow.nulls(3),
        "Label": ["x"] * 3,
    }
    table = pyarrow.Table.from_arrays(
        [*columns().columns, *map(pyarrow.array, others.values()), pyarrow.array([1] * 3), pyarrow.array([2] * 3)],
        names=[*columns().column_names, *others, "twice", "twice"],
    )
    assert tokenise(tiny, staged(tmp_path / "odd", table), SINGLE) == plain


@pytest.mark.parametrize("names", [("label", "idx", "gold"), ("idx", "a.b", "label"), ("text", "more", "idx")])
def test_columns_may_have_any_name(tmp_path, tiny, names):
    made = []
    for first, second, label in (names, ("first", "second", "label")):
        task = builders.task(text_columns=[first, second], label_column=label, validation={})
        table = pyarrow.table({first: TEXTS, second: TEXTS[::-1], label: [1, 0, 1]})
        made.append(tokenise(tiny, staged(tmp_path / first, table, task), task))
    assert made[0] == made[1]
    assert made[0]["idx"] == [0, 1, 2]


def test_a_missing_column_of_very_many_is_told_in_one_line(tmp_path, tiny):
    table = pyarrow.table({f"column\n{number}": [1] for number in range(900)})
    message = refusal(tiny, staged(tmp_path, table), SINGLE)
    assert r"has no column 'sentence'; it has: 'column\n0', 'column\n1', " in message


@pytest.mark.parametrize(
    ("idx", "expected"),
    [
        ([7, 3, 5], [7, 3, 5]),
        ([7, 7, -1], [7, 7, -1]),
        (pyarrow.array([1, 2, 2**63 - 1], pyarrow.uint64()), [1, 2, 2**63 - 1]),
        (["a", "b", "c"], [0, 1, 2]),
        ([0.0, None, 2.0], [0, 1, 2]),
        (None, [0, 1, 2]),
    ],
)
def test_idx_is_the_datas_own_where_it_has_whole_numbers(tmp_path, tiny, idx, expected):
    assert tokenise(tiny, staged(tmp_path, columns(idx=idx)), SINGLE)["idx"] == expected


def test_hidden_labels_of_a_test_split_are_kept(tmp_path, tiny):
    data = staged(tmp_path, columns(label=[-1, -1, 1]), WITH_TEST, name="test-00000-of-00001.parquet")
    tokenise(tiny, data, WITH_TEST)
    with pyarrow.OSFile(str(tmp_path / "tokens" / "test.arrow")) as source:
        assert pyarrow.ipc.open_stream(source).read_all().column("label").to_pylist() == [-1, -1, 1]


def test_a_null_label_of_a_test_split_is_told_what_hides_one(tmp_path, tiny):
    data = staged(tmp_path, columns(label=[-1, None, 1]), WITH_TEST, name="test-00000-of-00001.parquet")
    message = refusal(tiny, data, WITH_TEST)
    assert "'label' has no value in row 1; allowed: 0 to 1 (no, yes), or -1 for a hidden label" in message


def test_a_split_that_is_also_scored_has_no_hidden_labels(tmp_path, tiny):
    task = builders.task(test=["validation"])
    data = staged(tmp_path, columns(label=[0, -1, 1]), task, name="validation-00000-of-00001.parquet")
    assert "column 'label' has -1 in row 1" in refusal(tiny, data, task)


# Files


def parts(folder, task=SINGLE, **tables):
    """Stage a task whose training split has these files."""
    for split in task.splits[1:]:
        builders.write_split(folder / "parquet", split, builders.rows(5, task))
    for name, table in tables.items():
        pyarrow.parquet.write_table(table, folder / "parquet" / f"train-{name[1:].replace('_', '-')}.parquet")
    return builders.stage_task(folder / "task", folder / "parquet")


def test_parts_with_other_types_and_columns_are_read_each_by_its_own(tmp_path, tiny):
    first = columns(sentence=categories(TEXTS), label=[True, False, True])
    second = (
        columns(label=[0.0, 1.0, 0.0], idx=None).append_column("more", [TEXTS]).select(["more", "label", "sentence"])
    )
    made = tokenise(tiny, parts(tmp_path, _00000_of_00002=first, _00001_of_00002=second), SINGLE)
    assert made["label"] == [1, 0, 1, 0, 1, 0]
    assert made["idx"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_part_that_is_not_there_is_named(tmp_path, tiny, missing):
    tables = {f"_{number:05}_of_00003": columns() for number in range(3) if number != missing}
    message = refusal(tiny, parts(tmp_path, **tables), SINGLE)
    assert message.endswith(f"train-{missing:05}-of-00003.parquet: is missing; split 'train' has 2 of its 3 files")


def test_parts_of_two_sets_are_refused(tmp_path, tiny):
    tables = dict.fromkeys(("_00000_of_00001", "_00000_of_00002", "_00001_of_00002"), columns())
    message = refusal(tiny, parts(tmp_path, **tables), SINGLE)
    assert "split 'train' mixes files of several sets, train-00000-of-00001.parquet, train-00000-of-00002" in message


@pytest.mark.parametrize("change", [{"sentence": [1, 2, 3]}, {"label": None}, {"label": ["a", "b", "c"]}])
def test_the_part_that_does_not_fit_is_named(tmp_path, tiny, change):
    data = parts(tmp_path, _00000_of_00002=columns(), _00001_of_00002=columns(**change))
    assert "train-00001-of-00002.parquet: " in refusal(tiny, data, SINGLE)


def test_an_empty_part_is_no_trouble(tmp_path, tiny):
    data = parts(tmp_path, _00000_of_00002=columns().slice(0, 0), _00001_of_00002=columns())
    assert len(tokenise(tiny, data, SINGLE)["label"]) == 3


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path, tiny):
    data = staged(tmp_path, columns())
    task = dataclasses.replace(SINGLE, validation={"dev": ""})
    assert "task 'tiny' has no split 'dev'; it has: train, validation" in refusal(tiny, data, task)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("place", [5, -200, -1])
def test_a_staged_file_that_changed_is_named(tmp_path, tiny, place):
    data = staged(tmp_path, columns())
    flip(data.parent / "validation-00000-of-00001.parquet", place)
    assert "task/validation-00000-of-00001.parquet: has changed since it was staged" in refusal(tiny, data, SINGLE)


def test_a_staged_file_that_is_gone_is_named(tmp_path, tiny):
    data = staged(tmp_path, columns())
    (data.parent / "validation-00000-of-00001.parquet").unlink()
    assert "task/validation-00000-of-00001.parquet: cannot be read (No such file" in refusal(tiny, data, SINGLE)


def test_files_that_the_task_does_not_use_are_not_looked_at(tmp_path, tiny):
    data = staged(tmp_path, columns(), WITH_TEST)
    flip(data.parent / "test-00000-of-00001.parquet", 10)
    assert len(tokenise(tiny, data, SINGLE)["label"]) == 3


def test_a_tokenizer_that_changed_is_named(tmp_path):
    tokenizer = builders.stage_model(tmp_path / "staged", builders.write_model(tmp_path / "model"))
    name = read_json(tokenizer)["tokenizer"]["file"]
    flip(tokenizer.parent / name, -10)
    assert f"staged/{name}: has changed since it was staged" in refusal(tokenizer, staged(tmp_path, columns()), SINGLE)


NO_PARQUET = {
    "nothing": b"",
    "CSV": b"sentence,label\nthe cat,1\n",
    "JSON": b'{"sentence": "the cat"}',
    "magic only": b"PAR1PAR1",
    "a length beyond the file": b"PAR1" + b"\xff\xff\xff\x7fPAR1",
}


@pytest.mark.parametrize("kind", NO_PARQUET)
def test_a_file_that_is_no_parquet_is_named_when_it_is_fetched(tmp_path, kind):
    builders.write_split(tmp_path / "parquet", "train", builders.rows(5, SINGLE))
    (tmp_path / "parquet" / "validation-00000-of-00001.parquet").write_bytes(NO_PARQUET[kind])
    problem = r"/parquet: validation-00000-of-00001\.parquet: is not a parquet file, or is damaged: .+$"
    with pytest.raises(StagingError, match=rf"^{re.escape(str(tmp_path))}{problem}"):
        builders.stage_task(tmp_path / "task", tmp_path / "parquet")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_named_when_it_is_fetched(tmp_path, kept):
    path = builders.write_split(tmp_path / "parquet", "train", builders.rows(50, SINGLE))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    problem = r"/parquet: train-00000-of-00001\.parquet: is not a parquet file, or is damaged: .+$"
    with pytest.raises(StagingError, match=rf"^{re.escape(str(tmp_path))}{problem}"):
        builders.stage_task(tmp_path / "task", tmp_path / "parquet")


LAYOUTS = {
    "plain": {"compression": "none"},
    "snappy": {},
    "groups": {"compression": "zstd", "row_group_size": 5},
    "second version": {"data_page_version": "2.0", "use_dictionary": False, "column_encoding": "PLAIN"},
    "checksums": {"write_page_checksum": True},
    "categories": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_damage_of_a_users_file_ends_in_a_traceback(tmp_path, tiny, layout):
    """Without checksums, bytes may be read as other values; with them, the result is right or an error."""
    texts = [builders.sentence(number) for number in range(12)]
    sentence = categories(texts) if layout == "categories" else texts
    table = columns(sentence=sentence, label=[0, 1] * 6, idx=[*range(12)])
    task = builders.task(validation={})
    healthy = tokenise(tiny, staged(tmp_path, table, task, **LAYOUTS[layout]), task)
    path = tmp_path / "parquet" / "train-00000-of-00001.parquet"
    content = path.read_bytes()
    results = []
    for place in range(0, len(content), 10):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            made = tokenise(tiny, builders.stage_task(tmp_path / "task", path.parent), task)
        except GluegridError as error:
            assert "\n" not in str(error)
            assert path.name in str(error)
            results.append("refused")
        else:
            results.append("equal" if made == healthy else "other values")
    assert results.count("refused") > len(results) / 5
    assert layout != "checksums" or "other values" not in results


def test_a_file_with_fewer_rows_than_it_claims_is_named(tmp_path, tiny):
    staged(tmp_path, columns())
    path = tmp_path / "parquet" / "train-00000-of-00001.parquet"
    content = path.read_bytes()
    # The count of rows, 3, is a zigzag number behind field 3 of the footer, before the list of row groups.
    claims = content.rindex(bytes([0x16, 6, 0x19]))
    path.write_bytes(content[:claims] + bytes([0x16, 8, 0x19]) + content[claims + 3 :])
    data = builders.stage_task(tmp_path / "task", tmp_path / "parquet")
    assert "is damaged: it has 3 rows but claims 4; write it again" in refusal(tiny, data, SINGLE)


# One row, and the scripts


@pytest.mark.parametrize("task", [SINGLE, REGRESSION], ids=["classes", "numbers"])
def test_one_row_to_train_on_and_one_to_score_give_a_result(tmp_path, task):
    from gluegrid.execution.cell_state import CellFiles
    from gluegrid.execution.preemption import Preemption
    from gluegrid.training.run_cell import finetune

    one = builders.rows(1, task)
    model, tokens = builders.cell_files(
        tmp_path, task, builders.write_model(tmp_path / "source"), train=one, validation=one
    )
    files = CellFiles(tmp_path / "results/e/runs/tiny/tiny/base/seed-42/run.json")
    finetune(builders.run(task), files, model / "manifest.json", tokens, {"run_sha256": "0"}, Preemption())
    results = read_json(files.last_good / "all_results.json")
    assert results["train_samples"] == results["eval_samples"] == 1
    if task.is_regression:
        assert results["eval_pearson"] is results["eval_spearmanr"] is results["eval_combined_score"] is None
        assert results["degenerate"] is True
    else:
        assert results["eval_accuracy"] in (0, 1)
        assert "degenerate" not in results


def run_script(project, name, *arguments):
    command = [sys.executable, str(project / "scripts" / name), *map(str, arguments)]
    return subprocess.run(
        command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=HANG
    )


def test_the_scripts_end_with_one_line(project, tmp_path, tiny):
    data = staged(tmp_path, columns(label=[0, 1, 7]))
    definition = json.dumps(dataclasses.asdict(SINGLE))
    manifest = tmp_path / "tokens" / "manifest.json"
    arguments = ("--tokenizer", tiny, "--task", data, "--definition", definition, "--max-seq-length", 16)
    done = run_script(project, "tokenize_task.py", *arguments, "--manifest", manifest)
    file = tmp_path / "parquet" / "train-00000-of-00001.parquet"
    assert done.returncode == 1
    assert done.stderr == f"gluegrid: {file}: column 'label' has 7 in row 2; allowed: 0 to 1 (no, yes)\n"
    file.write_bytes(file.read_bytes()[:-1])
    manifest = tmp_path / "again" / "manifest.json"
    arguments = ("--source", file.parent, "--folder", "", "--revision", "1", "--manifest", manifest)
    done = run_script(project, "fetch_task.py", *arguments)
    assert done.returncode == 1
    problem = f"{file.parent}: {file.name}: is not a parquet file, or is damaged: "
    assert done.stderr.splitlines()[-1].startswith(f"gluegrid: {problem}")
    assert "Traceback" not in done.stderr
