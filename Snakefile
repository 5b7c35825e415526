# gluegrid: every model on every task with every seed, and the table of results.
#
# The way of the data: the experiment file is checked and resolved into cells (scripts/gluegrid/experiment/loading.py), models
# and tasks are staged (rules/fetch.smk), tokenised (rules/prepare.smk), each cell is trained from its run.json
# (rules/train.smk), and the tables are written (rules/results.smk).
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19.0")

# This clone's library, whatever is installed.
sys.path.insert(0, str(Path(workflow.current_basedir.get_path_or_uri(secret_free=True)) / "scripts"))

from gluegrid.common import paths
from gluegrid.workflow.hooks import begin_run, end_of_run, prepare
from gluegrid.workflow.rule_inputs import inputs_of_rules, wildcard_patterns
from gluegrid.workflow.snakemake_patches import rerun_by_content

EXPERIMENT, ESTIMATES = prepare(workflow)

# Their methods give rules their inputs, parameters, limits and priorities.
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
    """Every cell's results, and the tables."""
    default_target: True
    input:
        cells=cells.results,
        tables=EXPERIMENT.paths.results_md,


rule stage:
    """What needs a network, and the tokens, but no cell: for clusters without one (docs/offline.md)."""
    input:
        tables.staged,


rule submission:
    """For each model the zip that GLUE's server takes, and the cells that it needs (docs/submission.md)."""
    input:
        tables.submissions,


onstart:
    begin_run(EXPERIMENT, ESTIMATES, workflow)


onsuccess:
    end_of_run(EXPERIMENT, workflow)


onerror:
    end_of_run(EXPERIMENT, workflow)
