"""The experiment, resolved: which cells there are and what the run.json of each says.

The way of the data: config -> Experiment -> run.json of each cell -> tokens -> all_results.json -> results.md.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from gluegrid.cells import Cell, run_hash, run_text
from gluegrid.common import paths
from gluegrid.common.files import read_json
from gluegrid.config import load_config
from gluegrid.config_report import Report
from gluegrid.imported_cells import ImportedCell, imported_cells
from gluegrid.levels import given_values
from gluegrid.local_folders import name_states_of_folders
from gluegrid.option_checks import check_options
from gluegrid.planned_cells import make_cells
from gluegrid.recipes import DEFAULT_SEEDS
from gluegrid.reference_files import read_in
from gluegrid.split_files import definition_of_examples, layout
from gluegrid.start_checks import check_starts
from gluegrid.variants import number_of_variants

MOST_CELLS = 100_000  # each is some jobs and a dozen files; Snakemake plans for minutes long before


class Experiment:
    """A checked config with every revision named. Plain data: equal configs give equal run.json files.

    `warnings` has a line with file and line for what is allowed, but should be known before it runs. `imported` has the
    cells by name where they were run in other clones; the config's values then say nothing.
    """

    def __init__(self, config: dict, warnings: Iterable[str] = ()):
        self.config = config
        self.warnings = list(warnings)
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
        """Return one cell, without making all of them, which each job would pay for. KeyError where there is none."""
        return self.cells_of(model, task)[(variant, seed)]

    def cells_of(self, model: str, task: str) -> dict[tuple[str, str], Cell]:
        """Return the cells of a model on a task by (variant, seed), `base` first: a variant's differ in their seed."""
        if (model, task) not in self._cells:
            made = [] if self.imported else make_cells(self, model, task)
            self._cells[(model, task)] = {(cell.variant, str(cell.seed)): cell for cell in made}
        return self._cells[(model, task)]

    def start_of_cell(self, cell: Cell) -> Cell | None:
        """Return the cell of another task that this one starts from; None for one that starts from its checkpoint."""
        start = cell.run.get("init_from")
        if start and self.imported:  # its task may have another name here
            return self._cells_by_run.get((cell.model, start["run_sha256"]))
        return self.cell(cell.model, start["task"], start["variant"], str(cell.seed)) if start else None

    @cached_property
    def _cells_by_run(self) -> dict[tuple[str, str], Cell]:
        return {(cell.model, run_hash(run_text(cell))): cell for cell in self.cells.values()}

    @cached_property
    def kinds(self) -> list[Cell]:
        """One cell for each model, task and variant: cells that differ in their seed alone take and need the same."""
        first: dict[tuple[str, str, str], Cell] = {}
        for cell in self.cells.values():
            first.setdefault((cell.model, cell.task, cell.variant), cell)
        return list(first.values())

    @property
    def needs_gpus(self) -> bool:
        """Whether any cell is trained on a GPU."""
        return any(cell.values["device"] == "cuda" for cell in self.cells.values())

    @property
    def most_gpus(self) -> int:
        """The largest number of GPUs, or on the CPU processes, that a cell has on a node."""
        return max(cell.values["gpus"] for cell in self.cells.values())

    def values(self, model: str, task: str) -> dict:
        """Return the training values of a model on a task, lists where they are swept; the more specific level wins."""
        return {key: given.value for key, given in given_values(self.config, model, task).items()}

    def model_key(self, model: str) -> str:
        """Return the name of a model's folder under resources/models.

        With its own code a model has other files, which would be a fault to experiments that do without.
        """
        entry = self.models[model]
        layout = {"trust_remote_code": True} if entry.get("trust_remote_code", False) else None
        return paths.resource_key(entry["source"], entry["revision"], layout=layout)

    def tokenizer_key(self, model: str) -> str:
        """Return the name of the folder of the model whose tokenizer this model uses."""
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
        """Return the model whose tokenizer this model uses: itself, unless the config names another."""
        return self.models[model].get("tokenizer", model)

    def task_key(self, task: str) -> str:
        """Return the name of a task's folder under resources/tasks."""
        entry = self.tasks[task]
        return paths.resource_key(entry["source"], entry["revision"], entry.get("folder", ""), layout(entry))

    def examples_key(self, task: str) -> str:
        """Return the name of a task's examples, of which its tokens are made."""
        if task not in self._examples_keys:
            self._examples_keys[task] = paths.examples_key(
                self.task_key(task), definition_of_examples(self.tasks[task])
            )
        return self._examples_keys[task]

    def model_identity(self, model: str) -> dict:
        """Return what a run.json says of a model."""
        entry = self.models[model]
        identity = {"name": model, "source": entry["source"], "revision": entry["revision"]}
        if entry.get("trust_remote_code", False):
            identity["trust_remote_code"] = True
        tokenizer = self.tokenizer_of(model)
        if tokenizer != model:
            other = self.models[tokenizer]
            identity["tokenizer"] = {"source": other["source"], "revision": other["revision"]}
        return identity


def load_experiment(path: Path, experiment: object = None) -> Experiment:
    """Load an experiment file; ConfigError has a line for each mistake, and nothing was written.

    `experiment` is the value of `--config experiment=...`, None without one.
    """
    config, report = load_config(path, experiment)
    _check_number_of_cells(Experiment(config), report)
    check_options(report, config)
    check_starts(report, config)
    for entry in (*config["models"].values(), *config["tasks"].values()):
        if not paths.is_local(entry["source"]):
            entry.setdefault("revision", "main")
    name_states_of_folders(config, report)
    read_in(config, report)
    return Experiment(config, report.warnings)


def planned_experiment(head: Path) -> Experiment:
    """Return the experiment as a call of snakemake has frozen it in its head's file. Raises DataError."""
    return Experiment(read_json(head)["config"])


def _check_number_of_cells(experiment: Experiment, report: Report) -> None:
    number = 0
    for model in experiment.models:
        for task in experiment.tasks:
            values = experiment.values(model, task)
            number += len(values.get("seeds", DEFAULT_SEEDS)) * number_of_variants(values)
            if number > MOST_CELLS:
                counted = "models x tasks x seeds x values of lists"
                report.add((), f"more than {MOST_CELLS} cells ({counted}); make several files of it")
                report.raise_problems()
