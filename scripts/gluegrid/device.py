"""The device that a run trains on, and what is recorded of it."""

import platform
import resource
import subprocess
from pathlib import Path

import torch
from accelerate import Accelerator

from gluegrid.errors import TrainingError, TransientError
from gluegrid.provenance import job
from gluegrid.run import Run

PRECISION = "fp32"


def prepare_device(run: Run) -> Accelerator:
    """Set the CPU threads and return the accelerator. Raises TransientError for a GPU job on a node without a GPU."""
    torch.set_num_threads(run.threads)
    if run.device == "cuda" and not torch.cuda.is_available():
        here = job()
        raise TransientError(
            f"this job was given a GPU, but CUDA finds none on {here['slurm_node'] or here['host']}"
            f" (CUDA_VISIBLE_DEVICES={here['cuda_visible_devices']});"
            " to train without one, set device: cpu in the experiment file"
        )
    accelerator = Accelerator(cpu=run.device == "cpu", mixed_precision="no")
    if accelerator.num_processes != 1:
        raise TrainingError(f"the run is for 1 process, and {accelerator.num_processes} were started")
    return accelerator


def describe_device(run: Run) -> dict:
    """Return the name of the device, its driver, the precision and the peak memory in bytes so far."""
    on_gpu = run.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else _processor(),
        "driver": _driver() if on_gpu else None,
        "precision": PRECISION,
        "peak_memory_bytes": {
            # Linux counts ru_maxrss in KiB.
            "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "gpu": torch.cuda.max_memory_allocated() if on_gpu else None,
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"CPU ({next(names, platform.machine())})"


def _driver() -> str | None:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split("\n")[0].strip() or None
