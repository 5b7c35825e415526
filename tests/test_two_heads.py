"""Two calls of snakemake at once in one clone: what they share is made once, and neither takes it from the other."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from clones import Clone, copy_of

from gluegrid import head
from gluegrid.head import freeze, is_newer_than_head

TASKS = {"wnli": {"num_train_epochs": 1}, "rte": {"num_train_epochs": 1}}
LOCAL = ("--profile", "profiles/local", "--cores", "1", "--resources", "gpu=1")


@pytest.fixture
def bare(demo: Clone, tmp_path: Path) -> Clone:
    """A clone with the demo's data and models to fetch, in which nothing was run."""
    clone = copy_of(demo, tmp_path / "clone")
    for name in ("results", "resources", ".snakemake"):
        shutil.rmtree(clone.root / name)
    return clone


def write_experiment(clone: Clone, name: str) -> None:
    clone.write_experiment(name, TASKS)
    (clone.root / "mine.yaml").rename(clone.root / f"{name}.yaml")


def started(clone: Clone, name: str) -> subprocess.Popen:
    return subprocess.Popen(
        clone.command(*LOCAL, "--configfile", f"{name}.yaml"),
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


def test_two_experiments_at_once_fetch_and_tokenise_once(bare):
    for name in ("first", "second"):
        write_experiment(bare, name)
    heads = [started(bare, name) for name in ("first", "second")]
    said = [head.communicate(timeout=300)[0] for head in heads]
    assert [head.returncode for head in heads] == [0, 0], said
    made = [makers(bare, "fetch_model", "1 of "), makers(bare, "fetch_task", "1 of ")]
    made.append(makers(bare, "tokenize_task", " tokens\n"))
    assert [len(logs) for logs in made] == [1, 2, 2]
    assert [set(logs.values()) for logs in made] == [{1}, {1}, {1}], made
    for name in ("first", "second"):
        assert "2 of 2" in (bare.root / f"results/{name}/results.md").read_text()
        assert bare.planned(*LOCAL, "--configfile", f"{name}.yaml") == {}


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


def test_a_file_is_newer_than_the_head_from_when_it_began_to_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop(head.VARIABLE, None)
    path = tmp_path / "manifest.json"
    assert not is_newer_than_head(path)
    path.write_text("{}")
    assert is_newer_than_head(path)
    file = freeze({}, tmp_path, started="2026-01-01T00:00:10+00:00")
    began = 1767225610
    for ahead in (0, 300, -300):  # the file server's clock
        written = time.time() + ahead
        os.utime(file, (written, written))
        for moment, is_newer in ((began - 2, False), (began + 2, True)):
            os.utime(path, (moment + ahead, moment + ahead))
            assert is_newer_than_head(path) == is_newer
    os.utime(file)
    for moment, is_newer in ((began - 1, False), (began, True), (began + 1, True)):
        os.utime(path, (moment, moment))
        assert is_newer_than_head(path) == is_newer
