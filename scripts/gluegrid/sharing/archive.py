"""The archive of an experiment: a zip file in which equal content gives equal bytes.

It has one folder, named after the experiment, with `manifest.json` (size and SHA-256 of each other file), `config.json`
(the resolved experiment), `cells.json` (each cell, and why it has no result), `runs/` as below results/<experiment>/,
the tables, and the other files made from them.
"""

import hashlib
import io
import json
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from gluegrid import __version__
from gluegrid.common.errors import DataError
from gluegrid.common.escaping import quoted
from gluegrid.common.files import canonical_json, size_in_words
from gluegrid.common.provenance import git_state
from gluegrid.verification.file_shapes import COUNT, FILES, TEXT, check_shape, object_of

SCHEMA_VERSION = 1
SUFFIX = ".zip"
MANIFEST, CONFIG, CELLS, RUNS = "manifest.json", "config.json", "cells.json", "runs"
JSON = RUN, RUN_RECORD, ALL_RESULTS = "run.json", "run_record.json", "all_results.json"  # of a cell with a result
EARLIEST = (1980, 1, 1, 0, 0, 0)  # time in a zip file; real times would change the bytes of the same content
BYTES_AT_ONCE = 1 << 20
MOST_BYTES_OF_JSON = 200_000_000  # enough to list 100,000 cells
MOST_TIMES_ITS_SIZE = 100  # that an archive may take when unpacked; ours take less than 10 times
LONGEST_NAME = 400  # characters
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArchiveWriter:
    """Writes an archive into an open zip file; `files` has the manifest's entry of each file added so far."""

    def __init__(self, file: zipfile.ZipFile, experiment: str):
        self._file = file
        self._experiment = experiment
        self.files: dict[str, dict] = {}

    def add_text(self, name: str, text: str) -> None:
        """Add a file with this text."""
        content = text.encode()
        self._add(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path) -> str:
        """Add a copy of a file; return its SHA-256."""
        with path.open("rb") as stream:
            return self._add(name, stream, path.stat().st_size)

    def add_manifest(self) -> None:
        """Add the manifest, which comes last."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "gluegrid": __version__,
            "git": git_state(),
            "experiment": self._experiment,
            "files": dict(self.files),
        }
        self.add_text(MANIFEST, canonical_json(content))

    def _add(self, name: str, stream: BinaryIO, size: int) -> str:
        with self._file.open(_entry(f"{self._experiment}/{name}", size), "w") as target:
            count, digest = _copy(stream, target)
        self.files[name] = {"bytes": count, "sha256": digest}
        return digest


def add_entry(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a small file to an open zip file, whose bytes depend on names and contents alone."""
    file.writestr(_entry(name, len(content)), content)


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    """Return the zip entry of a file: the same for the same name and content, whoever writes it and when."""
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.create_system = 3  # Unix, even on Windows
    entry.external_attr = 0o644 << 16
    entry.file_size = size  # so that zipfile prepares for a file of many GB
    # Parquet files are compressed already.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
    return entry


def _copy(source: BinaryIO, target: BinaryIO) -> tuple[int, str]:
    """Copy a stream; return its number of bytes and their SHA-256."""
    digest, count = hashlib.sha256(), 0
    while block := source.read(BYTES_AT_ONCE):
        digest.update(block)
        count += target.write(block)
    return count, digest.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator["ArchiveFile"]:
    """Open an archive. Raise DataError, at once or later, if it is not an archive or not complete."""
    try:
        with zipfile.ZipFile(path) as file:
            yield ArchiveFile(path, file)
    except OSError as error:
        if error.filename != str(path):
            raise
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{path}: is not a complete archive of `make export`: {error}; get it again") from error


class ArchiveFile:
    """An open archive. `files` maps the names of its files, without their folder, to their entries in the manifest."""

    def __init__(self, path: Path, file: zipfile.ZipFile):
        self.path = path
        self._file = file
        self._entries = _checked_entries(path, file)
        self.manifest = self._read_manifest()
        self.files: dict[str, dict] = self.manifest["files"]
        self._check_files()

    def read_text(self, name: str) -> str:
        """Return a file's text. Raise DataError if it is not what the manifest says, or not text."""
        content = self._read(name)
        self._check_hash(name, hashlib.sha256(content).hexdigest())
        return self._decoded(name, content)

    def read_json(self, name: str, shape: dict) -> dict:
        """Return a file's JSON object. Raise DataError if it lacks this shape or has a number that is not finite."""
        return self.parsed(name, self.read_text(name), shape)

    def parsed(self, name: str, text: str, shape: dict) -> dict:
        """Return the JSON object in the text of a file. Raise DataError as `read_json` does."""
        where = f"{self.path}: {name}"
        try:
            content = json.loads(text)
            canonical_json(content).encode()  # refuses numbers that are not finite, and lone surrogates
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: cannot be read as JSON ({error}); get the archive again") from error
        check_shape(where, content, {"type": "object"})
        check_shape(where, content, shape)
        return content

    def unpack(self, name: str, target: Path) -> None:
        """Write a copy of a file to a new path. Raise DataError if it is not what the manifest says."""
        with self._file.open(self._entries[name]) as source, target.open("xb") as copy:
            _, digest = _copy(source, copy)
        self._check_hash(name, digest)

    def _read(self, name: str) -> bytes:
        if name not in self._entries:
            raise DataError(f"{self.path}: has no {name}, so it is not an archive of `make export`")
        if self._entries[name].file_size > MOST_BYTES_OF_JSON:
            size = size_in_words(self._entries[name].file_size)
            raise DataError(f"{self.path}: {name} is {size}, far more than `make export` writes; get the archive again")
        return self._file.read(self._entries[name])

    def _decoded(self, name: str, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: {name} is not UTF-8 text ({error}); get the archive again") from error

    def _read_manifest(self) -> dict:
        text = self._decoded(MANIFEST, self._read(MANIFEST))
        version = self.parsed(MANIFEST, text, object_of(schema_version=COUNT))["schema_version"]
        if version != SCHEMA_VERSION:
            advice = "import it with the release that wrote it"
            raise DataError(f"{self.path}: has schema version {version}, this release reads {SCHEMA_VERSION}; {advice}")
        return self.parsed(MANIFEST, text, object_of(experiment=TEXT, files=FILES))

    def _check_files(self) -> None:
        """Compare the names and sizes in the manifest with those of the files."""
        for name in sorted({*self._entries, *self.files} - {MANIFEST}):
            if name not in self._entries:
                raise DataError(f"{self.path}: lacks {quoted(name)}, which its manifest names; get it again")
            if name not in self.files:
                raise DataError(f"{self.path}: {quoted(name)} was added after the export; get the archive again")
            size, recorded = self._entries[name].file_size, self.files[name]["bytes"]
            if size != recorded:
                raise DataError(f"{self.path}: {name} has {size} bytes, in the manifest {recorded}; get it again")

    def _check_hash(self, name: str, digest: str) -> None:
        recorded = self.files[name]["sha256"]
        if digest != recorded:
            raise DataError(
                f"{self.path}: {name} has another SHA-256 ({digest[:12]}...) than in the manifest"
                f" ({recorded[:12]}...): it was damaged or changed on its way; get it again"
            )


def _checked_entries(path: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files by their names below the archive's one folder. Raise DataError if one is unsafe to unpack."""
    entries: dict[str, zipfile.ZipInfo] = {}
    infos = [info for info in file.infolist() if not info.is_dir()]
    for info in infos:
        problem = _problem_of_name(info.filename) or _problem_of_kind(info)
        if not problem and info.filename in entries:
            problem = "is there twice"
        if problem:
            raise DataError(f"{path}: {quoted(info.filename)} {problem}; nothing was unpacked")
        entries[info.filename] = info
    if len({name.partition("/")[0] for name in entries}) != 1:
        raise DataError(f"{path}: its files are not all in one folder, so it is not an archive of `make export`")
    size = sum(info.file_size for info in infos)
    if size > MOST_TIMES_ITS_SIZE * path.stat().st_size:
        raise DataError(f"{path}: would be {size_in_words(size)} unpacked, so it is not an archive of `make export`")
    return {name.partition("/")[2]: info for name, info in entries.items()}


def _problem_of_name(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or ".." in path.parts or str(path) != name:
        return "leads out of the archive's folder"
    if not name.isprintable() or len(name) > LONGEST_NAME or any(part.startswith(".") for part in path.parts):
        return "is no name of a file of ours"
    return "" if len(path.parts) > 1 else "is in no folder"


def _problem_of_kind(info: zipfile.ZipInfo) -> str:
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or a device, and no plain file"
    if info.flag_bits & 1 or info.compress_type not in READABLE:
        return "is encrypted, or packed in a way that ours are not"
    return ""
