"""The section on where each number comes from."""

from gluegrid.report.blocks import Block, Cell, Details, Facts, Heading, Section, Text, code
from gluegrid.report.content import Material
from gluegrid.report.origins import Origin, OriginOfGroup, Shared
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
    for model, groups in origins.by_model():
        blocks += [Heading(model), *map(_of_group, groups)]
    shared = [*origins.environments.known.values(), *origins.files.known.values()]
    if shared:
        blocks += [Heading(SHARED), *map(_of_shared, shared)]
    return Section("origins", "Where each number comes from", blocks)


def _of_group(origin: OriginOfGroup) -> Details:
    return Details(f"{origin.title}: {origin.number}", list(map(_of_cell, origin.cells)), name=origin.name)


def _of_cell(origin: Origin) -> Details:
    outcome = origin.outcome
    state = "done" if outcome.is_done else "failed" if outcome.has_failed else "not run"
    facts = _facts_of_result(origin) if outcome.is_done else [("Reason", [Cell(reason(outcome))])]
    log = ("Log", [code(str(outcome.log), origin.log)])
    return Details(f"seed {outcome.cell.seed}: {state}", [Facts([*facts, log])], is_open=True)


def _facts_of_result(origin: Origin) -> list[tuple[str, list[Cell]]]:
    record = origin.outcome.record
    shared = [*([origin.environment] if origin.environment else []), *origin.files]
    facts = [
        ("Result", [Cell(", ".join(f"{key} {value}" for key, value in origin.scores))]),
        ("run.json", [code(record["run_sha256"], f"{origin.folder}/run.json")]),
        ("Record", [code("run_record.json", f"{origin.folder}/run_record.json")]),
        ("Predictions", [code(f"{split} {digest}") for split, digest in record.get("predictions_sha256", {}).items()]),
        ("Made", [Cell(_made(record, origin.job))]),
        ("From", [Cell(one.title, href=f"#{one.name}") for one in shared]),
        ("Begins with", [Cell(_start(origin))]),
        ("To know", [Cell(note) for note in origin.notes]),
    ]
    return [(term, [cell for cell in cells if cell.text]) for term, cells in facts if any(cell.text for cell in cells)]


def _made(record: dict, job: str) -> str:
    times = f"{record.get('started', '?')} to {record.get('finished', '?')}"
    attempts = record.get("attempts", 1)
    return f"{times} on {job}" + (f", in {attempts} attempts" if attempts > 1 else "")


def _start(origin: Origin) -> str:
    start = origin.outcome.cell.run.get("init_from")
    return f"the weights of {start['task']}, {start['variant']} (run {start['run_sha256']})" if start else ""


def _of_shared(shared: Shared) -> Details:
    return Details(shared.title, [Facts([(name, [code(text)]) for name, text in shared.facts])], name=shared.name)
