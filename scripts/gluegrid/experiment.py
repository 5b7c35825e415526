"""The experiment, resolved: which cells there are and what the run.json of each says.

The way of the data: config -> Experiment -> run.json of each cell -> tokens -> all_results.json -> results.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluegrid import paths
from gluegrid.config import load_config
from gluegrid.config_report import Report
from gluegrid.files import canonical_json
from gluegrid.levels import given_values
from gluegrid.local_folders import name_states_of_folders
from gluegrid.option_checks import check_options
from gluegrid.recipes import DEFAULT_SEEDS, DEFAULT_THREADS, LORA, RECIPE, RECIPES
from gluegrid.tasks import definition

MOST_CELLS = 100_000  # each is some jobs and a dozen files; Snakemake plans for minutes long before


@dataclass(frozen=True)
class Cell:
    """One training: a model on a task with a seed. `run` is the content of its run.json."""

    model: str
    task: str
    variant: str
    seed: int
    run: dict

    @property
    def wildcards(self) -> dict[str, str]:
        """The values of Snakemake's wildcards for this cell."""
        return {
            "model": self.model,
            "task": self.task,
            "variant": self.variant,
            "seed": str(self.seed),
        }

    @property
    def values(self) -> dict:
        """All that the run says or leaves to its recipe."""
        return RECIPES[self.run["recipe"]] | self.run

    @property
    def name(self) -> str:
        """The cell's path below runs/, as people write it."""
        return paths.CELL.format(**self.wildcards)


class Experiment:
    """A checked config with every revision named. Plain data: equal configs give equal run.json files.

    `warnings` has a line with file and line for what is allowed, but should be known before it runs.
    """

    def __init__(self, config: dict, warnings: Iterable[str] = ()):
        self.config = config
        self.warnings = list(warnings)
        self.name: str = config["experiment"]
        self.models: dict[str, dict] = config["models"]
        self.tasks: dict[str, dict] = config["tasks"]
        self.paths = paths.ExperimentPaths(self.name)
        self._cells: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}

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
        """Return the cells of a model on a task by (variant, seed): the same values, one cell for each seed."""
        if (model, task) not in self._cells:
            self._cells[(model, task)] = {(cell.variant, str(cell.seed)): cell for cell in self._make(model, task)}
        return self._cells[(model, task)]

    @property
    def needs_gpus(self) -> bool:
        """Whether any cell is trained on a GPU."""
        return any(cell.values["device"] == "cuda" for cell in self.cells.values())

    @property
    def most_gpus(self) -> int:
        """The largest number of GPUs, or on the CPU processes, that a cell has on a node."""
        return max(cell.values["gpus"] for cell in self.cells.values())

    def values(self, model: str, task: str) -> dict:
        """Return the training values of a model on a task; the more specific level wins."""
        return {key: given.value for key, given in given_values(self.config, model, task).items()}

    def max_seq_length(self, model: str, task: str) -> int:
        """Return the length to which a cell's inputs are truncated."""
        return self.values(model, task).get("max_seq_length", RECIPES[RECIPE]["max_seq_length"])

    def model_key(self, model: str) -> str:
        """Return the name of a model's folder under resources/models."""
        return paths.resource_key(self.models[model]["source"], self.models[model]["revision"])

    def tokenizer_key(self, model: str) -> str:
        """Return the name of the folder of the model whose tokenizer this model uses."""
        return self.model_key(self.tokenizer_of(model))

    def model_manifest(self, model: str) -> str:
        """Return the path of the manifest of a staged model."""
        return paths.MODEL_MANIFEST.format(model_key=self.model_key(model))

    def task_manifest(self, task: str) -> str:
        """Return the path of the manifest of a task's staged data."""
        return paths.TASK_MANIFEST.format(task_key=self.task_key(task))

    def tokens_manifest(self, model: str, task: str) -> str:
        """Return the path of the manifest of the tokens of a model on a task."""
        return paths.TOKENS_MANIFEST.format(
            tokenizer_key=self.tokenizer_key(model), task=task, max_seq_length=self.max_seq_length(model, task)
        )

    def tokenizer_of(self, model: str) -> str:
        """Return the model whose tokenizer this model uses: itself, unless the config names another."""
        return self.models[model].get("tokenizer", model)

    def trusts_remote_code(self, model_key: str) -> bool:
        """Tell whether any model of this key may run Python code of its own."""
        return any(
            entry.get("trust_remote_code", False)
            for name, entry in self.models.items()
            if self.model_key(name) == model_key
        )

    def task_key(self, task: str) -> str:
        """Return the name of a task's folder under resources/tasks."""
        entry = self.tasks[task]
        return paths.resource_key(entry["source"], entry["revision"], entry.get("folder", ""))

    def _make(self, model: str, task: str) -> Iterator[Cell]:
        values = self.values(model, task)
        seeds = values.pop("seeds", DEFAULT_SEEDS)
        recipe = RECIPES[RECIPE]
        run = {
            "recipe": RECIPE,
            "experiment": self.name,
            "model": self._model_identity(model),
            "task": {"name": task, **definition(self.tasks[task])},
            "variant": "base",
            "threads": values.pop("threads", DEFAULT_THREADS),
        }
        if values.get("lora") is not None:
            values["lora"] = {key: _plain_number(value) for key, value in (LORA | values["lora"]).items()}
        run |= {key: _plain_number(value) for key, value in values.items() if key not in recipe or value != recipe[key]}
        for seed in seeds:
            yield Cell(model, task, "base", seed, {**run, "seed": seed})

    def _model_identity(self, model: str) -> dict:
        entry = self.models[model]
        identity = {"name": model, "source": entry["source"], "revision": entry["revision"]}
        if entry.get("trust_remote_code", False):
            identity["trust_remote_code"] = True
        tokenizer = self.tokenizer_of(model)
        if tokenizer != model:
            other = self.models[tokenizer]
            identity["tokenizer"] = {"source": other["source"], "revision": other["revision"]}
        return identity


def run_text(cell: Cell) -> str:
    """Return the text of a cell's run.json."""
    return canonical_json(cell.run)


def load_experiment(path: Path, experiment: object = None) -> Experiment:
    """Load an experiment file; ConfigError has a line for each mistake, and nothing was written.

    `experiment` is the value of `--config experiment=...`, None without one.
    """
    config, report = load_config(path, experiment)
    _check_number_of_cells(Experiment(config), report)
    check_options(report, config)
    for entry in (*config["models"].values(), *config["tasks"].values()):
        if not paths.is_local(entry["source"]):
            entry.setdefault("revision", "main")
    name_states_of_folders(config, report)
    return Experiment(config, report.warnings)


def _check_number_of_cells(experiment: Experiment, report: Report) -> None:
    number = 0
    for model in experiment.models:
        for task in experiment.tasks:
            number += len(experiment.values(model, task).get("seeds", DEFAULT_SEEDS))
            if number > MOST_CELLS:
                report.add((), f"more than {MOST_CELLS} cells (models x tasks x seeds); make several files of it")
                report.raise_problems()


def _plain_number(value: object) -> object:
    """Write 3.0 as 3, so that both spellings mean the same run."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
