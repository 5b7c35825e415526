"""Note what a call expects of its cells when it begins, and compare it with what they took."""

import statistics
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json
from gluegrid.common.formatting import counted, duration
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts
from gluegrid.execution.invocation import path_of_current_invocation
from gluegrid.experiment.experiment import Experiment
from gluegrid.operations.estimates import Estimates, start_saved
from gluegrid.results.outcomes import Outcome, has_result


def note_expectations(experiment: Experiment, estimates: Estimates) -> None:
    """Write the expected seconds of each cell without a result, beside the call's own file."""
    missing = [cell for cell in experiment.cells.values() if not has_result(experiment, cell)]
    expected = {cell.name: round(estimates.seconds_of(cell), 1) for cell in missing}
    write_json(_beside(path_of_current_invocation()), {"seconds": expected})


def finished_now(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the cells that this call has finished: they had no result when it began."""
    expected = _expected()
    return [outcome for outcome in outcomes if outcome.is_done and outcome.cell.name in expected]


def comparison(experiment: Experiment, outcomes: list[Outcome]) -> str | None:
    """Return a line on the cells that this call has finished; None if there are none, or nothing was noted."""
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
        f"Finished now: {counted(len(pairs), 'cell')} in {duration(all_taken)}, estimated {duration(all_expected)}"
        f" (median {statistics.median(ratios):.1f}x; {near:,} of {len(pairs):,} within 2x)"
    )


def seconds_taken(experiment: Experiment, outcome: Outcome) -> float:
    """Return the seconds that a finished cell took: its training, or its whole last attempt if that is longer."""
    state = state_folder(Path(experiment.paths.run.format(**outcome.cell.wildcards)))
    return max(attempts.seconds_of_last(state) or 0, outcome.results.get("train_runtime", 0))


def _expected() -> dict[str, float]:
    """Return the expected seconds of the cells that had no result when this call began; none if nothing was noted."""
    head = path_of_current_invocation()
    try:
        return read_json(_beside(head))["seconds"] if head else {}
    except (DataError, KeyError):
        return {}


def _beside(head: str) -> Path:
    return Path(head).with_suffix(".expected")
