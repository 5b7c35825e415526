"""Check 0: the installed versions, and whether torch can use the GPU."""

import ctypes
import re
import subprocess
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .setting import Findings, Setting

PROJECT = Path(__file__).resolve().parents[2]
FIELDS = ("name", "uuid", "driver_version", "memory.total", "memory.used", "utilization.gpu", "mig.mode.current")
USED_BY_NOBODY = 1024  # MiB: what a driver keeps for itself, and more
OLDEST_WITH_BF16 = (8, 0)  # compute capability


def look(setting: Setting, findings: Findings) -> None:
    """Report versions and GPU; fail if torch cannot use the GPU."""
    findings.figures["packages"] = packages()
    for name in missing_packages():
        findings.must(False, f"the package {name} is not installed")
    cards = of_card(nvidia_smi(FIELDS), "uuid", setting.cards)
    asked = ("pid", "used_memory", "gpu_uuid")
    processes = of_card(nvidia_smi(asked, "--query-compute-apps"), "gpu_uuid", setting.cards)
    findings.figures |= {"visible": setting.cards, "cards": cards, "processes": processes}
    findings.figures["cuda_of_driver"] = cuda_of_driver()
    findings.save()
    import torch  # takes seconds, and may fail to load if CUDA libraries are missing

    cuda_of_torch = setting.of(torch.version.cuda, "13.0")
    findings.figures |= {"cuda_of_torch": cuda_of_torch, "cudnn": torch.backends.cudnn.version()}
    why = why_unusable(cuda_of_torch, findings.figures["cuda_of_driver"], [card["driver_version"] for card in cards])
    if why is None and not setting.pretend and not torch.cuda.is_available():
        why = "torch.cuda.is_available() is false, though torch and the driver fit; check CUDA_VISIBLE_DEVICES"
    findings.figures["is_usable"] = why is None
    findings.must(why is None, str(why))
    if why is not None:
        return
    capability = setting.of(torch.cuda.get_device_capability, lambda: (9, 0))()
    findings.figures |= {"capability": capability, "has_bf16": tuple(capability) >= OLDEST_WITH_BF16}
    findings.figures["device"] = setting.of(torch.cuda.get_device_name, lambda: cards[0]["name"])()
    driver = cards[0]["driver_version"] if cards else "unknown"
    findings.note(f"{findings.figures['device']}, driver {driver}; torch {torch.__version__}")
    for warning in warnings(findings.figures):
        findings.note(warning)


def of_card(rows: list[dict[str, str]], key: str, visible: Sequence[str]) -> list[dict[str, str]]:
    """Return nvidia-smi's row of the checked GPU, which is the first visible one; all rows if that is a MIG slice."""
    is_slice = any(name.startswith("MIG") for name in visible[:1])
    return [row for row in rows if is_slice or row[key] in visible[:1]]


def why_unusable(cuda_of_torch: str | None, cuda_of_driver: str | None, drivers: list[str]) -> str | None:
    """Return why torch cannot use the GPU, and what to do; None if nothing is wrong."""
    if cuda_of_torch is None:
        return "the installed torch is built for CPUs only: run make install where pip finds a CUDA build"
    if cuda_of_driver is None:
        return "no NVIDIA driver is loaded here: on a cluster, run this in a job with a GPU"
    if _major(cuda_of_driver) < _major(cuda_of_torch):
        return (
            f"the driver{''.join(f' {version}' for version in drivers[:1])} supports CUDA up to {cuda_of_driver},"
            f" but the installed torch is built for CUDA {cuda_of_torch}: ask for a newer driver, or install a"
            " build for an older CUDA"
        )
    return None


def warnings(figures: dict) -> list[str]:
    """Return notes about a usable GPU."""
    told = []
    if not figures["has_bf16"]:
        told.append("this GPU does not support bf16: precision: auto means fp32 here, and bf16 checks are skipped")
    used = max((int(card["memory.used"]) for card in figures["cards"] if card["memory.used"].isdecimal()), default=0)
    if figures["processes"] or used > USED_BY_NOBODY:
        told.append(
            f"others use this GPU: {len(figures['processes'])} processes run on it and {used} MiB of its memory are"
            " taken; measured speeds and memory limits will be unreliable"
        )
    if any(card["mig.mode.current"] == "Enabled" for card in figures["cards"]):
        told.append("the GPU is divided by MIG: one of its slices is measured")
    if len(figures["visible"]) > 1:
        told.append(f"{len(figures['visible'])} GPUs are visible here; the first of them is checked")
    if _minor(figures["cuda_of_driver"]) < _minor(figures["cuda_of_torch"]):
        told.append(
            f"the driver supports CUDA {figures['cuda_of_driver']}, but torch is built for {figures['cuda_of_torch']}:"
            " everything works except run-time compilation (torch.compile)"
        )
    return told


def packages() -> dict[str, str | None]:
    """Return the versions of the project's libraries, and of those that a torch for CUDA brings."""
    names = [*_wanted(), "triton", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-nccl-cu13"]
    return {name: _version(name) for name in names}


def missing_packages() -> list[str]:
    """Return the project's libraries that the checks need but that are not installed."""
    not_here = {"snakemake", "snakemake-executor-plugin-slurm", "protobuf", "sentencepiece"}
    return [name for name in _wanted() if name not in not_here and _version(name) is None]


def nvidia_smi(fields: tuple[str, ...], query: str = "--query-gpu") -> list[dict[str, str]]:
    """Return what nvidia-smi says of each GPU, or of each process on one; nothing if it does not answer."""
    command = ["nvidia-smi", f"{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    rows = [[value.strip() for value in line.split(",")] for line in lines]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def cuda_of_driver() -> str | None:
    """Return the newest CUDA that the driver supports, such as "13.0"; None without a driver."""
    number = ctypes.c_int()
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) == 0:
            return f"{number.value // 1000}.{number.value % 1000 // 10}"
    except (OSError, AttributeError):
        pass
    try:
        said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=15).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"CUDA[A-Za-z ]* Version: *(\d+\.\d+)", said)
    return match[1] if match else None


def _wanted() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return [re.match(r"[A-Za-z0-9-]+", requirement)[0] for requirement in project["project"]["dependencies"]]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
