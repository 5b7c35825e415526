"""Kills at random moments, then the same command: nothing is lost, trained twice, or another number.

For `make test-full`, which keeps their tables: continuous integration kills at moments that it has chosen
(execution/test_cell_state.py, workflow/test_two_calls.py, cluster/test_heads.py).
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from clones import PROJECT, Clone, copy_of
from slurm_grid import pack_everything
from trainable_cell import TrainableCell, kill_group, make_resources, write_head
from waiting import HANG, wait_until

from gluegrid.common.files import sha256, write_text
from gluegrid.common.paths import CELL
from gluegrid.execution import attempts
from gluegrid.execution.reasons import Cause

pytestmark = pytest.mark.full

EPOCHS = 80
KILLS_OF_A_TRAINING, KILLS_OF_A_HEAD, KILLS_IN_PACKS = 20, 10, 15
SECONDS_OF_AN_ATTEMPT = 12  # of which half is the start
SECONDS_OF_A_HEAD = 25
IN_A_PACK = ("snakemake", "accelerate_launch.py", "train_pack.py")  # whose processes are those of a call and its pack
MINE = ("--profile", "profiles/local", "--configfile", "mine.yaml", "--cores", "2", "--resources", "gpu=2")
ONE_PACK = ("--resources", "gpu=1")
TASKS = {name: {"num_train_epochs": epochs} for name, epochs in (("wnli", 40), ("rte", 12), ("mrpc", 10), ("stsb", 12))}
HEADER = """# Kills at random moments

Written by `make test-full` (`tests/workflow/test_random_kills.py`). After each kill, the same command was given
again. At the end, the predictions of all splits and all metrics except times were compared bit for bit with those of
an undisturbed run.
"""
ANEW = "; the next one starts over"
_kept: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def keep_tables():
    """Write what the tests of this file add to `_kept`, where that is asked for."""
    yield
    if _kept and (name := os.environ.get("GLUEGRID_KEEP_RANDOM_KILLS")):
        write_text(PROJECT / name, "\n".join([HEADER, *_kept]))


@pytest.fixture
def moments():
    """Return random moments, the same again for the number that a failure shows."""
    seed = int(os.environ.get("GLUEGRID_KILL_SEED", random.randrange(10**6)))
    print(f"GLUEGRID_KILL_SEED={seed}")
    return random.Random(seed)


def test_a_training_killed_at_random_moments_gives_the_same_bits(tmp_path, moments):
    resources = make_resources(tmp_path / "resources")
    whole = TrainableCell(tmp_path / "whole", resources, EPOCHS, write_head(tmp_path / "whole.json", 1e6))
    killed = TrainableCell(tmp_path / "killed", resources, EPOCHS, write_head(tmp_path / "killed.json"))
    for cell in (whole, killed):
        cell.write_run()
    assert whole.train() == 0, whole.log.read_text()
    rows = []
    for number in range(1, KILLS_OF_A_TRAINING + 1):
        process, moment = killed.start(launched=True), moments.uniform(0, SECONDS_OF_AN_ATTEMPT)
        time.sleep(moment)
        kill_group(process)
        rows.append(f"| {number} | {moment:.1f} | {what_is_there(killed)} |")
        if killed.results.exists():
            # Done before so many kills: the same from the beginning, with the kills that are left.
            assert killed.bits() == whole.bits()
            shutil.rmtree(killed.folder / "results")
            killed.write_run()
    assert killed.train(launched=True) == 0, killed.log.read_text()
    assert killed.bits() == whole.bits()
    assert killed.record["attempts"] == len(killed.attempts())
    assert sorted(path.name for path in killed.state.iterdir()) == ["attempts.jsonl", "last_good_result"]
    title = f"## A training, killed {KILLS_OF_A_TRAINING} times"
    end = f"Bit-identical; attempts for the last result: {killed.record['attempts']}."
    _kept.extend([title, "", "| Kill | After, s | What was left |", "|---|---|---|", *rows, "", end, ""])


def what_is_there(cell: TrainableCell) -> str:
    """Say how far a killed cell is."""
    if cell.results.exists():
        return f"the result{ANEW}"
    checkpoints = sorted(path.name for path in (cell.state / "checkpoints").glob("step-*"))
    return f"checkpoint of step {int(checkpoints[-1].removeprefix('step-'))}" if checkpoints else "nothing"


def test_heads_killed_at_random_moments_lose_and_repeat_nothing(demo, tmp_path, moments):
    """The head alone is killed: its jobs run on, and the next head meets them."""
    whole, killed = experiment(demo, tmp_path / "whole"), experiment(demo, tmp_path / "killed")
    assert whole.snakemake(*MINE).returncode == 0
    rows = []
    for number in range(1, KILLS_OF_A_HEAD + 1):
        moment = moments.uniform(0, SECONDS_OF_A_HEAD)
        kill_head(killed, moment, tmp_path / f"head-{number}.log")
        done = [task for task in TASKS if Cause.DONE in reasons_of(killed, task)]
        tried = sum(len(reasons_of(killed, task)) for task in TASKS)
        all_done = len(done) == len(TASKS)
        rows.append(f"| {number} | {moment:.1f} | {len(done)} of {len(TASKS)}{ANEW if all_done else ''} | {tried} |")
        if all_done:
            assert_same(killed, whole)
            shutil.rmtree(killed.root / "results")
    finished = killed.snakemake(*MINE)
    assert finished.returncode == 0, finished.stdout
    assert_same(killed, whole)
    title = f"## A controller, killed {KILLS_OF_A_HEAD} times while its cells run"
    end = "Bit-identical, and each cell trained once."
    _kept.extend([title, "", "| Kill | After, s | Cells done | Attempts |", "|---|---|---|---|", *rows, "", end, ""])


def test_whatever_is_killed_of_a_call_and_its_pack_loses_and_repeats_nothing(demo, tmp_path, moments):
    """At random moments: the head, the launcher, what starts the cells, a cell, or all of them."""
    whole, killed = experiment(demo, tmp_path / "whole"), experiment(demo, tmp_path / "killed")
    for clone in (whole, killed):
        pack_everything(clone)
    assert whole.snakemake(*MINE, *ONE_PACK).returncode == 0
    rows = []
    for number in range(1, KILLS_IN_PACKS + 1):
        moment, log = moments.uniform(2, SECONDS_OF_A_HEAD), tmp_path / f"head-{number}.log"
        with log.open("w") as stream:
            call = {"cwd": killed.root, "env": killed.full_environment(), "stdout": stream, "stderr": stream}
            head = subprocess.Popen(killed.command(*MINE, *ONE_PACK), **call)
        time.sleep(moment)
        what = kill_something(killed, moments)
        head.wait(HANG)
        done = [task for task in TASKS if Cause.DONE in reasons_of(killed, task)]
        tried = sum(len(reasons_of(killed, task)) for task in TASKS)
        all_done = len(done) == len(TASKS)
        rows.append(f"| {number} | {moment:.1f} | {what} | {len(done)} of {len(TASKS)}{ANEW * all_done} | {tried} |")
        if all_done:
            finished = killed.snakemake(*MINE, *ONE_PACK)
            assert finished.returncode == 0, finished.stdout
            assert_same(killed, whole)
            shutil.rmtree(killed.root / "results")
    finished = killed.snakemake(*MINE, *ONE_PACK)
    assert finished.returncode == 0, finished.stdout
    assert_same(killed, whole)
    assert wait_until(lambda: not processes_of(killed))
    title = f"## A pack or its call, a process of which is killed {KILLS_IN_PACKS} times"
    head_of_table = ["| Kill | After, s | What | Cells done | Attempts |", "|---|---|---|---|---|"]
    _kept.extend([title, "", *head_of_table, *rows, "", "Bit-identical, and each cell trained once.", ""])


def kill_something(clone: Clone, moments: random.Random) -> str:
    """Kill one of the processes of a call, or all; say which."""
    processes = processes_of(clone)
    chosen = processes if moments.random() < 0.2 else [moments.choice(processes)] if processes else []
    for process, _ in chosen:
        process.kill()
    return "all" if len(chosen) > 1 else chosen[0][1] if chosen else "nothing"


def processes_of(clone: Clone) -> list[tuple[psutil.Process, str]]:
    """Return the processes of a clone's calls and packs, each with what it is; a cell is a child of its like."""
    found = {}
    for process in psutil.process_iter(["cwd", "cmdline", "ppid"]):
        names = [name for name in IN_A_PACK if name in " ".join(process.info["cmdline"] or ())]
        if process.info["cwd"] == str(clone.root) and names and "bash" not in process.info["cmdline"][0]:
            found[process.pid] = (process, names[-1])
    return [
        (process, "a cell" if name == IN_A_PACK[-1] == found.get(process.info["ppid"], ("", ""))[1] else name)
        for process, name in found.values()
    ]


def assert_same(killed: Clone, whole: Clone) -> None:
    """Compare what came out, and see that each cell was done once."""
    for task in TASKS:
        assert results_of(killed, task) == results_of(whole, task)
        reasons = reasons_of(killed, task)
        assert reasons.count(Cause.DONE) == 1, (task, reasons)
        assert reasons[-1] == Cause.DONE


def kill_head(clone: Clone, seconds: float, log: Path) -> None:
    """Call snakemake and kill it, and nothing else, after so many seconds."""
    with log.open("w") as stream:
        head = subprocess.Popen(
            clone.command(*MINE), cwd=clone.root, env=clone.full_environment(), stdout=stream, stderr=stream
        )
    time.sleep(seconds)
    head.send_signal(signal.SIGKILL)
    head.wait()


def experiment(demo: Clone, root: Path) -> Clone:
    """Return a clone in which all is staged and nothing trained, with an experiment of four cells."""
    clone = copy_of(demo, root)
    shutil.rmtree(clone.root / "results")
    clone.write_experiment("kills", TASKS)
    return clone


def cell_name(task: str) -> str:
    """Return the name of a task's only cell."""
    return CELL.format(model="bert-demo-small", task=task, variant="base", seed=42)


def reasons_of(clone: Clone, task: str) -> list[str | None]:
    """Return how each attempt at a cell ended."""
    tried = attempts.read(clone.root / "results/kills/state" / cell_name(task))
    return [attempt["reason"] for attempt in tried]


def results_of(clone: Clone, task: str) -> dict[str, str]:
    """Return the hashes of a cell's predictions."""
    folder = clone.root / "results/kills/runs" / cell_name(task)
    return {path.name: sha256(path) for path in folder.glob("predictions_*.parquet")}
