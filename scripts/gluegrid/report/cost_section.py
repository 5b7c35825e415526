"""The sections of what results have cost: seconds of the devices, and memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gluegrid.common.formatting import NOTHING, grouped, percent
from gluegrid.report.blocks import Details, Figure, Figures, Section, Table, Text, table
from gluegrid.report.content import Material
from gluegrid.report.figures import LABELS, LARGE, MUTED, OTHER, Plot, Style
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import task_name
from gluegrid.results.summary import Group, mean, score

WHAT = (
    "Seconds of the training loop times the {what} that trained: without start-up, tokenising and scoring, and of a"
    " sweep the chosen point alone. Up and to the left is better."
)
DEVICES = "Times on different devices cannot be compared; these are of {}."
MEMORY = (
    "The most memory that a cell has taken, over its seeds: a mark for each task. GPU memory is what the main"
    " process's tensors took at most; host memory is that process's."
)
NO_MEMORY = "No record says how much memory a cell has taken."
PLACES = {"gpu": "GPU memory", "host": "Host memory"}
MOST_ROWS = 50  # models in a figure
MEMORY_WIDTH, ROW = 560, 26
GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """What a group's cells took: mean seconds of all devices together, the most memory in GiB. None is not known."""

    device_seconds: float | None
    tokens_per_second: float | None
    memory: dict[str, float | None]


def cost_section(material: Material) -> Section | None:
    """Return the section of scores against seconds; None without any result."""
    if not material.done:
        return None
    unit, what = ("GPU-seconds", "GPUs") if on_gpus(material.chosen) else ("device-seconds", "GPUs or CPU processes")
    figures = material.panels("cost", _has_cost, lambda name, groups: _cost_figure(name, groups, material.looks, unit))
    if not figures:
        return Section("cost", "Cost", [Text("No cell that was trained has a score.")])
    devices = sorted({outcome.record["device"] for outcome in material.done if "train_runtime" in outcome.results})
    several = DEVICES.format(", ".join(devices)) if len(devices) > 1 else ""
    said = " ".join(filter(None, [WHAT.format(what=what), several, material.rule_of_looks]))
    numbers = Details("The numbers", [_table(material.chosen, unit)])
    blocks = [Text(said, "note"), material.legend("cost"), Figures(figures), numbers]
    return Section("cost", f"Score against {unit}", blocks)


def memory_section(material: Material) -> Section | None:
    """Return the section of peak memory; None without any result."""
    if not material.done:
        return None
    by_model: dict[str, dict[str, dict]] = {}
    for group in material.chosen:
        if group.done:
            by_model.setdefault(group.model, {})[task_name(group)] = _cost(group).memory
    drawn = dict(list(by_model.items())[:MOST_ROWS])
    figures = [
        Figure(_memory_figure(f"memory-{where}", drawn, material.looks, where), title)
        for where, title in PLACES.items()
        if any(memory[where] for of_tasks in drawn.values() for memory in of_tasks.values())
    ]
    if not figures:
        return Section("memory", "Memory", [Text(NO_MEMORY)])
    rule = f" The first {MOST_ROWS} of {len(by_model)} models are drawn." if len(by_model) > MOST_ROWS else ""
    return Section("memory", "Memory", [Text(MEMORY + rule, "note"), Figures(figures, is_wide=True)])


def device_seconds(outcome: Outcome) -> float | None:
    """Return the seconds of training times the processes that trained; None for a cell that was not trained."""
    seconds = outcome.results.get("train_runtime")
    return None if seconds is None else seconds * outcome.record.get("processes", 1)


def on_gpus(groups: Iterable[Group]) -> bool:
    """Tell whether all that was trained was trained on GPUs."""
    return all(outcome.cell.values["device"] == "cuda" for group in groups for outcome in group.done)


def _cost(group: Group) -> Cost:
    return Cost(
        device_seconds=mean(device_seconds(outcome) for outcome in group.done),
        tokens_per_second=mean(outcome.record.get("train_tokens_per_second") for outcome in group.done),
        memory={where: _most_memory(group, where) for where in PLACES},
    )


def _most_memory(group: Group, where: str) -> float | None:
    sizes = [(outcome.record.get("peak_memory_bytes") or {}).get(where) for outcome in group.done]
    most = max((size for size in sizes if size is not None), default=None)
    return None if most is None else most / GIB


def _has_cost(group: Group) -> bool:
    """Tell whether a group has a score and the seconds that it took."""
    return group.score() is not None and bool(_cost(group).device_seconds)


def _table(chosen: Sequence[Group], unit: str) -> Table:
    numbers = ["Score", unit, "Tokens per second", "GPU memory (GiB)", "Host memory (GiB)"]
    rows = []
    for group in chosen:
        if group.done:
            cost = _cost(group)
            row = [
                group.model,
                task_name(group),
                percent(group.score()) if group.task.metric_keys() else NOTHING,
                grouped(cost.device_seconds, 1),
                grouped(cost.tokens_per_second),
                *(grouped(cost.memory[where], 2) for where in PLACES),
                ", ".join(dict.fromkeys(outcome.record["device"] for outcome in group.done)),
            ]
            rows.append(row)
    return table("Means over seeds; of memory the most", ["Model", "Task", *numbers, "Device"], rows, numbers)


def _cost_figure(name: str, groups: Sequence[Group], looks: Mapping[str, Style], unit: str) -> Markup:
    """Return the figure of one task: a mark for each model, small ones for its seeds. `unit` is that of the time."""
    plot = Plot(left=54, bottom=42, right=16)
    plot.axes.set_xscale("log")
    seconds, scores = [], []
    # What has no colour of its own lies below.
    for group in sorted(groups, key=lambda group: group.model in looks):
        style = looks.get(group.model, OTHER)
        xs = [device_seconds(each) for each in group.done]
        ys = [100 * score(each, group.task.metric_keys()) for each in group.done]
        if len(xs) > 1:
            plot.mark_seeds(xs, ys, style)
        plot.mark(_cost(group).device_seconds, 100 * group.score(), style, LARGE if style != OTHER else 6)
        seconds, scores = [*seconds, *xs], [*scores, *ys]
    plot.scores_over(f"{unit}, logarithmic", scores)
    _span(plot.axes, min(seconds), max(seconds))
    parts = [
        f"{group.model} {percent(group.score())} for {grouped(_cost(group).device_seconds)}" for group in groups[:20]
    ]
    title = f"Score against {unit} on {groups[0].display_name}"
    return plot.svg(name, title, f"Mean score and {unit}: {'; '.join(parts)}.")


def _span(axes, low: float, high: float) -> None:
    """Let the logarithmic axis reach a little beyond its values, with round numbers of seconds."""
    reach = max((high / low) ** 0.1, 1.25)
    axes.set_xlim(low / reach, high * reach)
    spans_decades = high * reach**2 / low >= 20
    ticks = (1,) if high / low > 200 else (1, 3) if spans_decades else (1, 1.5, 2, 3, 5, 7)
    axes.xaxis.set_major_locator(LogLocator(subs=ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _memory_figure(name: str, by_model: Mapping[str, Mapping], looks: Mapping[str, Style], where: str) -> Markup:
    """Return the figure of peak memory: a row for each model, a mark for each task. `where` is one of PLACES."""
    plot = Plot(MEMORY_WIDTH, ROW * len(by_model) + 44, left=LABELS, bottom=36)
    texts, sizes = [], []
    for row, (model, of_tasks) in enumerate(by_model.items()):
        known = {task: memory[where] for task, memory in of_tasks.items() if memory[where] is not None}
        if known:
            most = max(known, key=known.get)
            plot.axes.plot([min(known.values()), known[most]], [row, row], color=MUTED, linewidth=1, zorder=2)
            plot.mark(list(known.values()), [row] * len(known), looks.get(model, OTHER), 6.5, alpha=0.8)
            sizes += known.values()
            texts.append(f"{model}: at most {grouped(known[most], 1)} GiB ({most})")
    plot.rows(list(by_model))
    plot.axes.set_xlim(0, 1.06 * max(sizes))
    plot.few_ticks("x", 8)
    plot.name_axes(x="GiB")
    return plot.svg(name, f"Peak {PLACES[where]}", "; ".join(texts[:20]) + ".")
