"""The section of scores: the table of models by tasks, the figures of the grid and of its cost, and all metrics."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from gluegrid.analysis.comparison_report import OF_ONE_SEED
from gluegrid.common.formatting import NOTHING, percent, points
from gluegrid.report.blocks import Block, Details, Entry, Figure, Figures, Items, Legend, Section, Table, Text, table
from gluegrid.report.content import Material
from gluegrid.report.cost_section import cost_figure
from gluegrid.report.figures import (
    INK,
    LEAST_SPAN,
    MUTED,
    OTHER,
    PAPER,
    SMALL,
    WIDE,
    Plot,
    Style,
    label,
    room_for,
    swatch,
)
from gluegrid.report.parity_section import published_scores
from gluegrid.report.scores import ModelScores, Score, bounds_of, interval, score_bounds
from gluegrid.results import tables
from gluegrid.results.result_text import MARKED, seeds_text, task_name
from gluegrid.results.selection import was_chosen
from gluegrid.results.summary import score
from gluegrid.results.table_notes import synthetic_note

WHAT = (
    "Metrics x 100 on the validation splits. A task with several metrics or two validation splits counts with their"
    " mean. Each number links to where it comes from."
)
OVER_SEEDS = (
    "It is the mean over seeds ± the standard deviation (n - 1). In brackets is the 95% interval of the mean (Student's"
    " t), which covers other seeds, but not other examples."
)
BOLD = (
    "Bold: the highest score and those not told apart from it, where another model is worse (paired bootstrap,"
    " Holm-adjusted p at most {level})."
)
ONE_SEED = f"{OF_ONE_SEED} rests on one seed: another seed may reverse it."
NOT_COMPARED = "No score is bold: snakemake compare report tests which differences are more than chance."
OUTDATED = "No score is bold, because the comparisons are of earlier results: run snakemake compare report."
RANK = "Rank: mean over tasks, where 1 is the highest score and equal scores share their ranks."
COMMON = (
    "Some models lack tasks. Common (the mean), Rank and the figure of cost use the tasks that all models have: {}."
)
NO_COMMON = "Some models lack tasks, and no task has a score of every model: there is no common mean and no rank."
GRID = "Scores by task"
MOST_IN_LANES = 6  # models; more make a heat map
MOST_ROWS = 50  # models in a figure
METRIC_HEADERS = ("Model", "Task", "Metric", "Mean", "sd", "95% interval", "Median", "Best", "Seeds")
LANE, BELOW = 11, 40
COLUMN, ROW, ABOVE, SCALE = 50, 26, 26, 44  # of the heat map: the last is the room for its scale
LONGEST_IN_COLUMN = 7  # characters of a task's name that fit above a column
SLANTED = 92  # room for longer ones
DEGENERATE = Style(INK, "x")
REFERENCE_MARKERS = ("D", "s", "^", "v", "P", "X")


def score_section(material: Material) -> Section:
    """Return the section."""
    lines = [WHAT, *([OVER_SEEDS] if any(len(group.done) > 1 for group in material.chosen) else [])]
    blocks: list[Block] = [Text(" ".join(lines)), _scores(material), *_legend_of_table(material)]
    if notes := tables.data_notes(material.chosen):
        blocks += [Text(MARKED, "note"), Items([line.removeprefix("- ") for line in notes])]
    if note := synthetic_note(material.chosen):
        blocks.append(Text(note, "note"))
    if any(map(was_chosen, material.chosen)):
        blocks.append(Text("For each sweep the table shows the chosen point; Sweeps has all points.", "note"))
    if material.done:
        blocks += [*_figures(material), Details("Every metric", [_metrics(material)])]
    return Section("scores", "Scores", blocks)


def _scores(material: Material) -> Table:
    scores = material.table
    headers = ["Model", *scores.tasks.values(), "Mean"]
    headers += ["Common"] if scores.has_gaps else []
    headers += ["Rank"] if scores.has_ranks else []
    return table("Scores x 100", headers, [_row(material, row) for row in scores.rows])


def _row(material: Material, row: ModelScores) -> Iterator[Entry]:
    yield Entry(row.model)
    for each in row.scores:
        small = list(filter(None, [each.interval_text, each.seeds, *each.group.options]))
        # Without a cell, there is no place that a score comes from.
        href = f"#{material.name_of(each.group)}" if each.group.outcomes else ""
        yield _number(each.text, small, each, href)
    mean, tasks = row.texts
    small = [tasks] if tasks else []
    if material.table.has_gaps:
        yield Entry(mean, small, is_number=True)
        yield _number(NOTHING if row.common_mean is None else percent(row.common_mean), [], row)
    else:
        yield _number(mean, small, row)
    if material.table.has_ranks:
        yield Entry(NOTHING if row.rank is None else points(row.rank), is_number=True)


def _number(text: str, small: Sequence[str], it: Score | ModelScores, href: str = "") -> Entry:
    mark = OF_ONE_SEED if it.is_of_one_seed else ""
    return Entry(text + mark, small, href, it.is_best, is_number=True)


def _legend_of_table(material: Material) -> Iterator[Text]:
    """Yield what the marks of the table mean, and which tasks its last columns are of."""
    scores, comparisons = material.table, material.comparisons
    if not scores.has_ranks and not scores.has_gaps:
        return
    marked = [it for row in scores.rows for it in (row, *row.scores) if it.is_best]
    lines = [NOT_COMPARED if not comparisons else OUTDATED]
    if comparisons and not comparisons.is_outdated:
        lines = [
            BOLD.format(level=f"{1 - comparisons.level:.2f}"),
            *([ONE_SEED] if any(it.is_of_one_seed for it in marked) else []),
        ]
    yield Text(" ".join([*lines, *([RANK] if scores.has_ranks else [])]), "note")
    if scores.has_gaps:
        yield Text(COMMON.format(", ".join(scores.common.values())) if scores.common else NO_COMMON, "note")


def _metrics(material: Material) -> Table:
    rows = []
    for group in material.chosen:
        # In the order of the keys: all metrics of one validation split after those of another.
        names = group.task.metrics * len(group.task.validation)
        for key, name in zip(group.task.metric_keys(), names, strict=True) if group.done else ():
            summary = group.summary(key)
            bounds = interval([summary], bounds_of([name]))
            numbers = [
                percent(summary.mean),
                NOTHING if summary.sd is None else percent(summary.sd),
                f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else NOTHING,
                percent(summary.median),
                NOTHING if summary.best is None else percent(summary.best),
            ]
            rows.append([group.model, task_name(group), key.removeprefix("eval_"), *numbers, seeds_text(group)])
    return table("Metrics x 100 over seeds", METRIC_HEADERS, rows, METRIC_HEADERS[3:])


def _figures(material: Material) -> list[Block]:
    """Return the figures of the grid and of its cost, with their legend; a single score is none."""
    best = material.table.best_models(MOST_ROWS)
    rows = [row for row in material.table.rows if row.model in best]
    has_grid = sum(row.count for row in rows) > 1
    is_in_lanes = len(rows) <= MOST_IN_LANES
    published = published_scores(material.experiment, material.chosen) if is_in_lanes else {}
    labels = dict.fromkeys(name for references in published.values() for name, _ in references)
    marks = {name: Style(INK, marker) for name, marker in zip(labels, cycle(REFERENCE_MARKERS), strict=False)}
    grid = [_in_lanes(rows, material.looks, published, marks) if is_in_lanes else _heat_map(rows)] if has_grid else []
    figures = [*grid, *filter(None, [cost_figure(material)])]
    if not figures:
        return []
    count = len(material.table.rows)
    rule = f"The figure of scores shows the {MOST_ROWS} models with the highest means." if count > MOST_ROWS else ""
    said = " ".join(filter(None, [material.rule_of_looks, rule]))
    return [
        *([Text(said, "note")] if said else []),
        _legend(material, marks, is_in_lanes and has_grid),
        Figures(figures, is_wide=True),
    ]


def _legend(material: Material, marks: Mapping[str, Style], is_in_lanes: bool) -> Legend:
    """Return the legend of the models' marks, and of what else is drawn in lanes."""
    shown = [(name, style, 9, False) for name, style in material.looks.items()]
    shown += [("other models", OTHER, 9, False)] if material.has_others else []
    if is_in_lanes and any(len(group.done) > 1 for group in material.chosen):
        shown.append(("one seed", OTHER, 5, False))
    if is_in_lanes and any(group.degenerate for group in material.chosen):
        shown.append(("degenerate run", DEGENERATE, 7, False))
    shown += [(f"{name} (published)", style, 8, True) for name, style in marks.items()]
    return Legend(
        [(swatch(style, f"score-mark-{place}", *look), text) for place, (text, style, *look) in enumerate(shown)]
    )


def _scored(rows: Sequence[ModelScores]) -> list[list[Score]]:
    """Return the scores of each task that has metrics."""
    tasks = [list(of_task) for of_task in zip(*(row.scores for row in rows), strict=True)]
    return [scores for scores in tasks if scores[0].group.task.metric_keys()]


def _in_lanes(
    rows: Sequence[ModelScores], looks: Mapping[str, Style], published: Mapping, marks: Mapping[str, Style]
) -> Figure:
    """Return a figure with a row for each task, and in it a lane for each model.

    `published` are references by model and task, `marks` those of the references' labels.
    """
    tasks, pitch = _scored(rows), len(rows) + 1
    names = [label(task_name(scores[0].group)) for scores in tasks]
    plot = Plot(WIDE, LANE * pitch * len(tasks) + BELOW + 8, left=room_for(names), bottom=BELOW)
    drawn: list[float] = []
    for place, scores in enumerate(tasks):
        for y, each in enumerate(scores, start=place * pitch):
            drawn += _draw_score(plot, y, each, looks.get(each.group.model, OTHER))
            for name, value in published.get((each.group.model, each.group.task.name), ()):
                plot.mark(100 * value, y, marks[name], 6, markerfacecolor=PAPER, zorder=3.5)
                drawn.append(100 * value)
            if each.mean is None and each.group.outcomes:
                across = plot.axes.get_yaxis_transform()
                plot.axes.text(0.01, y, each.text, color=MUTED, size=10, va="center", transform=across)
        if place:
            plot.axes.axhline(place * pitch - 1, color=MUTED, linewidth=0.4, alpha=0.5)
    plot.axes.set_yticks([place * pitch + (len(rows) - 1) / 2 for place in range(len(tasks))], names)
    plot.axes.tick_params(axis="y", labelcolor=INK)
    plot.axes.set_ylim(len(tasks) * pitch - 1, -1)
    plot.axes.grid(visible=False, axis="y")
    ends = [score_bounds([scores[0].group]) for scores in tasks]
    plot.scores_along("x", drawn, (min(low for low, _ in ends), max(high for _, high in ends)))
    plot.name_axes(x="Score x 100")
    has_bars = any(each.interval for scores in tasks for each in scores)
    return Figure(plot.svg("grid", GRID, _in_words(rows)), GRID, "bars: 95% intervals over seeds" if has_bars else "")


def _draw_score(plot: Plot, y: float, each: Score, style: Style) -> list[float]:
    """Draw a model's seeds, mean and interval; return what was drawn."""
    keys = each.group.task.metric_keys()
    by_seed = [(outcome.is_degenerate, score(outcome, keys)) for outcome in each.group.done]
    sound, degenerate = (
        [100 * value for is_degenerate, value in by_seed if value is not None and is_degenerate == kind]
        for kind in (False, True)
    )
    if len(by_seed) > 1:
        plot.mark_seeds(sound, [y] * len(sound), style)
    bounds = [100 * bound for bound in each.interval or ()]
    if bounds:
        plot.bar(bounds, [y, y], style)
    if each.mean is not None:
        plot.mark(100 * each.mean, y, style, 7)
    for value in degenerate:
        plot.mark(value, y, DEGENERATE, SMALL + 1.5, markeredgewidth=1.4, zorder=4.5)
    return [*sound, *degenerate, *bounds, *([] if each.mean is None else [100 * each.mean])]


def _heat_map(rows: Sequence[ModelScores]) -> Figure:
    """Return a figure with a row for each model and a column for each task.

    Colours are points below the task's highest score, on one scale for all tasks.
    """
    tasks = _scored(rows)
    names, models = [label(task_name(scores[0].group)) for scores in tasks], [label(row.model) for row in rows]
    is_slanted = max(map(len, names)) > LONGEST_IN_COLUMN
    top, left = SLANTED if is_slanted else ABOVE, room_for(models)
    right = SLANTED if is_slanted else 12
    plot = Plot(left + COLUMN * len(tasks) + right, top + ROW * len(rows) + SCALE, left, right, top, SCALE)
    highest = [max((each.mean for each in scores if each.mean is not None), default=0.0) for scores in tasks]
    behind = [
        [None if each.mean is None else 100 * (best - each.mean) for each in scores]
        for best, scores in zip(highest, tasks, strict=True)
    ]
    span = max(LEAST_SPAN, *(value for of_task in behind for value in of_task if value is not None))
    for x, (scores, of_task) in enumerate(zip(tasks, behind, strict=True)):
        for y, (each, value) in enumerate(zip(scores, of_task, strict=True)):
            if value is None:
                plot.axes.text(x, y, each.text, color=MUTED, size=10, ha="center", va="center")
            else:
                plot.tile(x, y, percent(each.mean) + (" ×" if each.group.degenerate else ""), 1 - value / span)
    plot.rows(models)
    plot.axes.set_ylim(len(rows) - 0.5, -0.5)
    plot.axes.set_xlim(-0.5, len(tasks) - 0.5)
    plot.axes.xaxis.tick_top()
    slant = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if is_slanted else {}
    plot.axes.set_xticks(range(len(tasks)), names, **slant)
    plot.axes.tick_params(axis="x", labelcolor=INK)
    plot.axes.grid(visible=False)
    plot.scale_of_colours("0", f"{points(span)} points below the highest score of the task")
    has_degenerate = any(each.group.degenerate for scores in tasks for each in scores)
    return Figure(plot.svg("grid", GRID, _in_words(rows)), GRID, "×: has a degenerate run" if has_degenerate else "")


def _in_words(rows: Sequence[ModelScores]) -> str:
    means = [f"{row.model} {percent(row.mean)}" for row in rows if row.mean is not None][:20]
    return f"Means over tasks: {'; '.join(means)}. The table of scores has the score of each task."
