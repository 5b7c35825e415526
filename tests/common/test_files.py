"""Files that are written whole or not at all."""

import errno
import os
import signal
import stat

import builders
import pytest
from waiting import HANG

from gluegrid.common.errors import DataError, TransientError
from gluegrid.common.files import (
    canonical_json,
    check_no_lfs_pointer,
    is_lfs_pointer,
    read_json,
    replacing,
    replacing_folder,
    sha256,
    write_json,
    write_text,
)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANG)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "below" / "file"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of the n", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_the_old_one(tmp_path, number):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(TransientError) as caught, replacing(path):
        try:
            raise OSError(number, "no space")
        except OSError:
            raise RuntimeError("what a library makes of it") from None
    assert str(caught.value).startswith(f"{path}: cannot be written because the disk (or your quota) is full;")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


WRITE_HALF = """
import sys, time
from pathlib import Path
from gluegrid.common.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the n")
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    process = builders.python(WRITE_HALF, path)
    assert process.stdout.readline() == "written\n"
    kill(process)
    assert path.read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_is_readable_as_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_is_never_written_with_a_number_that_is_none(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [1, {"b": value}]})
    write_json(tmp_path / "file", {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", {"new": value})
    assert read_json(tmp_path / "file") == {"old": 1}


def test_equal_values_have_one_json_text():
    assert (
        canonical_json({"b": 1, "a": "é中"})
        == canonical_json({"a": "é中", "b": 1})
        == '{\n  "a": "é中",\n  "b": 1\n}\n'
    )


@pytest.mark.parametrize("text", ["", "{", "[1]", b"\xff\xfe", None])
def test_json_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "file.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"file\.json"):
        read_json(path)


def test_a_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def write_folder(folder, **texts):
    with replacing_folder(folder) as temporary:
        (temporary / "below").mkdir()
        for name, text in texts.items():
            (temporary / "below" / name).write_text(text, encoding="utf-8")


def texts_in(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / "below").iterdir()}


def test_a_folder_is_replaced_whole_and_what_a_killed_process_has_left_goes(tmp_path):
    folder = tmp_path / "out" / "folder"
    write_folder(folder, old="old")
    (folder.parent / ".folder.abc").mkdir()
    (folder.parent / ".folder.abc" / "half").touch()
    write_folder(folder, new="new")
    assert texts_in(folder) == {"new": "new"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    folder = tmp_path / "folder"
    write_folder(folder, old="old")
    with pytest.raises(error), replacing_folder(folder) as temporary:
        (temporary / "half").touch()
        raise error
    assert texts_in(folder) == {"old": "old"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_open_to_those_whom_the_umask_lets_in(tmp_path):
    previous = os.umask(0o027)
    try:
        write_folder(tmp_path / "folder", file="text")
    finally:
        os.umask(previous)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"folder": 0o750, "below": 0o750, "file": 0o640}


def test_a_folder_on_a_full_disk_is_told_and_not_there(tmp_path):
    with pytest.raises(TransientError, match=r"folder: cannot be written because the disk"):
        with replacing_folder(tmp_path / "folder"):
            # A mock: no disk is full here.
            raise OSError(errno.ENOSPC, "full")
    assert not list(tmp_path.iterdir())


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 438061032\n"


@pytest.mark.parametrize("content", [POINTER, POINTER.replace(b"\n", b"\r\n"), POINTER.replace(b"git-lfs", b"hawser")])
def test_a_pointer_of_git_lfs_is_named_with_what_to_run(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert is_lfs_pointer(path)
    with pytest.raises(DataError, match=r"^the file: is a Git LFS pointer, .*; run `git lfs pull`"):
        check_no_lfs_pointer(path, "the file")


def test_other_files_are_no_pointers(tmp_path):
    (tmp_path / "about it").write_bytes(POINTER * 20)
    (tmp_path / "rows.csv").write_bytes(b"text,label\n" + POINTER)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("about it", "rows.csv", "empty", "pipe", "nothing", "."):
        assert not is_lfs_pointer(tmp_path / name), name
        check_no_lfs_pointer(tmp_path / name)
