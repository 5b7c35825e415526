"""made_from.jsonl: what each table and report was made from, one line each time one is written.

It tells outdated files from edited ones: an outdated file is unchanged since it was written, but from other results or
by other code than now. The line is written before its file, so that no file lacks one if the process is killed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from gluegrid.common.files import sha256, write_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.references import fingerprint
from gluegrid.results.outcomes import Outcome

LIBRARY = Path(__file__).resolve().parents[1]
OF_CODE = {".py", ".html", ".css"}
CALCULATING = ("jinja2", "numpy", "scipy")  # libraries whose versions may change a digit or a byte
KEYS = {"file", "sha256", "results", "code"}


@dataclass(frozen=True)
class Origin:
    """What a file was made from: a hash of all results, and one of the code."""

    results: str
    code: str


def write_made(
    experiment: Experiment,
    outcomes: Iterable[Outcome],
    texts: Mapping[Path, str],
    others: Iterable[Path] = (),
    may_stay: bool = False,
) -> None:
    """Record what these files are made from, the outcomes and the files in `others`, and then write them.

    With `may_stay`, a file that already has its text is not written again.
    """
    origin = origin_now(experiment, outcomes, others)
    for path, text in texts.items():
        note_made(experiment, path, hashlib.sha256(text.encode()).hexdigest(), origin)
        if not (may_stay and path.exists() and path.read_bytes() == text.encode()):
            write_text(path, text)


def note_made(experiment: Experiment, path: Path, digest: str, origin: Origin) -> None:
    """Record what a file with this SHA-256 is made from, unless its last line says so already."""
    line = {"file": _name(experiment, path), "sha256": digest, "results": origin.results, "code": origin.code}
    noted = _lines(experiment)
    if next((each for each in reversed(noted) if each["file"] == line["file"]), None) != line:
        _path(experiment).parent.mkdir(parents=True, exist_ok=True)
        # Append, since other jobs of this call write their lines at the same time.
        with _path(experiment).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, sort_keys=True) + "\n")


def is_noted(experiment: Experiment, path: Path) -> bool:
    """Tell whether anything is recorded about a file; files written by earlier releases have no line."""
    return any(line["file"] == _name(experiment, path) for line in _lines(experiment))


def origin_of(experiment: Experiment, path: Path) -> Origin | None:
    """Return what a file's current content was made from, or None if it was never written with this content."""
    digest = sha256(path)
    for line in reversed(_lines(experiment)):
        if (line["file"], line["sha256"]) == (_name(experiment, path), digest):
            return Origin(line["results"], line["code"])
    return None


def origin_now(experiment: Experiment, outcomes: Iterable[Outcome], others: Iterable[Path] = ()) -> Origin:
    """Return the origin of a file that is made now from these outcomes and from those of `others` that exist."""
    digest = hashlib.sha256(json.dumps([experiment.config, fingerprint(experiment.config)], sort_keys=True).encode())
    for outcome in outcomes:
        cell = outcome.cell
        parts = [cell.name, cell.run, outcome.results, outcome.record, outcome.reason, outcome.data]
        digest.update(json.dumps(parts, sort_keys=True).encode())
    for path in others:
        digest.update(path.read_bytes() if path.exists() else b"")
    return Origin(digest.hexdigest(), _hash_of_code())


@cache
def _hash_of_code() -> str:
    digest = hashlib.sha256(json.dumps([version(name) for name in CALCULATING]).encode())
    for path in sorted(path for path in LIBRARY.rglob("*") if path.suffix in OF_CODE):
        digest.update(path.relative_to(LIBRARY).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _path(experiment: Experiment) -> Path:
    return Path(experiment.paths.made_from)


def _name(experiment: Experiment, path: Path) -> str:
    return path.relative_to(experiment.paths.root).as_posix()


def _lines(experiment: Experiment) -> list[dict]:
    try:
        text = _path(experiment).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for each in text.splitlines() if (line := _line(each))]


def _line(text: str) -> dict | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and line.keys() == KEYS else None
