"""YAML as people mean it."""

import re
from pathlib import Path

import pytest

from gluegrid.errors import ConfigError
from gluegrid.strict_yaml import load


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return a function that writes a file of this content and returns its path, which is short in messages."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> Path:
        path = Path("x.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(len(line.splitlines()) == 1 for line in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("2E5", 2e5),
        ("1e-3", 1e-3),
        ("-1e+3", -1e3),
        ("2.5e-5", 2.5e-5),
        (".5", 0.5),
        ("1.", 1.0),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("010", 10),
        ("32.0", 32.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_nothing_are_read_as_people_write_them(file, text, value):
    content, _ = load(file(f"key: {text}\n"))
    assert content == {"key": value}
    assert type(content["key"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "no", "on", "off", "Yes", "NO", "True", "FALSE", "y", "n"),
        *("1:30", "1:30:00", "0x1F", "0o17", "1_000", ".", "e5", "1e", "1.2.3", "1٢", "१"),
        *(".nan", ".inf", "-.inf", "nan", "inf"),
        *("2024-01-02", "2024-01-02 03:04:05", "=", "'5'", "'true'", "''"),
        "!!str 5",
    ],
)
def test_everything_else_stays_text(file, text):
    content, _ = load(file(f"key: {text}\n"))
    assert content == {"key": text.removeprefix("!!str ").strip("'")}


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "2024-01-02", "no", "~"])
def test_a_plain_key_is_text_whatever_it_looks_like(file, key):
    assert load(file(f"{key}: 1\n")) == ({key: 1}, {(key,): 1})


@pytest.mark.parametrize("key", ["? [a]\n: 1", "? {a: 1}\n: 1", "{[a]: 1}"])
def test_a_key_that_is_no_text_is_an_error(file, key):
    assert problems_of(file(key)) == ["x.yaml:1: a key must be text"]


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", 1),
        ("x:\n  y:\n    a: 1\n    a: 1\n", 4, "a", 3),
        ("x: {a: 1, b: 2, a: 3}\n", 1, "a", 1),
        ("x:\n- {a: 1}\n- {a: 1,\n   a: 2}\n", 4, "a", 3),
        ("1: x\n'1': y\n", 2, "1", 1),
        ("a: 1\n? a\n: 2\n", 2, "a", 1),
        ("base: &base {a: 1, a: 2}\nx: 1\n", 1, "a", 1),
        ("x: {<<: {a: 1, a: 2}}\n", 1, "a", 1),
    ],
)
def test_a_key_that_stands_twice_is_an_error_at_any_depth(file, text, line, key, first):
    assert problems_of(file(text)) == [
        f"x.yaml:{line}: key {key!r} stands twice (first on line {first}); keep one of them"
    ]


def test_all_repeated_keys_are_reported(file):
    assert len(problems_of(file("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n"))) == 3


def test_equal_keys_in_different_places_are_no_repetition(file):
    assert load(file("a: {x: 1}\nb: {x: 2}\nc: [{x: 3}, {x: 4}]\n"))[0]["b"] == {"x": 2}


def test_merge_keys_give_values_that_own_keys_override(file):
    content, _ = load(file("base: &base {a: 1, b: 2}\nx:\n  <<: *base\n  b: 3\n"))
    assert content["x"] == {"a": 1, "b": 3}


def test_several_mappings_can_be_merged_and_the_first_wins(file):
    content, _ = load(file("p: &p {a: 1}\nq: &q {a: 2, b: 2}\nx: {<<: [*p, *q]}\n"))
    assert content["x"] == {"a": 1, "b": 2}


def test_a_quoted_merge_key_is_an_ordinary_key(file):
    assert load(file("'<<': 1\n"))[0] == {"<<": 1}


def test_aliases_repeat_what_their_anchor_names(file):
    content, lines = load(file("a: &seeds [1, 2]\nb: *seeds\n"))
    assert content == {"a": [1, 2], "b": [1, 2]}
    assert lines[("b",)] == 2


def test_each_key_and_item_has_its_line(file):
    _, lines = load(file("a: 1\n\n# comment\nb:\n  c: {d: 1,\n    e: 2}\n  f:\n  - 1\n  - g: 3\n"))
    assert lines == {
        ("a",): 1,
        ("b",): 4,
        ("b", "c"): 5,
        ("b", "c", "d"): 5,
        ("b", "c", "e"): 6,
        ("b", "f"): 7,
        ("b", "f", 0): 8,
        ("b", "f", 1): 9,
        ("b", "f", 1, "g"): 9,
    }


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "~\n"])
def test_an_empty_file_is_nothing(file, text):
    assert load(file(text)) == (None, {})


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfa: 1\n", b"a: 1\r\n", b"a: 1", "a: 1 # größer\n".encode()])
def test_byte_order_mark_line_ends_and_other_scripts_do_no_harm(file, text):
    assert load(file(text))[0] == {"a": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a: [1, 2\nb: 3\n",
            "x.yaml:2: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got ':'",
        ),
        ("a: 1\n b: 2\n", "x.yaml:2: not valid YAML: mapping values are not allowed here"),
        (
            "a:\n\t- b\n",
            "x.yaml:2: not valid YAML: while scanning for the next token,"
            " found character '\\t' that cannot start any token",
        ),
        ("a: *b\n", "x.yaml:1: not valid YAML: found undefined alias 'b'"),
        (
            "a: 1\n---\nb: 2\n",
            "x.yaml:2: not valid YAML: expected a single document in the stream, but found another document",
        ),
        (
            "a: {<<: 5}\n",
            "x.yaml:1: not valid YAML: while constructing a mapping,"
            " expected a mapping or list of mappings for merging, but found scalar",
        ),
        ("a: '\0'\n", "x.yaml: not valid YAML: unacceptable character #x0000: special characters are not allowed"),
        ("a: &x [*x]\n", "x.yaml: nested too deeply, or an alias stands inside what it names"),
        ("[" * 2000, "x.yaml: nested too deeply, or an alias stands inside what it names"),
    ],
)
def test_what_is_no_yaml_is_one_line_with_its_place(file, text, problem):
    assert problems_of(file(text)) == [problem]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("!!bool maybe", "'maybe' does not suit the tag 'tag:yaml.org,2002:bool'"),
        ("!!float nan", "'nan' does not suit the tag 'tag:yaml.org,2002:float'"),
        ("!!int 1.5", "'1.5' does not suit the tag 'tag:yaml.org,2002:int'"),
        ("!!timestamp 2024-01-02", "could not determine a constructor for the tag 'tag:yaml.org,2002:timestamp'"),
        ("!!set {1, 2}", "could not determine a constructor for the tag 'tag:yaml.org,2002:set'"),
        ("!mine 1", "could not determine a constructor for the tag '!mine'"),
        (
            "!!python/object/apply:os.getcwd []",
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'",
        ),
    ],
)
def test_tags_bring_in_no_other_types(file, value, reason):
    assert problems_of(file(f"a: 1\nb: {value}\n")) == [f"x.yaml:2: not valid YAML: {reason}"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a: \xff\n", "invalid start byte at byte 3"), (bytes(range(256)), "invalid start byte at byte 128")],
)
def test_a_file_that_is_not_utf8_is_one_line(file, content, reason):
    assert problems_of(file(content)) == [f"x.yaml: is not UTF-8 text: {reason}"]


def test_a_missing_file_is_one_line(tmp_path):
    path = tmp_path / "none.yaml"
    assert problems_of(path) == [f"{path}: cannot be read: No such file or directory"]


def test_a_directory_is_one_line(tmp_path):
    assert problems_of(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_a_number_of_thousands_of_digits_is_one_line(file):
    assert re.match(r"x\.yaml: not valid YAML: ", problems_of(file("a: " + "9" * 5000))[0])
