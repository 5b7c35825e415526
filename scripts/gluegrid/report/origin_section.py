"""The section on where each number comes from."""

from gluegrid.report.blocks import Block, Details, Entry, Facts, Heading, Section, Text, code
from gluegrid.report.content import Material
from gluegrid.report.origins import Origin
from gluegrid.results.result_text import cell_state
from gluegrid.results.tables import reason

WHAT = (
    "For each number its cells; for each cell its run and its record, with SHA-256, when and where it was made, and"
    " from which code, model, data and tokens. Links lead to files beside this page; hashes say whether they are still"
    " those."
)
SHARED = "Code, versions and devices; models, data and tokens"


def origin_section(material: Material) -> Section:
    """Return the section."""
    origins = material.origins
    blocks: list[Block] = [Text(WHAT, "note")]
    for model in dict.fromkeys(origin.group.model for origin in origins.groups):
        blocks.append(Heading(model))
        for origin in (origin for origin in origins.groups if origin.group.model == model):
            blocks.append(Details(f"{origin.title}: {origin.number}", list(map(_cell, origin.cells)), origin.name))
    shared = [*origins.environments.known.values(), *origins.files.known.values()]
    blocks += [Heading(SHARED)] if shared else []
    for each in shared:
        blocks.append(Details(each.title, [Facts([(name, [code(text)]) for name, text in each.facts])], each.name))
    return Section("origins", "Where each number comes from", blocks)


def _cell(origin: Origin) -> Details:
    outcome = origin.outcome
    facts = _facts_of_result(origin) if outcome.is_done else [("Reason", [Entry(reason(outcome))])]
    log = ("Log", [code(str(outcome.log), origin.log)])
    return Details(f"seed {outcome.cell.seed}: {cell_state(outcome)}", [Facts([*facts, log])], is_open=True)


def _facts_of_result(origin: Origin) -> list[tuple[str, list[Entry]]]:
    record = origin.outcome.record
    made = f"{record.get('started', '?')} to {record.get('finished', '?')} on {origin.job}"
    attempts = record.get("attempts", 1)
    facts = [
        ("Result", [Entry(", ".join(f"{key} {value}" for key, value in origin.scores))]),
        ("run.json", [code(record["run_sha256"], f"{origin.folder}/run.json")]),
        ("Record", [code("run_record.json", f"{origin.folder}/run_record.json")]),
        ("Predictions", [code(f"{split} {digest}") for split, digest in record.get("predictions_sha256", {}).items()]),
        ("Made", [Entry(made + (f", in {attempts} attempts" if attempts > 1 else ""))]),
        ("From", [Entry(shared.title, href=f"#{shared.name}") for shared in origin.shared]),
        ("Begins with", [Entry(_start(origin))]),
        ("To know", list(map(Entry, origin.notes))),
    ]
    return [(term, shown) for term, entries in facts if (shown := [entry for entry in entries if entry.text])]


def _start(origin: Origin) -> str:
    start = origin.outcome.cell.run.get("init_from")
    return f"the weights of {start['task']}, {start['variant']} (run {start['run_sha256']})" if start else ""
