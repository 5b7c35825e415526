"""`make gpu-bundle` writes what a machine without a network needs, and what it writes runs there."""

import os
import subprocess
import sys

import builders
import gpu_bundle
import pytest

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json

LACKING = {"datasets", "evaluate", "dill", "multiprocess", "jsonschema", "referencing", "rpds-py", "xxhash"}


@pytest.fixture
def sources(tmp_path):
    """Options that name a folder of data, a tokenizer, and where to write."""
    of_task = builders.task()
    for name, splits in {"cola": ("train", "validation", "test"), "mnli": ("train", "validation_matched")}.items():
        for split in splits:
            builders.write_split(tmp_path / "data" / name, split, builders.rows(64, of_task))
    builders.write_tokenizer(tmp_path / "tokenizer", max_length=128)
    return {name: tmp_path / name for name in ("data", "tokenizer", "out")}


def bundle(monkeypatch, sources):
    """Write a bundle; return what pip was asked to download. It fetches nothing."""
    asked = []

    def run(command, **options):
        if "download" not in command:
            return real(command, **options)
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    real = subprocess.run
    monkeypatch.setattr(gpu_bundle.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpu_bundle.py", *(f"--{name}={path}" for name, path in sources.items())])
    try:
        gpu_bundle.main()
    finally:
        monkeypatch.setattr(gpu_bundle.subprocess, "run", real)
    return asked[0]


def test_wheels_are_those_of_the_lock_that_a_machine_with_torch_lacks(monkeypatch, sources, project):
    asked = bundle(monkeypatch, sources)
    wanted = (sources["out"] / "wheels" / "wanted.txt").read_text().split()
    lock = (project / "requirements.lock").read_text().split()
    assert {*wanted} <= {*lock}
    assert {*wanted} <= {*asked}
    names = {pin.partition("==")[0] for pin in wanted}
    assert names >= LACKING
    assert not names & {"torch", "transformers", "numpy", "pandas", "pyyaml", "huggingface-hub", "snakemake"}
    assert asked[asked.index("--python-version") + 1] == "3.12"


def test_code_and_data_are_there_and_no_more(monkeypatch, sources, capsys):
    bundle(monkeypatch, sources)
    out = sources["out"]
    data = {str(path.relative_to(out / "data")) for path in (out / "data").rglob("*.parquet")}
    suffix = "-00000-of-00001.parquet"
    assert data == {f"cola/train{suffix}", f"cola/validation{suffix}"} | {
        f"mnli/{split}{suffix}" for split in ("train", "validation_matched")
    }
    assert (out / "tokenizer" / "tokenizer.json").exists()
    for name in ("benchmarks/gpu_check.py", "scripts/launch.sh", "schemas/tasks.yaml", "demo/generate.py"):
        assert (out / "gluegrid" / name).exists()
    assert not (out / "gluegrid" / "tests").exists()
    assert read_json(out / "gluegrid" / "made_from.json").keys() == {"commit", "dirty"}
    assert "MB" in capsys.readouterr().out


def test_a_bundle_that_is_too_large_is_told(monkeypatch, sources):
    monkeypatch.setattr(gpu_bundle, "MOST_BYTES", 1000)
    with pytest.raises(DataError, match=r"is larger than 0 MB; use less data \(DATA=\.\.\.\)"):
        bundle(monkeypatch, sources)


def test_what_pip_cannot_fetch_is_told_in_one_line(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(gpu_bundle.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"^pip could not download the wheels: ERROR: No matching distribution found$"):
        gpu_bundle.download_wheels(tmp_path / "wheels", "3.12")


@pytest.mark.parametrize("is_inside", [True, False], ids=["in its folder, as docs/gpu.md says", "from another"])
def test_the_one_line_runs_the_checks(monkeypatch, sources, tmp_path, is_inside):
    """Here, where nothing is missing: its environment sees the packages of this one, and is gone afterwards."""
    bundle(monkeypatch, sources)
    (tmp_path / "empty").mkdir()
    (tmp_path / "tmp").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "PRETEND": "1",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    where = sources["out"] if is_inside else tmp_path / "empty"
    command = ["bash", "gpu-check.sh" if is_inside else sources["out"] / "gpu-check.sh", "--only", "0"]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    content = read_json(where / "gpu-check" / "gpu-check.json")
    assert [(check["number"], check["result"]) for check in content["checks"]] == [(0, "ok")]
    assert content["git"] == read_json(sources["out"] / "gluegrid" / "made_from.json")
    assert not [*(tmp_path / "tmp").iterdir()]


def test_what_tests_import_changes_nothing_for_others():
    """As HF_HUB_OFFLINE, which would hold for all that this process starts."""
    script = "import os, gpu_bundle, gpu_check, training; print([*os.environ])"
    paths = os.pathsep.join(str(builders.SCRIPTS.parent / folder) for folder in ("benchmarks", "scripts"))
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "CUBLAS_"))}
    shown = subprocess.run(
        [sys.executable, "-c", script], env=plain | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert "PYTHONPATH" in shown.stdout
    assert not [name for name in ("HF_HUB_OFFLINE", "CUBLAS_WORKSPACE_CONFIG") if name in shown.stdout]
