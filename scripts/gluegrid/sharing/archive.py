"""The archive of an experiment: a zip file, of which equal content gives equal bytes.

Below one folder, named as the experiment: `manifest.json` (size and SHA-256 of each other file), `config.json` (the
experiment, resolved), `cells.json` (each cell, and why it has no result), `runs/` as below results/<experiment>/, the
tables, and what else was made of them.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import BinaryIO

from gluegrid import __version__
from gluegrid.common.files import canonical_json
from gluegrid.common.provenance import git_state

SCHEMA_VERSION = 1
SUFFIX = ".zip"
MANIFEST, CONFIG, CELLS, RUNS = "manifest.json", "config.json", "cells.json", "runs"
JSON = RUN, RUN_RECORD, ALL_RESULTS = "run.json", "run_record.json", "all_results.json"  # of a cell with a result
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can say: times would make other bytes of the same content
BYTES_AT_ONCE = 1 << 20


class ArchiveWriter:
    """Writes an archive into an open zip file; what its manifest says is noted while files are added."""

    def __init__(self, file: zipfile.ZipFile, experiment: str):
        self._file = file
        self._experiment = experiment
        self._written: dict[str, dict] = {}

    @property
    def files(self) -> int:
        """How many files were added."""
        return len(self._written)

    def add_text(self, name: str, text: str) -> None:
        """Add a file with this text."""
        content = text.encode()
        self._add(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path) -> str:
        """Add a copy of a file; return its SHA-256."""
        with path.open("rb") as stream:
            return self._add(name, stream, path.stat().st_size)

    def add_manifest(self, **about: object) -> None:
        """Add the manifest, which is the last."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "gluegrid": __version__,
            "git": git_state(),
            "experiment": self._experiment,
            "files": dict(self._written),
        }
        self.add_text(MANIFEST, canonical_json(content | about))

    def _add(self, name: str, stream: BinaryIO, size: int) -> str:
        digest, count = hashlib.sha256(), 0
        with self._file.open(_entry(f"{self._experiment}/{name}", size), "w") as target:
            while block := stream.read(BYTES_AT_ONCE):
                digest.update(block)
                count += target.write(block)
        self._written[name] = {"bytes": count, "sha256": digest.hexdigest()}
        return digest.hexdigest()


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    """Return the description of a file: the same for the same name and content, whoever writes it and when."""
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.create_system = 3  # Unix, also where this is Windows
    entry.external_attr = 0o644 << 16
    entry.file_size = size  # so that one of many GB is announced as such
    # Parquet files are compressed already.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
    return entry
