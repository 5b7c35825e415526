"""Notes that qualify the numbers of a table: each is stated once below it, and the numbers have a mark. Unescaped."""

from collections.abc import Iterable, Sequence

from gluegrid.common.formatting import counted
from gluegrid.results.notes import depends_on_seed
from gluegrid.results.official_data import SYNTHETIC
from gluegrid.results.result_text import MARK, caveats, chosen_values, numbers, score_text, task_name, why_without
from gluegrid.results.summary import Group, by_model_on_every_task

TITLE = "Notes:"
TITLE_WITH_MARK = f"Notes ({MARK} marks the numbers that they qualify):"
ALL_NUMBERS = "All numbers"
ONE_SEED = "1 seed, so the spread is not known"
SYNTHETIC_NOTE = "The data are synthetic, so the numbers say nothing about the tasks they are named after."


class TableNotes:
    """The notes of a table that shows these groups, one for each model and task.

    Numbers are marked if a caveat concerns them; a caveat that concerns all of several numbers is stated without marks.
    With `of_scores`, the table shows scores, one row for each model, and means over tasks. `said` is a caveat that the
    document states once for all its tables.
    """

    def __init__(self, groups: Sequence[Group], of_scores: bool = False, said: str = ""):
        self._groups = groups
        self._of_scores = of_scores
        self._caveats = {group.identity: _caveats(group, of_scores, said) for group in groups if group.done}
        several = len(self._caveats) > 1
        self._shared = set.intersection(*map(set, self._caveats.values())) if several else set()

    def mark(self, groups: Iterable[Group]) -> str:
        """Return the mark of a number made from these groups, or an empty text if it needs none."""
        texts = {text for group in groups for text in self._caveats.get(group.identity, ())}
        return MARK if texts - self._shared else ""

    def lines(self) -> list[str]:
        """Return the lines below the table: a title and a list, or nothing if there are no notes."""
        lines = [f"{', '.join(names)}: {text}" for text, names in self._names_by_text().items()]
        partial = partial_means(self._groups) if self._of_scores else []
        lines += partial if self._of_scores else seeds_lines(self._groups)
        is_marked = bool(partial or any(self.mark([group]) for group in self._groups))
        return [TITLE_WITH_MARK if is_marked else TITLE, *(f"- {line}" for line in lines)] if lines else []

    def _names_by_text(self) -> dict[str, list[str]]:
        """Map each note to the names of what it is about."""
        about: dict[str, list[Group]] = {}
        for group in self._groups:
            said = [*self._caveats.get(group.identity, ()), *chosen_values(group), *why_without(group)]
            for text in said:
                about.setdefault(text, []).append(group)
        return {
            text: [ALL_NUMBERS] if text in self._shared else names_in(groups, self._groups)
            for text, groups in about.items()
        }


def _caveats(group: Group, of_scores: bool, said: str) -> list[str]:
    text_of = (lambda others: score_text(others.score_summary())) if of_scores else numbers
    return [text for text in caveats(group, text_of) if text != said]


def names_in(about: Sequence[Group], groups: Sequence[Group]) -> list[str]:
    """Name groups by task. If the table has several models, name whole models, and other groups by task and model."""
    if len({group.model for group in groups}) == 1:
        return [task_name(group) for group in about]
    done = [group for group in groups if group.done]
    whole = [model for model in dict.fromkeys(group.model for group in about) if _is_whole(model, about, done)]
    names = [f"all of {model}" for model in whole]
    rest = [group for group in about if group.model not in whole]
    for task in dict.fromkeys(group.task.name for group in rest):
        of_task = [group for group in about if group.task.name == task]
        is_all = len(of_task) == sum(group.task.name == task for group in done)
        models = ", ".join(group.model for group in of_task if group.model not in whole)
        names.append(task_name(of_task[0]) + ("" if is_all else f" ({models})"))
    return names


def _is_whole(model: str, about: Sequence[Group], done: Sequence[Group]) -> bool:
    of_model = [group.identity for group in done if group.model == model]
    return len(of_model) > 1 and {*of_model} <= {group.identity for group in about}


def seeds_lines(groups: Sequence[Group]) -> list[str]:
    """Return lines on how many seeds the numbers of one model's table cover, with the tasks if that differs."""
    scored = [group for group in groups if group.task.metric_keys() and depends_on_seed(group.run)]
    lines = []
    for count in sorted({len(group.outcomes) for group in scored}):
        of_count = [group for group in scored if len(group.outcomes) == count]
        if any(group.done for group in of_count):
            tasks = "" if len(of_count) == len(scored) else f": {', '.join(map(task_name, of_count))}"
            said = f"Mean ± standard deviation over {count} seeds" if count > 1 else ONE_SEED
            lines.append(f"{said}{tasks}.")
    return lines


def partial_means(groups: Sequence[Group]) -> list[str]:
    """Return a line for each model whose mean over tasks lacks the scores of some."""
    lines = []
    for of_model in by_model_on_every_task(groups):
        scored = [group for group in of_model if group.task.metric_keys()]
        known = [group for group in scored if group.score() is not None]
        if 0 < len(known) < len(scored):
            lines.append(f"Mean of {of_model[0].model}: over {len(known)} of {counted(len(scored), 'task')}")
    return lines


def synthetic_note(groups: Sequence[Group]) -> str:
    """Return a line that says which numbers are from synthetic data, or an empty text if none are."""
    if are_synthetic(groups):
        return SYNTHETIC_NOTE
    synthetic = [group for group in groups if group.done and group.data == SYNTHETIC]
    return f"Synthetic data: {', '.join(names_in(synthetic, groups))}." if synthetic else ""


def are_synthetic(groups: Sequence[Group]) -> bool:
    """Tell whether all results are on synthetic data."""
    done = [group for group in groups if group.done]
    return bool(done) and all(group.data == SYNTHETIC for group in done)
