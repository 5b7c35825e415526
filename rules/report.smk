# The report: an HTML page with figures, and a LaTeX table, from the results there are.
#
# Only `snakemake report` asks for it. Results are not its inputs, since missing ones would then be trained. Instead a
# hash of every cell's outcome is a parameter: when it changes, the report is rewritten.


rule report:
    """Write report.html and table.tex."""
    input:
        tables.before_report,
    output:
        html=report(
            EXPERIMENT.paths.report_html,
            caption="../captions/report_html.rst",
            category="Report",
            labels={"file": "report.html"},
        ),
        latex=report(
            EXPERIMENT.paths.table_tex,
            caption="../captions/table_tex.rst",
            category="Tables",
            labels={"file": "table.tex"},
        ),
    log:
        EXPERIMENT.paths.log("report", "report"),
    benchmark:
        EXPERIMENT.paths.benchmark("report", "report")
    localrule: True
    conda:
        "../envs/gluegrid.yaml"
    params:
        content=tables.content,
    message:
        "Writing the report of {EXPERIMENT.name}: {output.html}"
    shell:
        'python "$GLUEGRID_SCRIPTS/report.py" --head "$GLUEGRID_HEAD" > {log:q} 2>&1'
