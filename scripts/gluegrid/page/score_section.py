"""The section of scores: the table of models by tasks, its figures, and all metrics."""

from collections.abc import Sequence

from gluegrid.common.formatting import NOTHING, percent
from gluegrid.page.blocks import Block, Cell, Details, Items, Section, Table, Text, number
from gluegrid.page.intervals import interval
from gluegrid.page.material import Material
from gluegrid.page.score_panels import score_panels
from gluegrid.page.scores import Row, Score
from gluegrid.results import tables
from gluegrid.results.result_text import MARKED, seeds_text, task_name
from gluegrid.results.selection import was_chosen
from gluegrid.results.summary import Group

WHAT = (
    "Metrics x 100 on the validation splits; a task of several metrics, or of two validation splits, counts with"
    " their mean. Mean ± standard deviation over seeds (n - 1), below it the 95% interval of the mean by Student's t:"
    " where other seeds would take it, not other examples. One seed has no interval. The best mean of a task is bold,"
    " which does not say that it is better by more than chance. Each number leads to where it comes from."
)
CAPTION = "Scores x 100; best of each task in bold"


def score_section(material: Material) -> Section:
    """Return the section."""
    blocks: list[Block] = [Text(WHAT), _table(material)]
    if notes := tables.data_notes(material.chosen):
        blocks += [Text(MARKED, "note"), Items([line.removeprefix("- ") for line in notes])]
    if any(map(was_chosen, material.chosen)):
        blocks.append(Text("Of each sweep the table has the chosen point; all points are under Sweeps.", "note"))
    if material.done:
        blocks += [Details("Every metric", [_metrics(material.chosen)]), *score_panels(material)]
    return Section("scores", "Scores", blocks)


def _table(material: Material) -> Table:
    rows = [_row(material, row) for row in material.table.rows]
    return Table(CAPTION, ["Model", *material.table.tasks.values(), "Mean"], rows)


def _row(material: Material, row: Row) -> list[Cell]:
    scores = [_cell(score, _origin(material, score)) for score in row.scores]
    of_tasks = Cell(row.mean_text, small=list(filter(None, [row.tasks_text])), is_best=row.is_best, is_number=True)
    return [Cell(row.model), *scores, of_tasks]


def _origin(material: Material, score: Score) -> str:
    """Return the address of where a score comes from; none where there is no cell."""
    return f"#{material.origins.name_of(score.group)}" if score.group.outcomes else ""


def _cell(score: Score, href: str) -> Cell:
    small = list(filter(None, [score.interval_text, score.seeds, *score.group.options]))
    return Cell(score.text, small=small, href=href, is_best=score.is_best, is_number=True)


def _metrics(chosen: Sequence[Group]) -> Table:
    rows = [
        [
            Cell(group.model),
            Cell(task_name(group)),
            Cell(key.removeprefix("eval_")),
            *map(number, _numbers(group, key)),
            number(seeds_text(group)),
        ]
        for group in chosen
        if group.done
        for key in group.task.metric_keys()
    ]
    headers = ["Model", "Task", "Metric", "Mean", "sd", "95% interval", "Median", "Best", "Seeds"]
    return Table("Metrics x 100 over seeds", headers, rows)


def _numbers(group: Group, key: str) -> list[str]:
    summary = group.summary(key)
    bounds = interval(summary)
    return [
        percent(summary.mean),
        _or_nothing(summary.sd),
        f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else NOTHING,
        percent(summary.median),
        _or_nothing(summary.best),
    ]


def _or_nothing(value: float | None) -> str:
    return NOTHING if value is None else percent(value)
