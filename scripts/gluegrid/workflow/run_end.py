"""What was expected of a run's cells, noted when it begins, beside what they then took."""

import atexit
import statistics
from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json
from gluegrid.common.formatting import counted, duration
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts
from gluegrid.execution.invocation import path_of_current_invocation, was_interrupted
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.estimates import Estimates, start_saved
from gluegrid.results import tables
from gluegrid.results.notes import precision_notes
from gluegrid.results.outcomes import Outcome, has_result
from gluegrid.results.results_md import STOPPED, by_model, without_result, write_tables
from gluegrid.results.selection import chosen
from gluegrid.results.summary import groups


def note_expectations(experiment: Experiment, estimates: Estimates) -> None:
    """Note, beside the head's file, how many seconds each cell without its result is expected to take."""
    missing = [cell for cell in experiment.cells.values() if not has_result(experiment, cell)]
    expected = {cell.name: round(estimates.seconds_of(cell), 1) for cell in missing}
    write_json(_beside(path_of_current_invocation()), {"seconds": expected})


def finished_now(outcomes: list[Outcome]) -> list[Outcome]:
    """Return those of some cells that this run has finished: they had no result when it began."""
    expected = _expected()
    return [outcome for outcome in outcomes if outcome.is_done and outcome.cell.name in expected]


def comparison(experiment: Experiment, outcomes: list[Outcome]) -> str | None:
    """Return a line on the cells that this run has finished; None where it has none, or nothing was noted."""
    expected = _expected()
    pairs = [
        (max(expected[outcome.cell.name] - start_saved(outcome), 1), seconds_taken(experiment, outcome))
        for outcome in finished_now(outcomes)
    ]
    if not pairs:
        return None
    all_expected, all_taken = map(sum, zip(*pairs, strict=True))
    ratios = [taken / seconds for seconds, taken in pairs]
    near = sum(0.5 <= ratio <= 2 for ratio in ratios)
    return (
        f"Finished now: {counted(len(pairs), 'cell')} in {duration(all_taken)}, estimated {duration(all_expected)};"
        f" a cell took {statistics.median(ratios):.2f} times its estimate (median), {near:,} within a factor 2"
    )


def seconds_taken(experiment: Experiment, outcome: Outcome) -> float:
    """Return the seconds that a finished cell took: all its training, or its last attempt in all if that is longer."""
    state = state_folder(Path(experiment.paths.run.format(**outcome.cell.wildcards)))
    return max(attempts.seconds_of_last(state) or 0, outcome.results.get("train_runtime", 0))


def _expected() -> dict[str, float]:
    """Return what was expected of the cells that had no result when this run began; none where nothing was noted."""
    head = path_of_current_invocation()
    try:
        return read_json(_beside(head))["seconds"] if head else {}
    except (DataError, KeyError):
        return {}


def _beside(head: str) -> Path:
    return Path(head).with_suffix(".expected")


def end_with_tables(experiment: Experiment, outcomes: list[Outcome]) -> None:
    """Write the tables, and let the terminal end with them, their path, and a line for each failed cell."""
    write_tables(experiment, outcomes)
    # At exit, since Snakemake's own last lines come after its handlers.
    atexit.register(print, last_words(experiment, outcomes), flush=True)


def last_words(experiment: Experiment, outcomes: list[Outcome]) -> str:
    """Return what a run ends with in the terminal."""
    compared = comparison(experiment, outcomes)
    lines = ["", compared, ""] if compared else [""]
    for model, of_model in by_model(chosen(groups(experiment, outcomes))):
        lines += [f"{model}\n", tables.terminal_table(of_model) + "\n"]
    lines += map(escaping.one_line, precision_notes(outcomes)[:1])  # the tables say of which cells each is
    lines.append(f"Tables: {experiment.paths.results_md}")
    failed, stopped = without_result(outcomes)
    lines += [f"FAILED {outcome.cell.name}: {tables.reason(outcome)}; log: {outcome.log}" for outcome in failed]
    lines += [f"STOPPED {outcome.cell.name}: {tables.reason(outcome)}" for outcome in stopped]
    if was_interrupted(path_of_current_invocation()):
        lines.append(f"{STOPPED} ({sum(outcome.is_done for outcome in outcomes)} of {len(outcomes)} cells are done)")
    return "\n".join(lines)
