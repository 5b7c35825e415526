"""Figures of what scores cost: score against seconds of the devices, and peak memory."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gluegrid.common.formatting import grouped, percent
from gluegrid.page.colours import MUTED, OTHER, Style
from gluegrid.page.costs import cost, device_seconds, in_gib
from gluegrid.page.drawing import (
    LABELS,
    LARGE,
    WIDTH,
    Margins,
    few_ticks,
    finished,
    mark,
    mark_seeds,
    name_axes,
    new_axes,
    rows,
    widen,
)
from gluegrid.results.result_text import task_name
from gluegrid.results.summary import Group, score

HEIGHT = 230
LEAST_SPAN = 1.0  # percent
MEMORY_WIDTH, ROW = 560, 26


def has_cost(group: Group) -> bool:
    """Tell whether a group has a score and the seconds that it took."""
    return group.score() is not None and bool(cost(group).device_seconds)


def cost_figure(name: str, groups: Sequence[Group], looks: Mapping[str, Style], unit: str) -> Markup:
    """Return the figure of one task: a mark for each model, small ones for its seeds. `unit` is that of the time."""
    axes = new_axes(WIDTH, HEIGHT, Margins(left=54, bottom=42, right=16))
    axes.set_xscale("log")
    seconds, scores = [], []
    # What has no colour of its own lies below.
    for group in sorted(groups, key=lambda group: group.model in looks):
        style = looks.get(group.model, OTHER)
        xs = [device_seconds(each) for each in group.done]
        ys = [100 * score(each, group.task.metric_keys()) for each in group.done]
        if len(xs) > 1:
            mark_seeds(axes, xs, ys, style)
        mark(axes, cost(group).device_seconds, 100 * group.score(), style, LARGE if style != OTHER else 6)
        seconds, scores = [*seconds, *xs], [*scores, *ys]
    widen(axes, "y", scores, LEAST_SPAN)
    few_ticks(axes, "y")
    _span(axes, min(seconds), max(seconds))
    name_axes(axes, x=f"{unit}, logarithmic", y="Score on validation")
    return finished(axes, name, f"Score against {unit} on {groups[0].display_name}", _in_words(groups, unit))


def memory_figure(name: str, by_model: Mapping[str, Sequence[Group]], looks: Mapping[str, Style], where: str) -> Markup:
    """Return the figure of peak memory: a row for each model, a mark for each task. `where` is `gpu` or `host`."""
    axes = new_axes(MEMORY_WIDTH, ROW * len(by_model) + 44, Margins(left=LABELS, bottom=36))
    texts, sizes = [], []
    for row, (model, groups) in enumerate(by_model.items()):
        used = {task_name(group): getattr(cost(group), f"{where}_bytes") for group in groups}
        known = {task: in_gib(size) for task, size in used.items() if size is not None}
        if known:
            axes.plot([min(known.values()), max(known.values())], [row, row], color=MUTED, linewidth=1, zorder=2)
            mark(axes, list(known.values()), [row] * len(known), looks.get(model, OTHER), 6.5, alpha=0.8)
            most = max(known, key=known.get)
            sizes += known.values()
            texts.append(f"{model}: at most {grouped(known[most], 1)} GiB ({most})")
    rows(axes, list(by_model))
    axes.set_xlim(0, 1.06 * max(sizes))
    few_ticks(axes, "x", 8)
    axes.grid(visible=False, axis="y")
    name_axes(axes, x="GiB")
    what = "GPU memory" if where == "gpu" else "Host memory"
    return finished(axes, name, f"Peak {what}", "; ".join(texts[:20]) + ".")


def _span(axes, low: float, high: float) -> None:
    """Let the logarithmic axis reach a little beyond its values, with round numbers of seconds."""
    reach = max((high / low) ** 0.1, 1.25)
    axes.set_xlim(low / reach, high * reach)
    decades = high * reach**2 / low >= 20
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1,) if high / low > 200 else (1, 3) if decades else (1, 1.5, 2, 3, 5, 7))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _in_words(groups: Sequence[Group], unit: str) -> str:
    parts = [
        f"{group.model} {percent(group.score())} for {grouped(cost(group).device_seconds)}" for group in groups[:20]
    ]
    return f"Mean score and {unit}: {'; '.join(parts)}."
