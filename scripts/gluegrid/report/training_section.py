"""The section of training curves."""

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from gluegrid.common.formatting import number, percent
from gluegrid.report.blocks import Block, Figures, Section, Text
from gluegrid.report.content import Material
from gluegrid.report.figures import WIDTH, Margins, Style, few_ticks, finished, mark, name_axes, new_axes, widen
from gluegrid.results.summary import Group, mean

WHAT = "The score on validation after each epoch: thick lines are means over seeds, thin ones the seeds."
NONE = (
    "No cell has scores of several epochs. With eval_strategy: epoch in the experiment file, cells are scored after"
    " each."
)


def training_section(material: Material) -> Section:
    """Return the section."""
    figures = []
    for place, of_task in enumerate(material.by_task()):
        groups = [group for group in of_task if group.model in material.looks and has_curve(group)]
        if groups:
            svg = curve_figure(f"curve-{place}", groups, material.looks)
            figures.append(material.panel(svg, groups[0]))
    blocks: list[Block] = [Text(NONE)]
    if figures:
        rule = f" {material.rule_of_looks()} They are drawn." if material.has_others else ""
        blocks = [Text(WHAT + rule, "note"), material.legend("curve", with_others=False), Figures(figures)]
    return Section("training", "Training curves", blocks)


HEIGHT = 230
LEAST_SPAN = 1.0  # percent

Curve = dict[float, float]  # epoch -> score


def has_curve(group: Group) -> bool:
    """Tell whether any cell of a group has scores of several epochs."""
    return any(len(curve) > 1 for curve in _curves(group))


def curve_figure(name: str, groups: Sequence[Group], looks: Mapping[str, Style]) -> Markup:
    """Return the figure of one task: a thin line for each seed, a thick one for their mean."""
    axes = new_axes(WIDTH, HEIGHT, Margins(left=54, bottom=42))
    means = {group.model: _draw_curves(axes, _curves(group), looks[group.model]) for group in groups}
    values = [100 * value for group in groups for curve in _curves(group) for value in curve.values()]
    epochs = [epoch for group in groups for curve in _curves(group) for epoch in curve]
    widen(axes, "y", values, LEAST_SPAN)
    widen(axes, "x", epochs, 1)
    few_ticks(axes, "y")
    few_ticks(axes, "x", 6, is_whole=all(epoch == round(epoch) for epoch in epochs))
    axes.grid(visible=False, axis="x")
    name_axes(axes, x="Epoch", y="Score on validation")
    return finished(axes, name, f"Training curves on {groups[0].display_name}", _in_words(means))


def _curves(group: Group) -> list[Curve]:
    keys = group.task.metric_keys()
    return [_curve(outcome.record.get("curve") or (), keys) for outcome in group.done if keys]


def _curve(points: Iterable[dict], keys: Sequence[str]) -> Curve:
    scores = {point["epoch"]: mean(point.get(key) for key in keys) for point in points}
    return {epoch: score for epoch, score in scores.items() if score is not None}


def _draw_curves(axes: Axes, curves: Sequence[Curve], style: Style) -> Curve:
    """Draw the curves of a group and their mean, at the epochs of which all have a score; return the mean."""
    curves = [curve for curve in curves if curve]
    if len(curves) > 1:
        for curve in curves:
            axes.plot(
                list(curve), [100 * score for score in curve.values()], color=style.colour, linewidth=0.8, alpha=0.45
            )
    common = [epoch for epoch in (curves[0] if curves else ()) if all(epoch in curve for curve in curves)]
    means = {epoch: mean(curve[epoch] for curve in curves) for epoch in common}
    axes.plot(list(means), [100 * score for score in means.values()], color=style.colour, linewidth=2.2, zorder=3)
    for epoch, score in means.items():
        mark(axes, epoch, 100 * score, style, 7)
    return means


def _in_words(means: Mapping[str, Curve]) -> str:
    parts = [
        f"{model} from {percent(curve[min(curve)])} after epoch {number(min(curve))} to {percent(curve[max(curve)])}"
        f" after epoch {number(max(curve))}"
        for model, curve in means.items()
        if curve
    ]
    return f"Mean score over seeds: {'; '.join(parts)}."
