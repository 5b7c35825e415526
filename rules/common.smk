# What the rules share: the experiment, and the named functions that give rules their inputs and resources. No rules.
import re
from functools import cache

from snakemake.iocontainers import Wildcards

from gluegrid.common import paths
from gluegrid.common.errors import GluegridError
from gluegrid.operations.estimates import limit_of_attempt
from gluegrid.common.files import canonical_json
from gluegrid.results.glue_choice import cells_to_choose_from
from gluegrid.workflow.snakemake_patches import plan_quickly
from gluegrid.results.outcomes import has_result, has_result_of_another_run, validation_predictions
from gluegrid.results.results_md import table_definition
from gluegrid.workflow.rule_inputs import digest_of_results
from gluegrid.workflow.rule_inputs import cells_to_write
from gluegrid.workflow.slurm_patches import mend_slurm_plugin
from gluegrid.workflow.snakemake_patches import keep_files_of_jobs
from gluegrid.experiment.task_files import definition_of_examples
from gluegrid.workflow.hooks import (
    begin_run,
    begin_with_the_longest,
    cap_fetches,
    end_of_run,
    estimates_of_workflow,
    experiment_of_workflow,
    keep_results,
    let_jobs_find_programs,
    limit_gpus,
    outlive_warnings,
    run_where_needed,
)

plan_quickly()
let_jobs_find_programs(workflow)
outlive_warnings(workflow)
mend_slurm_plugin()
keep_files_of_jobs()
cap_fetches(workflow)
begin_with_the_longest()
EXPERIMENT = experiment_of_workflow(workflow)
ESTIMATES = estimates_of_workflow(EXPERIMENT, workflow)
limit_gpus(EXPERIMENT, workflow)


def any_of(names):
    """Return a regular expression that matches just these names."""
    return "|".join(re.escape(str(name)) for name in sorted(set(names)))


def one_cell(wildcards):
    """Return the cell that a job's wildcards name."""
    return EXPERIMENT.cell(wildcards.model, wildcards.task, wildcards.variant, wildcards.seed)


def all_results(wildcards):
    """Return the all_results.json of every cell. A function, since jobs of cells need not list them."""
    return [EXPERIMENT.paths.all_results.format(**cell.wildcards) for cell in EXPERIMENT.cells.values()]


def results_for_submission(wildcards):
    """Return the all_results.json of every cell that a model's submission to GLUE may be made of."""
    try:
        cells = cells_to_choose_from(EXPERIMENT, wildcards.model)
    except GluegridError as error:
        # Snakemake would show a traceback of the workflow for anything but an end.
        raise SystemExit(str(error)) from None
    return [EXPERIMENT.paths.all_results.format(**cell.wildcards) for cell in cells]


def submissions(wildcards):
    """Return the submission.zip of every model."""
    return [EXPERIMENT.paths.submission_zip.format(model=model) for model in EXPERIMENT.models]


def predictions_to_compare(wildcards):
    """Return the saved predictions of the cells that have a result; what `all` makes, where that is asked for too.

    Nothing makes predictions but `train`, as something beside its outputs: nothing is trained to compare what there is.
    """
    if "all" in workflow.dag_settings.targets:
        return all_results(wildcards)
    done = [cell for cell in EXPERIMENT.cells.values() if had_result(*cell.wildcards.values())]
    paths_of_all = [path for cell in done for path in validation_predictions(EXPERIMENT, cell).values()]
    return [str(path) for path in paths_of_all if path.exists()]


def made_before_report(wildcards):
    """Return what else this call was asked to make that the report shows. Alone it waits for nothing, and trains nothing."""
    results = all_results(wildcards) if "all" in workflow.dag_settings.targets else []
    comparisons = [EXPERIMENT.paths.comparisons_json] if "compare" in workflow.dag_settings.targets else []
    return results + comparisons


def report_content(wildcards):
    """Return a hash of all that the report is made from, so that it is made again when any of it changes."""
    return digest_of_results(EXPERIMENT)


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
    return "--trust-remote-code" if model_entry(wildcards).get("trust_remote_code", False) else ""


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


def task_of_examples(wildcards):
    """Return a task that has these examples: several of an experiment may, and all give the same."""
    return next(name for name in EXPERIMENT.tasks if EXPERIMENT.examples_key(name) == wildcards.examples_key)


def definition_of_tokens(wildcards):
    """Return columns, labels and splits of the task to be tokenised as JSON."""
    return canonical_json(definition_of_examples(EXPERIMENT.tasks[task_of_examples(wildcards)]))


def tokenizer_manifest(wildcards):
    """Return the manifest of the model whose tokenizer makes these tokens."""
    return paths.MODEL_MANIFEST.format(model_key=wildcards.tokenizer_key)


def manifest_of_examples(wildcards):
    """Return the manifest of the data of the task to be tokenised."""
    return EXPERIMENT.task_manifest(task_of_examples(wildcards))


def inputs_of_training(wildcards):
    """Return a cell's run.json, the manifests of its model, data and tokens, and the results of what it starts from.

    Their time does not matter to a cell whose result is of the run that is wanted, as its record says. Not so for a cell
    without: Snakemake leaves a job out when something above its `ancient` inputs is made again.
    """
    cell = one_cell(wildcards)
    inputs = {
        "run": EXPERIMENT.paths.run.format(**wildcards),
        "model": EXPERIMENT.model_manifest(wildcards.model),
        "task": EXPERIMENT.task_manifest(wildcards.task),
        "tokens": EXPERIMENT.tokens_manifest(cell),
    }
    if start := EXPERIMENT.start_of_cell(cell):
        inputs["start"] = EXPERIMENT.paths.all_results.format(**start.wildcards)
    if had_result(*wildcards):
        return {name: ancient(path) for name, path in inputs.items()}
    return inputs


@cache
def had_result(model, task, variant, seed):
    """Tell whether a cell had the result of the run that is wanted when it was first asked."""
    return has_result(EXPERIMENT, EXPERIMENT.cell(model, task, variant, seed))


def outdated_results():
    """Return the all_results.json that are of another run than the one that is wanted."""
    cells = [cell for cell in EXPERIMENT.cells.values() if not had_result(*cell.wildcards.values())]
    outdated = [cell for cell in cells if has_result_of_another_run(EXPERIMENT, cell)]
    return [EXPERIMENT.paths.all_results.format(**cell.wildcards) for cell in outdated]


def everything_staged(wildcards):
    """Return the manifests of all models, and of all tokens, which need those of the tasks."""
    models = EXPERIMENT.models
    return [
        *sorted({EXPERIMENT.model_manifest(model) for model in models}),
        *dict.fromkeys(map(EXPERIMENT.tokens_manifest, EXPERIMENT.kinds)),
    ]


def runs_of(cells):
    """Return the run.json of each of some cells."""
    return [EXPERIMENT.paths.run.format(**cell.wildcards) for cell in cells]


def table_content(wildcards):
    """Return what the tables depend on besides results. A function, since its braces are no wildcards."""
    return table_definition(EXPERIMENT)


def value_of_run(wildcards, key):
    """Return a value of a cell's run; that of its recipe where run.json says nothing."""
    return one_cell(wildcards).values[key]


def same_for_all(value_of):
    """Return the value that a function of wildcards has for every cell, or the function where they differ.

    Snakemake asks a function several times for each job, which takes longer than all else about a resource.
    """
    if not workflow.is_main_process:
        return value_of
    values = {value_of(Wildcards(fromdict=cell.wildcards)) for cell in EXPERIMENT.kinds}
    return values.pop() if len(values) == 1 else value_of


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
    return limit_of_attempt(ESTIMATES.of(one_cell(wildcards)), attempt)


def train_memory(wildcards, attempt):
    """Return the host memory of a cell in MB; an attempt after the first gets more."""
    return ESTIMATES.of(one_cell(wildcards)).memory_in_mb * attempt


def urgency_of_cell(wildcards):
    """Return how long a cell is expected to take, in seconds: the longest goes first, so that none is last."""
    return ESTIMATES.seconds_of(one_cell(wildcards))


def urgency_of_model(wildcards):
    """Return the urgency of what waits for a model."""
    return greatest_urgency("model", wildcards.model_key)


def urgency_of_task(wildcards):
    """Return the urgency of what waits for a task's data."""
    return greatest_urgency("task", wildcards.task_key)


def urgency_of_tokens(wildcards):
    """Return the urgency of what waits for a task's tokens."""
    return greatest_urgency("tokens", paths.TOKENS_MANIFEST.format(**wildcards))


@cache
def greatest_urgency(kind, needed):
    """Return the urgency of the longest cell that needs something, 0 where none does."""
    return max(
        (ESTIMATES.seconds_of(cell) for cell in EXPERIMENT.kinds if needed in needs_of(cell)[kind]),
        default=0,
    )


def needs_of(cell):
    """Return what a cell needs, by kind."""
    return {
        "model": {EXPERIMENT.model_key(cell.model), EXPERIMENT.tokenizer_key(cell.model)},
        "task": {EXPERIMENT.task_key(cell.task)},
        "tokens": {EXPERIMENT.tokens_manifest(cell)},
    }


# A job is of one cell, and makes no other to know their variants.
VARIANTS = any_of(cell.variant for cell in EXPERIMENT.kinds) if workflow.is_main_process else "[^/]+"

# By the name of the rule that writes their run.json; jobs find it written.
CELLS_TO_WRITE = cells_to_write(EXPERIMENT, ESTIMATES.seconds_of) if workflow.is_main_process else {}


wildcard_constraints:
    model=any_of(EXPERIMENT.models),
    task=any_of(EXPERIMENT.tasks),
    variant=VARIANTS,
    seed=r"\d+",
    examples_key=any_of(EXPERIMENT.examples_key(task) for task in EXPERIMENT.tasks),
    max_seq_length=r"\d+",
    model_key=any_of(EXPERIMENT.model_key(model) for model in EXPERIMENT.models),
    tokenizer_key=any_of(EXPERIMENT.tokenizer_key(model) for model in EXPERIMENT.models),
    task_key=any_of(EXPERIMENT.task_key(task) for task in EXPERIMENT.tasks),
