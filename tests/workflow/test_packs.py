"""Packs on one machine: several cells in one process, each of which ends as it would alone, however it ends."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clones import Clone, copy_of
from slurm_grid import (
    CELL,
    attempts_of,
    causes_of,
    ended,
    folder_of_cell,
    is_running,
    never_overlap,
    order_of_pack,
    pack_everything,
    packs_of,
    pause_at_checkpoint,
    paused,
    process_of_pack,
    reasons_of,
    record_of,
    start_head,
    table_of,
    wait,
)
from waiting import wait_until

from gluegrid.execution.reasons import Cause

LOCAL = ("--profile", "profiles/local", "--configfile", "mine.yaml", "--cores", "2", "--resources", "gpu=1")
LONGER, SHORT = {"num_train_epochs": 24}, {"num_train_epochs": 1}
TASKS = {"stsb": LONGER, "rte": LONGER, "sst2": LONGER, "cola": SHORT, "wnli": SHORT}
WITHOUT_DATA = "mrpc"


@pytest.fixture
def clone(demo: Clone, tmp_path: Path) -> Iterator[Clone]:
    """The demo with all staged and nothing trained, and an experiment of small cells; after it no process."""
    clone = copy_of(demo, tmp_path / "clone")
    shutil.rmtree(clone.root / "results")
    pack_everything(clone)
    clone.write_experiment("packed", TASKS | {WITHOUT_DATA: SHORT})
    yield clone
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(clone.root):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def say(clone: Clone, *command: str) -> str:
    """Return what a command of `make` says, in one line."""
    program = [sys.executable, "scripts/commands.py", *command]
    done = subprocess.run(program, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return " ".join(done.stdout.split())


def is_over(clone: Clone, task: str) -> bool:
    """Tell whether the last attempt at a cell has ended, and nobody holds its lock, which other hosts would believe."""
    lock = folder_of_cell(clone, "state", "packed", task) / "lock"
    return reasons_of(clone, "packed", task)[-1:] not in ([], [None]) and not lock.exists()


@pytest.mark.long
def test_whatever_ends_a_cell_or_its_pack_costs_the_others_nothing(clone, tmp_path):
    """One pack: a cell is killed, one cancelled as it runs, one before its turn; then what starts them is killed. And
    one is not in it, since its data cannot be fetched.

    Then three calls at once: the one that trains is interrupted, the next one killed; the third ends what is left.
    """
    log = tmp_path / "head.log"
    data = next(clone.root.glob(f"demo/generated/glue/{WITHOUT_DATA}/train-*.parquet"))
    kept = data.read_bytes()
    data.write_bytes(b"no table")
    for staged in clone.root.glob(f"resources/t*/**/*--{WITHOUT_DATA}@*"):
        shutil.rmtree(staged)
    head = start_head(clone, log, *LOCAL)
    wait(lambda: packs_of(clone, "packed"), log)
    (pack,) = packs_of(clone, "packed")
    order = order_of_pack(pack)
    assert {*order} == {*TASKS} and {*order[:3]} == {"stsb", "rte", "sst2"}
    killed, cancelled, last, done, not_begun = order
    with pause_at_checkpoint(clone, "packed", killed, log) as training:
        os.kill(training, signal.SIGKILL)
    wait(lambda: is_over(clone, killed), log)
    with pause_at_checkpoint(clone, "packed", cancelled, log):
        said = say(clone, "status")
        assert f"{killed} stopped" in said and f"{cancelled} running" in said, said
        assert "Cells: 0 done, 1 running, 0 queued, 1 stopped, 1 failed, 3 not begun." in said
        assert "it was not being trained" in say(clone, "cancel", CELL.format(task=not_begun))
        assert "was asked to save its work" in say(clone, "cancel", CELL.format(task=cancelled))
    wait(lambda: is_over(clone, cancelled), log)
    with pause_at_checkpoint(clone, "packed", last, log) as training:
        os.kill(process_of_pack(training), signal.SIGKILL)
    assert ended(head, log) == 1
    assert wait_until(lambda: is_over(clone, last))
    assert {task: causes_of(clone, "packed", task) for task in order} == {
        killed: [Cause.KILLED],
        cancelled: [Cause.SIGTERM],
        last: [Cause.SIGTERM],
        done: [],
        not_begun: [],
    }
    said = log.read_text(encoding="utf-8")
    of_both = {CELL.format(task=task) for task in (cancelled, not_begun)}
    assert any(f"FAILED {cell} and 1 more: cancelled by make cancel" in said for cell in of_both)
    assert f"FAILED {CELL.format(task=killed)}: ended without a word" in said
    assert f"FAILED {CELL.format(task=done)}" not in said  # its turn did not come
    assert f"FAILED {CELL.format(task=WITHOUT_DATA)}: fetch_task failed: " in said
    assert "Cannot restore" not in said  # Snakemake's warning of a manifest that did not exist before
    data.write_bytes(kept)
    assert "0 of 6" in table_of(clone, "packed")
    end_what_is_left_by_three_calls_at_once(clone, tmp_path, (cancelled, last))
    for task in order:
        tried = attempts_of(clone, "packed", task)
        assert [attempt["reason"] for attempt in tried].count("done") == 1 and never_overlap(tried), tried
        assert record_of(clone, "packed", task)["attempts"] == len(tried)
        assert record_of(clone, "packed", task)["job"]["pack"].rpartition("/")[2].startswith("pack_1_of_1_")
        assert bool(record_of(clone, "packed", task)["continued"]) == (task in order[:3])
    assert "6 of 6" in table_of(clone, "packed")


def end_what_is_left_by_three_calls_at_once(clone: Clone, folder: Path, begun: tuple[str, str]) -> None:
    """Interrupt, as a terminal does, the call that trains the first of two cells, and kill the one that then does."""
    logs = [folder / f"call-{number}.log" for number in range(3)]
    head = start_head(clone, logs[0], *LOCAL)
    # In each pack the killed cell comes last: nobody knows yet what it does to those behind it.
    with pause_at_next_step(clone, begun[0], logs[0]) as trainer:
        assert trainer == head.pid
        # In this test's group: one that is lost while a process in it stands still is told so by SIGHUP.
        heads = {start_head(clone, log, *LOCAL, group=None): log for log in logs[1:]}
        wait(lambda: len(packs_of(clone, "packed")) == 4, logs[1])
        os.killpg(head.pid, signal.SIGINT)
    with pause_at_next_step(clone, begun[1], logs[0]) as trainer:
        assert ended(head, logs[0]) == 1
        said = logs[0].read_text(encoding="utf-8")
        assert "failed before its first step" not in said, said  # the others' packs are about to begin
        assert said.rstrip().splitlines()[-1].startswith("Stopped, goes on with the next call"), said
        assert "Traceback" not in said[said.index("Stopping; running cells") :]
        head = next(head for head in heads if head.pid == trainer)
        head.kill()
        state = folder_of_cell(clone, "state", "packed", begun[1])
        wait(lambda: any(state.glob("lock.leave.*")), heads.pop(head))
    ((head, log),) = heads.items()
    assert ended(head, log) == 0, log.read_text(encoding="utf-8")


@contextlib.contextmanager
def pause_at_next_step(clone: Clone, task: str, log: Path) -> Iterator[int]:
    """Wait until a cell is being trained again, and let it stand still meanwhile; the call of snakemake it is of."""
    wait(lambda: is_running(clone, "packed", task), log)
    with paused(clone, "packed", task):
        path = clone.root / attempts_of(clone, "packed", task)[-1]["head"]
        yield json.loads(path.read_text(encoding="utf-8"))["process"]["pid"]
