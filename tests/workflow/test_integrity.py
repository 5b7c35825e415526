"""A byte that was flipped after staging stops the cell, before any work, with the file's name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import builders
import pytest

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, write_json
from gluegrid.common.manifests import check_files
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts

TASK = builders.task()


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> Path:
    """A folder with a staged model, its task's data and tokens, and the run.json of a cell."""
    root = tmp_path_factory.mktemp("staged")
    builders.cell_files(root, TASK, builders.write_model(root / "source"))
    run = root / "results/test/runs/tiny/tiny/base/seed-1/run.json"
    write_json(run, run_content())
    return root


def run_content() -> dict:
    task = {key: value for key, value in vars(TASK).items() if value not in (None, "")}
    return {
        "recipe": 1,
        "experiment": "test",
        "model": {"name": "tiny", "source": "./tiny", "revision": "1"},
        "task": task,
        "variant": "base",
        "seed": 1,
        "threads": 1,
        "device": "cpu",
        "max_seq_length": 16,
        "num_train_epochs": 1,
    }


def train(root: Path) -> subprocess.CompletedProcess:
    run = next(root.glob("results/**/run.json"))
    arguments = ["--run", run, "--model", root / "model/manifest.json", "--task", root / "task/task/manifest.json"]
    arguments += ["--tokens", root / "tokens/manifest.json", "--results", run.parent / "all_results.json"]
    arguments += ["--record", run.parent / "run_record.json"]
    command = [sys.executable, builders.SCRIPTS / "train.py", *arguments]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


def flip_a_byte(path: Path) -> bytes:
    """Change one bit in the middle of a file; return what was there before."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    return content


@pytest.mark.parametrize(
    "name",
    ["model/model.safetensors", "model/config.json", "task/task/train-00000-of-00001.parquet", "tokens/train.arrow"],
)
def test_a_flipped_byte_stops_the_cell_with_the_files_name(staged, name):
    before = flip_a_byte(staged / name)
    try:
        done = train(staged)
    finally:
        (staged / name).write_bytes(before)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"gluegrid: {staged / name}: has changed since it was staged (its SHA-256 "), done.stderr
    assert message.endswith(f"delete {(staged / name).parent} and run snakemake again")
    assert "Traceback" not in done.stderr
    run = next(staged.glob("results/**/run.json"))
    assert str(staged / name) in attempts.read(state_folder(run))[-1]["reason"]
    assert not (run.parent / "all_results.json").exists()


def test_untouched_files_are_trained_on(staged):
    done = train(staged)
    assert done.returncode == 0, done.stderr
    record = read_json(next(staged.glob("results/**/run_record.json")))
    assert record["model_files"].keys() == read_json(staged / "model/manifest.json")["files"].keys()


def test_a_file_that_is_gone_is_named(staged, tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes((staged / "tokens/manifest.json").read_bytes())
    with pytest.raises(DataError, match=r"train\.arrow: cannot be read \(No such file or directory\); delete "):
        check_files(manifest)


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret", "a/../../secret"])
def test_a_manifest_cannot_name_files_outside_its_folder(tmp_path, name):
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"files": {name: {"bytes": 1, "sha256": "0" * 64}}}), encoding="utf-8")
    with pytest.raises(DataError, match="outside its folder"):
        check_files(manifest)
