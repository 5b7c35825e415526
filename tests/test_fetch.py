"""Staging from a hub (a fake one on loopback, with the real client) and from folders."""

import os
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from fake_hub import COMMIT, serving

from gluegrid.files import read_json, sha256


def run_script(project, name, manifest, environment=None, **arguments):
    """Run a fetching script as its rule does."""
    options = [part for key, value in arguments.items() for part in (f"--{key}", value)]
    return subprocess.run(
        [sys.executable, str(project / "scripts" / name), *options, "--manifest", str(manifest)],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"sentence": ["a", "b", "c"], "label": [0, 1, 0]}), path)
    return path.read_bytes()


def fetch_from_hub(project, tmp_path, name, files, **arguments):
    """Run a fetching script against a fake hub; return the finished process and what was asked for."""
    manifest = tmp_path / "resources" / "it" / "manifest.json"
    with serving(files) as (endpoint, requests):
        environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        return run_script(project, name, manifest, environment, **arguments), manifest, requests


def test_a_branch_of_the_hub_is_resolved_and_only_the_tasks_files_are_fetched(project, tmp_path, parquet):
    names = ["cola/train-00000-of-00001.parquet", "rte/train-00000-of-00001.parquet", "README.md"]
    files = {"datasets/nyu-mll/glue": dict.fromkeys(names, parquet)}
    done, manifest, requests = fetch_from_hub(
        project, tmp_path, "fetch_task.py", files, source="nyu-mll/glue", folder="cola", revision="main"
    )
    assert done.returncode == 0, done.stderr
    content = read_json(manifest)
    assert content["resolved_revision"] == COMMIT
    assert content["rows"] == {"train": 3}
    staged = manifest.parent / names[0]
    assert content["files"] == {names[0]: {"bytes": len(parquet), "sha256": sha256(staged)}}
    assert not any("rte" in request or "README" in request for request in requests)


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(project, tmp_path):
    files = {"models/org/pickled": {"config.json": b"{}", "pytorch_model.bin": b"x"}}
    done, manifest, _ = fetch_from_hub(
        project, tmp_path, "fetch_model.py", files, source="org/pickled", revision="main"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "gluegrid: the model has no safetensors weights (only pytorch_model.bin"
    )
    assert not list(manifest.parent.glob("*"))


def test_an_unknown_repository_is_one_line(project, tmp_path):
    done, manifest, _ = fetch_from_hub(project, tmp_path, "fetch_model.py", {}, source="org/nothing", revision="main")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "model 'org/nothing' at revision 'main': the hub did not give it" in done.stderr.splitlines()[-1]
    assert not manifest.exists()


def test_a_folder_is_copied_and_a_second_fetch_keeps_it(project, tmp_path, parquet):
    source = tmp_path / "data" / "cola"
    source.mkdir(parents=True)
    (source / "train-00000-of-00001.parquet").write_bytes(parquet)
    manifest = tmp_path / "resources" / "it" / "manifest.json"
    arguments = {"source": str(source.parent), "folder": "cola", "revision": "v1"}
    assert run_script(project, "fetch_task.py", manifest, **arguments).returncode == 0
    written = manifest.stat().st_mtime_ns
    again = run_script(project, "fetch_task.py", manifest, **arguments)
    assert "already staged" in again.stderr
    assert manifest.stat().st_mtime_ns == written


def test_a_file_that_is_no_parquet_is_one_line(project, tmp_path):
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"not parquet")
    manifest = tmp_path / "resources" / "it" / "manifest.json"
    done = run_script(project, "fetch_task.py", manifest, source=str(tmp_path), folder="", revision="v1")
    assert done.returncode == 1
    assert "train-00000-of-00001.parquet is no parquet file" in done.stderr.splitlines()[-1]
    assert not manifest.exists()
