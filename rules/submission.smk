# The zip of a model's test predictions that GLUE's server takes, for `snakemake submission`.
#
# Input: all_results.json of every cell of the model on GLUE's tasks and AX; the script takes the predictions beside them.
# Output: submission.zip and, beside it, submission.json, which says where each prediction comes from. What the script
# says goes into the terminal too: which seed was chosen, and what should be known before the file is sent.


rule write_submission:
    """Put a model's test predictions into the files of a submission to GLUE, and check them."""
    input:
        cells=cells.results_to_submit,
    output:
        zip=EXPERIMENT.paths.submission_zip,
        about=EXPERIMENT.paths.submission_json,
    log:
        EXPERIMENT.paths.log("write_submission", "{model}"),
    benchmark:
        EXPERIMENT.paths.benchmark("write_submission", "{model}")
    localrule: True
    conda:
        "../envs/gluegrid.yaml"
    message:
        "Writing the submission of {wildcards.model} to GLUE"
    shell:
        'python "$GLUEGRID_SCRIPTS/write_submission.py"'
        ' --head "$GLUEGRID_HEAD"'
        " --model {wildcards.model:q}"
        ' 2>&1 | if [ -n "${{GLUEGRID_LIVE-}}" ]; then cat > {log:q}; else tee {log:q} >&2; fi'
