"""Format verdicts for people: in parity.md, in the terminal and in a section of results.md."""

from collections.abc import Sequence
from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.files import canonical_json
from gluegrid.common.formatting import points, signed_points
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import SINGLE_RUN, VALIDATION
from gluegrid.experiment.variants import BASE
from gluegrid.results import tables
from gluegrid.results.made_from import write_made
from gluegrid.results.outcomes import Outcome
from gluegrid.results.parity import BELOW, NOT_COMPARED, parity_content, with_verdict
from gluegrid.results.result_text import LONGEST_NAME
from gluegrid.results.summary import groups

COLUMNS = ("Model", "Task", "Metric", "Ours", "Reference", "Difference", "Tolerance", "Verdict")
COLUMNS_NOT_COMPARED = (*COLUMNS[:3], "Reference", "Why")
NONE = (
    "No published number that gluegrid knows is of these models and tasks. How to name your own: docs/references.md in"
    " gluegrid's repository."
)
WHAT_IS_COMPARED = (
    "Metrics x 100 on the validation splits, mean ± standard deviation over our seeds. Within: the difference is not"
    " more than the tolerance, in which it lies with a chance of {level:.0%} if only seeds make it."
)


def write_parity(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Write parity.md and parity.json from the results so far; return the verdicts for the terminal."""
    content = parity_content(experiment, groups(experiment, outcomes))
    write_made(experiment, outcomes, parity_texts(experiment, content))
    return parity_in_terminal(content)


def parity_texts(experiment: Experiment, content: dict) -> dict[Path, str]:
    """Return the texts of both files; `content` is what `parity_content` returns."""
    return {
        Path(experiment.paths.parity_md): parity_markdown(content),
        Path(experiment.paths.parity_json): canonical_json(content),
    }


def parity_markdown(content: dict) -> str:
    """Return parity.md."""
    records, others = with_verdict(content), rows_not_compared(content)
    if not content["verdicts"]:
        return f"# Parity of {escaping.markdown(content['experiment'])}\n\n{NONE}\n"
    sections = [
        f"# Parity of {escaping.markdown(content['experiment'])}\n",
        WHAT_IS_COMPARED.format(level=content["level"]) + "\n",
        tables.markdown(COLUMNS, map(verdict_row, records)) + "\n" if records else "No reference was compared.\n",
        *(escaping.markdown(line) + "\n" for line in precision_lines(records)),
        *(["## Not compared\n", tables.markdown(COLUMNS_NOT_COMPARED, others) + "\n"] if others else []),
        *_spreads(records),
        *_sources(content),
    ]
    return "\n".join(sections)


def parity_in_terminal(content: dict) -> str:
    """Return the verdicts for the terminal."""
    records = with_verdict(content)
    if not content["verdicts"]:
        return NONE
    lines = [tables.plain(COLUMNS, map(verdict_row, records))] if records else []
    lines += map(escaping.one_line, precision_lines(records))
    return "\n\n".join(lines + _how_many_others(content))


def below(content: dict) -> list[str]:
    """Return a line for each verdict that is below its reference."""
    return [
        f"{record['model']}/{record['task']} {record['metric']}: {_ours(record)} is below {_expected(record)}"
        for record in content["verdicts"]
        if record["verdict"] == BELOW
    ]


def precision_lines(records: Sequence[dict]) -> list[str]:
    """Return a line on the precision of our numbers in records with a verdict, or nothing if it is not recorded."""
    precisions = sorted({record["precision"] for record in records} - {None})
    return [f"Precision of ours: {'; '.join(precisions)}."] if precisions else []


def reference_sections(content: dict) -> list[str]:
    """Return the section of results.md on references, or nothing if the models have none."""
    if not content["verdicts"]:
        return []
    rows = [
        (*_names(record), _ours(record), f"{record['verdict']} {_expected(record)}") for record in with_verdict(content)
    ]
    shown = tables.markdown((*COLUMNS[:4], "Verdict"), rows) + "\n"
    compared = [WHAT_IS_COMPARED.format(level=content["level"]) + "\n", shown] if rows else []
    return ["## References\n", *compared, *(f"{line}\n" for line in _how_many_others(content))]


def verdict_row(record: dict) -> tuple[str, ...]:
    """Return the row under COLUMNS for a record with a verdict, unescaped."""
    return (
        *_names(record),
        _ours(record),
        f"{points(record['reference']['value'])} {_origin(record['reference'])}",
        signed_points(record["difference"]),
        f"± {points(record['tolerance'])}",
        record["verdict"],
    )


def rows_not_compared(content: dict) -> list[tuple[str, ...]]:
    """Return a row under COLUMNS_NOT_COMPARED for each record without a verdict, unescaped."""
    return [
        (*_names(record), _reference_text(record["reference"]), record["reason"])
        for record in content["verdicts"]
        if record["verdict"] == NOT_COMPARED
    ]


def _names(record: dict) -> tuple[str, str, str]:
    return record["model"], escaping.shortened(record["display_name"], LONGEST_NAME), record["metric"]


def _ours(record: dict) -> str:
    ours = record["ours"]
    spread = "" if ours["sd"] is None else f" ± {points(ours['sd'])}"
    seeds = "1 seed" if ours["count"] == 1 else f"{ours['count']} seeds"
    variant = [] if record["variant"] == BASE else [escaping.shortened(record["variant"], LONGEST_NAME)]
    several = [f"best of {record['best_of_variants']} variants"] if record["best_of_variants"] > 1 else []
    return f"{points(ours['mean'])}{spread} ({'; '.join([seeds, *variant, *several, *_other_precision(record)])})"


def _other_precision(record: dict) -> list[str]:
    """Return our precision and the reference's if both are known and differ."""
    ours, theirs = record["precision"], record["reference"]["precision"]
    return [f"{ours}, theirs {theirs}"] if ours and theirs and ours != theirs else []


def _expected(record: dict) -> str:
    reference = record["reference"]
    return f"{points(reference['value'])} ± {points(record['tolerance'])} {_origin(reference)}"


def _origin(reference: dict) -> str:
    """Return where a reference comes from and what it is, such as (Hugging Face's README, one run)."""
    n = "" if reference["n"] is None else f" of {reference['n']}"
    statistic = "one run" if reference["statistic"] == SINGLE_RUN else f"{reference['statistic']}{n}"
    return f"({reference['label']}, {statistic})"


def _how_many_others(content: dict) -> list[str]:
    every = len(content["verdicts"])
    others = every - len(with_verdict(content))
    return [f"{others} of {every} references were not compared; `snakemake parity` writes why."] if others else []


def _reference_text(reference: dict) -> str:
    """Return a reference without a verdict; omit the value of a test split, which would be mistaken for a target."""
    if reference["split"] != VALIDATION:
        return reference["label"]
    return f"{points(reference['value'])} {_origin(reference)}"


def _spreads(records: Sequence[dict]) -> list[str]:
    """Return a section on the origin of each spread over seeds that a tolerance is based on."""
    serves: dict[str, dict[str, None]] = {}
    for record in records:
        for origin in record["spreads"]:
            serves.setdefault(origin, {})[f"{record['model']}/{record['task']} {record['metric']}"] = None
    lines = [escaping.markdown(f"- {origin}: {', '.join(of)}.") for origin, of in serves.items()]
    return ["## Where the spreads over seeds come from\n", *lines, ""] if lines else []


def _sources(content: dict) -> list[str]:
    references = [record["reference"] for record in content["verdicts"]]
    texts = dict.fromkeys((each["label"], ", ".join(each["source"].values())) for each in references)
    said = [f"{label}: {source}. {content['notes'].get(label, '')}" for label, source in texts]
    return ["## Sources\n", *(f"- {escaping.markdown(text)}" for text in said), ""] if said else []
