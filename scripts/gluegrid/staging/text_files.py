"""Read text files line by line, in any supported compression and encoding; errors name the damaged file."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import pyarrow

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.common.files import check_no_lfs_pointer
from gluegrid.experiment.file_formats import format_of
from gluegrid.staging.encodings import likely_encoding

SAMPLE = 1 << 20  # bytes from which a file's encoding is guessed
# Byte order marks, the longer ones first: that of UTF-32 begins like that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UTF8 = "utf-8-sig"
# The first bytes of compressed texts, and of other files that some name .csv.
MAGIC = {
    ".gz": rb"\x1f\x8b",
    ".bz2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)",
    ".xz": rb"\xfd7zXZ\x00",
    ".zst": rb"\x28\xb5\x2f\xfd",
    ".lz4": rb"\x04\x22\x4d\x18",
    ".zip": rb"PK\x03\x04",
}
OTHERS = {
    "an Excel workbook": rb"\xd0\xcf\x11\xe0",
    "a parquet file": rb"PAR1\x15",
    "an Arrow file": rb"ARROW1\0\0",
}
WORKBOOK = b"[Content_Types].xml"  # the first member of an .xlsx
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
UNREADABLE = (*UNREADABLE, pyarrow.ArrowException, NotImplementedError)


def lines_of(path: Path, shown: str, encoding: str | None = None) -> Iterator[str]:
    """Yield a file's lines with their ends. Bytes that the encoding does not allow become lone surrogates.

    The encoding is the given one, else that of a byte order mark, else UTF-8. `shown` names the file in messages.
    Raise DataError for a file that is damaged or not of the format that its name says.
    """
    check_no_lfs_pointer(path, shown)
    line = 0
    try:
        with ExitStack() as stack:
            stream = _opened(path, shown, stack)
            head = _read(stream, 4)
            actual = _encoding_to_use(head, shown, encoding)
            rest = io.BufferedReader(_After(head, stream), SAMPLE // 16)
            for text in io.TextIOWrapper(rest, encoding=actual, errors="surrogateescape", newline=""):
                line += 1
                if line == 1 and "\0" in text[:4]:
                    raise DataError(f"{shown}: is not {encoding or 'UTF-8'}{advice_on_encoding(path, shown, encoding)}")
                yield text.removeprefix("\ufeff") if line == 1 else text
    except UnicodeError as error:
        advice = advice_on_encoding(path, shown, encoding)
        raise DataError(
            f"{shown}: cannot be read as {actual} after line {line}: {in_one_line(error)}{advice}"
        ) from error
    except UNREADABLE as error:
        kind = format_of(path.name)[1]
        damaged = f"is cut off or damaged ({kind[1:]}) after line {line}" if kind else "cannot be read"
        raise DataError(f"{shown}: {damaged}: {in_one_line(error)}; copy or write it again") from error


def beginning_of(path: Path, shown: str, size: int) -> bytes:
    """Return the first bytes of a file's text, in its own encoding."""
    with ExitStack() as stack:
        return _read(_opened(path, shown, stack), size)


class _After(io.RawIOBase):
    """A stream whose first bytes have already been read."""

    def __init__(self, head: bytes, stream: BinaryIO):
        self.head, self.stream = head, stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Read the next bytes, at most as many as the buffer holds."""
        part, self.head = (self.head[: len(buffer)], self.head[len(buffer) :]) if self.head else (b"", b"")
        part = part or self.stream.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def _opened(path: Path, shown: str, stack: ExitStack) -> BinaryIO:
    """Return a file's decompressed content. Raise DataError if its name says something else."""
    with path.open("rb") as raw:
        head = raw.read(100)
    compression = format_of(path.name)[1]
    actual = next((suffix for suffix, magic in MAGIC.items() if re.match(magic, head)), "")
    if other := next((what for what, magic in OTHERS.items() if re.match(magic, head)), ""):
        raise DataError(
            f"{shown}: is {other} despite its name; save it as {format_of(path.name)[0]}, or correct its ending"
        )
    if actual == ".zip" and WORKBOOK in head:
        raise DataError(f"{shown}: is an Excel workbook despite its name; save it as CSV (UTF-8)")
    # zstd and lz4 files may begin with skippable frames.
    if actual != compression and not (compression in (".zst", ".lz4") and not actual and head[1:4] == b"\x2a\x4d\x18"):
        what = f"compressed as {actual}" if actual else "not compressed"
        right = f"{path.name.removesuffix(path.suffix) if compression else path.name}{actual}"
        raise DataError(
            f"{shown}: is {what}, contrary to its name; rename it to {right}" if head else f"{shown}: is empty"
        )
    opened = _member(path, shown) if compression == ".zip" else OPENERS[compression](path)
    return stack.enter_context(opened)


def _member(path: Path, shown: str) -> BinaryIO:
    with zipfile.ZipFile(path) as archive:
        names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
        if len(names) != 1:
            raise DataError(f"{shown}: contains {len(names)} files; unpack it, and name the one you mean")
        return archive.open(names[0])  # the archive stays open as long as it


def _by_pyarrow(codec: str) -> Callable[[Path], BinaryIO]:
    return lambda path: pyarrow.input_stream(str(path), compression=codec)


OPENERS: dict[str, Callable[[Path], BinaryIO]] = {
    "": lambda path: path.open("rb"),
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _by_pyarrow("zstd"),
    ".lz4": _by_pyarrow("lz4"),
}


def _read(stream: BinaryIO, size: int) -> bytes:
    """Return the next bytes of a stream, fewer than `size` only at its end."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _encoding_to_use(head: bytes, shown: str, encoding: str | None) -> str:
    said = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if encoding is None:
        return said or UTF8
    given = codecs.lookup(encoding).name
    if said and not given.startswith(codecs.lookup(said).name.removesuffix("-sig")):
        name = said.removesuffix("-sig").upper()
        raise DataError(f"{shown}: begins with {name}'s byte order mark, but `encoding` is {encoding}; leave it out")
    return UTF8 if given == "utf-8" else encoding


def advice_on_encoding(path: Path, shown: str, encoding: str | None) -> str:
    """Return, for the end of a message on text that is not of its encoding, what to write."""
    if encoding:
        return f"; `encoding` is {encoding}: set the one in which the file was written"
    if likely := likely_encoding(beginning_of(path, shown, SAMPLE)):
        return f"; it may be {likely}: if so, set `encoding: {likely}`"
    return "; set its encoding, such as `encoding: latin-1`, or save it as UTF-8"
