# Compare every two models, from the predictions of the cells that have a result.
#
# Only `snakemake compare` asks for it. Cells without a result are left out, and listed.


rule compare:
    """Write comparisons.md and comparisons.json."""
    input:
        predictions=tables.predictions,
    output:
        markdown=report(
            EXPERIMENT.paths.comparisons_md,
            caption="../captions/comparisons.rst",
            category="Comparisons",
            labels={"file": "comparisons.md"},
        ),
        json=EXPERIMENT.paths.comparisons_json,
    log:
        EXPERIMENT.paths.log("compare", "compare"),
    benchmark:
        EXPERIMENT.paths.benchmark("compare", "compare")
    localrule: True
    conda:
        "../envs/gluegrid.yaml"
    params:
        tables=tables.definition,
    message:
        "Comparing the models of {EXPERIMENT.name}: {output.markdown}"
    shell:
        'python "$GLUEGRID_SCRIPTS/compare.py" --head "$GLUEGRID_HEAD" > {log:q} 2>&1'
