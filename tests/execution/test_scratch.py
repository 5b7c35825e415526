"""Copies on a node's own disk: real processes that share them, disks that are full or lie, cells that read them."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import builders
import pytest
from trainable_cell import TASK, TrainableCell, make_resources, write_head
from waiting import HANG

from gluegrid.common.files import read_json, sha256, write_json
from gluegrid.common.manifests import file_identity
from gluegrid.execution import invocation, scratch
from gluegrid.execution.invocation import SiteChoices

# What two trainings of one cell need not have in common in their records.
MEASURED = {"started", "finished", "job", "utilisation", "peak_memory_bytes", "train_tokens_per_second", "saved_model"}

# A process that copies, says where it reads, and lives until it is told to end.
USER = """
import logging, sys
from pathlib import Path
from gluegrid.execution.scratch import copy_to_scratch, read_from
logging.basicConfig(level=logging.INFO)
copy_to_scratch(Path(sys.argv[1]))
print(read_from(Path(sys.argv[1]).parent), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A node's own disk, which the site has chosen; this process has not used it yet."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    monkeypatch.setenv("GLUEGRID_HEAD", "set back at the end")
    monkeypatch.setenv(scratch.VARIABLE, "set back at the end")
    monkeypatch.setattr(scratch, "_copies", {})
    monkeypatch.setattr(scratch.atexit, "register", lambda *call: at_end.append(call))
    at_end = []
    choose(tmp_path, "$NODE_DISK")
    yield tmp_path / "disk"
    for function, *arguments in at_end:
        function(*arguments)
    choose(tmp_path, "")


def choose(folder: Path, chosen: str) -> None:
    """Let a call of snakemake begin with this choice, and a job of it."""
    os.environ.pop(scratch.VARIABLE, None)
    invocation.freeze({"experiment": "grid"}, folder / "heads", site=SiteChoices(scratch=chosen))
    scratch._folder_of_user.cache_clear()
    scratch.note_scratch()


@pytest.fixture
def manifest(tmp_path):
    """A staged folder on the disk that all share."""
    return write_staged(tmp_path / "shared/model@1", {"model.safetensors": b"weights" * 50_000, "code/own.py": b"1"})


def write_staged(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_json(folder / "manifest.json", {"files": {name: file_identity(folder / name) for name in files}})
    return folder / "manifest.json"


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def user(manifest: Path):
    """A process that uses a copy, and where it reads."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, manifest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONPATH": str(builders.SCRIPTS)},
    )  # fmt: skip
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        if process.poll() is None:
            process.communicate(timeout=HANG)


def test_a_copy_is_read_in_place_of_the_files_and_gone_at_the_end(disk, manifest):
    assert scratch.read_from(manifest.parent) == manifest.parent
    assert scratch.copy_to_scratch(manifest)
    copy = scratch.read_from(manifest.parent)
    assert copy.is_relative_to(disk) and copy.name == "model@1"
    assert {path.relative_to(copy): path.read_bytes() for path in files_in(copy)} == {
        Path(name): (manifest.parent / name).read_bytes() for name in ("model.safetensors", "code/own.py")
    }
    assert not disk.joinpath(f"gluegrid-{os.getuid()}").stat().st_mode & 0o077
    shutil.rmtree(manifest.parent)  # nobody looks there again
    assert scratch.copy_to_scratch(manifest)
    assert scratch.read_from(manifest.parent) == copy


def test_processes_at_once_share_a_copy_which_the_last_removes(disk, manifest):
    with user(manifest) as (first, copy), user(manifest) as (second, same):
        assert same == copy and copy.is_relative_to(disk)
        files = files_in(disk)
        first.kill()
        first.wait(HANG)
        assert files_in(disk) == files
        said = second.communicate(timeout=HANG)[1]
        assert "copied" not in said and "read in place" not in said
    assert files_in(disk) == []


def test_what_killed_processes_have_left_is_removed_by_the_next_and_what_is_used_is_not(disk, manifest, tmp_path):
    other = write_staged(tmp_path / "shared/tokens", {"train.arrow": b"tokens"})
    half_copied = disk / f"gluegrid-{os.getuid()}/0123"
    write_staged(half_copied / ".new", {"model.safetensors": b"wei"})
    half_copied.with_suffix(".lock").touch()
    with user(manifest) as (killed, copy), user(other) as (_, used):
        assert not half_copied.exists()
        killed.kill()
        killed.wait(HANG)
        assert copy.is_dir()
        third = write_staged(tmp_path / "shared/more", {"a": b"a"})
        assert scratch.copy_to_scratch(third)
        assert not copy.parent.exists() and used.is_dir()


def test_a_forked_child_reads_its_parents_copy_and_leaves_it(disk, manifest):
    parent = """
import os, sys
from pathlib import Path
from gluegrid.execution.scratch import copy_to_scratch, read_from
manifest = Path(sys.argv[1])
copy_to_scratch(manifest)
if not (child := os.fork()):
    os.rename(manifest, f"{manifest}.gone")
    sys.exit(0 if copy_to_scratch(manifest) else 9)  # and runs what is to be done at exit
copy = read_from(manifest.parent)
print(os.waitpid(child, 0)[1], copy.is_relative_to(sys.argv[2]), copy.is_dir())
"""
    command = [sys.executable, "-c", parent, manifest, disk]
    environment = os.environ | {"PYTHONPATH": str(builders.SCRIPTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG)
    assert done.stdout == "0 True True\n", done.stderr
    assert files_in(disk) == []


def test_a_copy_that_a_disk_has_damaged_is_made_again_once(disk, manifest, monkeypatch, caplog):
    copyfile, damaged = shutil.copyfile, []

    def damage(source, target):
        copyfile(source, target)
        if len(damaged) < times:
            damaged.append(target)
            Path(target).write_bytes(b"else")

    monkeypatch.setattr(shutil, "copyfile", damage)
    times = 1
    assert scratch.copy_to_scratch(manifest)
    assert sha256(scratch.read_from(manifest.parent) / "model.safetensors") == sha256(
        manifest.parent / "model.safetensors"
    )
    times = 9
    other = write_staged(manifest.parents[1] / "other", {"a": b"a"})
    kept = files_in(disk)
    assert not scratch.copy_to_scratch(other)
    assert scratch.read_from(other.parent) == other.parent
    assert files_in(disk) == kept
    assert len(damaged) == 1 + scratch.TRIES
    assert "does not match its manifest" in caplog.records[-1].getMessage()


def test_a_damaged_copy_that_another_process_reads_stays_its_own(disk, manifest, caplog):
    with user(manifest) as (_, copy):
        (copy / "code/own.py").unlink()
        kept = files_in(disk)
        assert not scratch.copy_to_scratch(manifest)
        assert "does not match its manifest" in caplog.records[-1].getMessage()
        assert files_in(disk) == kept


def test_a_file_that_is_not_what_was_staged_is_not_read_from_a_copy(disk, manifest):
    (manifest.parent / "code/own.py").write_text("2")
    assert not scratch.copy_to_scratch(manifest)
    assert files_in(disk) == []


@pytest.fixture
def small_disk(disk):
    """A disk of 64 kB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs root, and a machine that lets it mount a tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize(("is_told", "why"), [(True, "needs 350.0 kB"), (False, "is full")])
def test_what_does_not_fit_is_read_where_it_is(small_disk, manifest, monkeypatch, caplog, is_told, why):
    if not is_told:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9))
    assert not scratch.copy_to_scratch(manifest)
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(manifest.parent) in line and why in line
    assert files_in(small_disk) == []
    fits = write_staged(manifest.parents[1] / "fits", {"a": b"a"})
    assert scratch.copy_to_scratch(fits)


def test_a_folder_that_cannot_be_used_costs_one_line(disk, manifest, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / f"gluegrid-{os.getuid()}").symlink_to(tmp_path)
    for chosen, why in (
        ("/not/there", "No such file"),
        (str(tmp_path / "file"), "Not a directory"),
        ("$NOT_SET", "does not have this variable"),
        ("NOT_SET", "does not have this variable"),
        (str(theirs), "belongs to another user"),
    ):
        caplog.clear()
        choose(tmp_path, chosen)
        assert not scratch.copy_to_scratch(manifest)
        assert not scratch.copy_to_scratch(manifest)
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith(f"scratch: {chosen}: all files are read in place") and why in line
    caplog.clear()
    choose(tmp_path, "")
    assert not scratch.copy_to_scratch(manifest)
    assert not caplog.records


@pytest.mark.parametrize(
    ("chosen", "noted"),
    [("$NODE_DISK", "{}"), ("${NODE_DISK}/x", "{}/x"), ("NODE_DISK", "{}"), ("/local", "/local"), ("$NOT_SET/x", "")],
)
def test_variables_have_the_values_of_the_job(disk, tmp_path, chosen, noted):
    choose(tmp_path, chosen)
    assert os.environ.get(scratch.VARIABLE, "") == noted.format(disk)


def test_a_file_system_without_locks_is_not_used(disk, manifest, monkeypatch, caplog):
    """As some that hosts share."""

    def no_locks(descriptor, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(scratch.fcntl, "flock", no_locks)
    assert not scratch.copy_to_scratch(manifest)
    assert os.strerror(errno.ENOLCK) in caplog.records[-1].getMessage()


def test_a_cell_that_reads_copies_has_the_same_bits_and_record(tmp_path, disk):
    resources = make_resources(tmp_path / "resources")
    head = write_head(tmp_path / "head.json")
    plain, copied = (TrainableCell(tmp_path / name, resources, 1, head) for name in ("plain", "copied"))
    for each in (plain, copied):
        each.write_run(save_model="last")
    assert plain.train() == 0, plain.log.read_text()
    with_site = tmp_path / "with_site.json"
    write_json(with_site, read_json(head) | {"site": {"scratch": "$NODE_DISK"}})
    copied = dataclasses.replace(copied, head=with_site, environment={"NODE_DISK": str(disk)})
    assert copied.train(launched=True) == 0, copied.log.read_text()
    lines = [line for line in copied.log.read_text().splitlines() if "scratch: " in line]
    assert all("scratch: copied" in line for line in lines) and len(lines) == 2, lines
    assert files_in(disk) == []
    assert copied.bits() == plain.bits()
    assert str(disk) not in json.dumps(copied.record)
    for key in plain.record.keys() | copied.record.keys():
        if key not in MEASURED:
            assert copied.record[key] == plain.record[key], key
    # The card and its data tell times too.
    models = [each.results.parent / "model" for each in (plain, copied)]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert sha256(models[0] / name) == sha256(models[1] / name)


def test_the_tokens_and_the_weights_are_read_from_their_copies(tmp_path, disk):
    from gluegrid.models.classifier import load_model

    model, tokens = builders.cell_files(
        tmp_path / "staged", TASK, builders.write_model(tmp_path / "source"), train=builders.rows(8, TASK)
    )
    before = load_model(model, TASK, 1)[0].state_dict(), tokens.split("train").idx.tolist()
    for folder in (model, tokens.folder):
        assert scratch.copy_to_scratch(folder / "manifest.json")
        shutil.rmtree(folder)
    after = load_model(model, TASK, 1)[0].state_dict(), tokens.split("train").idx.tolist()
    assert before[1] == after[1]
    assert all(before[0][name].equal(after[0][name]) for name in before[0])
    shutil.rmtree(scratch.read_from(tokens.folder))
    with pytest.raises(Exception, match=f"^{tokens.folder}/train.arrow: cannot be read"):
        tokens.split("train")
