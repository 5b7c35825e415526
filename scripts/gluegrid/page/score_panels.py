"""The figures of scores and what is said of them: a panel for each task, with published scores beside ours."""

from collections.abc import Sequence
from itertools import cycle

from gluegrid.page.blocks import Block, Figures, Heading, Legend, Text
from gluegrid.page.colours import INK, OTHER, SERIES, Style
from gluegrid.page.drawing import swatch
from gluegrid.page.material import Material
from gluegrid.page.published import by_model, published_scores
from gluegrid.page.score_figures import DEGENERATE, score_figure
from gluegrid.page.scores import Score

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
    for number, scores in enumerate(_by_task(material)):
        group = scores[0].group
        svg = score_figure(f"score-{number}", scores, material.looks, by_model(published, group.task.name), marks)
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
