# What the rules share: the experiment, and the named functions that give rules their inputs and resources. No rules.
import re

from gluegrid import paths
from gluegrid.backups import keep_times_of_backups
from gluegrid.estimates import memory_in_mb, minutes, train_rows
from gluegrid.experiment import run_text
from gluegrid.files import canonical_json
from gluegrid.recipes import RECIPES
from gluegrid.records import has_result
from gluegrid.report import table_definition
from gluegrid.slurm_plugin import mend_slurm_plugin
from gluegrid.tasks import definition
from gluegrid.workflow import (
    begin_run,
    cap_fetches,
    end_of_run,
    experiment_of_workflow,
    let_jobs_find_programs,
    limit_gpus,
    outlive_warnings,
)

let_jobs_find_programs(workflow)
outlive_warnings(workflow)
mend_slurm_plugin()
keep_times_of_backups()
cap_fetches(workflow)
EXPERIMENT = experiment_of_workflow(workflow)
limit_gpus(EXPERIMENT, workflow)


def any_of(names):
    """Return a regular expression that matches just these names."""
    return "|".join(re.escape(str(name)) for name in sorted(set(names)))


def one_cell(wildcards):
    """Return the cell that a job's wildcards name."""
    return EXPERIMENT.cells[(wildcards.model, wildcards.task, wildcards.variant, wildcards.seed)]


def all_results():
    """Return the all_results.json of every cell."""
    return [EXPERIMENT.paths.all_results.format(**cell.wildcards) for cell in EXPERIMENT.cells.values()]


def model_entry(wildcards):
    """Return the config's entry of the model with this key."""
    return next(
        EXPERIMENT.models[name] for name in EXPERIMENT.models if EXPERIMENT.model_key(name) == wildcards.model_key
    )


def model_source(wildcards):
    """Return where a model comes from."""
    return model_entry(wildcards)["source"]


def model_revision(wildcards):
    """Return which state of a model is wanted."""
    return model_entry(wildcards)["revision"]


def model_fetch_options(wildcards):
    """Return the option that lets a model's own Python code be fetched and run, where the config says so."""
    return "--trust-remote-code" if EXPERIMENT.trusts_remote_code(wildcards.model_key) else ""


def task_entry(wildcards):
    """Return the config's entry of the task with this key."""
    return next(EXPERIMENT.tasks[name] for name in EXPERIMENT.tasks if EXPERIMENT.task_key(name) == wildcards.task_key)


def task_source(wildcards):
    """Return where a task's data come from."""
    return task_entry(wildcards)["source"]


def task_folder(wildcards):
    """Return in which folder of its source a task's data lie."""
    return task_entry(wildcards).get("folder", "")


def task_revision(wildcards):
    """Return which state of a task's data is wanted."""
    return task_entry(wildcards)["revision"]


def task_definition(wildcards):
    """Return a task's columns, labels and splits as JSON."""
    return canonical_json({"name": wildcards.task, **definition(EXPERIMENT.tasks[wildcards.task])})


def tokenizer_manifest(wildcards):
    """Return the manifest of the model whose tokenizer makes these tokens."""
    return paths.MODEL_MANIFEST.format(model_key=wildcards.tokenizer_key)


def task_manifest(wildcards):
    """Return the manifest of a task's data."""
    return paths.TASK_MANIFEST.format(task_key=EXPERIMENT.task_key(wildcards.task))


def model_of_cell(wildcards):
    """Return the manifest of a cell's model, as an input of its training."""
    return input_of_training(wildcards, paths.MODEL_MANIFEST.format(model_key=EXPERIMENT.model_key(wildcards.model)))


def task_of_cell(wildcards):
    """Return the manifest of a cell's data, as an input of its training."""
    return input_of_training(wildcards, task_manifest(wildcards))


def tokens_of_cell(wildcards):
    """Return the manifest of a cell's tokens, as an input of its training."""
    return input_of_training(wildcards, tokens_of(wildcards.model, wildcards.task))


def input_of_training(wildcards, manifest):
    """Return a manifest whose time does not matter to a cell that has the result of its run.json.

    Not so for a cell without: Snakemake leaves a job out when something above its `ancient` inputs is made again.
    """
    return ancient(manifest) if has_result(EXPERIMENT, one_cell(wildcards)) else manifest


def tokens_of(model, task):
    """Return the manifest of the tokens of a model on a task."""
    return paths.TOKENS_MANIFEST.format(
        tokenizer_key=EXPERIMENT.tokenizer_key(model),
        task=task,
        max_seq_length=EXPERIMENT.max_seq_length(model, task),
    )


def everything_staged():
    """Return the manifests of all models, and of all tokens, which need those of the tasks."""
    models = {EXPERIMENT.model_key(model) for model in EXPERIMENT.models}
    return [
        *(paths.MODEL_MANIFEST.format(model_key=key) for key in sorted(models)),
        *dict.fromkeys(tokens_of(cell.model, cell.task) for cell in EXPERIMENT.cells.values()),
    ]


def run_content(wildcards):
    """Return the text of a cell's run.json; a change of it is what retrains the cell."""
    return run_text(one_cell(wildcards))


def table_content(wildcards):
    """Return what the tables depend on besides results. A function, since its braces are no wildcards."""
    return table_definition(EXPERIMENT)


def value_of_run(wildcards, key):
    """Return a value of a cell's run; that of its recipe where run.json says nothing."""
    run = one_cell(wildcards).run
    return (RECIPES[run["recipe"]] | run)[key]


def train_threads(wildcards):
    """Return the CPUs of a cell on each node: for each of its processes as many as the threads it trains with."""
    return value_of_run(wildcards, "threads") * value_of_run(wildcards, "gpus")


def train_gpus(wildcards):
    """Return the GPUs of a cell on all its nodes; its processes are as many."""
    return value_of_run(wildcards, "gpus") * train_nodes(wildcards)


def train_nodes(wildcards):
    """Return the nodes of a cell."""
    return value_of_run(wildcards, "nodes")


def train_starter(wildcards):
    """Return what starts the processes of a cell on several nodes; nothing for one node."""
    return "srun" if train_nodes(wildcards) > 1 else None


def train_tasks(wildcards):
    """Return SLURM's tasks of a cell on several nodes, one launcher on each; nothing for one node."""
    return train_nodes(wildcards) if train_nodes(wildcards) > 1 else None


def train_minutes(wildcards, attempt):
    """Return the time limit of a cell; an attempt after the first gets more."""
    cell = one_cell(wildcards)
    return minutes(cell.run, train_rows(EXPERIMENT.tasks[cell.task])) * attempt


def train_memory(wildcards, attempt):
    """Return the host memory of a cell in MB; an attempt after the first gets more."""
    return memory_in_mb(one_cell(wildcards).run) * attempt


wildcard_constraints:
    model=any_of(EXPERIMENT.models),
    task=any_of(EXPERIMENT.tasks),
    variant="base",
    seed=r"\d+",
    max_seq_length=r"\d+",
    model_key=any_of(EXPERIMENT.model_key(model) for model in EXPERIMENT.models),
    tokenizer_key=any_of(EXPERIMENT.tokenizer_key(model) for model in EXPERIMENT.models),
    task_key=any_of(EXPERIMENT.task_key(task) for task in EXPERIMENT.tasks),
