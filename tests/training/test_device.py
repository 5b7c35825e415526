"""How busy processor and GPU were. The GPU is a mock: a program in nvidia-smi's place that says what it would say."""

import time
from types import SimpleNamespace

import pytest
from waiting import HANG

from gluegrid.training import device
from gluegrid.training.device import Utilisation


def says(folder, monkeypatch, script):
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(device, "SECONDS_BETWEEN_SAMPLES", 0.01)


def measured(folder, gpu, samples=0):
    """Wait until nvidia-smi was asked so often."""
    with Utilisation(threads=2, gpu=gpu) as used:
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline and len(used._samples) < samples:
            time.sleep(0.01)
    return used.measured


def test_the_gpus_samples_are_averaged(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    says(tmp_path, monkeypatch, f'echo "$@" >> {asked}\n[ $(wc -l < {asked}) = 1 ] && echo 50 || echo 100')
    assert 0.5 < measured(tmp_path, "GPU-7", samples=2)["gpu"] < 1
    assert asked.read_text().splitlines()[0].endswith("--id=GPU-7")


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'"])
def test_a_gpu_that_does_not_tell_is_no_error(tmp_path, monkeypatch, script):
    says(tmp_path, monkeypatch, script)
    with Utilisation(threads=2, gpu="GPU-7") as used:
        used._sampler.join(HANG)
        assert not used._sampler.is_alive()
    assert used.measured["gpu"] is None


def test_the_processors_share_is_that_of_all_threads_asked_for(monkeypatch):
    wall, busy = iter([100.0, 110.0]), iter([7.0, 16.0])
    clocks = SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(busy))
    monkeypatch.setattr(device, "time", clocks)
    with Utilisation(threads=2, gpu=None) as used:
        pass
    assert used.measured == {"cpu": 9 / (10 * 2), "gpu": None}
