# Stage pinned models and data below resources/. The only rules that use the network; they run where Snakemake runs.
#
# Input: nothing, or a local folder. Output: the files and a manifest.json with revision, sizes, SHA-256 and row counts.
# `update`: Snakemake would else delete a manifest before the job, also one that another head has just written and whose
# cells are using it; the scripts themselves decide whether it is to be made anew (gluegrid/execution/invocation.py). `hub` counts fetches
# at once (gluegrid/workflow/hooks.py). What the scripts say goes into the terminal too: a download of gigabytes should be seen to
# move.


rule fetch_model:
    """Stage a model's safetensors, config and tokenizer, pinned by revision."""
    output:
        manifest=update(paths.MODEL_MANIFEST),
    log:
        EXPERIMENT.paths.log("fetch_model", "{model_key}"),
    benchmark:
        EXPERIMENT.paths.benchmark("fetch_model", "{model_key}")
    priority: models.urgency
    conda:
        "../envs/gluegrid.yaml"
    resources:
        hub=1,
    params:
        source=models.source,
        revision=models.revision,
        options=models.options,
    message:
        "Fetching the model {wildcards.model_key}"
    shell:
        'python "$GLUEGRID_SCRIPTS/fetch_model.py"'
        " --source {params.source:q}"
        " --revision {params.revision:q}"
        " --manifest {output.manifest:q}"
        " {params.options}"
        ' 2>&1 | if [ -n "${{GLUEGRID_LIVE-}}" ]; then cat > {log:q}; else tee {log:q} >&2; fi'


rule fetch_task:
    """Stage the files of a task, pinned by revision, as parquet files."""
    output:
        manifest=update(paths.TASK_MANIFEST),
    log:
        EXPERIMENT.paths.log("fetch_task", "{task_key}"),
    benchmark:
        EXPERIMENT.paths.benchmark("fetch_task", "{task_key}")
    priority: tasks.urgency
    conda:
        "../envs/gluegrid.yaml"
    resources:
        hub=1,
    params:
        source=tasks.source,
        folder=tasks.folder,
        revision=tasks.revision,
    message:
        "Fetching the data {wildcards.task_key}"
    shell:
        'python "$GLUEGRID_SCRIPTS/fetch_task.py"'
        " --source {params.source:q}"
        " --folder={params.folder:q}"
        " --revision {params.revision:q}"
        " --manifest {output.manifest:q}"
        ' --head "$GLUEGRID_HEAD"'
        ' 2>&1 | if [ -n "${{GLUEGRID_LIVE-}}" ]; then cat > {log:q}; else tee {log:q} >&2; fi'
