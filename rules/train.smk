# Train the cells: one job each, mostly on one GPU.
#
# Input: the cell's run.json, which says all that the run is, and the manifests of what was staged for it.
# Output: all_results.json and run_record.json, written last; the predictions of every split lie beside them.


# A run.json that says already what its cell is has no rule that makes it. The others are written by a few jobs of many
# files each, which only the head has: jobs of cells find theirs written. `update`: another head's jobs may be reading it.
for name_of_rule, cells in CELLS_TO_WRITE.items():

    rule:
        name:
            name_of_rule
        output:
            runs=update(runs_of(cells)),
        log:
            EXPERIMENT.paths.log("write_runs", name_of_rule),
        benchmark:
            EXPERIMENT.paths.benchmark("write_runs", name_of_rule)
        priority: ESTIMATES.seconds_of(cells[0])
        localrule: True
        conda:
            "../envs/gluegrid.yaml"
        message:
            "Writing run.json of the cells that are new or changed"
        shell:
            'python "$GLUEGRID_SCRIPTS/write_runs.py" --head "$GLUEGRID_HEAD" {output.runs:q} > {log:q} 2>&1'


run_where_needed(workflow, CELLS_TO_WRITE, outdated_results() if workflow.is_main_process else [])
keep_results(workflow, "train", had_result)


# What the manifests identify stands in run.json, so only another run than the one that its record names retrains a cell
# that has a result: else its inputs are `ancient`. The hub is off, since compute nodes have no network. The shell ignores the signals that ask a job to
# end: the script saves its work first, and SLURM kills what is left when the shell has ended.
#
# What starts the processes is scripts/launch.sh: the rule's shell runs once, whatever the number of GPUs and nodes. On
# several nodes the job is what the SLURM plugin calls an MPI job, which is one that calls srun itself.
rule train:
    """Fine-tune one model on one task with one seed, and score it."""
    input:
        unpack(inputs_of_training),
    output:
        results=EXPERIMENT.paths.all_results,
        record=EXPERIMENT.paths.run_record,
    log:
        EXPERIMENT.paths.log("train", paths.CELL),
    benchmark:
        EXPERIMENT.paths.benchmark("train", paths.CELL)
    priority: urgency_of_cell
    conda:
        "../envs/gluegrid.yaml"
    threads: same_for_all(train_threads)
    resources:
        gpu=same_for_all(train_gpus),
        nodes=same_for_all(train_nodes),
        mpi=same_for_all(train_starter),
        tasks=same_for_all(train_tasks),
        tasks_per_gpu=0,
        mem_mb=train_memory,
        runtime=train_minutes,
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
