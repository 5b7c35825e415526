"""results.md, results.csv and results.json of an experiment, and the end of every run in the terminal."""

import atexit
from pathlib import Path

from gluegrid import escaping, table
from gluegrid.experiment import Experiment
from gluegrid.exports import results_csv, results_json
from gluegrid.files import canonical_json, write_text
from gluegrid.hindsight import comparison
from gluegrid.parity import parity_content
from gluegrid.parity_text import reference_sections
from gluegrid.records import Outcome
from gluegrid.reference_files import document, fingerprint
from gluegrid.references import by_model_and_task, reference_model
from gluegrid.selection import chosen, was_chosen
from gluegrid.summary import Group, groups
from gluegrid.sweep_tables import sweep_sections
from gluegrid.ways_to_train import cells_by_way

SCORES = (
    "Metrics x 100 on the validation splits. A task of several metrics (or of two validation splits) counts with"
    " their mean, as in the GLUE benchmark."
)
OVER_SEEDS = " Mean ± standard deviation over seeds (n - 1); degenerate runs count, and (3 of 5) had a result."
OF_SWEEPS = " Of each sweep, the chosen point."
BEST = "The best of many seeds is higher than the best of few: compare it only with the best of as many.\n"


def write_tables(experiment: Experiment, found: list[Outcome]) -> str:
    """Write the three files from whatever results there are; return the Markdown."""
    text = results_markdown(experiment, found)
    _write_if_changed(experiment.paths.results_csv, results_csv(experiment, found))
    _write_if_changed(experiment.paths.results_json, results_json(experiment, found))
    # Last: it is what `rule all` asks for, so where it is, the others are.
    _write_if_changed(experiment.paths.results_md, text)
    return text


def end_with_tables(experiment: Experiment, found: list[Outcome]) -> None:
    """Write the tables, and let the terminal end with them, their path, and a line for each failed cell."""
    write_tables(experiment, found)
    # At exit, since Snakemake's own last lines come after its handlers.
    atexit.register(print, last_words(experiment, found), flush=True)


def last_words(experiment: Experiment, found: list[Outcome]) -> str:
    """Return what a run ends with in the terminal."""
    compared = comparison(experiment, found)
    lines = ["", compared, ""] if compared else [""]
    for model, of_model in _by_model(chosen(groups(experiment, found))):
        lines += [f"{model}\n", table.terminal_table(of_model) + "\n"]
    lines.append(f"Tables: {experiment.paths.results_md}")
    lines += [
        f"FAILED {outcome.cell.name}: {table.reason(outcome)}; log: {outcome.log}"
        for outcome in found
        if outcome.has_failed
    ]
    return "\n".join(lines)


def table_definition(experiment: Experiment) -> str:
    """Return all that the tables depend on besides the cells' results: a change of it rebuilds them."""
    shown = ("display_name", "metric_label", "metrics", "official")
    return canonical_json(
        {
            "references": fingerprint(experiment.config),
            "models": {name: reference_model(entry) for name, entry in experiment.models.items()},
            "tasks": {name: {key: entry.get(key) for key in shown} for name, entry in experiment.tasks.items()},
        }
    )


def results_markdown(experiment: Experiment, found: list[Outcome]) -> str:
    """Return results.md."""
    every = groups(experiment, found)
    grouped = chosen(every)
    sections = [
        f"# Results of {escaping.markdown(experiment.name)}\n",
        *_model_sections(grouped),
        *_models_by_tasks(grouped),
        *sweep_sections(grouped),
        *_beside_the_document(experiment, grouped),
        *reference_sections(parity_content(experiment, every)),
        *_missing_sections(found),
        "## What to know\n",
        *_notes(found),
    ]
    return "\n".join(sections) + "\n"


def _by_model(grouped: list[Group]) -> list[tuple[str, list[Group]]]:
    models = dict.fromkeys(group.model for group in grouped)
    return [(model, [group for group in grouped if group.model == model]) for model in models]


def _model_sections(grouped: list[Group]) -> list[str]:
    sections = []
    for model, of_model in _by_model(grouped):
        sections += [f"## {escaping.markdown(model)}\n", table.model_table(of_model) + "\n"]
        if line := table.of_one_seed(of_model):
            sections.append(escaping.markdown(line) + "\n")
    return sections


def _models_by_tasks(grouped: list[Group]) -> list[str]:
    has_seeds = any(len(group.outcomes) > 1 for group in grouped)
    has_sweeps = any(map(was_chosen, grouped))
    sections = [
        "## Models by tasks\n",
        SCORES + (OVER_SEEDS if has_seeds else "") + (OF_SWEEPS if has_sweeps else "") + "\n",
        table.models_by_tasks(grouped) + "\n",
        *_data_notes(grouped),
    ]
    if has_seeds:
        sections += ["### Median over seeds\n", table.models_by_tasks(grouped, "median") + "\n"]
        sections += ["### Best seed\n", BEST, table.models_by_tasks(grouped, "best") + "\n"]
    return sections


def _data_notes(grouped: list[Group]) -> list[str]:
    notes = [escaping.markdown(line) for line in table.data_notes(grouped)]
    return [escaping.markdown(table.MARKED) + "\n", *notes, ""] if notes else []


def _beside_the_document(experiment: Experiment, grouped: list[Group]) -> list[str]:
    reference, numbers = document(), by_model_and_task(document())
    label = reference["label"]
    sections = [f"## Beside {label}\n"]
    ids = {name: reference_model(entry) for name, entry in experiment.models.items()}
    for model, of_model in _by_model(grouped):
        if ids[model] in numbers:
            beside = table.beside_reference(of_model, numbers[ids[model]], label)
            sections += [f"### {escaping.markdown(model)}\n", beside + "\n"]
    if numbers.keys() & ids.values():
        sections.insert(1, reference["note"] + "\n")
    else:
        known = ", ".join(numbers)
        sections.append(f"None of these models is in {label}, which has {known}.\n")
    return sections


def _missing_sections(found: list[Outcome]) -> list[str]:
    failed = [outcome for outcome in found if outcome.has_failed]
    if not failed:
        return []
    return ["## Failed cells\n", table.failures(failed) + "\n"]


def _notes(found: list[Outcome]) -> list[str]:
    """Return what a reader must know to judge the numbers."""
    done = [outcome for outcome in found if outcome.is_done]
    notes = [f"- Cells: {len(done)} of {len(found)} have a result."]
    if len(done) < len(found):
        missing = ", ".join(outcome.cell.name for outcome in found if not outcome.is_done)
        notes.append(f"- Missing: {escaping.markdown(missing)}. Means leave them out.")
    if not done:
        return notes
    seeds = sorted({outcome.cell.seed for outcome in found})
    notes.append(
        f"- Seeds: {', '.join(map(str, seeds))}."
        + (" One seed says little about small tasks." if len(seeds) == 1 else "")
    )
    for title, key in (("Device", "device"), ("Driver", "driver"), ("Precision", "precision")):
        notes += _distinct(title, (outcome.record[key] for outcome in done))
    notes += _distinct("Versions", (_versions(outcome) for outcome in done))
    notes += _distinct("Code", (_code(outcome) for outcome in done))
    notes += _distinct("Models that ran Python code of their own", (_model_with_code(outcome) for outcome in done))
    notes += _other_files(done)
    notes += _ways_to_train(done)
    notes += [f"- {escaping.markdown(line)}" for outcome in done for line in _peculiarities(outcome)]
    notes.append(
        "- Each number's run: `runs/<model>/<task>/<variant>/seed-<seed>/`, with run.json, run_record.json"
        " and predictions; `results.csv` has all metrics in full precision."
    )
    return notes


def _model_with_code(outcome: Outcome) -> str | None:
    return outcome.cell.model if outcome.cell.run["model"].get("trust_remote_code") else None


def _distinct(title: str, values) -> list[str]:
    texts = sorted({str(value) for value in values if value is not None})
    return [f"- {title}: {escaping.markdown('; '.join(texts))}."] if texts else []


def _other_files(done: list[Outcome]) -> list[str]:
    """Return a line with the splits whose files are not the official ones, and the tasks that they are of."""
    tasks: dict[str, dict[str, None]] = {}
    for outcome in done:
        if outcome.other_files:
            tasks.setdefault(", ".join(outcome.other_files), {})[outcome.cell.task] = None
    texts = [f"{splits} of {', '.join(names)}" for splits, names in tasks.items()]
    return [f"- Not the official files: {escaping.markdown('; '.join(texts))}."] if texts else []


def _ways_to_train(done: list[Outcome]) -> list[str]:
    """Return a line for each way to train that is not the ordinary one, with the cells that were trained so."""
    lines = []
    for way, names in cells_by_way({outcome.cell.name: outcome.cell.run for outcome in done}).items():
        cells = "all cells" if len(names) == len(done) else ", ".join(names)
        lines.append(f"- {escaping.markdown(f'{way}: {cells}')}.")
    return lines


def _versions(outcome: Outcome) -> str:
    names = ("python", "torch", "transformers", "accelerate", "tokenizers")
    return ", ".join(f"{name} {outcome.record['versions'][name]}" for name in names)


def _code(outcome: Outcome) -> str:
    git = outcome.record["git"]
    if git["commit"] is None:
        return "not from a git checkout"
    return f"commit {git['commit'][:12]}" + (", with uncommitted changes" if git["dirty"] else "")


def _peculiarities(outcome: Outcome) -> list[str]:
    """Return what is out of the ordinary about one cell's number; what the tables say beside it is left out."""
    results, record, name = outcome.results, outcome.record, outcome.cell.name
    lines = []
    is_trained = "train_samples" in results
    if is_trained and results["train_samples"] < record["train_rows"] and not outcome.data:
        lines.append(f"{name}: trained on a subset, {results['train_samples']:,} of {record['train_rows']:,} examples.")
    if outcome.cell.run.get("max_eval_samples") is not None and not outcome.data:
        lines.append(
            f"{name}: scored on at most {outcome.cell.run['max_eval_samples']:,} examples of each validation split."
        )
    if results.get("degenerate"):
        lines.append(f"{name}: degenerate: one answer for all examples of a validation split, or an undefined metric.")
    if rows := record.get("micro_batch_rows", {}).get("train"):
        lines.append(f"{name}: trained in micro-batches of {rows} for want of the device's memory; the same updates.")
    lines += [f"{name}: {part}." for part in _parts_by_others(record)]
    return lines


def _parts_by_others(record: dict) -> list[str]:
    """Return from which step on another code or device than before has trained: attempts that went on."""
    parts = [*record.get("continued", []), {**record, "step": None}]
    makers = [(_code_of(part["git"]), part["device"]) for part in parts]
    return [
        f"{before[0]} on {before[1]} until step {part['step']:,}, then {after[0]} on {after[1]}"
        for part, before, after in zip(parts, makers, makers[1:], strict=False)
        if before != after
    ]


def _code_of(git: dict) -> str:
    if git["commit"] is None:
        return "code that is not from a git checkout"
    return f"code {git['commit'][:12]}" + (" with uncommitted changes" if git["dirty"] else "")


def _write_if_changed(name: str, text: str) -> None:
    path = Path(name)
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)
