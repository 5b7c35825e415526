"""Rebuild in memory the files that targets other than `all` make from the runs, and compare them with those on disk.

They are rebuilt by the code that wrote them, unlike the tables' numbers, which separate code recomputes: this finds
edits. If the runs have changed since, the files are outdated, not wrong.
"""

import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gluegrid.analysis.bootstrap import RESAMPLES
from gluegrid.analysis.comparison_report import comparison_texts
from gluegrid.analysis.comparisons import compare
from gluegrid.analysis.glue_submission import submission_of
from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.escaping import quoted
from gluegrid.common.files import canonical_json, read_json
from gluegrid.common.paths import ExperimentPaths
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.write import report_texts
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.results.parity import parity_content
from gluegrid.results.parity_report import parity_texts
from gluegrid.results.summary import groups
from gluegrid.verification.findings import Findings, from_difference
from gluegrid.verification.outdated import note_on_outdated, remake

MOST_RESAMPLES = 1_000_000  # more would be an edit

Texts = Mapping[Path, str]


def compare_made_again(experiment: Experiment, findings: Findings) -> None:
    """Compare those of these files that exist; skip the report if the comparisons that it shows have problems."""
    outcomes = read_outcomes(experiment)
    for make, files in _kinds(experiment.paths):
        there = [path for path in files if path.exists()]
        if make is report_texts and findings.problems:
            findings.not_made_again += there
        elif there:
            findings.made_again += there
            others = [Path(experiment.paths.comparisons_json)] if make is report_texts else []
            note = partial(note_on_outdated, experiment, outcomes, there, remake(experiment), others)
            with findings.excusing(note), _noting(there[0], findings):
                texts = make(experiment, outcomes)
                for path in there:
                    _compare(path, path.read_bytes(), texts[path].encode(), findings)
    for model in experiment.models:
        if (path := _zip(experiment, model)).exists():
            findings.made_again.append(path)
            there = [path, Path(experiment.paths.submission_json.format(model=model))]
            note = partial(note_on_outdated, experiment, outcomes, there, "snakemake submission")
            with findings.excusing(note), _noting(path, findings):
                _compare_submission(experiment, model, findings)


def _kinds(paths: ExperimentPaths) -> Iterator[tuple[Callable[[Experiment, list[Outcome]], Texts], list[Path]]]:
    """Yield each function that makes some of these files, with their paths."""
    yield _parity, [Path(paths.parity_md), Path(paths.parity_json)]
    yield _comparisons, [Path(paths.comparisons_md), Path(paths.comparisons_json)]
    yield report_texts, [Path(paths.report_html), Path(paths.table_tex)]


def _zip(experiment: Experiment, model: str) -> Path:
    return Path(experiment.paths.submission_zip.format(model=model))


def _parity(experiment: Experiment, outcomes: list[Outcome]) -> Texts:
    return parity_texts(experiment, parity_content(experiment, groups(experiment, outcomes)))


def _comparisons(experiment: Experiment, outcomes: list[Outcome]) -> Texts:
    return comparison_texts(experiment, compare(experiment, outcomes, _resamples(experiment)))


def _resamples(experiment: Experiment) -> int:
    """Return the number of resamples of the existing comparisons."""
    path = Path(experiment.paths.comparisons_json)
    method = read_json(path).get("method") if path.exists() else None
    resamples = method.get("resamples") if isinstance(method, dict) else None
    return resamples if isinstance(resamples, int) and RESAMPLES < resamples <= MOST_RESAMPLES else RESAMPLES


def _compare_submission(experiment: Experiment, model: str, findings: Findings) -> None:
    """Compare the content of a zip, whose own bytes depend on the version of zlib, and the file beside it."""
    path = _zip(experiment, model)
    texts, about = submission_of(experiment, model)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(texts):
            findings.add(path, f"holds {', '.join(sorted(names))}, it should hold {', '.join(sorted(texts))}")
            return
        for name, text in texts.items():
            with archive.open(name) as stream:
                _compare(path / name, stream.read(2 * len(text)), text, findings)  # a longer file differs anyway
    beside = Path(experiment.paths.submission_json.format(model=model))
    about |= {"zip_sha256": findings.hashes.of(path)}
    _compare(beside, beside.read_bytes(), canonical_json(about).encode(), findings)


def _compare(path: Path, actual: bytes, expected: bytes, findings: Findings) -> None:
    """Report the first line in which a file differs."""
    if actual == expected:
        return
    lines = itertools.zip_longest(*(text.decode(errors="surrogateescape").split("\n") for text in (actual, expected)))
    number, (ours, new) = next((number, pair) for number, pair in enumerate(lines, start=1) if pair[0] != pair[1])
    texts = from_difference(ours or "", new or "")
    shown = ["nothing" if line is None else quoted(text) for line, text in zip((ours, new), texts, strict=True)]
    findings.add(path, f"line {number} has {shown[0]}, the runs give {shown[1]}")


@contextmanager
def _noting(path: Path, findings: Findings) -> Iterator[None]:
    """Report why a file cannot be made again or read."""
    try:
        yield
    except DataError as error:
        findings.add(path, str(error))
    except GluegridError as error:
        findings.add(path, f"cannot be made from these runs: {error}")
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: encrypted
        findings.add(path, f"cannot be read: {error}")
