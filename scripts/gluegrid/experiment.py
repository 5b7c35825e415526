"""The experiment, resolved: which cells there are and what the run.json of each says.

The way of the data: config -> Experiment -> run.json of each cell -> tokens -> all_results.json -> results.md.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluegrid import paths
from gluegrid.config import load_config, local_sources
from gluegrid.config_report import Report, quoted
from gluegrid.files import canonical_json
from gluegrid.recipes import DEFAULT_SEEDS, DEFAULT_THREADS, RECIPE, RECIPES
from gluegrid.sources import files_below, state_of_folder, wanted_model_files, wanted_task_files
from gluegrid.tasks import definition

BATCH_KEYS = ("per_device_train_batch_size", "global_batch_size")


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
    def name(self) -> str:
        """The cell's path below runs/, as people write it."""
        return paths.CELL.format(**self.wildcards)


class Experiment:
    """A checked config with every revision named. Plain data: equal configs give equal run.json files."""

    def __init__(self, config: dict):
        self.config = config
        self.name: str = config["experiment"]
        self.models: dict[str, dict] = config["models"]
        self.tasks: dict[str, dict] = config["tasks"]
        self.paths = paths.ExperimentPaths(self.name)

    @cached_property
    def cells(self) -> dict[tuple[str, str, str, str], Cell]:
        """All cells by (model, task, variant, seed), in the order of the config."""
        cells = (
            self._cell(model, task, seed)
            for model in self.models
            for task in self.tasks
            for seed in self.values(model, task).get("seeds", DEFAULT_SEEDS)
        )
        return {tuple(cell.wildcards.values()): cell for cell in cells}

    def values(self, model: str, task: str) -> dict:
        """Return the training values of a model on a task; the more specific level wins."""
        levels = (
            self.config,
            self.models[model],
            self.tasks[task],
            self.config.get("cells", {}).get(model, {}).get(task, {}),
        )
        known = {*RECIPES[RECIPE], *BATCH_KEYS, "seeds", "threads"}
        values: dict = {}
        for level in levels:
            given = {key: value for key, value in level.items() if key in known}
            if any(key in given for key in BATCH_KEYS):
                values = {key: value for key, value in values.items() if key not in BATCH_KEYS}
            values |= given
        return values

    def max_seq_length(self, model: str, task: str) -> int:
        """Return the length to which a cell's inputs are truncated."""
        return self.values(model, task).get("max_seq_length", RECIPES[RECIPE]["max_seq_length"])

    def model_key(self, model: str) -> str:
        """Return the name of a model's folder under resources/models."""
        return paths.resource_key(self.models[model]["source"], self.models[model]["revision"])

    def tokenizer_key(self, model: str) -> str:
        """Return the name of the folder of the model whose tokenizer this model uses."""
        return self.model_key(self.models[model].get("tokenizer", model))

    def task_key(self, task: str) -> str:
        """Return the name of a task's folder under resources/tasks."""
        entry = self.tasks[task]
        return paths.resource_key(entry["source"], entry["revision"], entry.get("folder", ""))

    def _cell(self, model: str, task: str, seed: int) -> Cell:
        values = self.values(model, task)
        recipe = RECIPES[RECIPE]
        run = {
            "recipe": RECIPE,
            "experiment": self.name,
            "model": self._model_identity(model),
            "task": {"name": task, **definition(self.tasks[task])},
            "variant": "base",
            "seed": seed,
            "threads": values.get("threads", DEFAULT_THREADS),
        }
        run |= {
            key: _plain_number(value)
            for key, value in values.items()
            if key not in ("seeds", "threads") and (key not in recipe or value != recipe[key])
        }
        return Cell(model, task, "base", seed, run)

    def _model_identity(self, model: str) -> dict:
        entry = self.models[model]
        identity = {"name": model, "source": entry["source"], "revision": entry["revision"]}
        tokenizer = entry.get("tokenizer", model)
        if tokenizer != model:
            other = self.models[tokenizer]
            identity["tokenizer"] = {"source": other["source"], "revision": other["revision"]}
        return identity


def run_text(cell: Cell) -> str:
    """Return the text of a cell's run.json."""
    return canonical_json(cell.run)


def load_experiment(path: Path, experiment: str | None = None) -> Experiment:
    """Load an experiment file; ConfigError has a line for each mistake, and nothing was written."""
    config, report = load_config(path, experiment)
    for entry in (*config["models"].values(), *config["tasks"].values()):
        if not paths.is_local(entry["source"]):
            entry.setdefault("revision", "main")
    _name_states_of_folders(config, report)
    return Experiment(config)


def _name_states_of_folders(config: dict, report: Report) -> None:
    """Give each local folder without a revision the hash of its files as revision.

    So that editing the files makes it another resource, and reruns what was made from it.
    """
    for position, entry in local_sources(config):
        if "revision" in entry:
            continue
        try:
            entry["revision"] = _state_of_source(position[0], entry)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            report.add((*position, "source"), f"the folder {quoted(entry['source'])} cannot be used: {reason}")
    report.raise_problems()


def _state_of_source(part: str, entry: dict) -> str:
    """Return the hash of the files of a model or task; FileNotFoundError where it has none."""
    folder = Path(entry["source"]).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"it does not exist (seen from {Path.cwd()})")
    names = files_below(folder)
    if part == "models":
        wanted, what = wanted_model_files(names), "config.json and *.safetensors"
    else:
        pattern = Path(entry.get("folder", "")) / "<split>-00000-of-00001.parquet"
        wanted, what = wanted_task_files(names, entry.get("folder", "")), str(pattern)
    if not wanted:
        raise FileNotFoundError(f"it holds no {what}")
    return state_of_folder(folder, wanted)


def _plain_number(value: object) -> object:
    """Write 3.0 as 3, so that both spellings mean the same run."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
