"""A plan, as people read it before they pay: cells and reasons, hours, time on so many GPUs, what is fetched, disk."""

import itertools
from collections.abc import Iterator

from gluegrid.common import escaping
from gluegrid.common.files import size_in_words
from gluegrid.common.formatting import counted, duration
from gluegrid.operations.cost_model import STAGED, model_size
from gluegrid.operations.estimates import Estimate
from gluegrid.operations.plan import Plan, PlannedCell
from gluegrid.results.tables import plain

COLUMNS = ("Model", "Task", "Cells", "Each", "Hours", "Why")
MOST_LINES = 40
WIDEST_NAME, WIDEST_REASON = 22, 80
NUMBERS_OF_GPUS = (1, 2, 4, 8, 16, 32, 64)


def plan_text(plan: Plan, gpus: int | None = None, most_lines: int | None = MOST_LINES) -> str:
    """Return what is to be done; `gpus` to say how long on so many only; `most_lines` None for a line for all."""
    experiment = plan.experiment
    count = len(experiment.cells)
    lines = [f"{experiment.name}: {count - len(plan.cells):,} of {count:,} cells have their result."]
    if not plan.cells:
        return "\n".join([*lines, "Nothing to train."])
    lines += ["", *_table(plan, most_lines), ""]
    longest = plan.cells[0]
    hours = f"{plan.gpu_hours:,.2f} {_hours_of(plan)}"
    lines.append(f"To train: {counted(len(plan.cells), 'cell')}, {hours}.")
    lines.append(f"The longest: {longest.cell.name}, {duration(longest.estimate.seconds)}.")
    lines.append(f"Until the last is done: {', '.join(_times(plan, gpus))}.")
    lines += [*_to_stage(plan), *_disk(plan), *_basis(plan)]
    return "\n".join(lines)


def _table(plan: Plan, most_lines: int | None) -> list[str]:
    rows = [_row(cells) for cells in _alike(plan)]
    shown = rows if most_lines is None else rows[:most_lines]
    text = plain(COLUMNS, shown).splitlines()
    if len(shown) < len(rows):
        text.append(f"... and {len(rows) - len(shown):,} more lines, of shorter cells (ALL=1 shows them)")
    return text


def _alike(plan: Plan) -> Iterator[list[PlannedCell]]:
    """Yield cells that differ in their seeds only and are trained for the same reason."""

    def kind(planned: PlannedCell) -> tuple[float, str, str, str]:
        return (-planned.estimate.seconds, planned.cell.model, planned.cell.task, planned.why)

    for _, cells in itertools.groupby(sorted(plan.cells, key=kind), kind):
        yield list(cells)


def _row(cells: list[PlannedCell]) -> tuple[str, ...]:
    first = cells[0]
    return (
        escaping.shortened(first.cell.model, WIDEST_NAME),
        escaping.shortened(first.cell.task, WIDEST_NAME),
        str(len(cells)),
        duration(first.estimate.seconds),
        f"{sum(planned.estimate.gpu_hours for planned in cells):,.2f}",
        escaping.shortened(escaping.one_line(first.why), WIDEST_REASON),
    )


def _times(plan: Plan, gpus: int | None) -> Iterator[str]:
    """Yield how long it takes on more and more devices, until more of them are of no use."""
    before = None
    for number in NUMBERS_OF_GPUS if gpus is None else (gpus,):
        seconds = plan.seconds_on(number)
        if before is not None and seconds > 0.95 * before:
            return
        before = seconds
        yield f"{duration(seconds)} on {counted(number, _device_of(plan))}"


def _to_stage(plan: Plan) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for resource in plan.to_stage:
        kinds.setdefault(resource.kind, []).append(resource.name)
    fetched = {kind: names for kind, names in kinds.items() if kind != "tokens"}
    parts = [f"{kind}: {_names(names)}" for kind, names in fetched.items()]
    lines = [f"To fetch: {'; '.join(parts)}." if parts else "To fetch: nothing."]
    if "tokens" in kinds:
        lines.append(f"To tokenise: {_names(kinds['tokens'])}.")
    return lines


def _names(names: list[str], most: int = 9) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _disk(plan: Plan) -> list[str]:
    needed = plan.disk_needed()
    staged = f"{size_in_words(needed.to_stage)} below resources/, " if needed.to_stage else ""
    return [
        f"Disk, about: {staged}{size_in_words(needed.results)} of results, and up to"
        f" {size_in_words(needed.each_training)} of checkpoints for each cell while it trains."
    ]


def _basis(plan: Plan) -> list[str]:
    """Say what the estimates are from."""
    sources = dict.fromkeys(_source(planned.estimate) for planned in plan.cells)
    lines = [f"Speed from: {'; '.join(sources)}."]
    models = dict.fromkeys(planned.cell.model for planned in plan.cells)
    sizes = {name: model_size(plan.experiment, name).known_from for name in models}
    guessed = [f"{name} (from {known_from})" for name, known_from in sizes.items() if known_from != STAGED]
    if guessed:
        lines.append(f"Sizes are guessed until they are staged: {_names(guessed)}.")
    elif not all(planned.estimate.is_staged for planned in plan.cells):
        lines.append("Tokens are guessed until they are made.")
    return lines


def _source(estimate: Estimate) -> str:
    if estimate.device is None:
        return "no run yet, a device of middling speed; the first cells that finish here will tell better"
    return f"runs of {estimate.known_from} on {estimate.device}"


def _device_of(plan: Plan) -> str:
    return "GPU" if any(_is_on_gpu(planned) for planned in plan.cells) else "process"


def _hours_of(plan: Plan) -> str:
    return "GPU-hours" if any(_is_on_gpu(planned) for planned in plan.cells) else "hours on the CPU"


def _is_on_gpu(planned: PlannedCell) -> bool:
    return planned.cell.values["device"] == "cuda"
