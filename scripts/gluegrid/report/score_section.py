"""The section of scores: the table of models by tasks, its figures, and all metrics."""

from collections.abc import Iterator, Sequence
from itertools import cycle

from gluegrid.common.formatting import NOTHING, percent
from gluegrid.report.blocks import Block, Details, Entry, Figures, Heading, Items, Legend, Section, Table, Text, table
from gluegrid.report.content import Material, panel
from gluegrid.report.figures import INK, LABELS, MUTED, OTHER, PAPER, SERIES, SMALL, Plot, Style, swatch
from gluegrid.report.parity_section import published_scores
from gluegrid.report.scores import ModelScores, Score, interval
from gluegrid.results import tables
from gluegrid.results.result_text import MARKED, seeds_text, task_name
from gluegrid.results.selection import was_chosen
from gluegrid.results.summary import score
from gluegrid.results.table_notes import synthetic_note

WHAT = (
    "Metrics x 100 on the validation splits; a task of several metrics, or of two validation splits, counts with"
    " their mean. Mean ± standard deviation over seeds (n - 1), below it the 95% interval of the mean by Student's t:"
    " where other seeds would take it, not other examples. One seed has no interval. The best mean of a task is bold,"
    " which does not say that it is better by more than chance. Each number leads to where it comes from."
)
CAPTION = "Scores x 100; best of each task in bold"
MARKS = (
    "Large marks are means over seeds, bars their 95% intervals, small marks the seeds. Hollow marks are what others"
    " have published of the same checkpoint, which they may have trained in another way."
)
METRIC_HEADERS = ("Model", "Task", "Metric", "Mean", "sd", "95% interval", "Median", "Best", "Seeds")
MOST_ROWS = 50  # models in a figure
ROW, LOW_ROW, BELOW_ROWS = 30, 22, 30
MOST_HIGH_ROWS = 16
ABOVE_MEAN, BELOW_MEAN = -0.29, 0.27  # where references and seeds lie, in rows
DEGENERATE = Style(INK, "x")
REFERENCE_MARKERS = ("D", "s", "^", "v", "P", "X")


def score_section(material: Material) -> Section:
    """Return the section."""
    rows = [_row(material, row) for row in material.table.rows]
    blocks: list[Block] = [Text(WHAT), table(CAPTION, ["Model", *material.table.tasks.values(), "Mean"], rows)]
    if notes := tables.data_notes(material.chosen):
        blocks += [Text(MARKED, "note"), Items([line.removeprefix("- ") for line in notes])]
    if note := synthetic_note(material.chosen):
        blocks.append(Text(note, "note"))
    if any(map(was_chosen, material.chosen)):
        blocks.append(Text("Of each sweep the table has the chosen point; all points are under Sweeps.", "note"))
    if material.done:
        blocks += [Details("Every metric", [_metrics(material)]), *_panels(material)]
    return Section("scores", "Scores", blocks)


def _row(material: Material, row: ModelScores) -> Iterator[Entry]:
    yield Entry(row.model)
    for each in row.scores:
        small = list(filter(None, [each.interval_text, each.seeds, *each.group.options]))
        # Without a cell, a score comes from nowhere.
        href = f"#{material.name_of(each.group)}" if each.group.outcomes else ""
        yield Entry(each.text, small, href, each.is_best, is_number=True)
    mean, tasks = row.texts
    yield Entry(mean, [tasks] if tasks else [], is_best=row.is_best, is_number=True)


def _metrics(material: Material) -> Table:
    rows = []
    for group in material.chosen:
        for key in group.task.metric_keys() if group.done else ():
            summary = group.summary(key)
            bounds = interval(summary)
            numbers = [
                percent(summary.mean),
                NOTHING if summary.sd is None else percent(summary.sd),
                f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else NOTHING,
                percent(summary.median),
                NOTHING if summary.best is None else percent(summary.best),
            ]
            rows.append([group.model, task_name(group), key.removeprefix("eval_"), *numbers, seeds_text(group)])
    return table("Metrics x 100 over seeds", METRIC_HEADERS, rows, METRIC_HEADERS[3:])


def _panels(material: Material) -> list[Block]:
    """Return the figures, their legend, and which models they leave out."""
    published = published_scores(material.experiment, material.chosen)
    labels = dict.fromkeys(label for references in published.values() for label, _ in references)
    marks = {label: Style(INK, marker) for label, marker in zip(labels, cycle(REFERENCE_MARKERS), strict=False)}
    figures = []
    for place, scores in enumerate(_drawn_scores(material)):
        group = scores[0].group
        plot = _plot(material, scores, published, marks)
        svg = plot.svg(f"score-{place}", f"Scores on {group.display_name}", _in_words(scores))
        figures.append(panel(svg, group))
    count = len(material.table.rows)
    rule = f"Of {count} models the {MOST_ROWS} with the best means over tasks are drawn." if count > MOST_ROWS else ""
    said = " ".join(filter(None, [MARKS, material.rule_of_looks, rule]))
    return [Heading("By task"), Text(said, "note"), _legend(material, marks), Figures(figures)] if figures else []


def _drawn_scores(material: Material) -> list[list[Score]]:
    """Return the scores of each task that is scored, of the models that are drawn."""
    best = material.table.best_models(MOST_ROWS)
    rows = [row.scores for row in material.table.rows if row.model in best]
    tasks = [[each for each in of_task if each.group.outcomes] for of_task in zip(*rows, strict=True)]
    return [scores for scores in tasks if scores and scores[0].group.task.metric_keys()]


def _plot(material: Material, scores: Sequence[Score], published: dict, marks: dict[str, Style]) -> Plot:
    """Draw one task. `published` are references by model and task, `marks` those of the references' labels."""
    row_height = ROW if len(scores) <= MOST_HIGH_ROWS else LOW_ROW
    plot = Plot(height=row_height * len(scores) + BELOW_ROWS, left=LABELS, bottom=BELOW_ROWS - 8)
    drawn: list[float] = []
    for row, each in enumerate(scores):
        drawn += _draw_score(plot, row, each, material.looks.get(each.group.model, OTHER))
        for label, value in published.get((each.group.model, each.group.task.name), ()):
            plot.mark(100 * value, row + ABOVE_MEAN, marks[label], 7, markerfacecolor=PAPER, zorder=3.5)
            drawn.append(100 * value)
        if each.mean is None:
            place = plot.axes.get_yaxis_transform()
            plot.axes.text(0.02, row, each.text, color=MUTED, size=10, va="center", transform=place)
    plot.rows([each.group.model for each in scores])
    plot.widen("x", drawn)
    plot.few_ticks("x")
    return plot


def _draw_score(plot: Plot, row: int, each: Score, style: Style) -> list[float]:
    """Draw a model's seeds, mean and interval; return what was drawn."""
    keys = each.group.task.metric_keys()
    by_seed = [(outcome.is_degenerate, score(outcome, keys)) for outcome in each.group.done] if keys else []
    sound, degenerate = (
        [100 * value for is_degenerate, value in by_seed if value is not None and is_degenerate == kind]
        for kind in (False, True)
    )
    for value in degenerate:
        plot.mark(value, row + BELOW_MEAN, DEGENERATE, SMALL + 1.5, markeredgewidth=1.4)
    if len(by_seed) > 1:
        plot.mark_seeds(sound, [row + BELOW_MEAN] * len(sound), style)
    if each.mean is None:
        return sound + degenerate
    bounds = [100 * bound for bound in interval(each.summary) or ()]
    if bounds:
        bar = {"color": style.colour, "linewidth": 2, "marker": "|", "markersize": 9, "markeredgewidth": 1.6}
        plot.axes.plot(bounds, [row, row], solid_capstyle="butt", zorder=2, clip_on=False, **bar)
    plot.mark(100 * each.mean, row, style)
    return [*sound, *degenerate, *bounds, 100 * each.mean]


def _in_words(scores: Sequence[Score]) -> str:
    known = [each for each in scores if each.mean is not None]
    if not known:
        return "No model has a score."
    best = max(known, key=lambda each: each.mean)
    worst = min(known, key=lambda each: each.mean)
    return (
        f"Mean scores of {len(known)} of {len(scores)} models, from {percent(worst.mean)} ({worst.group.model}) to"
        f" {percent(best.mean)} ({best.group.model}). The table of scores has them all."
    )


def _legend(material: Material, marks: dict[str, Style]) -> Legend:
    mean = Style(SERIES[0], "o") if material.looks else OTHER
    shown = [("mean over seeds", mean, 9, False)]
    if any(len(group.done) > 1 for group in material.chosen):
        shown.append(("one seed", mean, 5, False))
    if any(group.degenerate for group in material.chosen):
        shown.append(("degenerate run", DEGENERATE, 7, False))
    shown += [(label, style, 8, True) for label, style in marks.items()]
    return Legend(
        [(swatch(style, f"score-mark-{place}", *look), text) for place, (text, style, *look) in enumerate(shown)]
    )
