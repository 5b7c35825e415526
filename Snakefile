# gluegrid: fine-tune every model on every task with every seed, and write the table of results.
#
# Data flow: the experiment file is checked and resolved into cells (scripts/gluegrid/experiment/loading.py); models and
# tasks are staged (rules/fetch.smk) and tokenized (rules/prepare.smk); each cell is trained from its run.json
# (rules/train.smk); the tables are written (rules/results.smk).
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19.0")

# Use this clone's library, even if another is installed.
sys.path.insert(0, str(Path(workflow.current_basedir.get_path_or_uri(secret_free=True)) / "scripts"))

from gluegrid.common import paths
from gluegrid.workflow.hooks import begin_run, end_of_run, prepare
from gluegrid.workflow.rule_inputs import inputs_of_rules, wildcard_patterns
from gluegrid.workflow.snakemake_patches import rerun_by_content

EXPERIMENT, ESTIMATES = prepare(workflow)

# Their methods return the inputs, parameters, limits and priorities of the rules.
models, tasks, tokens, cells, tables = inputs_of_rules(EXPERIMENT, ESTIMATES, workflow)

if workflow.is_main_process:
    rerun_by_content([part.rule for part in cells.runs_to_write], cells.outdated_results(), cells.had_result)


report: "captions/workflow.rst"


wildcard_constraints:
    **wildcard_patterns(EXPERIMENT, workflow.is_main_process),


include: "rules/fetch.smk"
include: "rules/prepare.smk"
include: "rules/train.smk"
include: "rules/results.smk"
include: "rules/parity.smk"
include: "rules/submission.smk"
include: "rules/compare.smk"
include: "rules/report.smk"


localrules:
    all,
    fetch_model,
    fetch_task,
    tokenize_task,
    stage,
    results,
    submission,


rule all:
    """Train every cell and write the tables."""
    default_target: True
    input:
        cells=cells.results,
        tables=EXPERIMENT.paths.results_md,


rule stage:
    """Fetch models and datasets and make the tokens, but train nothing: for offline clusters (docs/offline.md)."""
    input:
        tables.staged,


rule submission:
    """Write each model's zip for GLUE's server, and train the cells that it needs (docs/submission.md)."""
    input:
        tables.submissions,


onstart:
    begin_run(EXPERIMENT, ESTIMATES, workflow)


onsuccess:
    end_of_run(EXPERIMENT, workflow)


onerror:
    end_of_run(EXPERIMENT, workflow)
