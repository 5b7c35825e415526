"""What starts the cells of a pack: what ends one of them, in whatever way, ends no other. No cell is trained here."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import builders
import pytest
import train_pack
from late_signals import at_exit_of_python
from waiting import HANG

from gluegrid.common.files import write_json
from gluegrid.common.paths import state_folder
from gluegrid.common.provenance import this_process
from gluegrid.execution import attempts, invocation, packs
from gluegrid.execution.locks import lock
from gluegrid.execution.packs import Pack, PackedCell, log_of_failed_start, note_begun, read_pack, write_pack
from gluegrid.execution.preemption import Preemption
from gluegrid.execution.reasons import Cause, Reason


def packed(folder: Path, seed: int) -> PackedCell:
    """Return a cell of which only the state may be there."""
    runs = folder / f"results/e/runs/m/t/base/seed-{seed}"
    inputs = dict.fromkeys(("run", "model", "task", "tokens"), str(runs / "run.json"))
    outputs = {"results": str(runs / "all_results.json"), "record": str(runs / "run_record.json")}
    return PackedCell(**inputs, **outputs, log=str(folder / f"log-{seed}"), benchmark=str(folder / f"benchmark-{seed}"))


def state_of(cell: PackedCell) -> Path:
    return state_folder(Path(cell.run))


def note_attempt(cell: PackedCell, cause: Cause | None) -> None:
    attempts.start(state_of(cell), "hash")
    if cause is not None:
        attempts.end(state_of(cell), Reason(cause))


def test_a_cell_that_died_without_a_word_comes_after_those_that_it_may_kill(tmp_path):
    """And one that somebody else trains last, when its turn comes."""
    died, left, silent, held, untouched = (packed(tmp_path, seed) for seed in range(5))
    note_attempt(died, Cause.KILLED)
    note_attempt(left, Cause.TIME_LIMIT)
    note_attempt(silent, None)
    with lock(state_of(held) / "lock", on_wait=lambda holder: None):
        order = [*train_pack.in_turn([died, left, silent, held, untouched])]
    assert order == [left, untouched, died, silent, held]


def test_a_signal_while_python_exits_does_not_make_a_pack_fail(tmp_path):
    path = tmp_path / "pack.json"
    write_json(path, {"name": "pack", "log": "log", "cells": []})
    script = builders.SCRIPTS / "train_pack.py"
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    command = [sys.executable, "-c", f"{at_exit_of_python(signal.SIGTERM)}\n{code}", "--pack", str(path)]
    scripts = os.environ | {"PYTHONPATH": str(builders.SCRIPTS)}
    done = subprocess.run(command, env=scripts, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr


# A pack's process, whose child does what `{does}` says in place of a training.
PARENT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{scripts!r}, {tests!r}]
import train_pack
from gluegrid.common import cli
from gluegrid.execution.preemption import Preemption
from test_packs import packed

def end_as_child(cell):
    {does}

cli.setup()
train_pack.end_as_child = end_as_child
leaving = Preemption()
leaving.listen()
with leaving.held_back():
    train_pack.train_in_child(packed(Path({folder!r}), 1), leaving)
"""
IS_ASKED_BEFORE_IT_LISTENS = """\
os.kill(os.getpid(), signal.SIGTERM)
    mine = Preemption()
    with mine.held_back():
        mine.listen()
        os._exit(0 if mine.reason() else 1)
"""


def test_a_signal_that_comes_before_a_cell_listens_is_heeded_when_it_does(tmp_path):
    folders = {"scripts": str(builders.SCRIPTS), "tests": str(Path(__file__).parent), "folder": str(tmp_path)}
    script = PARENT.format(**folders, does=IS_ASKED_BEFORE_IT_LISTENS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=HANG)
    assert "m/t/base/seed-1 is done" in done.stderr
    assert (tmp_path / "benchmark-1").exists()


@pytest.mark.parametrize("full", ["note_death", "remove_lock_of"])
def test_the_full_disk_of_a_cell_that_was_killed_is_none_of_the_others(tmp_path, monkeypatch, caplog, full):
    def fail(*arguments) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train_pack, full, fail)
    monkeypatch.setattr(train_pack, "end_as_child", lambda cell: os.kill(os.getpid(), signal.SIGKILL))
    with caplog.at_level("INFO"):
        train_pack.train_in_child(packed(tmp_path, 1), Preemption())
    assert "was killed (SIGKILL)" in caplog.text
    assert "No space left on device" in caplog.text
    assert not (tmp_path / "benchmark-1").exists()


def test_what_cannot_be_imported_or_read_ahead_is_said_by_the_cells(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(train_pack, "read_run", lambda path: exec("raise ImportError('no torch')"))
    monkeypatch.setenv(train_pack.COUNT_GPUS_WITHOUT_CUDA, "1")
    with caplog.at_level("INFO"):
        train_pack.import_libraries(packed(tmp_path, 1))
        train_pack.read_inputs_once(packed(tmp_path, 1))
    assert "no torch" in caplog.text


def test_a_state_folder_that_cannot_be_written_keeps_no_other_cell_from_its_pack(tmp_path):
    broken, whole = packed(tmp_path, 1), packed(tmp_path, 2)
    state_of(broken).parent.mkdir(parents=True)
    state_of(broken).write_text("no folder")
    file = tmp_path / "heads/x.packs/pack.json"
    write_pack(file, Pack("pack", str(tmp_path / "log"), [broken, whole]))
    assert read_pack(file).cells == [broken, whole]
    assert json.loads((state_of(whole) / packs.NOTE).read_text())["file"] == str(file)


def test_a_pack_that_another_running_call_is_about_to_begin_has_not_failed(tmp_path, monkeypatch):
    cell = packed(tmp_path, 1)
    head = invocation.write_plan({}, tmp_path / "heads")
    file = packs.folder_of_packs(head) / "pack.json"
    log = tmp_path / "log"
    write_pack(file, Pack("pack", str(log), [cell]))
    for process, mine, is_failed in (
        (this_process(), "another", False),
        (this_process(), str(head), True),
        (this_process() | {"process_started": "1"}, "another", True),
    ):
        write_json(head, json.loads(head.read_text()) | {"process": process})
        monkeypatch.setenv(invocation.VARIABLE, mine)
        assert log_of_failed_start(state_of(cell)) == (log if is_failed else None)
    note_begun(file)
    assert log_of_failed_start(state_of(cell)) is None
