"""Models by tasks as a LaTeX table, with the rules of the booktabs package."""

import re
from collections.abc import Iterator, Sequence

from gluegrid.common import escaping
from gluegrid.common.formatting import NOTHING, percent
from gluegrid.report.scores import ModelScores, Score, ScoreTable
from gluegrid.results.notes import precision_notes
from gluegrid.results.result_text import MARK, MARKED, best_of, task_name
from gluegrid.results.selection import was_chosen
from gluegrid.results.summary import Group
from gluegrid.results.table_notes import synthetic_note
from gluegrid.results.tables import data_notes

PRINTED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"{\char34}",
    # After the end of a row, these would start its options.
    "*": "{*}",
    "[": "{[}",
    escaping.REPLACEMENT: "?",
} | {character: f"\\{character}" for character in "#$%&_{}"}
# Characters with a meaning in LaTeX, and those that form another character with their neighbour.
MARKUP = re.compile("|".join(map(re.escape, PRINTED)) + "|-(?=-)|'(?=')|,(?=,)")
HOW_TO_USE = (
    r"In the preamble: \usepackage{booktabs}. In a table environment: \input{table.tex}.",
    "Names in non-Latin scripts need XeLaTeX or LuaLaTeX.",
    "Metrics x 100 on the validation splits: mean and standard deviation over seeds.",
    "A task with several metrics counts with their mean.",
    "In parentheses: the number of seeds, where some have no result.",
)
BOLD = (
    "Bold: the highest score and those not told apart from it, where another model is worse (paired bootstrap, Holm).",
    r"$\dagger$: rests on one seed.",
)
DAGGER = r"$^{\dagger}$"


def latex(text: str) -> str:
    """Return LaTeX that prints the text itself, on one line."""
    return MARKUP.sub(lambda match: PRINTED.get(match[0], match[0] + "{}"), escaping.one_line(text))


def latex_table(name: str, table: ScoreTable, chosen: Sequence[Group]) -> str:
    """Return the table of the experiment with this name."""
    titles = [latex(title) for title in table.tasks.values()]
    columns = "r" * (len(titles) + 1)
    lines = [
        *(f"% {line}" for line in _comments(name, table, chosen)),
        rf"\begin{{tabular}}{{@{{}}l{columns}@{{}}}}",
        r"\toprule",
        _line(["Model", *titles, "Mean"]),
        r"\midrule",
        *(_row(row, row.is_best and row.count == len(table.common)) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _comments(name: str, table: ScoreTable, chosen: Sequence[Group]) -> Iterator[str]:
    yield f"Scores of {escaping.one_line(name)}, by gluegrid."
    yield from HOW_TO_USE
    if marked := [it for row in table.rows for it in (row, *row.scores) if it.is_best]:
        yield from BOLD if any(it.is_of_one_seed for it in marked) else BOLD[:1]
    for group in chosen:
        if was_chosen(group):
            yield escaping.one_line(f"{group.model} on {task_name(group)}: {best_of(group)}")
    yield from map(escaping.one_line, precision_notes(outcome for group in chosen for outcome in group.outcomes))
    if notes := data_notes(chosen):
        yield from map(escaping.one_line, [MARKED, *notes])
    if note := synthetic_note(chosen):
        yield escaping.one_line(note)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _row(row: ModelScores, is_best_mean: bool) -> str:
    mark = DAGGER if row.is_of_one_seed and is_best_mean else ""
    has_other_data = any(score.group.has_other_data for score in row.scores)
    mean = NOTHING if row.mean is None else _number(row.mean, is_best_mean, has_other_data)
    _, tasks = row.texts
    of_tasks = f" ({latex(tasks)})" if tasks and row.count else ""
    return _line([latex(row.model), *map(_score, row.scores), mean + mark + of_tasks])


def _score(score: Score) -> str:
    if score.mean is None:
        return latex(score.text)
    group, sd = score.group, score.summary.sd
    mark = DAGGER if score.is_of_one_seed else ""
    spread = rf" $\pm$ {percent(sd)}" if sd is not None else ""
    count = "" if len(group.done) == len(group.outcomes) else f" ({len(group.done)}/{len(group.outcomes)})"
    return _number(score.mean, score.is_best, group.has_other_data) + mark + spread + count


def _number(value: float, is_best: bool, is_marked: bool) -> str:
    text = rf"\textbf{{{percent(value)}}}" if is_best else percent(value)
    return text + (f"$^{{{MARK}}}$" if is_marked else "")
