# Tokenize texts, once for all models, seeds and experiments that share tokenizer, task and length.
#
# Input: the manifests of a model (for its tokenizer) and of a task. Output: memory-mapped Arrow files and a manifest.
# For `update` see fetch.smk.


rule tokenize_task:
    """Tokenize a task's splits with one tokenizer, truncated to one length."""
    input:
        tokenizer=tokens.tokenizer,
        task=tokens.task,
    output:
        manifest=update(paths.TOKENS_MANIFEST),
    log:
        EXPERIMENT.paths.log("tokenize_task", paths.TOKENS),
    benchmark:
        EXPERIMENT.paths.benchmark("tokenize_task", paths.TOKENS)
    priority: tokens.urgency
    conda:
        "../envs/gluegrid.yaml"
    params:
        definition=tokens.definition,
    message:
        "Tokenizing {wildcards.examples_key} to {wildcards.max_seq_length} tokens"
    shell:
        'python "$GLUEGRID_SCRIPTS/tokenize_task.py"'
        " --tokenizer {input.tokenizer:q}"
        " --task {input.task:q}"
        " --definition {params.definition:q}"
        " --max-seq-length {wildcards.max_seq_length}"
        " --manifest {output.manifest:q}"
        " > {log:q} 2>&1"
