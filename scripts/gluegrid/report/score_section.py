"""The section of scores: the table of models by tasks, its figures, and all metrics."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from markupsafe import Markup
from matplotlib.axes import Axes

from gluegrid.common.formatting import NOTHING, percent
from gluegrid.report.blocks import Block, Cell, Details, Figures, Heading, Items, Legend, Section, Table, Text, number
from gluegrid.report.content import Material
from gluegrid.report.figures import (
    INK,
    LABELS,
    MUTED,
    OTHER,
    PAPER,
    SERIES,
    SMALL,
    WIDTH,
    Margins,
    Style,
    few_ticks,
    finished,
    mark,
    mark_seeds,
    new_axes,
    rows,
    swatch,
    widen,
)
from gluegrid.report.parity_section import Published, by_model, published_scores
from gluegrid.report.scores import Row, Score, interval
from gluegrid.results import tables
from gluegrid.results.result_text import MARKED, seeds_text, task_name
from gluegrid.results.selection import was_chosen
from gluegrid.results.summary import Group, score

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


ROW, LOW_ROW, BELOW_ROWS = 30, 22, 30
MOST_HIGH_ROWS = 16
ABOVE_MEAN, BELOW_MEAN = -0.29, 0.27  # where references and seeds lie, in rows
DEGENERATE = Style(INK, "x")
LEAST_SPAN = 1.0  # percent: differences smaller than that should not look large


def score_figure(
    name: str, scores: Sequence[Score], looks: Mapping[str, Style], published: Mapping[str, Sequence[Published]], marks
) -> Markup:
    """Return the figure of one task. `looks` are the models' styles, `published` their references, `marks` those of
    the references' labels.
    """
    row_height = ROW if len(scores) <= MOST_HIGH_ROWS else LOW_ROW
    axes = new_axes(WIDTH, row_height * len(scores) + BELOW_ROWS, Margins(left=LABELS, bottom=BELOW_ROWS - 8))
    drawn: list[float] = []
    for row, each in enumerate(scores):
        style = looks.get(each.group.model, OTHER)
        drawn += _draw_score(axes, row, each, style)
        for reference in published.get(each.group.model, ()):
            mark(
                axes,
                100 * reference.value,
                row + ABOVE_MEAN,
                marks[reference.label],
                7,
                markerfacecolor=PAPER,
                zorder=3.5,
            )
            drawn.append(100 * reference.value)
    rows(axes, [each.group.model for each in scores])
    widen(axes, "x", drawn, LEAST_SPAN)
    few_ticks(axes, "x")
    axes.grid(visible=False, axis="y")
    _say_what_is_missing(axes, scores)
    return finished(axes, name, f"Scores on {scores[0].group.display_name}", _in_words(scores))


def _draw_score(axes: Axes, row: int, each: Score, style: Style) -> list[float]:
    """Draw a model's seeds, mean and interval; return what was drawn."""
    keys = each.group.task.metric_keys()
    by_seed = [(outcome.is_degenerate, score(outcome, keys)) for outcome in each.group.done] if keys else []
    sound = [100 * value for is_degenerate, value in by_seed if value is not None and not is_degenerate]
    collapsed = [100 * value for is_degenerate, value in by_seed if value is not None and is_degenerate]
    for value in collapsed:
        mark(axes, value, row + BELOW_MEAN, DEGENERATE, SMALL + 1.5, markeredgewidth=1.4)
    if len(by_seed) > 1:
        mark_seeds(axes, sound, [row + BELOW_MEAN] * len(sound), style)
    if each.mean is None:
        return sound + collapsed
    bounds = [100 * bound for bound in interval(each.summary) or ()]
    if bounds:
        bar = {"color": style.colour, "linewidth": 2, "marker": "|", "markersize": 9, "markeredgewidth": 1.6}
        axes.plot(bounds, [row, row], solid_capstyle="butt", zorder=2, clip_on=False, **bar)
    mark(axes, 100 * each.mean, row, style)
    return [*sound, *collapsed, *bounds, 100 * each.mean]


def _say_what_is_missing(axes: Axes, scores: Sequence[Score]) -> None:
    for row, each in enumerate(scores):
        if not each.is_number:
            place = axes.get_yaxis_transform()
            axes.text(0.02, row, each.text, color=MUTED, size=10, va="center", transform=place)


def _in_words(scores: Sequence[Score]) -> str:
    known = [each for each in scores if each.is_number]
    if not known:
        return "No model has a score."
    best = max(known, key=lambda each: each.mean)
    worst = min(known, key=lambda each: each.mean)
    return (
        f"Mean scores of {len(known)} of {len(scores)} models, from {percent(worst.mean)} ({worst.group.model}) to"
        f" {percent(best.mean)} ({best.group.model}). The table of scores has them all."
    )


MOST_ROWS = 50
MARKS = (
    "Large marks are means over seeds, bars their 95% intervals, small marks the seeds. Hollow marks are what others"
    " have published of the same checkpoint, which they may have trained in another way."
)
REFERENCE_MARKERS = ("D", "s", "^", "v", "P", "X")


def score_panels(material: Material) -> list[Block]:
    """Return the figures, their legend, and which models they leave out."""
    published = published_scores(material.experiment, material.chosen)
    labels = dict.fromkeys(each.label for each in published)
    marks = {label: Style(INK, marker) for label, marker in zip(labels, cycle(REFERENCE_MARKERS), strict=False)}
    panels = []
    for place, scores in enumerate(_by_task(material)):
        group = scores[0].group
        svg = score_figure(f"score-{place}", scores, material.looks, by_model(published, group.task.name), marks)
        panels.append(material.panel(svg, group))
    rules = " ".join(filter(None, [MARKS, material.rule_of_looks(), _rule_of_rows(material)]))
    return [Heading("By task"), Text(rules, "note"), _legend(material, marks), Figures(panels)] if panels else []


def _by_task(material: Material) -> list[Sequence[Score]]:
    """Return the scores of each task that is scored, of the models that are drawn."""
    ranked = sorted(material.table.rows, key=lambda row: (row.count, row.mean or 0), reverse=True)
    drawn = {row.model for row in ranked[:MOST_ROWS]}
    rows = [row for row in material.table.rows if row.model in drawn]
    scores = [score for row in rows for score in row.scores if score.group.outcomes]
    of_tasks = [[score for score in scores if score.group.task.name == task] for task in material.table.tasks]
    return [of_task for of_task in of_tasks if of_task and of_task[0].group.task.metric_keys()]


def _rule_of_rows(material: Material) -> str:
    count = len(material.table.rows)
    return f"Of {count} models the {MOST_ROWS} with the best means over tasks are drawn." if count > MOST_ROWS else ""


def _legend(material: Material, marks: dict[str, Style]) -> Legend:
    mean = Style(SERIES[0], "o") if material.looks else OTHER
    shown = [("mean over seeds", mean, 9, False)]
    if any(len(group.done) > 1 for group in material.chosen):
        shown.append(("one seed", mean, 5, False))
    if any(group.degenerate for group in material.chosen):
        shown.append(("degenerate run", DEGENERATE, 7, False))
    shown += [(label, style, 8, True) for label, style in marks.items()]
    return Legend(
        [
            (swatch(style, f"score-mark-{number}", size, hollow), text)
            for number, (text, style, size, hollow) in enumerate(shown)
        ]
    )
