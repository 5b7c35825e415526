# Every two models compared, from the predictions of the cells that have a result.
#
# For `snakemake compare`; nothing else asks for it. What failed or was not run is left out, and said to be.


rule compare:
    """Write comparisons.md and comparisons.json of the experiment."""
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
