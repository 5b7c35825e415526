"""Choose the cells of a GLUE submission: for each task the best one on validation; MNLI's model predicts AX."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gluegrid.common.errors import ConfigError, RecordError
from gluegrid.common.escaping import quoted
from gluegrid.experiment.cell import Cell, run_hash, run_text
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.outcomes import Outcome, outcome
from gluegrid.results.selection import chosen, uses_holdout
from gluegrid.results.summary import Group, groups, score

HEADER = "index\tprediction"
LEAST, MOST = 0.0, 5.0  # scores of STS-B
DIAGNOSTIC, ITS_TASK = "ax", "mnli"  # a diagnostic dataset, and the task whose model predicts it

_NLI = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
_TWO_WAY = {"entailment": "entailment", "not_entailment": "not_entailment"}


@dataclass(frozen=True)
class GlueFile:
    """A file of a submission: the predictions of one test split, ordered by index from 0 to rows - 1.

    `names` maps the labels of the task's data to their names in the file; None means numbers from LEAST to MOST.
    """

    name: str
    task: str
    split: str
    names: Mapping[str, str] | None

    @property
    def rows(self) -> int:
        """The number of examples in the official split."""
        return self.official["rows"]

    @property
    def official(self) -> dict:
        """Rows and sha256 of the official split, always from the registry: an experiment cannot override them."""
        return load_registry()[self.task]["official"][self.split]


FILES = (
    GlueFile("CoLA.tsv", "cola", "test", {"unacceptable": "0", "acceptable": "1"}),
    GlueFile("SST-2.tsv", "sst2", "test", {"negative": "0", "positive": "1"}),
    GlueFile("MRPC.tsv", "mrpc", "test", {"not_equivalent": "0", "equivalent": "1"}),
    GlueFile("STS-B.tsv", "stsb", "test", None),
    GlueFile("QQP.tsv", "qqp", "test", {"not_duplicate": "0", "duplicate": "1"}),
    GlueFile("MNLI-m.tsv", "mnli", "test_matched", _NLI),
    GlueFile("MNLI-mm.tsv", "mnli", "test_mismatched", _NLI),
    GlueFile("QNLI.tsv", "qnli", "test", _TWO_WAY),
    GlueFile("RTE.tsv", "rte", "test", _TWO_WAY),
    GlueFile("WNLI.tsv", "wnli", "test", {"not_entailment": "0", "entailment": "1"}),
    GlueFile("AX.tsv", DIAGNOSTIC, "test", _NLI),
)
TASKS = tuple(dict.fromkeys(file.task for file in FILES))


@dataclass(frozen=True)
class Choice:
    """The cell whose predictions are submitted for a task, and how it was chosen."""

    outcome: Outcome
    how: str


def cells_to_choose_from(experiment: Experiment, model: str) -> list[Cell]:
    """Return all cells of a model on GLUE's tasks. Raise ConfigError if they cannot make a submission."""
    missing = [task for task in TASKS if task not in experiment.tasks]
    advice = f"add {', '.join(f'`{task}:`' for task in missing)} under tasks"
    problems = [f"tasks: lacks {', '.join(missing)}; {advice}"] if missing else []
    present = [file for file in FILES if file.task in experiment.tasks]
    problems += [problem for file in present for problem in _problems_of_task(file, experiment.tasks[file.task])]
    if not problems:
        problems += _mnli_without_ax(experiment, model)
    if problems:
        raise ConfigError([f"no submission to GLUE for {model} of {experiment.name}: {line}" for line in problems])
    return [cell for task in TASKS for cell in experiment.cells_of(model, task).values()]


def choices(experiment: Experiment, model: str) -> dict[str, Choice]:
    """Return the choice for each of GLUE's tasks. Raise ConfigError, or RecordError if a cell has no result."""
    outcomes = [outcome(experiment, cell) for cell in cells_to_choose_from(experiment, model)]
    if missing := [one for one in outcomes if not one.is_done]:
        raise RecordError(
            f"{model}: cells that a submission to GLUE needs have no result; run snakemake again\n"
            + "\n".join(f"{one.cell.name}: {one.reason}; log: {one.log}" for one in missing)
        )
    scored = groups(experiment, [one for one in outcomes if one.cell.task != DIAGNOSTIC])
    made = {group.task.name: _best_seed(group) for group in chosen(scored)}
    by = made[ITS_TASK].outcome.cell
    diagnostics = (one for one in outcomes if one.cell.task == DIAGNOSTIC)
    predicted = next(one for one in diagnostics if _predicted_by(one.cell) == _model_of(by))
    return made | {DIAGNOSTIC: Choice(predicted, f"predicted by the model of {by.name}")}


def _best_seed(group: Group) -> Choice:
    """Return the seed with the best score, the first one if tied; undefined scores rank last."""
    keys = group.task.holdout_keys() if uses_holdout(group) else group.task.metric_keys()
    scores = [score(one, keys) for one in group.done]
    best = max(range(len(scores)), key=lambda place: -math.inf if scores[place] is None else scores[place])
    return Choice(group.done[best], _how(group))


def _how(group: Group) -> str:
    """Describe how many seeds and variants the best one was chosen from, and on which scores."""
    seeds, variants = len(group.done), len(group.chosen_from)
    how = f"best of {seeds} seeds" if seeds > 1 else "the only seed"
    if variants > 1:
        how += f" of the best of {variants} variants"
    if seeds == variants == 1:
        return how
    return f"{how} on {'the holdout' if uses_holdout(group) else 'validation'}"


def _problems_of_task(file: GlueFile, entry: dict) -> Iterator[str]:
    """Yield the problems that keep the task's predictions from becoming the file."""
    if file.split not in entry["test"]:
        yield f"tasks: {file.task}: test: lacks {file.split}, which becomes {file.name}; add it"
    labels, wanted = entry.get("labels"), file.names and list(file.names)
    if sorted(labels or ()) != sorted(wanted or ()):
        advice = f"name them {quoted(wanted)}" if wanted else "leave them out"
        yield f"tasks: {file.task}: labels: {quoted(labels)} cannot become {file.name}; {advice}"


def _mnli_without_ax(experiment: Experiment, model: str) -> Iterator[str]:
    """Yield a problem for each MNLI cell whose model does not predict AX, since any of them may be chosen."""
    predicting = {_predicted_by(cell) for cell in experiment.cells_of(model, DIAGNOSTIC).values()}
    for cell in experiment.cells_of(model, ITS_TASK).values():
        if _model_of(cell) not in predicting:
            problem = f"is not predicted by the model of {cell.name}, which may be the best"
            advice = f"give {DIAGNOSTIC} `init_from: {ITS_TASK}` and the seeds of {ITS_TASK}"
            yield f"tasks: {DIAGNOSTIC}: {problem}; {advice}"


def _predicted_by(of_diagnostic: Cell) -> str | None:
    """Return the run_sha256 of the cell whose model predicts AX, or None if the staged model itself does."""
    start = of_diagnostic.run.get("init_from")
    return start["run_sha256"] if start else None


def _model_of(by: Cell) -> str | None:
    """Return the run_sha256 of the cell that trains MNLI's model, or None if the staged model is only evaluated."""
    is_finished = not by.values["do_train"] and by.values["init_from"] is None
    return None if is_finished else run_hash(run_text(by))
