"""The sections of what results have cost: seconds of the devices, and memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gluegrid.common.formatting import NOTHING, grouped, percent
from gluegrid.report.blocks import Block, Cell, Details, Figure, Figures, Section, Table, Text, number
from gluegrid.report.content import Material
from gluegrid.report.figures import (
    LABELS,
    LARGE,
    MUTED,
    OTHER,
    WIDTH,
    Margins,
    Style,
    few_ticks,
    finished,
    mark,
    mark_seeds,
    name_axes,
    new_axes,
    rows,
    widen,
)
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import task_name
from gluegrid.results.summary import Group, mean, score

MOST_ROWS = 50
WHAT = (
    "Seconds of the training loop times the {what} that trained: without start-up, tokenising and scoring, and of a"
    " sweep the chosen point alone. Up and to the left is better."
)
DEVICES = "Times on different devices cannot be compared; these are of {}."
MEMORY = (
    "The most memory that a cell has taken, over its seeds: a mark for each task. GPU memory is what the main"
    " process's tensors took at most; host memory is that process's."
)


def cost_section(material: Material) -> Section:
    """Return the section of scores against seconds."""
    is_gpu = of_gpus(material.chosen)
    unit, what = ("GPU-seconds", "GPUs") if is_gpu else ("device-seconds", "GPUs or CPU processes")
    figures = []
    for place, of_task in enumerate(material.by_task()):
        if groups := [group for group in of_task if has_cost(group)]:
            svg = cost_figure(f"cost-{place}", groups, material.looks, unit)
            figures.append(material.panel(svg, groups[0]))
    if not figures:
        return Section("cost", "Cost", [Text("No cell that was trained has a score.")])
    said = [WHAT.format(what=what), _devices(material), material.rule_of_looks()]
    blocks = [Text(" ".join(filter(None, said)), "note"), material.legend("cost"), Figures(figures)]
    return Section("cost", f"Score against {unit}", [*blocks, Details("The numbers", [_table(material.chosen, unit)])])


def memory_section(material: Material) -> Section:
    """Return the section of peak memory."""
    by_model: dict[str, list[Group]] = {}
    for group in material.chosen:
        if group.done:
            by_model.setdefault(group.model, []).append(group)
    drawn = dict(list(by_model.items())[:MOST_ROWS])
    figures = [
        Figure(memory_figure(f"memory-{where}", drawn, material.looks, where), title)
        for where, title in (("gpu", "GPU memory"), ("host", "Host memory"))
        if any(getattr(cost(group), f"{where}_bytes") for groups in drawn.values() for group in groups)
    ]
    rule = f" The first {MOST_ROWS} of {len(by_model)} models are drawn." if len(by_model) > MOST_ROWS else ""
    blocks: list[Block] = [Text(MEMORY + rule, "note"), Figures(figures, is_wide=True)]
    return Section(
        "memory", "Memory", blocks if figures else [Text("No record says how much memory a cell has taken.")]
    )


def _devices(material: Material) -> str:
    devices = sorted({outcome.record["device"] for outcome in material.done if "train_runtime" in outcome.results})
    return DEVICES.format(", ".join(devices)) if len(devices) > 1 else ""


def _table(chosen: Sequence[Group], unit: str) -> Table:
    rows = [_row(group) for group in chosen if group.done]
    headers = ["Model", "Task", "Score", unit, "Tokens per second", "GPU memory (GiB)", "Host memory (GiB)", "Device"]
    return Table("Means over seeds; of memory the most", headers, rows)


def _row(group: Group) -> list[Cell]:
    of_group = cost(group)
    devices = dict.fromkeys(outcome.record["device"] for outcome in group.done)
    return [
        Cell(group.model),
        Cell(task_name(group)),
        number(percent(group.score()) if group.task.metric_keys() else NOTHING),
        number(grouped(of_group.device_seconds, 1)),
        number(grouped(of_group.tokens_per_second)),
        number(grouped(in_gib(of_group.gpu_bytes), 2)),
        number(grouped(in_gib(of_group.host_bytes), 2)),
        Cell(", ".join(devices)),
    ]


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


GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """What a group's cells took: mean seconds of all devices together, the most memory in bytes. None is not known."""

    device_seconds: float | None
    tokens_per_second: float | None
    gpu_bytes: int | None
    host_bytes: int | None


def device_seconds(outcome: Outcome) -> float | None:
    """Return the seconds of training times the processes that trained; None for a cell that was not trained."""
    seconds = outcome.results.get("train_runtime")
    return None if seconds is None else seconds * outcome.record.get("processes", 1)


def cost(group: Group) -> Cost:
    """Return what the cells of a group have cost."""
    return Cost(
        device_seconds=mean(device_seconds(outcome) for outcome in group.done),
        tokens_per_second=mean(outcome.record.get("train_tokens_per_second") for outcome in group.done),
        gpu_bytes=_most(_memory(outcome, "gpu") for outcome in group.done),
        host_bytes=_most(_memory(outcome, "host") for outcome in group.done),
    )


def in_gib(size: int | None) -> float | None:
    """Return bytes in GiB."""
    return None if size is None else size / GIB


def of_gpus(groups: Iterable[Group]) -> bool:
    """Tell whether all that was trained was trained on GPUs."""
    return all(outcome.cell.values["device"] == "cuda" for group in groups for outcome in group.done)


def _memory(outcome: Outcome, where: str) -> int | None:
    return (outcome.record.get("peak_memory_bytes") or {}).get(where)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
