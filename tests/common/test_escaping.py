import csv
import io
import unicodedata

import pytest
from hypothesis import example, given, settings
from rendering import HOSTILE, rows_of, texts_of

from gluegrid.common import escaping

EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)


@EXAMPLES
@given(HOSTILE)
@example("a\\|b\\")
@example("_x_ a_b __c__ d_ _e")
def test_escaped_text_renders_as_itself_wherever_it_stands(text):
    shown, escaped = escaping.one_line(text), escaping.markdown(text)
    assert rows_of(f"| a | {escaped} |\n|---|---|\n| {escaped} | b |") == [["a", shown], [shown, "b"]]
    assert texts_of(f"# Results of {escaped}") == [f"Results of {shown}".strip()]
    assert texts_of(f"- on {escaped}: x") == [f"on {shown}: x"]


@pytest.mark.parametrize(
    "name",
    [
        "bert_base-uncased",
        "Qwen2.5_7B",
        "a (b), c/d: 1.5 % + x = y!",
        "größer ää 中文",
        "torch 2.13.0+cpu",
        "AT&T",
        "~",
    ],
)
def test_plain_names_stay_readable(name):
    assert escaping.markdown(name) == name.replace("~", "\\~")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("[x](y) ![z](w)", "\\[x\\](y) !\\[z\\](w)"),
        ("<b onclick='x'>", "\\<b onclick='x'\\>"),
        ("**a** `b` ~~c~~", "\\*\\*a\\*\\* \\`b\\` \\~\\~c\\~\\~"),
        ("&lt; AT&T", "\\&lt; AT&T"),
        ("http://a.b www.a.b WWW.a.b", "http\\://a.b www\\.a.b WWW\\.a.b"),
        ("$x$ a|b\\", "\\$x\\$ a\\|b\\\\"),
    ],
)
def test_what_could_become_markup_is_escaped(text, escaped):
    assert escaping.markdown(text) == escaped


@EXAMPLES
@given(HOSTILE)
def test_one_line_holds_nothing_that_steers_a_terminal_or_turns_its_text(text):
    shown = escaping.one_line(text)
    left = {unicodedata.category(character) for character in shown if character not in escaping.JOINERS}
    assert not left & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode()


def test_joined_letters_and_emoji_stay_joined():
    family = "\U0001f468\u200d\U0001f469"
    assert escaping.one_line(family) == family


@EXAMPLES
@given(HOSTILE)
def test_a_code_span_in_a_table_is_one_code_span(text):
    path = f"logs/{text}.log"
    shown = escaping.one_line(path).replace("`", "'")
    assert rows_of(f"| a | b |\n|---|---|\n| {escaping.code(path)} | x |") == [["a", "b"], [f"`{shown}`", "x"]]


def test_a_paths_code_span_is_the_path():
    assert escaping.code("results/a/logs/train/bert_base/b-1.log") == "`results/a/logs/train/bert_base/b-1.log`"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\n=1"])
def test_no_spreadsheet_takes_a_text_for_a_formula(text):
    assert escaping.spreadsheet(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "1+1=2", "killed", "'=1", "a\n=1"])
def test_other_texts_stay_as_they_are_in_a_spreadsheet(text):
    assert escaping.spreadsheet(text) == text


@EXAMPLES
@given(HOSTILE)
def test_every_text_can_be_written_to_a_csv_and_read_back(text):
    cell = escaping.spreadsheet(escaping.encodable(text))
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerow([cell, "end"])
    read = csv.reader(io.StringIO(stream.getvalue().encode().decode(), newline=""))
    assert list(read) == [[cell, "end"]]


@pytest.mark.parametrize(("text", "expected"), [("x" * 10, "x" * 10), ("x" * 11, "x" * 7 + "..."), ("", "")])
def test_only_a_long_text_is_shortened(text, expected):
    assert escaping.shortened(text, 10) == expected
