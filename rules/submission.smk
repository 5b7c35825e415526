# Write the zip of a model's test predictions for GLUE's server, for `snakemake submission`.
#
# Input: all_results.json of every cell of the model on GLUE's tasks and AX; the script reads the predictions beside
# them. Output: submission.zip and submission.json, which says where each prediction comes from. The script also writes
# to the terminal: which seed was chosen, and what to know before you upload the file.


rule write_submission:
    """Write a model's test predictions as a submission to GLUE, and check it."""
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
        "Writing the GLUE submission of {wildcards.model}"
    shell:
        'python "$GLUEGRID_SCRIPTS/write_submission.py"'
        ' --head "$GLUEGRID_HEAD"'
        " --model {wildcards.model:q}"
        ' 2>&1 | if [ -n "${{GLUEGRID_LIVE-}}" ]; then cat > {log:q}; else tee {log:q} >&2; fi'
