"""The sections of results.md on sweeps: all points, the chosen ones, and how much choosing adds to a score."""

from collections.abc import Iterable, Sequence

from gluegrid.common import escaping
from gluegrid.common.formatting import NOTHING, percent
from gluegrid.results import selection, tables
from gluegrid.results.result_text import MARK, best_of, numbers, score_text, seeds_text, task_name, value_text
from gluegrid.results.selection import compared, optimism, swept_keys, uses_holdout, values_of, was_chosen
from gluegrid.results.summary import Group

CHOSEN = "The point with the best score stands in the tables above: the mean of the task's metrics, mean over seeds"
BY_VALIDATION = (
    f"{CHOSEN}. It was chosen on the validation split that is reported, so its score is optimistic, the more so the"
    " more points there are; `selection: holdout` measures by how much."
)
BY_HOLDOUT = f"{CHOSEN}, on the part of train that was kept from training (`selection: holdout`)."
OTHER_DATA = f"Numbers with {MARK} are not from the official data; results.csv says how theirs differ."
OPTIMISM = (
    "Scores on validation of the point chosen on the holdout, and of the point that would have been chosen on"
    " validation itself. The difference is what reporting the best validation score would have added."
)
OPTIMISM_COLUMNS = ("Model", "Task", "Chosen on the holdout", "Chosen on validation", "Optimism")


def sweep_sections(chosen: Sequence[Group]) -> list[str]:
    """Return the sections on groups that were chosen from several, or nothing if none was."""
    swept = [group for group in chosen if was_chosen(group)]
    if not swept:
        return []
    how, *exceptions = how_chosen(swept, BY_VALIDATION, BY_HOLDOUT)
    sections = ["## Sweeps\n", *(f"{text}\n" for text in [how, *map(escaping.markdown, exceptions)])]
    for group in swept:
        title = escaping.markdown(f"{group.model}, {task_name(group)}")
        sections += [f"### {title}\n", _points_table(group) + "\n"]
        if any(point.has_other_data for point in group.chosen_from):
            sections.append(escaping.markdown(OTHER_DATA) + "\n")
        if len(compared(group, group.chosen_from)) < len(group.chosen_from):
            sections.append(f"{best_of(group).capitalize()}: the others have fewer seeds with a score.\n")
    if rows := optimism_rows(point for group in swept for point in group.chosen_from):
        sections += ["### Optimism\n", OPTIMISM + "\n", tables.markdown(OPTIMISM_COLUMNS, rows) + "\n"]
    return sections


def how_chosen(swept: Sequence[Group], by_validation: str, by_holdout: str) -> list[str]:
    """Return a sentence on how groups were chosen, and one on those chosen on the holdout if only some were."""
    on_holdout = [f"{group.model} on {task_name(group)}" for group in swept if uses_holdout(group)]
    if len(on_holdout) == len(swept):
        return [by_holdout]
    return [by_validation, *([f"{', '.join(on_holdout)}: chosen on the holdout instead."] if on_holdout else [])]


def _points_table(chosen: Group) -> str:
    points = chosen.chosen_from
    keys = swept_keys(points)
    rows = []
    for point in points:
        values = map(value_text, values_of(point, keys).values()) if keys else [point.variant]
        is_chosen = "chosen" if point.variant == chosen.variant else ""
        rows.append((*values, *_numbers(point).values(), seeds_text(point), is_chosen))
    return tables.markdown((*(keys or ["Variant"]), *_numbers(chosen), "Seeds", "Chosen"), rows)


def _numbers(point: Group) -> dict[str, str]:
    """Return the number columns of a point: its metrics, if there are several, and its scores."""
    mark = MARK if point.has_other_data else ""
    summaries = {"Score": point.score_summary()}
    if uses_holdout(point):
        summaries["Score on the holdout"] = selection.holdout_summary(point)
    of_metrics = {"Result": numbers(point)} if len(point.task.metric_keys()) > 1 else {}
    columns = of_metrics | {title: score_text(summary) for title, summary in summaries.items()}
    return {title: text + mark if point.done else NOTHING for title, text in columns.items()}


def optimism_rows(groups: Iterable[Group]) -> list[tuple[str, ...]]:
    """Return a row under OPTIMISM_COLUMNS for each model and task that was chosen on a holdout, unescaped."""
    return [
        (
            each.by_holdout.model,
            task_name(each.by_holdout),
            *map(percent, (each.score_by_holdout, each.score_by_validation, each.difference)),
        )
        for each in optimism(groups)
    ]
