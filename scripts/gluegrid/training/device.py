"""Prepare the device that a run trains on, and describe it for the record."""

import datetime
import logging
import os
import platform
import random
import re
import resource
import subprocess
import threading
import time
from pathlib import Path

import numpy
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from gluegrid.common.errors import TrainingError, TransientError, in_one_line
from gluegrid.common.provenance import job
from gluegrid.execution.isolation import ALLOCATOR, GROWING_SEGMENTS
from gluegrid.experiment.run import Run
from gluegrid.models.deterministic_kernels import use_deterministic_kernels
from gluegrid.models.device_memory import is_out_of_memory

logger = logging.getLogger(__name__)

MIXED_PRECISION = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}  # accelerate's names
SECONDS_BETWEEN_SAMPLES = 10  # of a GPU's utilization
LONGEST_WAIT = datetime.timedelta(hours=2)  # for other processes, for instance while one scores a large split


def prepare_device(run: Run) -> Accelerator:
    """Set CPU threads, precision and kernels; return the accelerator.

    Raise TransientError if a GPU job finds no GPU, too few or full ones. Raise TrainingError if the device lacks the
    precision, or if another number of processes was started than the run needs.
    """
    torch.set_num_threads(run.threads)
    if run.device == "cuda":
        _choose_gpu(run)
        use_deterministic_kernels()
        _try_memory()
        # Its backward pass is not deterministic, has given NaN, and plans anew for each shape.
        torch.backends.cuda.enable_cudnn_sdp(False)
    precision = precision_of(run)
    set_precision(precision)
    accelerator = Accelerator(
        cpu=run.device == "cpu",
        mixed_precision=MIXED_PRECISION[precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    if accelerator.num_processes != run.processes:
        raise TrainingError(
            f"the run needs {run.processes} processes (gpus: {run.gpus}, nodes: {run.nodes}), but"
            f" {accelerator.num_processes} were started; check that --resources gpu=... allows as many"
        )
    return accelerator


def _choose_gpu(run: Run) -> None:
    """Select this process's GPU, whose precision is queried next. Raise TransientError if there is none."""
    here = job()
    where, visible = here["slurm_node"] or here["host"], here["cuda_visible_devices"]
    if not torch.cuda.is_available():
        raise TransientError(
            f"this job was given a GPU, but CUDA finds none on {where} (CUDA_VISIBLE_DEVICES={visible});"
            " to train without one, set device: cpu in the experiment file"
        )
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise TransientError(
            f"gpus: {run.gpus}, but CUDA shows a process only {count} on {where} (CUDA_VISIBLE_DEVICES={visible});"
            " it never shows more than one MIG slice"
        )
    torch.cuda.set_device(number)


def _try_memory() -> None:
    """Allocate a little GPU memory; fall back to fixed blocks if expandable segments fail, as on some virtual GPUs.

    Raise TransientError if there is no memory left.
    """
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise TransientError(
                f"the GPU of {job()['host']} ({torch.cuda.get_device_name()}) has no memory left; look with nvidia-smi"
                " whether others use it"
            ) from error
        if os.environ.get(ALLOCATOR) != GROWING_SEGMENTS:
            raise
        logger.info("allocating the GPU's memory in blocks of fixed size: %s", in_one_line(error))
        torch.cuda.memory._set_allocator_settings("expandable_segments:False")
        torch.zeros(1, device="cuda")


def precision_of(run: Run) -> str:
    """Return a run's precision on this device: fp32, tf32, bf16 or fp16. Raise TrainingError if the GPU lacks it."""
    has_bf16 = run.device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if run.precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    if run.precision == "bf16" and run.device == "cuda" and not has_bf16:
        raise TrainingError(
            f"precision: bf16 is not supported by {torch.cuda.get_device_name()}; set precision: auto or fp16"
        )
    if run.precision == "tf32" and run.device == "cuda" and not torch.cuda.is_tf32_supported():
        raise TrainingError(
            f"precision: tf32 is not supported by {torch.cuda.get_device_name()}; set precision: auto or fp32"
        )
    return run.precision


def set_precision(precision: str) -> None:
    """Let CUDA compute fp32 operations in TF32 if that is the precision, and in true fp32 otherwise.

    Set each kind of operation, since torch's defaults differ: convolutions use TF32, matrix products do not.
    """
    is_tf32 = precision == "tf32"
    # The older settings, which torch itself still reads: it raises an error if they contradict the newer ones.
    torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = is_tf32
    cudnn = torch.backends.cudnn
    for operations in (torch.backends, torch.backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn):
        operations.fp32_precision = "tf32" if is_tf32 else "ieee"


def describe_device(run: Run) -> dict:
    """Return the device's name, driver and memory, its precision and determinism, and the peak memory so far."""
    on_gpu = run.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else _processor(),
        "driver": _driver() if on_gpu else None,
        "gpu_memory_bytes": torch.cuda.get_device_properties().total_memory if on_gpu else None,
        "is_mig_slice": is_mig_slice() if on_gpu else False,
        "precision": precision_of(run),
        "deterministic": not on_gpu or torch.are_deterministic_algorithms_enabled(),
        "peak_memory_bytes": {
            # Linux counts ru_maxrss in KiB.
            "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "gpu": torch.cuda.max_memory_allocated() if on_gpu else None,
            "gpu_reserved": torch.cuda.max_memory_reserved() if on_gpu else None,
        },
    }


def is_mig_slice() -> bool:
    """Tell whether the GPU is a MIG slice, which CUDA names like "NVIDIA A100-SXM4-40GB MIG 1g.5gb"."""
    return re.search(r"\bMIG\b", torch.cuda.get_device_name()) is not None


def uuid_of_gpu(run: Run) -> str | None:
    """Return the UUID by which nvidia-smi knows this process's GPU or MIG slice; None without one."""
    if run.device == "cpu":
        return None
    return f"{'MIG' if is_mig_slice() else 'GPU'}-{torch.cuda.get_device_properties().uuid}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"CPU ({next(names, platform.machine())})"


def _driver() -> str | None:
    try:
        return _nvidia_smi("driver_version").split("\n")[0].strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _nvidia_smi(query: str, *options: str) -> str:
    """Return nvidia-smi's answer about the GPUs, a line for each."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def random_states(device: torch.device) -> dict:
    """Return the states of all generators, as plain values and tensors, without touching other devices."""
    kind, keys, *position = numpy.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *position),
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def set_random_states(states: dict, device: torch.device) -> None:
    """Restore all generators from `random_states` of this device or another of its kind."""
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        # Older checkpoints have the states of all GPUs that the process saw, in order.
        state = states["cuda"][(device.index or 0) % len(states["cuda"])]
        torch.cuda.set_rng_state(state, device)


def lacks_device(states: dict, device: torch.device) -> bool:
    """Tell whether the states lack one for a device of this kind."""
    return device.type == "cuda" and not states["cuda"]


class Utilisation:
    """A context that measures what share of the time its threads and its GPU are busy.

    `gpu` is the GPU's UUID for nvidia-smi, None without one. `measured` has `cpu` and `gpu`, from 0 to 1, None if not
    measured.
    """

    def __init__(self, threads: int, gpu: str | None):
        self.threads = threads
        self.gpu = gpu
        self.measured: dict[str, float | None] = {"cpu": None, "gpu": None}
        self._samples: list[float] = []
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Utilisation":
        self._began = time.perf_counter(), time.process_time()
        if self.gpu is not None:
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        wall, busy = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self.measured["cpu"] = busy / (wall * self.threads)
        if self._samples:
            self.measured["gpu"] = sum(self._samples) / len(self._samples)

    def _sample(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_SAMPLES):
            try:
                self._samples.append(float(_nvidia_smi("utilization.gpu", f"--id={self.gpu}")) / 100)
            except (OSError, subprocess.SubprocessError, ValueError):
                return  # nvidia-smi is missing or does not report it
