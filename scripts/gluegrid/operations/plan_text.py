"""Show a plan before it costs anything: cells and reasons, hours, time by number of GPUs, downloads, disk."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gluegrid.common import escaping
from gluegrid.common.files import size_in_words
from gluegrid.common.formatting import counted, duration
from gluegrid.common.paths import is_local
from gluegrid.operations.cost_model import ROWS_OF_AN_UNKNOWN_TASK, STAGED, ModelSize, TaskSize, model_size, task_size
from gluegrid.operations.estimates import Basis
from gluegrid.operations.gpu_memory import Shortage, gpu_memory, shortage
from gluegrid.operations.plan import Plan, PlannedCell
from gluegrid.results.tables import plain

COLUMNS = ("Model", "Task", "Cells", "Each", "Hours", "Why")
KINDS = {"model": "model", "data": "dataset"}
MOST_LINES = 40
WIDEST_NAME, WIDEST_REASON = 22, 80
NUMBERS_OF_GPUS = (1, 2, 4, 8, 16, 32, 64)


def plan_text(plan: Plan, gpus: int | None = None, most_lines: int | None = MOST_LINES) -> str:
    """Return a plan as text: times on `gpus` only, or on 1, 2, 4, ...; with `most_lines` None, every row."""
    experiment = plan.experiment
    count = len(experiment.cells)
    lines = [f"{experiment.name}: {count - len(plan.cells):,} of {count:,} cells are done."]
    if not plan.cells:
        return "\n".join([*lines, "Nothing to train."])
    lines += ["", *_table(plan, most_lines), ""]
    longest = plan.cells[0]
    hours = f"{_in_hours(plan.gpu_hours)} {_hours_of(plan)}"
    lines.append(f"To train: {counted(len(plan.cells), 'cell')}, {hours}.")
    packed = sum(len(job) for job in plan.jobs_on(1) if len(job) > 1)
    if packed:
        of = "all of them" if packed == len(plan.cells) else f"{packed:,} of them"
        lines.append(f"Packed into shared jobs (pack_minutes: {plan.pack_minutes:g}): {of}.")
    lines.append(f"Longest cell: {longest.cell.name}, {duration(longest.estimate.seconds)}.")
    if times := list(_times(plan, gpus)):
        lines.append(f"Total time: {', '.join(times)}{_without_downloads(plan)}.")
    else:
        lines.append("These cells need a GPU; set device: cpu to train them on the CPU.")
    lines += [*_to_stage(plan), *_disk(plan), *_gpu_memory(plan), *_basis(plan)]
    return "\n".join(lines)


def one_line(plan: Plan, places: int, is_remote: bool, rules: Sequence[str] = ()) -> str:
    """Return one line on what a call is about to do, and how long that takes on so many GPUs or CPU processes.

    `rules` are named if it trains and fetches nothing.
    """
    parts = []
    if plan.cells:
        all_cells = len(plan.experiment.cells)
        of = f" of {all_cells:,}" if len(plan.cells) < all_cells else ""
        what = f"{len(plan.cells):,}{of} {'cell' if all_cells == 1 else 'cells'}"
        jobs = f" in {counted(len(plan.jobs_on(places)), 'SLURM job')}" if is_remote else ""
        seconds = duration(plan.seconds_on(places))
        is_on_gpu = any(map(_is_on_gpu, plan.cells))
        device = f" on {counted(places, 'GPU')}" if is_on_gpu else f" on the CPU, {places:,} at a time"
        parts.append(f"{what} to train{jobs}{device}, about {seconds}{_without_downloads(plan)}")
    kinds = Counter(KINDS[resource.kind] for resource in plan.to_stage if resource.kind in KINDS)
    if kinds:
        parts.append(f"to fetch: {', '.join(counted(count, kind) for kind, count in kinds.items())}")
    without = f"no cell to train; to run: {', '.join(rules)}" if rules else "no cell to train"
    return f"{plan.experiment.name}: {'; '.join(parts) or without}."


def warnings_of_cards(plan: Plan) -> Iterator[str]:
    """Yield what the planned GPUs lack: one line for all cells of a model that lack the same."""
    alike: dict[tuple, list[tuple[PlannedCell, Shortage | None]]] = {}
    for planned in _on_known_cards(plan):
        values = planned.cell.values
        if values["precision"] == "bf16" and planned.card.bf16 is None:
            key = (planned.cell.model, planned.card.name)
            alike.setdefault(key, []).append((planned, None))
        elif lack := shortage(values, *_sizes(plan, planned), planned.card):
            helps = (lack.rows > 0, lack.with_checkpointing, lack.on_two_gpus, lack.rows_wanted)
            key = (planned.cell.model, planned.card.name, *helps)
            alike.setdefault(key, []).append((planned, lack))
    for found in alike.values():
        cells, lacks = zip(*found, strict=True)
        where = f"{cells[0].cell.model} on {_names([planned.cell.task for planned in cells], most=3)}"
        if lacks[0] is None:
            yield f"{where}: the {cells[0].card.name} has no bf16; set precision: auto or fp16"
        else:
            yield f"{where}: {_lacks(cells[0], lacks)}"


def _lacks(planned: PlannedCell, lacks: Iterable[Shortage]) -> str:
    most = max(lacks, key=lambda lack: lack.needed)
    fewest = min(lack.rows for lack in lacks)
    needed = f"about {size_in_words(most.needed)} of GPU memory and the {planned.card.name} has {planned.card.memory:g}"
    if fewest == 0:
        text = f"cannot be trained there, since even a single example needs {needed}"
    else:
        text = (
            f"batches of {most.rows_wanted} need {needed}; they will be split into micro-batches of {fewest}"
            " (automatic, same updates, slower)"
        )
    helps = list(_what_helps(planned.cell.values, most))
    return f"{text}. What would fit: {'; or '.join(helps)}" if helps else text


def _what_helps(values: dict, lack: Shortage) -> Iterator[str]:
    if lack.with_checkpointing:
        yield "gradient_checkpointing: true"
    if lack.on_two_gpus:
        of_each = "" if values.get("global_batch_size") else f" with per_device_train_batch_size: {lack.rows_on_two}"
        yield f"gpus: {2 * values['gpus']}{of_each}"
    if lack.card_that_holds_it:
        yield f"a GPU with {lack.card_that_holds_it:g} GB"


def _table(plan: Plan, most_lines: int | None) -> list[str]:
    rows = [_row(cells) for cells in _alike(plan)]
    shown = rows if most_lines is None else rows[:most_lines]
    text = plain(COLUMNS, shown).splitlines()
    if len(shown) < len(rows):
        text.append(f"... and {len(rows) - len(shown):,} more rows of shorter cells (ALL=1 shows them)")
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
        _in_hours(sum(planned.estimate.gpu_hours for planned in cells)),
        escaping.shortened(escaping.one_line(first.why), WIDEST_REASON),
    )


def _times(plan: Plan, gpus: int | None) -> Iterator[str]:
    """Yield how long it takes on more and more devices, until more of them do not help."""
    if gpus == 0:
        yield from _time_on_this_cpu(plan)
        return
    before = None
    for number in NUMBERS_OF_GPUS if gpus is None else (gpus,):
        seconds = plan.seconds_on(number)
        if before is not None and seconds > 0.95 * before:
            return
        before = seconds
        yield f"{duration(seconds)} on {counted(number, _device_of(plan))}"


def _time_on_this_cpu(plan: Plan) -> Iterator[str]:
    """Yield how long it takes without a GPU; nothing if a cell needs one."""
    if not any(_is_on_gpu(planned) for planned in plan.cells):
        cores = len(os.sched_getaffinity(0))
        threads = max(planned.cell.values["threads"] * planned.cell.values["gpus"] for planned in plan.cells)
        at_once = max(1, cores // threads)
        yield f"{duration(plan.seconds_on(at_once))} on this machine's {counted(cores, 'core')}"


def _to_stage(plan: Plan) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for resource in plan.to_stage:
        kinds.setdefault(resource.kind, []).append(resource.name)
    fetched = {kind: names for kind, names in kinds.items() if kind != "tokens"}
    parts = [f"{kind}: {_names(names)}" for kind, names in fetched.items()]
    lines = [f"To fetch: {'; '.join(parts)}." if parts else "To fetch: nothing."]
    if "tokens" in kinds:
        lines.append(f"To tokenize: {_names(kinds['tokens'])}.")
    return lines


def _without_downloads(plan: Plan) -> str:
    is_fetched = any(resource.kind != "tokens" and not is_local(resource.source) for resource in plan.to_stage)
    return ", not counting downloads" if is_fetched else ""


def _names(names: list[str], most: int = 9) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _disk(plan: Plan) -> list[str]:
    needed = plan.disk_needed()
    staged = f"{size_in_words(needed.to_stage)} below resources/, " if needed.to_stage else ""
    return [
        f"Disk: about {staged}{size_in_words(needed.results)} of results, and up to"
        f" {size_in_words(needed.each_training)} of checkpoints per running cell."
    ]


def _gpu_memory(plan: Plan) -> list[str]:
    """Return a line on the cell that needs the most GPU memory."""
    sizes = {
        planned.cell.name: gpu_memory(planned.cell.values, *_sizes(plan, planned), _precision(planned))
        for planned in _one_of_each_kind(plan)
        if _is_on_gpu(planned)
    }
    if not sizes:
        return []
    name, size = max(sizes.items(), key=lambda entry: entry[1].needed)
    needed, expected = size_in_words(size.needed), size_in_words(size.expected)
    more = f"; up to {expected} if available" if expected != needed else ""
    return [f"GPU memory: about {needed} at most ({name}{more})."]


def _on_known_cards(plan: Plan) -> Iterator[PlannedCell]:
    return (planned for planned in _one_of_each_kind(plan) if planned.card is not None)


def _one_of_each_kind(plan: Plan) -> list[PlannedCell]:
    """Return one of each set of cells that differ only in their seeds, the first."""
    kinds: dict[tuple[str, str, str], PlannedCell] = {}
    for planned in plan.cells:
        kinds.setdefault((planned.cell.model, planned.cell.task, planned.cell.variant), planned)
    return list(kinds.values())


def _sizes(plan: Plan, planned: PlannedCell) -> tuple[ModelSize, TaskSize]:
    return model_size(plan.experiment, planned.cell.model), task_size(plan.experiment, planned.cell)


def _precision(planned: PlannedCell) -> str:
    """Return the precision of a cell; on an unknown GPU, `auto` counts as fp32, which needs more memory."""
    wanted = planned.cell.values["precision"]
    return wanted if planned.card is None else planned.card.precision(wanted)


def _basis(plan: Plan) -> list[str]:
    """Return what the estimates are based on."""
    sources = dict.fromkeys(map(_source, plan.cells))
    are_all_measured = all(planned.estimate.device for planned in plan.cells)
    better = "" if are_all_measured else "; finished cells will improve it"
    lines = [f"Speed from: {'; '.join(sources)}{better}."]
    models = dict.fromkeys(planned.cell.model for planned in plan.cells)
    sizes = {name: model_size(plan.experiment, name).known_from for name in models}
    guessed = [f"{name} (from {known_from})" for name, known_from in sizes.items() if known_from != STAGED]
    if guessed:
        lines.append(f"Sizes are estimated until staged: {_names(guessed)}.")
    elif not all(planned.estimate.is_staged for planned in plan.cells):
        lines.append("Token counts are estimated until tokenized.")
    kinds = _one_of_each_kind(plan)
    unknown = [planned.cell.task for planned in kinds if task_size(plan.experiment, planned.cell).is_guessed]
    if unknown:
        rows = f"{ROWS_OF_AN_UNKNOWN_TASK:,}"
        lines.append(f"Rows are taken as {rows} until fetched (set train_rows:): {_names(unknown)}.")
    return lines


def _source(planned: PlannedCell) -> str:
    estimate = planned.estimate
    if estimate.known_from is Basis.DATA_SHEET:
        return f"the data sheet of {planned.card.name} ({_precision(planned)})"
    if estimate.device is None:
        return "no run yet; an average device is assumed"
    return f"runs of {estimate.known_from} on {estimate.device}"


def _in_hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours >= 0.1 else f"{hours:.2g}"


def _device_of(plan: Plan) -> str:
    return "GPU" if any(_is_on_gpu(planned) for planned in plan.cells) else "process"


def _hours_of(plan: Plan) -> str:
    return "GPU-hours" if any(_is_on_gpu(planned) for planned in plan.cells) else "hours on the CPU"


def _is_on_gpu(planned: PlannedCell) -> bool:
    return planned.cell.values["device"] == "cuda"
