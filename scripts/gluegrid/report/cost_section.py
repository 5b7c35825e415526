"""What results have cost: training time, against the scores that it bought, and memory."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from gluegrid.common.formatting import NOTHING, counted, grouped, percent
from gluegrid.report.blocks import Block, Details, Figure, Figures, Section, Table, Text, table
from gluegrid.report.content import Material
from gluegrid.report.figures import LARGE, MUTED, OTHER, WIDE, Plot, Style, label, room_for
from gluegrid.report.scores import ModelScores, score_bounds
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import task_name
from gluegrid.results.summary import Group, mean

WHAT = (
    "Time is the training loop's, in seconds, times the {what} that trained. It excludes start-up, tokenization and"
    " scoring; of a sweep it is the chosen point's alone."
)
DEVICES = "Times on different devices cannot be compared; these are of {}."
MEMORY = (
    "Memory is the peak over a cell's seeds; each task has a mark. GPU memory is what the main process's tensors took,"
    " host memory is that process's."
)
COST = "Mean score against training time"
PLACES = {"gpu": "GPU memory", "host": "Host memory"}
MOST_ROWS = 50  # models in a figure of memory
COST_HEIGHT, ROW = 300, 26
HOUR = 3600
GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """What a group's cells took: mean seconds of all devices together, peak memory in GiB. None is unknown."""

    device_seconds: float | None
    tokens_per_second: float | None
    memory: dict[str, float | None]


def cost_figure(material: Material) -> Figure | None:
    """Return the figure of each model's mean score against its training time; None for fewer than two models.

    Both are of the tasks that every model has.
    """
    rows = [row for row in material.table.rows if row.common_mean is not None and _seconds(row)]
    if len(rows) < 2:
        return None
    seconds = list(map(_seconds, rows))
    divisor, hours = (HOUR, "hours") if max(seconds) >= HOUR else (1, "seconds")
    unit = f"{_kind(material)}-{hours}"
    plot = Plot(WIDE, COST_HEIGHT, left=54, bottom=42, right=16)
    points = [(each / divisor, 100 * row.common_mean) for each, row in zip(seconds, rows, strict=True)]
    ends = [
        _draw_model(plot, point, row, material.looks.get(row.model, OTHER))
        for point, row in zip(points, rows, strict=True)
    ]
    plot.logarithmic([cost for cost, _ in points])
    plot.scores_over(
        f"{unit} of training, logarithmic",
        itertools.chain(*ends),
        score_bounds([each.group for each in rows[0].common]),
    )
    plot.axes.set_ylabel("Mean score x 100")
    plot.names_beside(points, [row.model for row in rows], [bounds for _, *bounds in ends])
    texts = [
        f"{row.model} {percent(row.common_mean)} for {grouped(cost, 1)} {unit}"
        for row, (cost, _) in zip(rows, points, strict=True)
    ]
    count = len(rows[0].common)
    subtitle = f"{counted(count, 'task')}, time per seed; up and left is better"
    return Figure(plot.svg("cost-of-mean", COST, f"{'; '.join(texts[:20])}."), COST, subtitle)


def _draw_model(plot: Plot, point: tuple[float, float], row: ModelScores, style: Style) -> list[float]:
    """Draw a model's mean score and its interval; return what was drawn."""
    bounds = [100 * bound for bound in row.common_interval or ()]
    if bounds:
        plot.bar([point[0], point[0]], bounds, style)
    plot.mark(*point, style, LARGE if style != OTHER else 6)
    return [point[1], *bounds]


def cost_section(material: Material) -> Section | None:
    """Return the section of time and memory; None where no record has either."""
    costs = {group.identity: _cost(group) for group in material.chosen if group.done}
    has_times = any(cost.device_seconds for cost in costs.values())
    figures = _memory_figures(material)
    has_memory = any(cost.memory[where] for cost in costs.values() for where in PLACES)
    if not has_times and not has_memory:
        return None
    devices = sorted({outcome.record["device"] for outcome in material.done if "train_runtime" in outcome.results})
    lines = [WHAT.format(what="GPUs" if on_gpus(material.chosen) else "GPUs or CPU processes")] if has_times else []
    lines += [DEVICES.format(", ".join(devices))] if len(devices) > 1 else []
    lines += [MEMORY] if has_memory else []
    drawn = [f"The figures show the first {MOST_ROWS} models."] if len(material.table.rows) > MOST_ROWS else []
    blocks: list[Block] = [Text(" ".join([*lines, *drawn]), "note")]
    blocks += [Figures(figures, is_wide=True)] if figures else []
    blocks.append(Details("The numbers", [_table(material)]))
    return Section("cost", "Time and memory", blocks)


def device_seconds(outcome: Outcome) -> float | None:
    """Return the seconds of training times the processes that trained; None for a cell that was not trained."""
    seconds = outcome.results.get("train_runtime")
    return None if seconds is None else seconds * outcome.record.get("processes", 1)


def on_gpus(groups: Iterable[Group]) -> bool:
    """Tell whether everything was trained on GPUs."""
    return all(outcome.cell.values["device"] == "cuda" for group in groups for outcome in group.done)


def _kind(material: Material) -> str:
    return "GPU" if on_gpus(material.chosen) else "device"


def _seconds(row: ModelScores) -> float:
    """Return what one seed of a model took on the tasks that every model has; 0 where nothing was trained."""
    return sum(_cost(score.group).device_seconds or 0.0 for score in row.common)


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


def _table(material: Material) -> Table:
    numbers = ["Score", f"{_kind(material)}-seconds", "Tokens per second", "GPU memory (GiB)", "Host memory (GiB)"]
    rows = []
    for group in material.chosen:
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
    return table("Means over seeds; memory is the peak", ["Model", "Task", *numbers, "Device"], rows, numbers)


def _memory_figures(material: Material) -> list[Figure]:
    by_model: dict[str, dict[str, dict]] = {}
    for group in material.chosen:
        if group.done:
            by_model.setdefault(group.model, {})[task_name(group)] = _cost(group).memory
    drawn = dict(list(by_model.items())[:MOST_ROWS])
    return [
        Figure(_memory_figure(f"memory-{where}", drawn, material.looks, where), title)
        for where, title in PLACES.items()
        if sum(bool(memory[where]) for of_tasks in drawn.values() for memory in of_tasks.values()) > 1
    ]


def _memory_figure(name: str, by_model: Mapping[str, Mapping], looks: Mapping[str, Style], where: str) -> Markup:
    """Return the figure of peak memory: a row for each model, a mark for each task. `where` is one of PLACES."""
    plot = Plot(WIDE, ROW * len(by_model) + 44, left=room_for(map(label, by_model)), bottom=36)
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
