"""YAML as people mean it."""

import math
import time
from pathlib import Path

import pytest

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.yaml_loader import load


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
        ("x:\n  <<: {a: 1}\n  <<: {b: 2}\n", 3, "<<", 2),
        ("x: {<<: {a: 1, a: 2}}\n", 1, "a", 1),
    ],
)
def test_a_key_that_stands_twice_is_an_error_at_any_depth(file, text, line, key, first):
    assert problems_of(file(text)) == [
        f"x.yaml:{line}: key {key!r} appears twice (first on line {first}); keep one of them"
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
        (
            "a: 1\nb: &x 1\nc: &x 2\n",
            "x.yaml:3: not valid YAML: found duplicate anchor 'x'; first occurrence, second occurrence",
        ),
        ("a: !!map 5\n", "x.yaml:1: not valid YAML: expected a mapping node, but found scalar"),
        ("a: !!str [5]\n", "x.yaml:1: not valid YAML: expected a scalar node, but found sequence"),
        ("a: 1\nb: '\n", "x.yaml:3: not valid YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', "x.yaml:2: not valid YAML: an escape or a version number is out of range"),
        ('a: 1\nb: "\\U00110000"\n', "x.yaml:2: not valid YAML: an escape or a version number is out of range"),
        (f"%YAML {'9' * 5000}.1\n---\n", "x.yaml:1: not valid YAML: an escape or a version number is out of range"),
        (
            "%YAML 2.0\n---\na: 1\n",
            "x.yaml:1: not valid YAML: found incompatible YAML document (version 1.* is required)",
        ),
    ],
)
def test_what_is_no_yaml_is_one_line_with_its_place(file, text, problem):
    assert problems_of(file(text)) == [problem]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("!!bool maybe", "'maybe' does not match the tag 'tag:yaml.org,2002:bool'"),
        ("!!float nan", "'nan' does not match the tag 'tag:yaml.org,2002:float'"),
        ("!!null 5", "'5' does not match the tag 'tag:yaml.org,2002:null'"),
        ("!!int 1.5", "'1.5' does not match the tag 'tag:yaml.org,2002:int'"),
        ("!!timestamp 2024-01-02", "could not determine a constructor for the tag 'tag:yaml.org,2002:timestamp'"),
        ("!!set {1, 2}", "could not determine a constructor for the tag 'tag:yaml.org,2002:set'"),
        ("!!binary aGk=", "could not determine a constructor for the tag 'tag:yaml.org,2002:binary'"),
        ("!mine 1", "could not determine a constructor for the tag '!mine'"),
        (
            "!!python/object/apply:os.getcwd []",
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'",
        ),
        (
            "!!python/object/new:object {}",
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/new:object'",
        ),
        (
            "!!python/name:os.system ''",
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
        ),
    ],
)
def test_tags_bring_in_no_other_types(file, value, reason):
    assert problems_of(file(f"a: 1\nb: {value}\n")) == [f"x.yaml:2: not valid YAML: {reason}"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: \xff\n", "1: is not UTF-8 text (invalid start byte at byte 3)"),
        (b"a: 1\nb: gr\xf6\xdfer\n", "2: is not UTF-8 text (invalid start byte at byte 10)"),
        (b"a: \xed\xa0\x80\n", "1: is not UTF-8 text (invalid continuation byte at byte 3)"),
        (b"a: \xc0\x80\n", "1: is not UTF-8 text (invalid start byte at byte 3)"),
        (b"a: 1\nb: \xe4\xb8", "2: is not UTF-8 text (unexpected end of data at byte 8)"),
        (bytes(range(256)), "2: is not UTF-8 text (invalid start byte at byte 128)"),
        ("a: 1\n".encode("utf-16"), "1: is not UTF-8 text (it is UTF-16)"),
        (b"\xfe\xff" + "a: 1\n".encode("utf-16-be"), "1: is not UTF-8 text (it is UTF-16)"),
    ],
)
def test_a_file_that_is_not_utf8_is_one_line(file, content, problem):
    assert problems_of(file(content)) == [f"x.yaml:{problem}; save it as UTF-8"]


@pytest.mark.parametrize(
    ("content", "line", "place", "name"),
    [
        (b"a: '\0'\n", 1, 5, "U+0000, a control character"),
        ("a: 1\n".encode("utf-16-be"), 1, 1, "U+0000, a control character"),
        (b"a: 1\r\nb: \x1b[31m\r\n", 2, 4, "U+001B, a control character"),
        ("a: 1\n\n# \x7f\n", 3, 3, "U+007F, a control character"),
        ("a: 1\x85b: 2\n", 1, 5, "U+0085, a control character"),
        ("a: 1\u2028b: 2\n", 1, 5, "U+2028, LINE SEPARATOR"),
        ("a: 1\nb: 'x\u2029y'\n", 2, 6, "U+2029, PARAGRAPH SEPARATOR"),
        ("a: \ufffe\n", 1, 4, "U+FFFE, no character of Unicode"),
    ],
)
def test_a_character_that_hides_or_moves_text_is_one_line(file, content, line, place, name):
    problem = f"character {place} of this line is {name}, which is not allowed; remove it"
    assert problems_of(file(content)) == [f"x.yaml:{line}: {problem}"]


@pytest.mark.parametrize("text", ["größer", "模型", "👩\u200d🔬", "a\u00a0b", "\u200f"])
def test_other_characters_are_text(file, text):
    assert load(file(f"a: x{text}\n"))[0] == {"a": f"x{text}"}


def test_a_missing_file_is_one_line(tmp_path):
    path = tmp_path / "none.yaml"
    assert problems_of(path) == [f"{path}: cannot be read: No such file or directory"]


def test_a_directory_is_one_line(tmp_path):
    assert problems_of(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


@pytest.mark.parametrize("number", ["9" * 101, "-" + "9" * 5000, "9" * 100_000, "1." + "9" * 5000, "1e" + "9" * 5000])
def test_a_number_of_very_many_digits_is_one_line(file, number):
    assert problems_of(file(f"a: 1\nb: {number}\n")) == [
        f"x.yaml:2: not valid YAML: a number of {len(number)} characters"
    ]


def test_a_number_beyond_all_is_infinite_whatever_its_spelling(file):
    assert load(file("a: 1e999\nb: -1e999\nc: 1e-999\n"))[0] == {"a": math.inf, "b": -math.inf, "c": 0.0}


ALIASES_OF_ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
MERGES_OF_MERGES = "a0: &a0 {k: 1, l: 2}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}], k{level}: 1}}\n" for level in range(1, 12)
)
ALIASES_BELOW_ALIASES = "a0: &a0 [1]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 99))
TOO_DEEP = "nested more than 30 levels deep"
TOO_MUCH = "aliases up to here expand to more than 100000 characters"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: &x [*x]\n", "2: this alias refers to a value that contains it"),
        ("a: &x\n  b:\n    c: *x\n", "3: this alias refers to a value that contains it"),
        ("a: &x\n  <<: *x\n", "2: this alias refers to a value that contains it"),
        ("a: 1\nb: " + "[" * 30 + "]" * 30, f"2: {TOO_DEEP}"),
        ("[" * 100_000 + "]" * 100_000, f"1: {TOO_DEEP}"),
        ("[\n" * 100_000, f"31: {TOO_DEEP}"),
        ("{a: " * 50_000, f"1: {TOO_DEEP}"),
        ("- " * 100_000, f"1: {TOO_DEEP}"),
        ("? " * 100_000, f"1: {TOO_DEEP}"),
        ("".join(" " * level + "a:\n" for level in range(600)), f"30: {TOO_DEEP}"),
        (ALIASES_BELOW_ALIASES, f"29: {TOO_DEEP}"),
        (ALIASES_OF_ALIASES, f"5: {TOO_MUCH}"),
        (MERGES_OF_MERGES, f"6: {TOO_MUCH}"),
        (f"a: &x {'x' * 100_000}\nb:\n- *x\n", f"3: {TOO_MUCH}"),
        ("#" * 250_001, " is larger than 250,000 bytes; is it an experiment file?"),
    ],
)
def test_what_grows_beyond_bounds_is_one_line_at_once(file, text, problem):
    path = file(text)
    started = time.process_time()
    assert problems_of(path) == [f"x.yaml:{problem}"]
    assert time.process_time() - started < 60  # what grows without bounds would take minutes


def test_a_deep_file_and_a_file_with_many_aliases_are_read_within_the_bounds(file):
    assert load(file("a: " + "[" * 28 + "]" * 28))[0]
    assert load(file("a: &x " + "x" * 900 + "\nb: [" + "*x, " * 100 + "]\n"))[0]["b"] == ["x" * 900] * 100


def test_only_the_first_of_very_many_repeated_keys_are_told(file):
    problems = problems_of(file("a: 1\n" * 5000))
    assert len(problems) == 101
    assert problems[99:] == [
        "x.yaml:101: key 'a' appears twice (first on line 1); keep one of them",
        "x.yaml: has more mistakes; these are the first 100",
    ]


@pytest.mark.parametrize(
    "text", ["&" + "a" * 9000 + " x: *b", "a: !" + "x" * 9000 + " 1", f"{'k' * 9000}: 1\n{'k' * 9000}: 1\n"]
)
def test_a_long_name_makes_no_long_line(file, text):
    assert all(len(line) < 400 for line in problems_of(file(text)))


def test_endless_files_are_not_read_to_their_end():
    assert problems_of(Path("/dev/zero")) == ["/dev/zero: is larger than 250,000 bytes; is it an experiment file?"]
