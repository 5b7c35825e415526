"""The section on the origin of each number: its cells, and for each cell its run, code, machine, data and files.

Versions and the hashes of models and data, which many cells share, are written once; cells link to them.
"""

import json
from collections.abc import Iterable

from gluegrid.common.provenance import without_commit
from gluegrid.report.blocks import Block, Details, Entry, Facts, Heading, Section, Text, code
from gluegrid.report.content import Material
from gluegrid.results.notes import compute_paths, is_repeatable, peculiarities
from gluegrid.results.outcomes import Outcome
from gluegrid.results.result_text import cell_state, numbers, seeds_text, state, task_name
from gluegrid.results.summary import Group
from gluegrid.results.tables import reason

WHAT = (
    "The cells behind each number; for each cell its run and record with SHA-256, when and where it was trained, and"
    " its code, model, data and tokens. Links lead to files beside this page; the hashes show whether they changed."
)
SHARED = "Code, versions and devices; models, data and tokens"
FILES = {"model_files": "Model", "task_files": "Data", "tokens_files": "Tokens", "start_files": "Start"}
NO_SCORES = ("_loss", "_runtime", "_per_second", "_combined_score")  # in keys of all_results.json


class SharedFacts:
    """Facts that cells share, each written once, under names such as `files-3`."""

    def __init__(self, kind: str):
        self.kind = kind
        self.details: dict[tuple, Details] = {}

    def link(self, title: str, facts: Iterable[tuple[str, object]]) -> Entry:
        """Return a link to these facts."""
        key = (title, tuple((name, "-" if value is None else str(value)) for name, value in facts))
        number = len(self.details) + 1
        entries = [(name, [code(text)]) for name, text in key[1]]
        details = self.details.setdefault(key, Details(f"{title} {number}", [Facts(entries)], f"{self.kind}-{number}"))
        return Entry(details.summary, href=f"#{details.name}")


def origin_section(material: Material) -> Section:
    """Return the section."""
    environments, files = SharedFacts("environment"), SharedFacts("files")
    chosen = {group.identity: group for group in material.chosen}
    blocks: list[Block] = [Text(WHAT, "note")]
    model = None
    for group in material.groups:
        blocks += [Heading(group.model)] if group.model != model else []
        model = group.model
        cells = [_cell(material, outcome, environments, files) for outcome in group.outcomes]
        blocks.append(Details(_title(group, chosen.get(group.identity)), cells, material.name_of(group)))
    shared = [*environments.details.values(), *files.details.values()]
    blocks += [Heading(SHARED), *shared] if shared else []
    return Section("origins", "Where each number comes from", blocks)


def _title(group: Group, chosen: Group | None) -> str:
    """Return the task, the variant where there are several, and the numbers as in the tables."""
    variant = "" if chosen and len(chosen.chosen_from) < 2 else f", {group.variant}"
    number = f"{numbers(group)} ({seeds_text(group)})" if group.done else state(group)
    return f"{task_name(group)}{variant}: {number}"


def _cell(material: Material, outcome: Outcome, environments: SharedFacts, files: SharedFacts) -> Details:
    if outcome.is_done:
        folder = material.link(material.experiment.paths.runs.format(**outcome.cell.wildcards))
        facts = _facts_of_result(outcome, folder, _shared(outcome.record, environments, files))
    else:
        facts = [("Reason", [Entry(reason(outcome))])]
    log = ("Log", [code(str(outcome.log), material.log_link(outcome))])
    return Details(f"seed {outcome.cell.seed}: {cell_state(outcome)}", [Facts([*facts, log])], is_open=True)


def _facts_of_result(outcome: Outcome, folder: str, shared: list[Entry]) -> list[tuple[str, list[Entry]]]:
    record, start = outcome.record, outcome.cell.run.get("init_from")
    notes = [*([outcome.data] if outcome.data else []), *peculiarities(outcome)]
    weights = f"the weights of {start['task']}, {start['variant']} (run {start['run_sha256']})" if start else ""
    facts = [
        ("Result", [Entry(_scores(outcome.results))]),
        ("run.json", [code(record["run_sha256"], f"{folder}/run.json")]),
        ("Record", [code("run_record.json", f"{folder}/run_record.json")]),
        ("Predictions", [code(f"{split} {digest}") for split, digest in record.get("predictions_sha256", {}).items()]),
        ("Trained", [Entry(_made(record))]),
        ("Made from", shared),
        ("Starts from", [Entry(weights)]),
        ("Notes", list(map(Entry, notes))),
    ]
    return [(term, shown) for term, entries in facts if (shown := [entry for entry in entries if entry.text])]


def _scores(results: dict) -> str:
    """Return the metrics behind a cell's numbers, in full precision."""
    scores = [key for key in results if key.startswith("eval_") and not any(part in key for part in NO_SCORES)]
    others = [key for key in ("epoch", "train_runtime", "train_samples") if key in results]
    return ", ".join(f"{key} {json.dumps(results[key])}" for key in (*scores, *others))


def _made(record: dict) -> str:
    """Return when a cell was trained, on which host and in which job."""
    job = record.get("job") or {}
    host = job.get("slurm_node") or job.get("host") or "unknown host"
    slurm = f", SLURM job {job['slurm_job_id']}" if job.get("slurm_job_id") else ""
    attempts = f", in {record['attempts']} attempts" if record.get("attempts", 1) > 1 else ""
    return f"{record.get('started', '?')} to {record.get('finished', '?')} on {host}{slurm}{attempts}"


def _shared(record: dict, environments: SharedFacts, files: SharedFacts) -> list[Entry]:
    git = record["git"]
    changed = ", with uncommitted changes" if git["dirty"] else ""
    commit = f"{git['commit']}{changed}" if git["commit"] else without_commit(git)
    keys = ("device", "driver", "precision", "processes")
    of_device = [(key, record[key]) for key in keys if record.get(key) is not None]
    of_device += [("computed as", words)] if (words := compute_paths(record)) else []
    of_device += [] if is_repeatable(record) else [("repeatable to the last bit", "no")]
    environment = environments.link("Environment", [("code", commit), *of_device, *sorted(record["versions"].items())])
    hashes = [(title, sorted(record[key].items())) for key, title in FILES.items() if record.get(key)]
    return [environment, *(files.link(*each) for each in hashes)]
