"""made_from.jsonl: what each table and report was made from, one line each time one is written.

By it, what is outdated is told from what somebody has edited: it is as it was written, of other results or by other
code than there are now. A line is there before its file, so that no file is without, whatever is killed when.
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
    """Write files that are made from these outcomes, and from what other files hold, and note before that they are.

    `may_stay`: one that has its text already is not written again.
    """
    origin = origin_now(experiment, outcomes, others)
    for path, text in texts.items():
        note_made(experiment, path, hashlib.sha256(text.encode()).hexdigest(), origin)
        if not (may_stay and path.exists() and path.read_bytes() == text.encode()):
            write_text(path, text)


def note_made(experiment: Experiment, path: Path, digest: str, origin: Origin) -> None:
    """Note what a file of this SHA-256 is made from, unless its last note says so already."""
    line = {"file": _name(experiment, path), "sha256": digest, "results": origin.results, "code": origin.code}
    noted = _lines(experiment)
    if next((each for each in reversed(noted) if each["file"] == line["file"]), None) != line:
        _path(experiment).parent.mkdir(parents=True, exist_ok=True)
        # Appended: other jobs of this call write theirs meanwhile.
        with _path(experiment).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, sort_keys=True) + "\n")


def is_noted(experiment: Experiment, path: Path) -> bool:
    """Tell whether anything is noted about a file; nothing is about files of earlier releases."""
    return any(line["file"] == _name(experiment, path) for line in _lines(experiment))


def origin_of(experiment: Experiment, path: Path) -> Origin | None:
    """Return what a file in its present state was made from; None if it was never written like this."""
    digest = sha256(path)
    for line in reversed(_lines(experiment)):
        if (line["file"], line["sha256"]) == (_name(experiment, path), digest):
            return Origin(line["results"], line["code"])
    return None


def origin_now(experiment: Experiment, outcomes: Iterable[Outcome], others: Iterable[Path] = ()) -> Origin:
    """Return what a file is made from that is made of these outcomes now, and of other files where they are there."""
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
