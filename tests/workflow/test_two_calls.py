"""Two calls of snakemake at once in one clone: what they share is made once, and neither takes it from the other."""

import contextlib
import datetime
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clones import Clone, copy_of
from slurm_grid import attempts_of, folder_of_cell, paused, reasons_of
from waiting import HANG, wait_until

from gluegrid.common.files import json_if_there, read_json
from gluegrid.execution import invocation
from gluegrid.execution.invocation import freeze, is_newer_than_invocation

TASKS = {"wnli": {"num_train_epochs": 1}, "rte": {"num_train_epochs": 1}}
LOCAL = ("--profile", "profiles/local", "--cores", "1", "--resources", "gpu=1")


@pytest.fixture
def bare(demo: Clone, tmp_path: Path) -> Clone:
    """A clone with the demo's data and models to fetch, in which nothing was run."""
    clone = copy_of(demo, tmp_path / "clone")
    for name in ("results", "resources", ".snakemake"):
        shutil.rmtree(clone.root / name)
    return clone


def write_experiment(clone: Clone, name: str, tasks: dict = TASKS) -> None:
    clone.write_experiment(name, tasks)
    (clone.root / "mine.yaml").rename(clone.root / f"{name}.yaml")


def reviews(clone: Clone, name: str, answers: tuple[str, str]) -> dict:
    """Return a task of a file of its own, whose texts and labels are of this experiment alone."""
    rows = [f"{name} {number},{answers[number % 2]}\n" for number in range(40)]
    (clone.root / f"{name}.csv").write_text("".join(["text,answer\n", *rows]))
    return {
        "source": f"./{name}.csv",
        "text_columns": ["text"],
        "label_column": "answer",
        "labels": [*answers],
        "metrics": ["accuracy"],
        "cut_from_train": {"validation": 0.5},
        "num_train_epochs": 1,
    }


def started(clone: Clone, name: str, cells_at_once: str = "1") -> subprocess.Popen:
    limits = ("--cores", cells_at_once, "--resources", f"gpu={cells_at_once}")
    return subprocess.Popen(
        clone.command("--profile", "profiles/local", *limits, "--configfile", f"{name}.yaml"),
        cwd=clone.root,
        env=clone.full_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def makers(clone: Clone, rule: str, sign: str) -> dict[str, int]:
    """Return for each log of a rule in how many experiments it says that the thing itself was made."""
    logs = list(clone.root.glob(f"results/*/logs/{rule}/**/*.log"))
    names = {"/".join(log.relative_to(clone.root).parts[4:]) for log in logs}
    return {name: sum(sign in log.read_text() for log in logs if str(log).endswith(name)) for name in names}


@pytest.mark.long
def test_two_experiments_at_once_share_what_is_the_same_and_nothing_else(bare):
    # Each has a task of the same name on data of its own.
    for name, answers in (("first", ("no", "yes")), ("second", ("bad", "good"))):
        write_experiment(bare, name, TASKS | {"reviews": reviews(bare, name, answers)})
    heads = [started(bare, name) for name in ("first", "second")]
    said = [head.communicate(timeout=HANG)[0] for head in heads]
    assert [head.returncode for head in heads] == [0, 0], said
    made = [makers(bare, "fetch_model", "1 of "), makers(bare, "fetch_task", "1 of ")]
    made.append(makers(bare, "tokenize_task", " tokens\n"))
    assert [len(logs) for logs in made] == [1, 4, 4]
    assert [set(logs.values()) for logs in made] == [{1}, {1}, {1}], made
    for name in ("first", "second"):
        assert "3 of 3" in (bare.root / f"results/{name}/results.md").read_text()
        assert bare.planned(*LOCAL, "--configfile", f"{name}.yaml") == {}
    verified = verify(bare)
    assert verified.endswith("verified: everything fits\n"), verified
    let_tokens_lie_where_an_earlier_release_has_put_them(bare)
    for name in ("first", "second"):
        assert bare.planned(*LOCAL, "--configfile", f"{name}.yaml") == {}
    verified = verify(bare)
    # Both had one folder for the tokens of their reviews.
    assert verified.count(": is missing, so the hashes") == 1, verified
    assert verified.endswith("1 thing does not fit\n"), verified


def let_tokens_lie_where_an_earlier_release_has_put_them(clone: Clone) -> None:
    """Name the folders of tokens by the tasks' aliases, in Snakemake's memory too."""
    renamed = {}
    for folder in sorted(clone.root.glob("resources/tokens/*/*@*-32")):
        alias = "reviews" if ".csv-" in folder.name else re.search("--(wnli|rte)@", folder.name)[1]
        earlier = folder.with_name(f"{alias}-32")
        shutil.rmtree(earlier, ignore_errors=True)
        folder.rename(earlier)
        renamed[folder.name] = earlier.name
    assert len(renamed) == 4
    for record in filter(Path.is_file, (clone.root / ".snakemake/metadata").rglob("*")):
        text = record.read_text()
        for new, old in renamed.items():
            text = text.replace(f"/{new}/", f"/{old}/")
        record.write_text(text)


def verify(clone: Clone) -> str:
    """Return what the verification of all experiments says."""
    command = [sys.executable, "scripts/commands.py", "verify"]
    done = subprocess.run(command, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    return done.stdout + done.stderr


def head_that_trains(clone: Clone, task: str, heads: list[subprocess.Popen]) -> subprocess.Popen:
    """Wait until one of some heads trains a cell of the experiment `same`; return it."""
    lock = folder_of_cell(clone, "state", "same", task) / "lock"

    def trains(head: subprocess.Popen) -> bool:
        holder = json_if_there(lock)
        if not holder or reasons_of(clone, "same", task)[-1:] != [None]:
            return False
        return read_json(clone.root / holder["head"])["process"]["pid"] == head.pid

    found: list[subprocess.Popen] = []
    assert wait_until(lambda: found.extend(filter(trains, heads)) or found)
    return found[0]


def launches(head: subprocess.Popen, task: str) -> bool:
    """Tell whether a call has started the launcher of a cell, and so empties the cell's log no more."""
    with contextlib.suppress(psutil.Error):
        commands = [" ".join(process.cmdline()) for process in psutil.Process(head.pid).children(recursive=True)]
        return any("accelerate_launch.py" in command and f"/{task}/base/" in command for command in commands)
    return False


def log_of(clone: Clone, task: str) -> str:
    return (clone.root / f"results/same/logs/train/bert-demo-small/{task}/base/seed-42.log").read_text()


def write_same(clone: Clone, tasks: dict) -> None:
    clone.write_experiment("same", tasks)
    (clone.root / "mine.yaml").rename(clone.root / "same.yaml")


def put_into_the_future(*files: Path) -> None:
    tomorrow = time.time() + 86400
    for path in files:
        os.utime(path, (tomorrow, tomorrow))


@pytest.mark.long
def test_four_identical_calls_at_once_of_which_one_is_interrupted_and_one_is_killed(demo, tmp_path):
    """Each cell has one training at a time; the calls that nobody ends succeed, with the log of who has trained.

    What they share was staged by a file server whose clock is ahead: that is said, and costs nothing.
    """
    clone = copy_of(demo, tmp_path / "clone")
    shutil.rmtree(clone.root / "results")
    write_same(clone, {"wnli": {"num_train_epochs": 60}, "mrpc": {"num_train_epochs": 1}})
    staged = [*clone.root.glob("resources/*/*/manifest.json"), *clone.root.glob("resources/tokens/*/*/manifest.json")]
    put_into_the_future(*staged)
    heads = [started(clone, "same", "2") for _ in range(4)]
    interrupted = head_that_trains(clone, "wnli", heads)
    with paused(clone, "same", "wnli"):
        assert wait_until(lambda: reasons_of(clone, "same", "mrpc")[-1:] == ["done"])
        assert wait_until(lambda: all(launches(head, "wnli") for head in heads))
        # Not as a terminal does, which tells all that the head has started: the head alone, and once more.
        interrupted.send_signal(signal.SIGINT)
        assert wait_until(lambda: any(clone.root.glob("results/same/heads/*.interrupted")))
        interrupted.send_signal(signal.SIGINT)
    said = interrupted.communicate(timeout=HANG)[0]
    assert interrupted.returncode == 1
    assert "STOPPED bert-demo-small/wnli/base/seed-42: interrupted" in said
    assert said.rstrip().splitlines()[-1].startswith("Stopped, goes on with the next call")
    ending = said[said.index("Stopping; running cells") :]
    assert "Traceback" not in ending and "rror" not in ending and "failed" not in ending.casefold(), ending
    heads.remove(interrupted)
    killed = head_that_trains(clone, "wnli", heads)
    with paused(clone, "same", "wnli"):
        killed.kill()
        requests = folder_of_cell(clone, "state", "same", "wnli").glob
        assert wait_until(lambda: any(requests("lock.leave.*")))
    heads.remove(killed)
    said = [head.communicate(timeout=HANG)[0] for head in heads]
    assert [head.returncode for head in heads] == [0, 0], said
    tried = attempts_of(clone, "same", "wnli")
    first, second, third = (attempt["reason"] for attempt in tried)
    assert (first.startswith("interrupted"), second.startswith("stopped by SIGTERM"), third) == (True, True, "done")
    assert all(before["end"] <= after["start"] for before, after in itertools.pairwise(tried))
    assert reasons_of(clone, "same", "mrpc") == ["done"]
    for task in ("wnli", "mrpc"):
        assert log_of(clone, task).count("predicting validation") == 1, log_of(clone, task)
    assert "using its result" in log_of(clone, "wnli")
    assert "2 of 2" in (clone.root / "results/same/results.md").read_text()
    for text in said:
        assert text.count("warning: resources/") == text.count("than that of what has just been made from it") == 1
    # Nothing is trained again, whatever the times are; but for a result of another run, however new it looks.
    assert clone.planned(*LOCAL, "--configfile", "same.yaml") == {}
    runs = clone.root / "results/same/runs/bert-demo-small"
    put_into_the_future(*runs.rglob("run.json"))
    assert clone.planned(*LOCAL, "--configfile", "same.yaml") == {}
    put_into_the_future(*runs.rglob("all_results.json"))
    assert "train" not in clone.planned(*LOCAL, "--configfile", "same.yaml")
    write_same(clone, {"wnli": {"num_train_epochs": 60}, "mrpc": {"num_train_epochs": 2}})
    run = "results/same/runs/bert-demo-small/mrpc/base/seed-42/run.json"
    assert clone.snakemake(*LOCAL, "--configfile", "same.yaml", "--", run).returncode == 0
    assert clone.planned(*LOCAL, "--configfile", "same.yaml")["train"] == 1


@pytest.mark.long
def test_what_snakemake_wants_anew_is_fetched_anew_and_a_failed_fetch_leaves_the_old(bare):
    write_experiment(bare, "first")
    target = ("stage", "--configfile", "first.yaml")
    assert bare.snakemake(*target, *LOCAL).returncode == 0
    manifest = next(bare.root.glob("resources/models/*/manifest.json"))
    first, written = manifest.read_text(), manifest.stat().st_mtime_ns
    time.sleep(1.1)  # `fetched` is to the second
    done = bare.snakemake(*target, *LOCAL, "--forcerun", "fetch_model")
    assert done.returncode == 0, done.stdout
    assert manifest.read_text() != first
    first, written = manifest.read_text(), manifest.stat().st_mtime_ns
    weights = bare.root / "demo/generated/models/bert-demo-small/model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"no weights")
    done = bare.snakemake(*target, *LOCAL, "--forcerun", "fetch_model")
    assert done.returncode == 1, done.stdout
    assert bare.snakemake(*target, *LOCAL, "--forcerun", "fetch_model").returncode == 1
    assert (manifest.read_text(), manifest.stat().st_mtime_ns) == (first, written)
    weights.write_bytes(kept)
    assert bare.planned(*target, *LOCAL) == {}


@pytest.mark.parametrize("ahead", [0, 3600, -3600])
def test_a_file_is_newer_than_the_head_from_when_it_began_to_plan(tmp_path, monkeypatch, ahead):
    """Whatever the clock of the file server says."""
    if ahead:
        monkeypatch.setattr(invocation, "_time_on_the_disk_of", lambda path: time.time() + ahead)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop(invocation.VARIABLE, None)
    path = tmp_path / "manifest.json"
    assert not is_newer_than_invocation(path)
    path.write_text("{}")
    assert is_newer_than_invocation(path)
    file = freeze({}, tmp_path, started="2026-01-01T00:00:10+00:00")
    began = 1767225610
    written = datetime.datetime.fromisoformat(read_json(file)["written"]).timestamp() + ahead
    os.utime(file, (written, written))
    for moment, is_newer in ((began - 2, False), (began + 2, True), (time.time() + 86400, False)):
        os.utime(path, (moment + ahead, moment + ahead))
        assert is_newer_than_invocation(path) == is_newer
