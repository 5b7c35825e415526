"""Check 6: of two launches for one GPU, the second waits, even for what a killed launcher left; and its record."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from cells import Cell

from gluegrid.common.errors import TrainingError
from gluegrid.common.files import json_if_there, read_json
from gluegrid.execution.visible_gpus import visible_gpus

from .launching import LAUNCH, arguments_of, result_of
from .materials import cell_of, with_values
from .setting import Findings, Setting

HOLDER = Path(__file__).with_name("holder.py")


def share(setting: Setting, findings: Findings) -> None:
    """Launch a holder, kill its launcher, launch a training: it must wait for the holder's end, and then get the GPU.

    The launches request a GPU even if it is simulated and the training that follows runs on the CPU.
    """
    findings.figures["cards"] = cards = visible_gpus()
    findings.must(bool(cards), "nvidia-smi lists no GPU, so none can be leased")
    if not cards:
        return
    cell = cell_of(setting, "rte", setting.size("mini"), (setting.of(1024, 32), 32))
    wanting = with_values(replace(setting, pretend=False), cell)  # its run.json asks for a GPU
    notes, go = (setting.folder / name for name in ("holder.json", "go"))
    second_notes = setting.folder / "second.json"
    environment = _environment(cards[0])
    first = _launch(wanting, [notes, go], setting.out / "check-6-first.log", environment)
    _wait_for(notes.exists, first)
    first.kill()
    first.wait()
    log = setting.out / "check-6-second.log"
    (setting.folder / "training.json").write_text(json.dumps(arguments_of(cell)), encoding="utf-8")
    second = _launch(wanting, [second_notes, go, setting.folder / "training.json"], log, environment)
    _wait_for(lambda: "waiting for a GPU" in log.read_text(errors="replace") or second_notes.exists(), second)
    findings.must(not second_notes.exists(), "the second launch did not wait, though a process held the GPU")
    findings.must(_is_running(read_json(notes)["pid"]), "the first launch's process did not outlive its launcher")
    go.touch()
    code = second.wait()
    findings.must(code == 0, f"the second launch ended with exit code {code}: check-6-second.log says why")
    findings.figures["card_of_the_second"] = given = json_if_there(second_notes).get("cards")
    findings.must(given == cards[0], f"the second launch got {given} instead of {cards[0]}")
    if code == 0:
        _look_at_record(setting, cell, cards[0], findings)


def _environment(card: str) -> dict[str, str]:
    """Return the environment of a launch: this Python first, one GPU, and no SLURM job, whose GPUs are not leased."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return kept | {"PATH": path, "CUDA_VISIBLE_DEVICES": card}


def _launch(cell: Cell, arguments: list, log: Path, environment: dict[str, str]) -> subprocess.Popen:
    command = ["bash", LAUNCH, "1", "1", HOLDER, "--run", cell.run_json, *arguments]
    with log.open("wb") as stream:
        return subprocess.Popen(list(map(str, command)), env=environment, stdout=stream, stderr=subprocess.STDOUT)


def _wait_for(condition, launch: subprocess.Popen) -> None:
    """Wait for a condition until the check's own limit. Raise TrainingError if the launch ends before."""
    while not condition():
        if launch.poll() is not None and not condition():
            raise TrainingError(f"a launch ended with exit code {launch.returncode} too early: see check-6-*.log")
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _look_at_record(setting: Setting, cell: Cell, card: str, findings: Findings) -> None:
    """Look for the GPU, its peak memory and its utilization in the record of the training."""
    record = read_json(result_of(cell).with_name("run_record.json"))
    told = ("device", "driver", "precision", "peak_memory_bytes", "utilisation")
    findings.figures["record"] = {name: record.get(name) for name in told}
    if setting.pretend:
        return
    findings.must(bool(record["peak_memory_bytes"]["gpu"]), "the record has no peak of GPU memory")
    findings.must(record["job"]["cuda_visible_devices"] == card, "the record does not name the GPU")
    findings.must(record["driver"] is not None, "the record does not name the driver")
