"""Tell the rules about their jobs: inputs, parameters, limits and priorities.

Snakemake calls the methods for each job, and passes what the names of their parameters ask for: `wildcards`, `attempt`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path

from snakemake.io import ancient
from snakemake.iocontainers import Wildcards

from gluegrid.common import paths
from gluegrid.common.errors import GluegridError
from gluegrid.common.files import canonical_json
from gluegrid.experiment.cell import Cell
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task_files import definition_of_examples
from gluegrid.operations.estimates import Estimates, limit_of_attempt
from gluegrid.results.glue_choice import cells_to_choose_from
from gluegrid.results.outcomes import (
    Outcome,
    has_result,
    has_result_of_another_run,
    read_outcomes,
    validation_predictions,
)
from gluegrid.results.results_md import table_definition
from gluegrid.workflow.run_files import runs_to_write
from gluegrid.workflow.terminal import refusal


def inputs_of_rules(experiment: Experiment, estimates: Estimates, workflow) -> tuple:
    """Return what the rules ask about models, datasets, tokens, cells and tables."""
    urgency = Urgency(experiment, estimates)
    models = {experiment.model_key(name): entry for name, entry in reversed(experiment.models.items())}
    tasks = {experiment.task_key(name): entry for name, entry in reversed(experiment.tasks.items())}
    cells = Cells(experiment, estimates, workflow.is_main_process)
    return (
        Sources(models, paths.MODEL_MANIFEST, urgency),
        Sources(tasks, paths.TASK_MANIFEST, urgency),
        Tokens(experiment, urgency),
        cells,
        Tables(experiment, cells, workflow),
    )


class Urgency:
    """The urgency of a job: the seconds of the longest cell that needs its output, so that no long cell starts last."""

    def __init__(self, experiment: Experiment, estimates: Estimates):
        self._experiment = experiment
        self._estimates = estimates

    def for_manifest(self, pattern: str, wildcards: Wildcards) -> float:
        """Return the urgency of a staged model, of a dataset or of its tokens; 0 if no cell needs them."""
        return self._urgencies.get(pattern.format(**wildcards), 0)

    @cached_property
    def _urgencies(self) -> dict[str, float]:
        urgencies: dict[str, float] = {}
        for cell in self._experiment.kinds:
            for manifest in self._needed_by(cell):
                urgencies[manifest] = max(urgencies.get(manifest, 0), self._estimates.seconds_of(cell))
        return urgencies

    def _needed_by(self, cell: Cell) -> list[str]:
        experiment = self._experiment
        models = (cell.model, experiment.tokenizer_of(cell.model))
        manifests = [*map(experiment.model_manifest, models), experiment.task_manifest(cell.task)]
        return [*manifests, experiment.tokens_manifest(cell)]


class Sources:
    """The models or datasets to stage: entries of the experiment by key, which is the one wildcard of their jobs."""

    def __init__(self, entries: dict[str, dict], manifest: str, urgency: Urgency):
        self._entries = entries
        self._manifest = manifest
        self._urgency = urgency

    def source(self, wildcards: Wildcards) -> str:
        """Return where the files come from."""
        return self._entry(wildcards)["source"]

    def revision(self, wildcards: Wildcards) -> str:
        """Return the revision of the files to stage."""
        return self._entry(wildcards)["revision"]

    def folder(self, wildcards: Wildcards) -> str:
        """Return the folder of a task's data within its source."""
        return self._entry(wildcards).get("folder", "")

    def options(self, wildcards: Wildcards) -> str:
        """Return the option that fetches and runs a model's own Python code, if the experiment file allows it."""
        return "--trust-remote-code" if self._entry(wildcards).get("trust_remote_code", False) else ""

    def urgency(self, wildcards: Wildcards) -> float:
        """Return the urgency of what waits for them."""
        return self._urgency.for_manifest(self._manifest, wildcards)

    def _entry(self, wildcards: Wildcards) -> dict:
        (key,) = wildcards
        return self._entries[key]


class Tokens:
    """The tokens to make, each with the wildcards `tokenizer_key`, `examples_key` and `max_seq_length`."""

    def __init__(self, experiment: Experiment, urgency: Urgency):
        self._experiment = experiment
        # Several tasks of an experiment may have the same examples: any of them will do.
        self._tasks = {experiment.examples_key(name): name for name in reversed(experiment.tasks)}
        self._urgency = urgency

    def tokenizer(self, wildcards: Wildcards) -> str:
        """Return the manifest of the model whose tokenizer makes them."""
        return paths.MODEL_MANIFEST.format(model_key=wildcards.tokenizer_key)

    def task(self, wildcards: Wildcards) -> str:
        """Return the manifest of the dataset to tokenize."""
        return self._experiment.task_manifest(self._tasks[wildcards.examples_key])

    def definition(self, wildcards: Wildcards) -> str:
        """Return the columns, labels and splits of the task to tokenize, as JSON."""
        return canonical_json(definition_of_examples(self._experiment.tasks[self._tasks[wildcards.examples_key]]))

    def urgency(self, wildcards: Wildcards) -> float:
        """Return the urgency of what waits for a task's tokens."""
        return self._urgency.for_manifest(paths.TOKENS_MANIFEST, wildcards)


SAME_FOR_MOST = ("threads", "gpus", "nodes", "starter", "tasks")  # methods of Cells, mostly alike for all cells


class Cells:
    """The cells to train, each with the wildcards `model`, `task`, `variant` and `seed`."""

    def __init__(self, experiment: Experiment, estimates: Estimates, is_head: bool):
        self._experiment = experiment
        self._estimates = estimates
        self.had_result = cache(self._has_result)
        # A cell's job finds its run.json written, and needs no other cell.
        self.runs_to_write = runs_to_write(experiment, estimates.seconds_of) if is_head else []
        if is_head:
            # Snakemake calls a method several times per job, which takes longer than all else about a resource.
            vars(self).update({name: self._same_for_all(getattr(self, name)) for name in SAME_FOR_MOST})

    def inputs(self, wildcards: Wildcards) -> dict[str, str]:
        """Return a cell's run.json, the manifests of its model, data and tokens, and the results it starts from.

        Their times do not matter to a cell whose record shows that its result is of the wanted run. They do to a cell
        without a result: Snakemake leaves a job out if something above its `ancient` inputs is made again.
        """
        experiment, cell = self._experiment, self._cell(wildcards)
        inputs = {
            "run": experiment.paths.run.format(**wildcards),
            "model": experiment.model_manifest(cell.model),
            "task": experiment.task_manifest(cell.task),
            "tokens": experiment.tokens_manifest(cell),
        }
        if start := experiment.start_of_cell(cell):
            inputs["start"] = experiment.paths.all_results.format(**start.wildcards)
        if self.had_result(*wildcards):
            return {name: ancient(path) for name, path in inputs.items()}
        return inputs

    def threads(self, wildcards: Wildcards) -> int:
        """Return the CPUs of a cell on each node: the threads of all its processes there."""
        values = self._cell(wildcards).values
        return values["threads"] * values["gpus"]

    def gpus(self, wildcards: Wildcards) -> int:
        """Return the GPUs of a cell on all its nodes, which is also the number of its processes."""
        values = self._cell(wildcards).values  # not self.nodes, which is a value if cells differ only in `gpus`
        return values["gpus"] * values["nodes"]

    def nodes(self, wildcards: Wildcards) -> int:
        """Return the nodes of a cell."""
        return self._cell(wildcards).values["nodes"]

    def starter(self, wildcards: Wildcards) -> str | None:
        """Return what starts the processes of a cell on several nodes; None for one node."""
        return "srun" if self.nodes(wildcards) > 1 else None

    def tasks(self, wildcards: Wildcards) -> int | None:
        """Return the number of SLURM tasks of a cell on several nodes, one launcher on each; None for one node."""
        return self.nodes(wildcards) if self.nodes(wildcards) > 1 else None

    def memory_in_mb(self, wildcards: Wildcards, attempt: int) -> int:
        """Return the host memory of a cell in MB; an attempt after the first gets more."""
        return self._estimates.of(self._cell(wildcards)).memory_in_mb * attempt

    def minutes(self, wildcards: Wildcards, attempt: int) -> int:
        """Return the time limit of a cell in minutes; an attempt after the first gets more."""
        return limit_of_attempt(self._estimates.of(self._cell(wildcards)), attempt)

    def urgency(self, wildcards: Wildcards) -> float:
        """Return the expected seconds of a cell: the longest goes first, so that no long cell starts last."""
        return self._estimates.seconds_of(self._cell(wildcards))

    def results(self, wildcards: Wildcards | None = None) -> list[str]:
        """Return the all_results.json of every cell. A method, so that the jobs of cells need not list them."""
        return self._results_of(self._experiment.cells.values())

    def results_to_submit(self, wildcards: Wildcards) -> list[str]:
        """Return the all_results.json of every cell that a model's submission to GLUE may use."""
        try:
            return self._results_of(cells_to_choose_from(self._experiment, wildcards.model))
        except GluegridError as error:
            raise refusal(str(error)) from None

    def predictions(self) -> list[str]:
        """Return the saved predictions of the cells that have a result."""
        cells = [cell for cell in self._experiment.cells.values() if self.had_result(*cell.wildcards.values())]
        files = [path for cell in cells for path in validation_predictions(self._experiment, cell).values()]
        return [str(path) for path in files if path.exists()]

    def outdated_results(self) -> list[str]:
        """Return the all_results.json files that are not of the wanted run."""
        cells = [cell for cell in self._experiment.cells.values() if not self.had_result(*cell.wildcards.values())]
        return self._results_of(cell for cell in cells if has_result_of_another_run(self._experiment, cell))

    def _has_result(self, model: str, task: str, variant: str, seed: str) -> bool:
        """Tell whether a cell has the result of the wanted run; `had_result` keeps the first answer."""
        return has_result(self._experiment, self._experiment.cell(model, task, variant, seed))

    def _same_for_all(self, method: Callable[[Wildcards], object]) -> object:
        """Return the value that a method has for every cell, or the method itself if values differ."""
        values = {method(Wildcards(fromdict=cell.wildcards)) for cell in self._experiment.kinds}
        return values.pop() if len(values) == 1 else method

    def _cell(self, wildcards: Wildcards) -> Cell:
        return self._experiment.cell(wildcards.model, wildcards.task, wildcards.variant, wildcards.seed)

    def _results_of(self, cells: Iterable[Cell]) -> list[str]:
        return [self._experiment.paths.all_results.format(**cell.wildcards) for cell in cells]


class Tables:
    """The inputs of the targets beside `all`, and of tables, comparisons and the report."""

    def __init__(self, experiment: Experiment, cells: Cells, workflow):
        self._experiment = experiment
        self._cells = cells
        self._workflow = workflow

    def definition(self, wildcards: Wildcards) -> str:
        """Return what the tables depend on besides results. A method, since a string's braces would be wildcards."""
        return table_definition(self._experiment)

    def predictions(self, wildcards: Wildcards) -> list[str]:
        """Return the saved predictions of the cells that have a result, or all results if `all` is requested, too.

        Only `train` writes predictions, and not as outputs: comparing what there is must not train anything.
        """
        return self._cells.results() if self._is_asked_for("all") else self._cells.predictions()

    def before_report(self, wildcards: Wildcards) -> list[str]:
        """Return the other targets of this call that the report shows. On its own, the report waits for nothing.

        Nor does it wait for comparisons of a single model, which fail.
        """
        results = self._cells.results() if self._is_asked_for("all") else []
        is_compared = self._is_asked_for("compare") and len(self._experiment.models) > 1
        return [*results, *([self._experiment.paths.comparisons_json] if is_compared else [])]

    def content(self, wildcards: Wildcards) -> str:
        """Return a hash of all that the report is made from, so that any change of it rewrites the report."""
        return digest_of_results(self._experiment)

    def staged(self, wildcards: Wildcards) -> list[str]:
        """Return the manifests of all models and of all tokens, which need those of the datasets."""
        experiment = self._experiment
        models = sorted({experiment.model_manifest(model) for model in experiment.models})
        return [*models, *dict.fromkeys(map(experiment.tokens_manifest, experiment.kinds))]

    def submissions(self, wildcards: Wildcards) -> list[str]:
        """Return the submission.zip of every model."""
        return [self._experiment.paths.submission_zip.format(model=model) for model in self._experiment.models]

    def _is_asked_for(self, target: str) -> bool:
        return target in self._workflow.dag_settings.targets


def digest_of_results(experiment: Experiment) -> str:
    """Return a hash of the outcome of every cell, of the comparisons, and of what else the tables depend on."""
    digest = hashlib.sha256(table_definition(experiment).encode())
    for outcome in read_outcomes(experiment):
        digest.update(_text(outcome).encode())
    comparisons = Path(experiment.paths.comparisons_json)
    if comparisons.exists():
        digest.update(comparisons.read_bytes())
    return digest.hexdigest()


def _text(outcome: Outcome) -> str:
    cell = outcome.cell
    parts = [cell.name, cell.run, outcome.results, outcome.record, outcome.reason, outcome.data, str(outcome.log)]
    return json.dumps(parts, sort_keys=True)


def wildcard_patterns(experiment: Experiment, is_head: bool) -> dict[str, str]:
    """Return a pattern for each wildcard that matches only names and keys of the experiment."""
    models, tasks = experiment.models, experiment.tasks
    return {
        "model": _any_of(models),
        "task": _any_of(tasks),
        # A job has one cell, and does not make the others just to know their variants.
        "variant": _any_of(cell.variant for cell in experiment.kinds) if is_head else "[^/]+",
        "seed": r"\d+",
        "examples_key": _any_of(map(experiment.examples_key, tasks)),
        "max_seq_length": r"\d+",
        "model_key": _any_of(map(experiment.model_key, models)),
        "tokenizer_key": _any_of(map(experiment.tokenizer_key, models)),
        "task_key": _any_of(map(experiment.task_key, tasks)),
    }


def _any_of(names: Iterable[str]) -> str:
    """Return a regular expression that matches only these names."""
    return "|".join(re.escape(str(name)) for name in sorted(set(names)))
