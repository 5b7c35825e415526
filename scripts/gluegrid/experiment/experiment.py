"""The resolved experiment: its cells and the run.json of each.

The data flow is: config -> Experiment -> run.json of each cell -> tokens -> all_results.json -> results.md.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

from gluegrid.common import paths
from gluegrid.experiment.cell import Cell, ImportedCell, imported_cells, run_hash, run_text
from gluegrid.experiment.levels import given_values
from gluegrid.experiment.options import OPTIONS, RECIPE, RECIPES
from gluegrid.experiment.task import definition
from gluegrid.experiment.task_files import definition_of_examples, layout
from gluegrid.experiment.variants import all_variants, base_values, plain_value, swept


class Experiment:
    """A checked config in which every revision is named. Plain data: equal configs give equal run.json files.

    `warnings` has one line per warning, with file and line. `data_seen` describes each split of local tasks that are
    not staged yet. `imported` maps names to cells that were run in other clones; the config's options then have no
    meaning.
    """

    def __init__(self, config: dict, warnings: Iterable[str] = ()):
        self.config = config
        self.warnings = list(warnings)
        self.data_seen: dict[str, dict] = {}
        self.name: str = config["experiment"]
        self.models: dict[str, dict] = config["models"]
        self.tasks: dict[str, dict] = config["tasks"]
        self.paths = paths.ExperimentPaths(self.name)
        self._cells: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
        self._examples_keys: dict[str, str] = {}
        self.imported: dict[str, ImportedCell] = {each.cell.name: each for each in imported_cells(config)}
        for cell in (each.cell for each in self.imported.values()):
            self._cells.setdefault((cell.model, cell.task), {})[cell.variant, str(cell.seed)] = cell

    @cached_property
    def cells(self) -> dict[tuple[str, str, str, str], Cell]:
        """All cells by (model, task, variant, seed), in the order of the config."""
        return {
            tuple(cell.wildcards.values()): cell
            for model in self.models
            for task in self.tasks
            for cell in self.cells_of(model, task).values()
        }

    def cell(self, model: str, task: str, variant: str, seed: str) -> Cell:
        """Return one cell without making all of them, to keep jobs fast. Raises KeyError if there is none."""
        return self.cells_of(model, task)[(variant, seed)]

    def cells_of(self, model: str, task: str) -> dict[tuple[str, str], Cell]:
        """Return the cells of a model on a task by (variant, seed), `base` first."""
        if (model, task) not in self._cells:
            made = [] if self.imported else make_cells(self, model, task)
            self._cells[(model, task)] = {(cell.variant, str(cell.seed)): cell for cell in made}
        return self._cells[(model, task)]

    def start_of_cell(self, cell: Cell) -> Cell | None:
        """Return the cell of another task that this one starts from; None if it starts from the model's checkpoint."""
        start = cell.run.get("init_from")
        if start and self.imported:  # the task may have another name here
            return self._cells_by_run.get((cell.model, start["run_sha256"]))
        return self.cell(cell.model, start["task"], start["variant"], str(cell.seed)) if start else None

    @cached_property
    def _cells_by_run(self) -> dict[tuple[str, str], Cell]:
        return {(cell.model, run_hash(run_text(cell))): cell for cell in self.cells.values()}

    @cached_property
    def kinds(self) -> list[Cell]:
        """One cell for each model, task and variant: cells that differ only in their seed have the same cost."""
        first: dict[tuple[str, str, str], Cell] = {}
        for cell in self.cells.values():
            first.setdefault((cell.model, cell.task, cell.variant), cell)
        return list(first.values())

    @property
    def needs_gpus(self) -> bool:
        """Whether any cell needs a GPU."""
        return any(cell.values["device"] == "cuda" for cell in self.cells.values())

    @property
    def most_gpus(self) -> int:
        """The largest number of GPUs (on the CPU, processes) that a cell uses on one node."""
        return max(cell.values["gpus"] for cell in self.cells.values())

    def values(self, model: str, task: str) -> dict:
        """Return the options of a model on a task, as lists where they are swept; the more specific level wins."""
        return {key: given.value for key, given in given_values(self.config, model, task).items()}

    def model_key(self, model: str) -> str:
        """Return the name of a model's folder under resources/models.

        A model with trusted code gets its own folder, since the code files would look wrong to other experiments.
        """
        entry = self.models[model]
        layout = {"trust_remote_code": True} if entry.get("trust_remote_code", False) else None
        return paths.resource_key(entry["source"], entry["revision"], layout=layout)

    def tokenizer_key(self, model: str) -> str:
        """Return the folder name of the model whose tokenizer this model uses."""
        return self.model_key(self.tokenizer_of(model))

    def model_manifest(self, model: str) -> str:
        """Return the path of the manifest of a staged model."""
        return paths.MODEL_MANIFEST.format(model_key=self.model_key(model))

    def task_manifest(self, task: str) -> str:
        """Return the path of the manifest of a task's staged data."""
        return paths.TASK_MANIFEST.format(task_key=self.task_key(task))

    def tokens_manifest(self, cell: Cell) -> str:
        """Return the path of the manifest of a cell's tokens."""
        return paths.TOKENS_MANIFEST.format(**self.wildcards_of_tokens(cell))

    def wildcards_of_tokens(self, cell: Cell) -> dict[str, str]:
        """Return the values of Snakemake's wildcards for a cell's tokens."""
        return {
            "tokenizer_key": self.tokenizer_key(cell.model),
            "examples_key": self.examples_key(cell.task),
            "max_seq_length": str(cell.values["max_seq_length"]),
        }

    def tokenizer_of(self, model: str) -> str:
        """Return the name of the model whose tokenizer this model uses: its own, unless the config names another."""
        return self.models[model].get("tokenizer", model)

    def task_key(self, task: str) -> str:
        """Return the name of a task's folder under resources/tasks."""
        entry = self.tasks[task]
        return paths.resource_key(entry["source"], entry["revision"], entry.get("folder", ""), layout(entry))

    def examples_key(self, task: str) -> str:
        """Return the name of a task's examples, from which its tokens are made."""
        if task not in self._examples_keys:
            self._examples_keys[task] = paths.examples_key(
                self.task_key(task), definition_of_examples(self.tasks[task])
            )
        return self._examples_keys[task]

    def model_identity(self, model: str) -> dict:
        """Return the model's entry in a run.json."""
        entry = self.models[model]
        identity = {"name": model, "source": entry["source"], "revision": entry["revision"]}
        if entry.get("trust_remote_code", False):
            identity["trust_remote_code"] = True
        tokenizer = self.tokenizer_of(model)
        if tokenizer != model:
            other = self.models[tokenizer]
            identity["tokenizer"] = {"source": other["source"], "revision": other["revision"]}
        return identity


ALL, FIRST = "all", "first"  # which of a task's variants other cells start from


def make_cells(experiment: Experiment, model: str, task: str) -> Iterator[Cell]:
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
    """Return a cell's seeds; only the first for a finished checkpoint, for which seeds make no difference."""
    seeds = values.get("seeds", OPTIONS["seeds"].default)
    return seeds if is_trained(values) or _start(values) is not None else seeds[:1]


def _variants(
    experiment: Experiment, model: str, task: str, values: dict, seeds: list[int]
) -> Iterable[tuple[str, dict]]:
    """Return the names and values of variants, `base` first. A cell that is not trained has those of its start."""
    if not is_trained(values):
        values = {key: value for key, value in values.items() if OPTIONS[key].for_prediction}
    if is_trained(values) or _start(values) is None:
        return all_variants(values, base_values(experiment.paths, model, task, seeds, swept(values)))
    starts = {cell.variant: cell.values for cell in experiment.cells_of(model, _start(values)).values()}
    return [(variant, values | {key: of[key] for key in swept(values)}) for variant, of in starts.items()]


def _run(experiment: Experiment, model: str, task: str, variant: str, values: dict) -> dict:
    """Return the content of run.json, except for the seed and the cell that it starts from."""
    recipe = RECIPES[RECIPE]
    not_as_given = ("seeds", "init_from")  # run.json has one seed, and names the cell that it starts from
    differing = {key: value for key, value in values.items() if value != recipe.get(key) and key not in not_as_given}
    return {
        "recipe": RECIPE,
        "experiment": experiment.name,
        "model": experiment.model_identity(model),
        "task": {"name": task, **definition(experiment.tasks[task])},
        "variant": variant,
        "threads": OPTIONS["threads"].default,
    } | differing


def _cell_to_start_from(experiment: Experiment, model: str, values: dict, variant: str, seed: int) -> Cell | None:
    """Return the cell whose trained model a cell starts from; None if it starts from the model's checkpoint.

    A cell that is trained starts from `base`, or if that is not trained, from the first variant.
    """
    if _start(values) is None:
        return None
    cells = experiment.cells_of(model, _start(values)).values()
    of_seed = {cell.variant: cell for cell in cells if cell.seed == seed}
    return next(iter(of_seed.values())) if is_trained(values) else of_seed[variant]


def _variants_that_others_start_from(experiment: Experiment, model: str, task: str) -> str | None:
    others = [experiment.values(model, other) for other in experiment.tasks]
    starting = [values for values in others if _start(values) == task]
    if not starting:
        return None
    return FIRST if all(map(is_trained, starting)) else ALL


def is_trained(values: dict) -> bool:
    """Tell whether a cell with these options is trained, not only evaluated and predicted."""
    return values.get("do_train", True)


def with_model_kept(values: dict) -> dict:
    """Return the values of a cell from which others start, so that it keeps its model."""
    keeps = values.get("save_model", "none") != "none"
    return values if keeps else values | {"save_model": "last"}


def _start(values: dict) -> str | None:
    return values.get("init_from")


def _identity_of_start(start: Cell | None) -> dict:
    """Return the run.json entry of the cell that a run starts from, which is part of the run's identity."""
    if start is None:
        return {}
    return {"init_from": {"task": start.task, "variant": start.variant, "run_sha256": run_hash(run_text(start))}}
