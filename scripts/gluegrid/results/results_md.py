"""Write results.md, results.csv and results.json of an experiment."""

from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.files import canonical_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import by_model_and_task, document, fingerprint, reference_model
from gluegrid.results import tables
from gluegrid.results.exports import results_csv, results_json
from gluegrid.results.made_from import write_made
from gluegrid.results.notes import notes
from gluegrid.results.outcomes import Outcome
from gluegrid.results.parity import parity_content
from gluegrid.results.parity_report import reference_sections
from gluegrid.results.result_text import MARK, SYNTHETIC_DATA
from gluegrid.results.selection import chosen, was_chosen
from gluegrid.results.summary import Group, groups
from gluegrid.results.sweep_tables import sweep_sections
from gluegrid.results.table_notes import SYNTHETIC_NOTE, are_synthetic

SCORES = (
    "Metrics x 100 on the validation splits. A task of several metrics (or of two validation splits) counts with"
    " their mean, as in the GLUE benchmark."
)
OVER_SEEDS = " Mean ± standard deviation over seeds (n - 1); degenerate runs count."
OF_SWEEPS = " Of each sweep, the chosen point."
MARKS_ABOVE = escaping.markdown(f"{MARK} marks numbers that the notes below the model's first table qualify.")
STOPPED = "Stopped, goes on with the next call"
GOES_ON = "They were asked to stop and nothing is wrong with them: the same call resumes them."
BEST = "The best of many seeds is higher than the best of few: compare it only with the best of as many.\n"
WHERE = (
    "- Each number's run: `runs/<model>/<task>/<variant>/seed-<seed>/`, with run.json, run_record.json"
    " and predictions; `results.csv` has all metrics in full precision."
)


def write_tables(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Write the three files from the results so far; return the Markdown."""
    text = results_markdown(experiment, outcomes)
    texts = {
        Path(experiment.paths.results_csv): results_csv(experiment, outcomes),
        Path(experiment.paths.results_json): results_json(experiment, outcomes),
        # Last, since `rule all` asks for it: if it exists, so do the others.
        Path(experiment.paths.results_md): text,
    }
    write_made(experiment, outcomes, texts, may_stay=True)
    return text


def table_definition(experiment: Experiment) -> str:
    """Return what the tables depend on besides the cells' results; they are rebuilt when it changes."""
    shown = ("display_name", "metric_label", "metrics", "official")
    synthetic = {name: True for name, entry in experiment.tasks.items() if entry.get("synthetic")}
    return canonical_json(
        {
            "references": fingerprint(experiment.config),
            "models": {name: reference_model(entry) for name, entry in experiment.models.items()},
            "tasks": {name: {key: entry.get(key) for key in shown} for name, entry in experiment.tasks.items()},
        }
        # Only if there are any, so that tables from before this key existed are not rebuilt.
        | ({"synthetic": synthetic} if synthetic else {})
    )


def results_markdown(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Return results.md."""
    every = groups(experiment, outcomes)
    grouped = chosen(every)
    failed, stopped = without_result(outcomes)
    # State what concerns all numbers once at the top, not below each table.
    said = SYNTHETIC_DATA if are_synthetic(grouped) else ""
    sections = [
        f"# Results of {escaping.markdown(experiment.name)}\n",
        *([f"{SYNTHETIC_NOTE}\n"] if said else []),
        *_model_sections(grouped, said),
        *_models_by_tasks(grouped, said),
        *sweep_sections(grouped),
        *_beside_the_document(experiment, grouped, said),
        *reference_sections(parity_content(experiment, every)),
        *(["## Failed cells\n", tables.failures(failed) + "\n"] if failed else []),
        *(["## Stopped cells\n", f"{GOES_ON}\n", tables.failures(stopped) + "\n"] if stopped else []),
        "## What to know\n",
        *(f"- {escaping.markdown(line)}" for line in notes(outcomes)),
        *([WHERE] if any(outcome.is_done for outcome in outcomes) else []),
    ]
    return "\n".join(sections) + "\n"


def without_result(outcomes: list[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Return the failed cells and the stopped cells."""
    return [each for each in outcomes if each.has_failed], [each for each in outcomes if each.is_stopped]


def by_model(grouped: list[Group]) -> list[tuple[str, list[Group]]]:
    """Return the groups of each model, in their order."""
    models = dict.fromkeys(group.model for group in grouped)
    return [(model, [group for group in grouped if group.model == model]) for model in models]


def _model_sections(grouped: list[Group], said: str) -> list[str]:
    sections = []
    for model, of_model in by_model(grouped):
        sections += [f"## {escaping.markdown(model)}\n", tables.model_table(of_model, said) + "\n"]
        sections += filter(None, [tables.notes_below(of_model, said=said)])
    return sections


def _models_by_tasks(grouped: list[Group], said: str) -> list[str]:
    has_seeds = any(len(group.outcomes) > 1 for group in grouped)
    has_sweeps = any(map(was_chosen, grouped))
    sections = [
        "## Models by tasks\n",
        SCORES + (OVER_SEEDS if has_seeds else "") + (OF_SWEEPS if has_sweeps else "") + "\n",
        tables.models_by_tasks(grouped, said=said) + "\n",
        *filter(None, [tables.notes_below(grouped, of_scores=True, said=said)]),
    ]
    if has_seeds:
        median, best = (tables.models_by_tasks(grouped, over_seeds, said) + "\n" for over_seeds in ("median", "best"))
        sections += ["### Median over seeds\n", median, "### Best seed\n", BEST, best]
    return sections


def _beside_the_document(experiment: Experiment, grouped: list[Group], said: str) -> list[str]:
    """Return the tables of the models and tasks that the document has numbers for, or nothing if it has none."""
    reference, numbers = document(), by_model_and_task(document())
    label = reference["label"]
    sections = []
    for model, of_model in by_model(grouped):
        theirs = numbers.get(reference_model(experiment.models[model]), {})
        if any(group.task.name in theirs for group in of_model):
            beside = tables.beside_reference(of_model, theirs, label, said)
            sections += [f"### {escaping.markdown(model)}\n", beside + "\n"]
            lines = tables.precisions_beside(of_model, reference["common"].get("precision"), label)
            sections += [escaping.markdown(line) + "\n" for line in lines]
    note = f"{reference['note']} {MARKS_ABOVE}"
    return [f"## Beside {label}\n", note + "\n", *sections] if sections else []
