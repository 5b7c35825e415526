"""The sections of what results have cost: seconds of the devices, and memory."""

from collections.abc import Sequence

from gluegrid.common.formatting import NOTHING, grouped, percent
from gluegrid.page.blocks import Block, Cell, Details, Figure, Figures, Section, Table, Text, number
from gluegrid.page.cost_figures import cost_figure, has_cost, memory_figure
from gluegrid.page.costs import cost, in_gib, of_gpus
from gluegrid.page.material import Material
from gluegrid.results.result_text import task_name
from gluegrid.results.summary import Group

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
