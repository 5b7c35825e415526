"""The section of training curves."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from gluegrid.common.formatting import number, percent
from gluegrid.report.blocks import Figures, Section, Text
from gluegrid.report.content import Material
from gluegrid.report.figures import Plot, Style
from gluegrid.report.scores import score_bounds
from gluegrid.results.summary import Group, mean

WHAT = "The validation score after each epoch: thick lines are means over seeds, thin lines single seeds."

Curve = dict[float, float]  # epoch -> score


def training_section(material: Material) -> Section | None:
    """Return the section; None where no cell was scored after several epochs (eval_strategy: epoch)."""

    def has_curve(group: Group) -> bool:
        return group.model in material.looks and any(len(curve) > 1 for curve in _curves(group))

    figures = material.panels("curve", has_curve, lambda name, groups: _figure(name, groups, material.looks))
    if not figures:
        return None
    rule = f" {material.rule_of_looks} The figures show these." if material.has_others else ""
    blocks = [Text(WHAT + rule, "note"), material.legend("curve", with_others=False), Figures(figures)]
    return Section("training", "Training curves", blocks)


def _figure(name: str, groups: Sequence[Group], looks: Mapping[str, Style]) -> Markup:
    """Return the figure of one task: a thin line for each seed, a thick line for their mean."""
    plot = Plot(left=54, bottom=42)
    curves = {group.model: _curves(group) for group in groups}
    means = {model: _draw_curves(plot, of_model, looks[model]) for model, of_model in curves.items()}
    points = [point for of_model in curves.values() for curve in of_model for point in curve.items()]
    epochs = [epoch for epoch, _ in points]
    plot.scores_over("Epoch", [100 * score for _, score in points], score_bounds(groups))
    plot.widen("x", epochs, least=1)
    plot.few_ticks("x", 6, is_whole=all(epoch == round(epoch) for epoch in epochs))
    plot.axes.grid(visible=False, axis="x")
    return plot.svg(name, f"Training curves on {groups[0].display_name}", _in_words(means))


def _curves(group: Group) -> list[Curve]:
    """Return the curves of all cells that have one; none for a task without metrics."""
    keys = group.task.metric_keys()
    curves = []
    for outcome in group.done if keys else ():
        points = outcome.record.get("curve") or ()
        scores = {point["epoch"]: mean(point.get(key) for key in keys) for point in points}
        curves.append({epoch: score for epoch, score in scores.items() if score is not None})
    return [curve for curve in curves if curve]


def _draw_curves(plot: Plot, curves: Sequence[Curve], style: Style) -> Curve:
    """Draw the curves of a group and their mean at the epochs that all have; return the mean."""
    if len(curves) > 1:
        for curve in curves:
            _draw_line(plot, curve, style, linewidth=0.8, alpha=0.45)
    common = [epoch for epoch in (curves[0] if curves else ()) if all(epoch in curve for curve in curves)]
    means = {epoch: mean(curve[epoch] for curve in curves) for epoch in common}
    _draw_line(plot, means, style, linewidth=2.2, zorder=3)
    for epoch, score in means.items():
        plot.mark(epoch, 100 * score, style, 7)
    return means


def _draw_line(plot: Plot, curve: Curve, style: Style, **options) -> None:
    plot.axes.plot(list(curve), [100 * score for score in curve.values()], color=style.colour, **options)


def _in_words(means: Mapping[str, Curve]) -> str:
    parts = [
        f"{model} from {percent(curve[min(curve)])} after epoch {number(min(curve))} to {percent(curve[max(curve)])}"
        f" after epoch {number(max(curve))}"
        for model, curve in means.items()
        if curve
    ]
    return f"Mean score over seeds: {'; '.join(parts)}."
