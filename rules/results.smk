# Write the tables from every cell's all_results.json.
#
# If cells fail, this rule cannot run; the Snakefile's `onerror` then writes the same tables from the results there are.
# Without `update`, Snakemake would delete the tables before the job, even if another call is about to read them.


rule results:
    """Write results.md, results.csv and results.json."""
    input:
        cells=cells.results,
    output:
        markdown=report(
            update(EXPERIMENT.paths.results_md),
            caption="../captions/results_md.rst",
            category="Tables",
            labels={"file": "results.md"},
        ),
        csv=report(
            update(EXPERIMENT.paths.results_csv),
            caption="../captions/results_csv.rst",
            category="Tables",
            labels={"file": "results.csv"},
        ),
        json=update(EXPERIMENT.paths.results_json),
    log:
        EXPERIMENT.paths.log("results", "results"),
    benchmark:
        EXPERIMENT.paths.benchmark("results", "results")
    conda:
        "../envs/gluegrid.yaml"
    params:
        tables=tables.definition,
    message:
        "Writing the tables of {EXPERIMENT.name}"
    shell:
        'python "$GLUEGRID_SCRIPTS/results.py" --head "$GLUEGRID_HEAD" > {log:q} 2>&1'
