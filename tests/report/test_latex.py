"""Names in LaTeX, read by a small reader of the commands that we write: a TeX is not at hand everywhere."""

import re

import pytest
from groups import point
from hypothesis import example, given
from hypothesis import strategies as st
from rendering import HOSTILE

from gluegrid.analysis.bootstrap import Difference
from gluegrid.analysis.comparisons import Comparison
from gluegrid.common import escaping
from gluegrid.report.latex import latex, latex_table
from gluegrid.report.scores import score_table
from gluegrid.report.significance import SavedComparisons

COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    r"{\char34}": '"',
} | {f"\\{character}": character for character in "#$%&_{}"}
READABLE = re.compile("|".join(map(re.escape, COMMANDS)) + r"|\{([*\[]|)\}|[^\\{}#$%&_~^<>|`\"*\[]")
LIGATURES = ("--", "''", "``", ",,", "<<", ">>")


def read(text: str) -> str:
    """Return what LaTeX sets; fails for what is no command of ours and means something."""
    result, place = "", 0
    while place < len(text):
        found = READABLE.match(text, place)
        assert found, f"{text[place:]!r} is no text"
        result += COMMANDS.get(found[0], found[1] if found[1] is not None else found[0])
        place = found.end()
    return result


@given(HOSTILE | st.text())
@example("100% of $x_1$ & #2 {a}^~\\ \"q\" --- '' `` ,, [a] *b* <s>|")
def test_any_name_is_set_as_the_text_that_it_is(name):
    expected = escaping.one_line(name).replace(escaping.REPLACEMENT, "?")
    text = latex(name)
    assert read(text) == expected
    assert not any(ligature in text for ligature in LIGATURES)


def table(*groups) -> list[str]:
    chosen = list(groups)
    return latex_table("my\nexperiment", score_table(chosen), chosen).splitlines()


def test_a_row_has_as_many_columns_as_the_table():
    lines = table(
        point("base", 0.5, 0.6, model="a_1", task="cola"),
        point("base", 0.9, model="a_1", task="rte"),
        point("base", 0.7, 0.8, None, model="b", task="cola"),
        point("base", "out of memory", model="b", task="rte"),
    )
    assert lines[lines.index(r"\toprule") - 1] == r"\begin{tabular}{@{}lrrr@{}}"
    assert lines[-1] == r"\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert rows == [
        r"Model & COLA & RTE & Mean \\",
        r"a\_1 & 55.00 $\pm$ 7.07 & 90.00 & 72.50 \\",
        r"b & 75.00 $\pm$ 7.07 (2/3) & failed & 75.00 (1 of 2 tasks) \\",
    ]


def test_what_is_best_by_more_than_chance_is_bold():
    groups = [point("base", 0.9, model="a"), point("base", 0.5, model="b")]
    difference = Difference(0.4, 0.3, 0.5, 1.0, 0.001)
    win = Comparison(["cola"], "a", "b", (0.9, 0.5), difference, True, 0.001)
    comparisons = SavedComparisons(0.95, [win], [], False)
    lines = latex_table("experiment", score_table(groups, comparisons), groups).splitlines()
    bold = r"\textbf{90.00}$^{\dagger}$"
    assert rf"a & {bold} & {bold} \\" in lines
    assert r"b & 50.00 & 50.00 \\" in lines
    assert any(line.startswith("% Bold:") and "Holm" in line for line in lines)
    assert any("seed" in line and "dagger" in line for line in lines)
    assert not any("dagger" in line or "Bold" in line for line in table(*groups))


def test_what_is_not_of_the_official_data_is_marked():
    group = point("base", 0.5)
    marked = [line for line in table(group) if "50.00" in line]
    assert marked == [r"bert & 50.00 & 50.00 \\"]
    object.__setattr__(group.outcomes[0], "data", "train 10 of\n20")
    lines = table(group)
    assert r"bert & 50.00$^{*}$ & 50.00$^{*}$ \\" in lines
    assert "% - on COLA: train 10 of 20" in lines


def test_comments_say_the_precision_and_where_it_is_another():
    groups = [point("base", 0.5, model="a"), point("base", 0.6, 0.7, model="b", run={"precision": "auto"})]
    for group, precision in zip(groups, ("fp32", "bf16"), strict=True):
        for outcome in group.outcomes:
            outcome.record["precision"] = precision
    lines = table(*groups)
    assert "% Precision: bf16; fp32." in lines
    assert "% Precisions differ: fp32 in all of a; bf16 in all others." in lines


@pytest.mark.parametrize("name", ["[a]", "*a", "a%b", "a\nb"])
def test_a_name_begins_no_option_and_ends_no_line(name):
    group = point("base", 0.5, model=name)
    (row,) = [line for line in table(group) if "50.00" in line]
    assert read(row.split(" & ")[0]) == " ".join(name.split())


def test_braces_are_balanced_and_comments_stay_comments():
    lines = table(point("base", 0.5, model="a}{", task="b%"))
    text = "\n".join(line for line in lines if not line.startswith("% "))
    plain = text.replace("\\{", "").replace("\\}", "")
    assert plain.count("{") == plain.count("}")
    assert "% Scores of my experiment, by gluegrid." in lines
