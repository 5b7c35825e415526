"""Whether what does not follow from the results there are is only outdated: as it was written, but from others.

A file that somebody has edited is not as it was written, and one that contradicts what it was made from has no excuse.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gluegrid.experiment.experiment import Experiment
from gluegrid.results.made_from import is_noted, origin_now, origin_of
from gluegrid.results.outcomes import Outcome

OTHER_RESULTS = "made from other results than there are now"
OTHER_CODE = "made by another version of gluegrid, or of what it calculates with"
UNKNOWN = "made by an earlier release of gluegrid, which noted nothing of what from"


def remake(experiment: Experiment) -> str:
    """Return the command that makes an experiment's tables and reports anew."""
    return f"make reports EXPERIMENT={experiment.name}"


def note_on_outdated(
    experiment: Experiment,
    outcomes: Iterable[Outcome],
    files: Sequence[Path],
    command: str,
    others: Iterable[Path] = (),
) -> str | None:
    """Return a line on files that are all outdated, with the command that makes them anew; None where one is not.

    `others` are what they were made from besides results.
    """
    now = origin_now(experiment, outcomes, others)
    reasons = []
    for path in files:
        if is_noted(experiment, path):
            origin = origin_of(experiment, path)
            if origin is None or origin == now:
                return None
            reasons.append(OTHER_RESULTS if origin.results != now.results else OTHER_CODE)
        else:
            reasons.append(UNKNOWN)
    what = "; ".join(dict.fromkeys(reasons))
    return f"{', '.join(map(str, files))}: outdated, {what}; to make it anew: {command}"
