# The report: one HTML page with figures, and a table for LaTeX, from whatever results there are.
#
# For `snakemake report`; nothing else asks for it. Results are no inputs, for then some might be trained: a hash of what
# became of every cell is a parameter, and another hash makes another report.


rule report:
    """Write report.html and table.tex of the experiment."""
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
