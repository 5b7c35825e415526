"""From an experiment's training values to its cells: variants, seeds, what each starts from, and its run.json."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gluegrid.cells import Cell, run_hash, run_text
from gluegrid.recipes import DEFAULT_SEEDS, DEFAULT_THREADS, KEYS_OF_PREDICTION, RECIPE, RECIPES
from gluegrid.tasks import definition
from gluegrid.variants import all_variants, base_values, plain_value, swept

if TYPE_CHECKING:
    from gluegrid.experiment import Experiment

ALL, FIRST = "all", "first"  # of a task's variants, those that others start from


def make_cells(experiment: "Experiment", model: str, task: str) -> Iterator[Cell]:
    """Yield the cells of a model on a task, `base` first, each variant with all its seeds."""
    values = {key: plain_value(key, value) for key, value in experiment.values(model, task).items()}
    seeds = _seeds(values)
    variants_kept = _variants_that_others_start_from(experiment, model, task)
    for place, (variant, chosen) in enumerate(_variants(experiment, model, task, values, seeds)):
        is_kept = variants_kept == ALL or (variants_kept == FIRST and place == 0)
        run = _run(experiment, model, task, variant, with_model_kept(chosen) if is_kept else chosen)
        for seed in seeds:
            start = _cell_to_start_from(experiment, model, chosen, variant, seed)
            yield Cell(model, task, variant, seed, run | _identity_of_start(start) | {"seed": seed})


def _seeds(values: dict) -> list[int]:
    """Return a cell's seeds; only the first of a finished checkpoint, which the others would not change."""
    seeds = values.get("seeds", DEFAULT_SEEDS)
    return seeds if is_trained(values) or _start(values) is not None else seeds[:1]


def _variants(
    experiment: "Experiment", model: str, task: str, values: dict, seeds: list[int]
) -> Iterable[tuple[str, dict]]:
    """Return names and values of variants, `base` first. What is not trained has those of what it starts from."""
    if not is_trained(values):
        values = {key: values[key] for key in values if key in (*KEYS_OF_PREDICTION, "threads")}
    if is_trained(values) or _start(values) is None:
        return all_variants(values, base_values(experiment.paths, model, task, seeds, swept(values)))
    starts = {cell.variant: cell.values for cell in experiment.cells_of(model, _start(values)).values()}
    return [(variant, values | {key: of[key] for key in swept(values)}) for variant, of in starts.items()]


def _run(experiment: "Experiment", model: str, task: str, variant: str, values: dict) -> dict:
    """Return the content of run.json but for the seed, and the cell that it starts from."""
    recipe = RECIPES[RECIPE]
    differing = {key: value for key, value in values.items() if key not in recipe or value != recipe[key]}
    for key in ("seeds", "init_from"):
        differing.pop(key, None)
    return {
        "recipe": RECIPE,
        "experiment": experiment.name,
        "model": experiment.model_identity(model),
        "task": {"name": task, **definition(experiment.tasks[task])},
        "variant": variant,
        "threads": DEFAULT_THREADS,
    } | differing


def _cell_to_start_from(experiment: "Experiment", model: str, values: dict, variant: str, seed: int) -> Cell | None:
    """Return the cell whose model another one starts from; None for one that starts from its checkpoint.

    A cell that is trained starts from `base`, or where that is not trained from the first of the variants.
    """
    if _start(values) is None:
        return None
    cells = experiment.cells_of(model, _start(values)).values()
    of_seed = {cell.variant: cell for cell in cells if cell.seed == seed}
    return next(iter(of_seed.values())) if is_trained(values) else of_seed[variant]


def _variants_that_others_start_from(experiment: "Experiment", model: str, task: str) -> str | None:
    others = [experiment.values(model, other) for other in experiment.tasks]
    starting = [values for values in others if _start(values) == task]
    if not starting:
        return None
    return FIRST if all(map(is_trained, starting)) else ALL


def is_trained(values: dict) -> bool:
    """Tell whether a cell with these training values is trained, or only evaluated and predicted."""
    return values.get("do_train", True)


def with_model_kept(values: dict) -> dict:
    """Return values of a cell that others start from."""
    keeps = values.get("save_model", "none") != "none"
    return values if keeps else values | {"save_model": "last"}


def _start(values: dict) -> str | None:
    return values.get("init_from")


def _identity_of_start(start: Cell | None) -> dict:
    """Return what a run.json says of the cell that it starts from, which is part of what it is."""
    if start is None:
        return {}
    return {"init_from": {"task": start.task, "variant": start.variant, "run_sha256": run_hash(run_text(start))}}
