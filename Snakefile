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
sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))


include: "rules/common.smk"
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
        cells=all_results,
        tables=EXPERIMENT.paths.results_md,


rule stage:
    """What needs a network, and the tokens, but no cell: for clusters without one (docs/offline.md)."""
    input:
        everything_staged,


rule submission:
    """For each model the zip that GLUE's server takes, and the cells that it needs (docs/submission.md)."""
    input:
        submissions,


onstart:
    begin_run(EXPERIMENT, ESTIMATES, workflow)


onsuccess:
    end_of_run(EXPERIMENT, workflow)


onerror:
    end_of_run(EXPERIMENT, workflow)
