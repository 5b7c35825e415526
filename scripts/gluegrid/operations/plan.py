"""Find what a call of snakemake would train, why, and at what cost, from files and without Snakemake's own plan.

It finds the same cells as `snakemake -n` (tests compare the two), within seconds for tens of thousands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.execution.invocation import SiteChoices
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.options import RECIPES
from gluegrid.operations.cost_model import model_size, task_size
from gluegrid.operations.devices import Device
from gluegrid.operations.estimates import SECONDS_OF_THE_START, Estimate, Estimates
from gluegrid.operations.makespan import makespan
from gluegrid.operations.packs import SECONDS_OF_A_JOB, is_small, packs_of, seconds_in_pack, shares
from gluegrid.operations.staged import Resource, resources
from gluegrid.results.outcomes import has_result, outcome

NEW = "new"
BYTES_OF_NUMBER = 4
BYTES_OF_TOKEN = 8  # its id and its segment, int32 each
BYTES_OF_PREDICTION = 8 + 8 + 4 * 3  # idx, label, logits of up to three classes
STATE_OF_TRAINING = 3  # weights and the optimizer's two moments
CHECKPOINTS = 2  # the last good one, and the one that is being written
MOST_KEYS_NAMED = 3
# Measured on 2 threads of a server. A call includes Snakemake's start and end, and the tables. Staging includes the
# start of its processes, but no downloads.
SECONDS_OF_A_CALL = 6
SECONDS_OF_STAGING = {"model": 4, "data": 1.5, "tokens": 1.5}
TOKENS_PER_SECOND = 500_000  # made, including two reads of their rows
STAGED_AT_ONCE = 2


@dataclass(frozen=True)
class PlannedCell:
    """A cell to train, the reason why, its estimate, and its GPU if that is known."""

    cell: Cell
    why: str
    estimate: Estimate
    card: Device | None = None


@dataclass(frozen=True)
class DiskNeeded:
    """Bytes that a plan needs: `to_stage` below resources/, `results` that stay, `each_training` per running cell."""

    to_stage: int
    results: int
    each_training: int


@dataclass(frozen=True)
class Plan:
    """The cells of an experiment to train, the longest first, and what to fetch or tokenize for them."""

    experiment: Experiment
    cells: Sequence[PlannedCell]
    to_stage: Sequence[Resource]
    pack_minutes: float = SiteChoices().pack_minutes

    @property
    def gpu_hours(self) -> float:
        """The hours of all devices together."""
        return sum(planned.estimate.gpu_hours for planned in self.cells)

    def seconds_on(self, gpus: int) -> float:
        """Return in how many seconds the last cell is done on so many GPUs.

        A cell on several GPUs counts as one GPU for their total time. Staging counts, too; downloads and a scheduler's
        queue are unknown.
        """
        jobs = sorted((seconds_of_job(job) for job in self.jobs_on(gpus)), reverse=True)
        return SECONDS_OF_A_CALL + self.seconds_of_staging + makespan(jobs, gpus)

    def jobs_on(self, gpus: int) -> list[list[PlannedCell]]:
        """Return the cells of each job on so many GPUs: small cells of a model share packs, others do not."""
        small: dict[str, list[PlannedCell]] = {}
        for planned in self.cells if self.pack_minutes else ():
            if is_small(planned.estimate, planned.cell.values) and not self.experiment.start_of_cell(planned.cell):
                small.setdefault(planned.cell.model, []).append(planned)
        given = shares(gpus, [*small.values()], _seconds_in_pack)
        packs = [
            pack
            for places, cells in zip(given, small.values(), strict=True)
            for pack in packs_of(cells, _seconds_in_pack, 60 * self.pack_minutes, places)
        ]
        packed = {planned.cell.name for pack in packs for planned in pack}
        return [*packs, *([planned] for planned in self.cells if planned.cell.name not in packed)]

    @cached_property
    def seconds_of_staging(self) -> float:
        """The seconds that it takes to stage what is missing, without downloads."""
        starts = sum(SECONDS_OF_STAGING[resource.kind] for resource in self.to_stage)
        return (starts + self._tokens_to_make / TOKENS_PER_SECOND) / STAGED_AT_ONCE

    @cached_property
    def _tokens_to_make(self) -> int:
        kinds = {_kind(planned.cell): planned.cell for planned in self.cells}
        sizes = {self.experiment.tokens_manifest(cell): task_size(self.experiment, cell) for cell in kinds.values()}
        return sum(size.tokens for size in sizes.values() if not size.is_counted)

    def disk_needed(self) -> DiskNeeded:
        """Return the bytes that are needed beside those that exist."""
        kinds = {_kind(planned.cell): planned.cell for planned in self.cells}
        models = {name: model_size(self.experiment, name) for name in self.experiment.models}
        tasks = {kind: task_size(self.experiment, cell) for kind, cell in kinds.items()}
        missing = {(resource.kind, resource.name) for resource in self.to_stage}
        to_stage = sum(models[name].parameters * BYTES_OF_NUMBER for kind, name in missing if kind == "model")
        to_stage += self._tokens_to_make * BYTES_OF_TOKEN
        results = sum(
            tasks[_kind(planned.cell)].predicted_rows * BYTES_OF_PREDICTION
            + (models[planned.cell.model].parameters * BYTES_OF_NUMBER if _keeps_model(planned.cell) else 0)
            for planned in self.cells
        )
        trained = [models[cell.model].parameters for cell in kinds.values() if cell.values["do_train"]]
        state = BYTES_OF_NUMBER * STATE_OF_TRAINING * CHECKPOINTS * max(trained, default=0)
        return DiskNeeded(to_stage, results, state)


def seconds_of_job(cells: Sequence[PlannedCell]) -> float:
    """Return the expected seconds of a job with these cells from its start, summed over all its devices."""
    first = cells[0]
    if len(cells) == 1:
        return first.estimate.gpu_hours * 3600 + SECONDS_OF_A_JOB
    return SECONDS_OF_A_JOB + SECONDS_OF_THE_START[first.cell.values["device"]] + sum(map(_seconds_in_pack, cells))


def _seconds_in_pack(planned: PlannedCell) -> float:
    return seconds_in_pack(planned.estimate, planned.cell.values["device"])


def plan(experiment: Experiment, estimates: Estimates, pack_minutes: float = SiteChoices().pack_minutes) -> Plan:
    """Return the plan for an experiment, the longest cell first."""
    reasons = ((cell, why(experiment, cell)) for cell in experiment.cells.values())
    cells = [
        PlannedCell(cell, reason, estimates.of(cell), estimates.card_of(cell))
        for cell, reason in reasons
        if reason is not None
    ]
    cells.sort(key=lambda planned: planned.estimate.seconds, reverse=True)
    needed = {manifest for planned in cells for manifest in _manifests(experiment, planned.cell)}
    to_stage = [
        resource for resource in resources(experiment) if resource.is_missing and str(resource.manifest) in needed
    ]
    return Plan(experiment, cells, to_stage, pack_minutes)


def why(experiment: Experiment, cell: Cell) -> str | None:
    """Return why a cell would be trained; None for one that has its result."""
    if has_result(experiment, cell):
        return _why_in_spite_of_its_result(experiment, cell)
    run = Path(experiment.paths.run.format(**cell.wildcards))
    if not run.exists():
        return NEW
    try:
        changes = list(_changes(read_json(run), cell.run))
    except DataError:
        return "its run.json is broken"
    if changes:
        more = f" and {len(changes) - MOST_KEYS_NAMED} more" if len(changes) > MOST_KEYS_NAMED else ""
        return ", ".join(changes[:MOST_KEYS_NAMED]) + more
    last = outcome(experiment, cell)
    return last.reason if last.has_failed or last.is_stopped else "has no result yet"


def _why_in_spite_of_its_result(experiment: Experiment, cell: Cell) -> str | None:
    """Return why a cell with a result is trained again: the result of the cell that it starts from is gone."""
    start = experiment.start_of_cell(cell)
    if start is None or Path(experiment.paths.all_results.format(**start.wildcards)).exists():
        return None
    return f"its start {start.name} will be trained"


def _changes(before: dict, now: dict, above: str = "") -> Iterator[str]:
    """Yield the differences between two runs: each key with both values, as the experiment file would have them."""
    defaults = RECIPES.get(now.get("recipe"), {}) if not above else {}
    for key in sorted({*before, *now}):
        one, other = (run.get(key, defaults.get(key)) for run in (before, now))
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _changes(one, other, f"{above}{key}.")
        elif one != other:
            yield f"{above}{key}: {one} -> {other}"


def _manifests(experiment: Experiment, cell: Cell) -> Iterator[str]:
    yield experiment.model_manifest(cell.model)
    yield experiment.model_manifest(experiment.tokenizer_of(cell.model))
    yield experiment.task_manifest(cell.task)
    yield experiment.tokens_manifest(cell)


def _kind(cell: Cell) -> tuple[str, str, str]:
    return cell.model, cell.task, cell.variant


def _keeps_model(cell: Cell) -> bool:
    return cell.values["save_model"] != "none"
