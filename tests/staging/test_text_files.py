"""Files of text as they are compressed and encoded; what is not what its name says, or is damaged, is one line."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow
import pytest

from gluegrid.common.errors import DataError
from gluegrid.staging.encodings import likely_encoding
from gluegrid.staging.text_files import lines_of

TEXT = "review,mood\r\n" + "".join(f"größer {row} 中文,good\r\n" for row in range(2000))
PLAIN = TEXT.encode()


def by_pyarrow(content: bytes, codec: str) -> bytes:
    stream = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(stream, codec) as compressed:
        compressed.write(content)
    return stream.getvalue().to_pybytes()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


COMPRESSED = {
    "csv": PLAIN,
    "csv.gz": gzip.compress(PLAIN, mtime=0),
    "csv.gz of two parts": gzip.compress(PLAIN[:9000]) + gzip.compress(PLAIN[9000:]),
    "CSV.GZ": gzip.compress(PLAIN, mtime=0),
    "csv.bz2": bz2.compress(PLAIN),
    "csv.bz2 of another level": bz2.compress(PLAIN, 1),
    "csv.xz": lzma.compress(PLAIN),
    "csv.zst": by_pyarrow(PLAIN, "zstd"),
    "csv.zst of two parts": by_pyarrow(PLAIN[:9000], "zstd") + by_pyarrow(PLAIN[9000:], "zstd"),
    "csv.lz4": by_pyarrow(PLAIN, "lz4"),
    "csv.zip": zipped(**{"it.csv": PLAIN}),
    "csv.zip of a Mac": zipped(**{"it.csv": PLAIN, "__MACOSX/._it.csv": b"x"}),
}


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def read(path: Path, encoding: str | None = None) -> str:
    return "".join(lines_of(path, "the file", encoding))


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_text_is_read(tmp_path, kind):
    assert read(written(tmp_path, f"it.{kind.partition(' ')[0]}", COMPRESSED[kind])) == TEXT


@pytest.mark.parametrize("kind", [kind for kind in COMPRESSED if kind.islower() and kind.count(".") == 1][1:])
@pytest.mark.parametrize("place", ["end", "middle"])
def test_a_file_that_is_cut_off_is_never_taken_for_a_whole_one(tmp_path, kind, place):
    content = COMPRESSED[kind]
    cut = content[: -len(content) // 2] if place == "middle" else content[:-1]
    path = written(tmp_path, f"it.{kind.partition(' ')[0]}", cut)
    with pytest.raises(
        DataError, match=r"^the file: is cut off or damaged \(\w+\) after line \d+: .*; copy or write it"
    ):
        read(path)


@pytest.mark.parametrize(
    ("name", "of"), [("it.csv.gz", "csv.gz"), ("it.csv.bz2", "csv.bz2"), ("it.csv.zip", "csv.zip")]
)
def test_a_changed_byte_is_seen(tmp_path, name, of):
    content = bytearray(COMPRESSED[of])
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(DataError, match=r"^the file: is cut off or damaged"):
        read(written(tmp_path, name, bytes(content)))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
LIES = {
    "gz as csv": (
        "it.csv",
        COMPRESSED["csv.gz"],
        "is compressed as .gz, contrary to its name; rename it to it.csv.gz",
    ),
    "csv as gz": ("it.csv.gz", PLAIN, "is not compressed, contrary to its name; rename it to it.csv"),
    "gz as xz": (
        "it.jsonl.xz",
        COMPRESSED["csv.gz"],
        "is compressed as .gz, contrary to its name; rename it to it.jsonl",
    ),
    "nothing as zst": ("it.csv.zst", b"", "is empty"),
    "parquet": (
        "it.csv",
        b"PAR1\x15\x04",
        "is a parquet file despite its name; save it as .csv, or correct its ending",
    ),
    "old Excel": ("it.tsv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook despite its name"),
    "Excel": (
        "it.csv",
        zipped(**{"[Content_Types].xml": b"<x/>"}),
        "is an Excel workbook despite its name; save",
    ),
    "two in a zip": ("it.csv.zip", zipped(a=b"x", b=b"y"), "contains 2 files; unpack it, and name the one you mean"),
    "a pointer": ("it.csv", POINTER, "is a Git LFS pointer, not the file itself; run `git lfs pull` in "),
}


@pytest.mark.parametrize("case", LIES)
def test_a_file_that_is_not_what_its_name_says_is_one_line(tmp_path, case):
    name, content, expected = LIES[case]
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, name, content))
    assert str(caught.value).startswith(f"the file: {expected}")


@pytest.mark.parametrize("header", ["BZhang,label\n", "PAR1,PAR2\n", "ARROW1,mood\n", "PK,BZh9\n"])
def test_a_text_that_begins_like_another_format_is_read(tmp_path, header):
    assert read(written(tmp_path, "it.csv", header.encode())) == header


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_a_byte_order_mark_says_needs_no_encoding(tmp_path, encoding):
    assert read(written(tmp_path, "it.csv", TEXT.encode(encoding))) == TEXT
    assert read(written(tmp_path, "it.csv.gz", gzip.compress(TEXT.encode(encoding)))) == TEXT


@pytest.mark.parametrize(
    ("encoding", "written_as", "text"),
    [
        ("latin-1", "latin-1", "größer\nété\n"),
        ("cp1252", "cp1252", "“größer”\n€ 5\n"),
        ("gb18030", "gb18030", "这部电影很好\n不错\n"),
        ("shift_jis", "shift_jis", "映画\n"),
        ("utf-16-le", "utf-16-le", "größer\n"),
        ("utf-16-le", "utf-16", "größer\n"),
        ("utf8", "utf-8-sig", "größer\n"),
    ],
)
def test_an_encoding_that_is_named_is_used(tmp_path, encoding, written_as, text):
    assert read(written(tmp_path, "it.csv", text.encode(written_as)), encoding) == text


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (
            TEXT.encode("utf-16"),
            "latin-1",
            "begins with UTF-16's byte order mark, but `encoding` is latin-1; leave it",
        ),
        (
            TEXT.encode("utf-8-sig"),
            "cp1252",
            "begins with UTF-8's byte order mark, but `encoding` is cp1252; leave it",
        ),
        ("größer".encode("utf-16-le")[:-1], "utf-16-le", "cannot be read as utf-16-le after line 0: "),
        ("größer".encode("utf-16-be"), None, "is not UTF-8; it may be utf-16-be: if so, set `encoding: utf-16-be`"),
    ],
)
def test_bytes_of_another_encoding_are_one_line(tmp_path, content, encoding, expected):
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, "it.csv", content), encoding)
    assert str(caught.value).startswith(f"the file: {expected}")


LIKELY = {
    "cp1252": [
        ("Ein größerer Überblick über die Straßenbahn", "latin-1"),
        ("Il a été très déçu, ça va, où ? L’œuvre…", "cp1252"),
        ("El niño comió piña. ¿Qué más?", "cp1252"),
    ],
    "gb18030": [
        ("这部电影很好，我非常喜欢，演员的表演也不错。下次还要再看", "gb18030"),
        ("review,label\n价格便宜，质量也可以，推荐购买！,pos\n等了很久才收到，包装破了。,neg\n", "gbk"),
    ],
    "utf-16-le": [("review,mood\ngrößer,good\n", "utf-16-le")],
    "utf-16-be": [("review,mood\nbad,good\n", "utf-16-be")],
    # Nobody can tell from a few words; a wrong name would be worse than none.
    None: [
        ("Этот фильм очень хороший, мне понравилось", "cp1251"),
        ("Этот фильм очень хороший, мне понравилось", "koi8-r"),
        ("이 영화는 정말 재미있습니다 다시 보고 싶어요", "euc-kr"),
        ("この映画はとても面白かったです", "shift_jis"),
        ("この映画はとても面白かったです", "euc-jp"),
        ("這部電影很好看，我非常喜歡", "big5"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250"),
        ("Zażółć gęślą jaźń", "cp1250"),
        ("Çok güzel bir şarkı, değil mı ışık", "cp1254"),
        ("Αυτή η ταινία είναι πολύ καλή", "cp1253"),
        ("סרט טוב מאוד", "cp1255"),
        ("plain", "ascii"),
    ],
}


@pytest.mark.parametrize(
    ("expected", "text", "encoding"), [(name, *each) for name, of_name in LIKELY.items() for each in of_name]
)
def test_an_encoding_is_named_only_where_it_is_clearly_likely(expected, text, encoding):
    assert likely_encoding(text.encode(encoding)) == expected


def test_a_file_is_closed_when_its_reader_stops_early(tmp_path):
    lines = lines_of(written(tmp_path, "it.csv.gz", COMPRESSED["csv.gz"]), "the file")
    assert next(lines) == "review,mood\r\n"
    lines.close()
    assert list(lines) == []
