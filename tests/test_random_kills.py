"""Kills at random moments, then the same command: nothing is lost, trained twice, or another number.

Twenty kills of a training and ten of a head are for `make test-full`; continuous integration does a few.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from clones import Clone, copy_of
from trainable_cell import TrainableCell, kill_group, make_resources, write_head

from gluegrid import attempts
from gluegrid.files import sha256

EPOCHS = 80
SECONDS_OF_AN_ATTEMPT = 12  # of which half is the start
SECONDS_OF_A_HEAD = 25
MINE = ("--profile", "profiles/local", "--configfile", "mine.yaml", "--cores", "2", "--resources", "gpu=2")
TASKS = {name: {"num_train_epochs": epochs} for name, epochs in (("wnli", 40), ("rte", 12), ("mrpc", 10), ("stsb", 12))}


@pytest.fixture
def moments():
    """Return random moments, the same again for the number that a failure shows."""
    seed = int(os.environ.get("GLUEGRID_KILL_SEED", random.randrange(10**6)))
    print(f"GLUEGRID_KILL_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_a_training_killed_at_random_moments_gives_the_same_bits(tmp_path, moments, kills):
    resources = make_resources(tmp_path / "resources")
    whole = TrainableCell(tmp_path / "whole", resources, EPOCHS, write_head(tmp_path / "whole.json", 1e6))
    killed = TrainableCell(tmp_path / "killed", resources, EPOCHS, write_head(tmp_path / "killed.json"))
    for cell in (whole, killed):
        cell.write_run()
    assert whole.train() == 0, whole.log.read_text()
    for _ in range(kills):
        process = killed.start(launched=True)
        time.sleep(moments.uniform(0, SECONDS_OF_AN_ATTEMPT))
        kill_group(process)
        if killed.results.exists():
            # Done before so many kills: the same from the beginning, with the kills that are left.
            assert killed.bits() == whole.bits()
            shutil.rmtree(killed.folder / "results")
            killed.write_run()
    assert killed.train(launched=True) == 0, killed.log.read_text()
    assert killed.bits() == whole.bits()
    assert killed.record["attempts"] == len(killed.attempts())
    assert sorted(path.name for path in killed.state.iterdir()) == ["attempts.jsonl", "last_good_result"]


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.full)])
def test_heads_killed_at_random_moments_lose_and_repeat_nothing(demo, tmp_path, moments, kills):
    """The head alone is killed: its jobs run on, and the next head meets them."""
    whole, killed = experiment(demo, tmp_path / "whole"), experiment(demo, tmp_path / "killed")
    assert whole.snakemake(*MINE).returncode == 0
    for number in range(kills):
        with (tmp_path / f"head-{number}.log").open("w") as log:
            head = subprocess.Popen(
                killed.command(*MINE),
                cwd=killed.root,
                env=killed.full_environment(),
                stdout=log,
                stderr=log,
            )
            time.sleep(moments.uniform(0, SECONDS_OF_A_HEAD))
            head.send_signal(signal.SIGKILL)
            head.wait()
    done = killed.snakemake(*MINE)
    assert done.returncode == 0, done.stdout
    for task in TASKS:
        assert results_of(killed, task) == results_of(whole, task)
        tried = attempts.read(killed.root / f"results/kills/state/bert-demo-small/{task}/base/seed-42")
        assert [attempt["reason"] for attempt in tried].count(attempts.DONE) == 1, (task, tried)
        assert tried[-1]["reason"] == attempts.DONE


def experiment(demo: Clone, root: Path) -> Clone:
    """Return a clone in which all is staged and nothing trained, with an experiment of four cells."""
    clone = copy_of(demo, root)
    shutil.rmtree(clone.root / "results")
    clone.write_experiment("kills", TASKS)
    return clone


def results_of(clone: Clone, task: str) -> dict[str, str]:
    """Return the hashes of a cell's predictions."""
    folder = clone.root / f"results/kills/runs/bert-demo-small/{task}/base/seed-42"
    return {path.name: sha256(path) for path in folder.glob("predictions_*.parquet")}
