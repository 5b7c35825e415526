"""Tell outdated files from wrong ones: outdated files are unchanged, but made from other results or by other code.

A file that somebody edited, or that contradicts its own sources, is wrong.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gluegrid.experiment.experiment import Experiment
from gluegrid.results.made_from import is_noted, origin_now, origin_of
from gluegrid.results.outcomes import Outcome

OTHER_RESULTS = "made from other results than the current ones"
OTHER_CODE = "made by another version of gluegrid or of its numerical libraries"
UNKNOWN = "made by an earlier release, which did not record its sources"


def remake(experiment: Experiment) -> str:
    """Return the command that rewrites an experiment's tables and reports."""
    return f"make reports EXPERIMENT={experiment.name}"


def note_on_outdated(
    experiment: Experiment,
    outcomes: Iterable[Outcome],
    files: Sequence[Path],
    command: str,
    others: Iterable[Path] = (),
) -> str | None:
    """Return a line on files that are all outdated, with the command that rewrites them; None if one is not.

    `others` are the files that they were made from besides results.
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
    return f"{', '.join(map(str, files))}: outdated, {what}; to rewrite: {command}"
