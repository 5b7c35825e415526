# Parity: compare the results with references (references/, and the files that the experiment names).
#
# Input: every cell's all_results.json. Output: parity.md and parity.json, which are always written. The target `parity`
# fails each time it is asked for while a result is below a reference.


rule parity_table:
    """Write the verdicts on all results: parity.md and parity.json."""
    input:
        cells=cells.results,
    output:
        markdown=report(
            EXPERIMENT.paths.parity_md,
            caption="../captions/parity.rst",
            category="Comparisons",
            labels={"file": "parity.md"},
        ),
        json=EXPERIMENT.paths.parity_json,
    log:
        EXPERIMENT.paths.log("parity_table", "parity"),
    benchmark:
        EXPERIMENT.paths.benchmark("parity_table", "parity")
    localrule: True
    conda:
        "../envs/gluegrid.yaml"
    params:
        tables=tables.definition,
    message:
        "Comparing {EXPERIMENT.name} with the references"
    shell:
        'python "$GLUEGRID_SCRIPTS/parity_table.py" --head "$GLUEGRID_HEAD" > {log:q} 2>&1'


# Without an output, as which a benchmark counts, a rule runs each time it is asked for. The terminal of the call ends with
# the verdicts (scripts/gluegrid/workflow/last_words.py); the log says what is below its reference.
rule parity:
    """Show the verdicts, and fail if a result is below a reference."""
    input:
        verdicts=EXPERIMENT.paths.parity_json,
    log:
        EXPERIMENT.paths.log("parity", "parity"),
    retries: 0
    localrule: True
    conda:
        "../envs/gluegrid.yaml"
    message:
        "Verdicts on the results of {EXPERIMENT.name}"
    shell:
        'python "$GLUEGRID_SCRIPTS/parity.py" --verdicts {input.verdicts:q} > {log:q} 2>&1'
