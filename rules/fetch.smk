# Stage pinned models and datasets below resources/. Only these rules use the network; they run where Snakemake runs.
#
# Input: nothing, or a local folder. Output: the files and a manifest.json with revision, sizes, SHA-256 and row counts.
# Without `update`, Snakemake would delete a manifest before the job, even one that another controller has just written
# and whose cells are using it; the scripts decide whether to rewrite it (gluegrid/execution/invocation.py). `hub`
# limits concurrent fetches (gluegrid/workflow/hooks.py). The scripts also write to the terminal, to show the progress
# of large downloads.


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
        "Fetching model {wildcards.model_key}"
    shell:
        'python "$GLUEGRID_SCRIPTS/fetch_model.py"'
        " --source {params.source:q}"
        " --revision {params.revision:q}"
        " --manifest {output.manifest:q}"
        " {params.options}"
        ' 2>&1 | if [ -n "${{GLUEGRID_LIVE-}}" ]; then cat > {log:q}; else tee {log:q} >&2; fi'


rule fetch_task:
    """Stage a task's files as parquet files, pinned by revision."""
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
        "Fetching dataset {wildcards.task_key}"
    shell:
        'python "$GLUEGRID_SCRIPTS/fetch_task.py"'
        " --source {params.source:q}"
        " --folder={params.folder:q}"
        " --revision {params.revision:q}"
        " --manifest {output.manifest:q}"
        ' --head "$GLUEGRID_HEAD"'
        ' 2>&1 | if [ -n "${{GLUEGRID_LIVE-}}" ]; then cat > {log:q}; else tee {log:q} >&2; fi'
