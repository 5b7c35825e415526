# Train the cells: one job each, usually on one GPU.
#
# Input: the cell's run.json, which defines the run completely, and the manifests of what was staged for it.
# Output: all_results.json and run_record.json, written last; the predictions of every split are beside them.


# A run.json that is up to date has no rule. The others are written by a few jobs of many files each, in the controller
# only: the jobs of cells find theirs written. `update`, since another controller's jobs may be reading them.
for part in cells.runs_to_write:

    rule:
        name:
            part.rule
        output:
            runs=update(part.paths),
        log:
            EXPERIMENT.paths.log("write_runs", part.rule),
        benchmark:
            EXPERIMENT.paths.benchmark("write_runs", part.rule)
        priority: part.urgency
        localrule: True
        conda:
            "../envs/gluegrid.yaml"
        message:
            "Writing run.json of new and changed cells"
        shell:
            'python "$GLUEGRID_SCRIPTS/write_runs.py" --head "$GLUEGRID_HEAD" {output.runs:q} > {log:q} 2>&1'


# A cell with a result is retrained only if its record names another run, since run.json identifies what the manifests
# do; otherwise its inputs are `ancient`. The hub is off, since compute nodes have no network. The shell ignores the
# signals that ask a job to stop, so that the script can save its work; SLURM kills what is left when the shell exits.
#
# scripts/launch.sh starts the processes: the rule's shell runs once, whatever the number of GPUs and nodes. On several
# nodes the job is what the SLURM plugin calls an MPI job, one that calls srun itself.
rule train:
    """Fine-tune one model on one task with one seed, and score it."""
    input:
        unpack(cells.inputs),
    output:
        results=EXPERIMENT.paths.all_results,
        record=EXPERIMENT.paths.run_record,
    log:
        EXPERIMENT.paths.log("train", paths.CELL),
    benchmark:
        EXPERIMENT.paths.benchmark("train", paths.CELL)
    priority: cells.urgency
    conda:
        "../envs/gluegrid.yaml"
    threads: cells.threads
    resources:
        gpu=cells.gpus,
        nodes=cells.nodes,
        mpi=cells.starter,
        tasks=cells.tasks,
        tasks_per_gpu=0,
        mem_mb=cells.memory_in_mb,
        runtime=cells.minutes,
    message:
        "Training {wildcards.model} on {wildcards.task}, {wildcards.variant}, seed {wildcards.seed}"
    shell:
        "trap '' TERM INT USR1;"
        " export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_EVALUATE_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1;"
        ' bash "$GLUEGRID_SCRIPTS/launch.sh" {resources.nodes} {resources.gpu}'
        ' "$GLUEGRID_SCRIPTS/train.py"'
        " --run {input.run:q}"
        " --model {input.model:q}"
        " --task {input.task:q}"
        " --tokens {input.tokens:q}"
        " --results {output.results:q}"
        " --record {output.record:q}"
        " >> {log:q} 2>&1"
