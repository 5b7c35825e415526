"""Check 0: what is installed, and whether torch can use the card."""

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
    """Tell versions and card; fail where torch cannot use the card."""
    findings.figures["packages"] = packages()
    for name in missing_packages():
        findings.must(False, f"the package {name} is not installed")
    cards = of_card(nvidia_smi(FIELDS), "uuid", setting.cards)
    asked = ("pid", "used_memory", "gpu_uuid")
    processes = of_card(nvidia_smi(asked, "--query-compute-apps"), "gpu_uuid", setting.cards)
    findings.figures |= {"visible": setting.cards, "cards": cards, "processes": processes}
    findings.figures["cuda_of_driver"] = cuda_of_driver()
    findings.save()
    import torch  # takes seconds, and may not load where libraries of CUDA are missing

    cuda_of_torch = setting.of(torch.version.cuda, "13.0")
    findings.figures |= {"cuda_of_torch": cuda_of_torch, "cudnn": torch.backends.cudnn.version()}
    why = why_unusable(cuda_of_torch, findings.figures["cuda_of_driver"], [card["driver_version"] for card in cards])
    if why is None and not setting.pretend and not torch.cuda.is_available():
        why = "torch.cuda.is_available() is false, though torch and driver go together; is CUDA_VISIBLE_DEVICES empty?"
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
    """Return what is said of the card that is checked, the first that can be seen; where that is a slice, of all."""
    is_slice = any(name.startswith("MIG") for name in visible[:1])
    return [row for row in rows if is_slice or row[key] in visible[:1]]


def why_unusable(cuda_of_torch: str | None, cuda_of_driver: str | None, drivers: list[str]) -> str | None:
    """Return why torch cannot use the card, in words that say what to do; None where nothing speaks against it."""
    if cuda_of_torch is None:
        return "the installed torch is built for the CPU alone: call make install where pip is offered a build for CUDA"
    if cuda_of_driver is None:
        return "no driver of NVIDIA's is loaded here: on a cluster, call this in a job that has a GPU"
    if _major(cuda_of_driver) < _major(cuda_of_torch):
        return (
            f"the driver{''.join(f' {version}' for version in drivers[:1])} is for CUDA {cuda_of_driver} at most, and"
            f" the installed torch is built for CUDA {cuda_of_torch}: ask for a newer driver, or install a torch for an"
            " older CUDA"
        )
    return None


def warnings(figures: dict) -> list[str]:
    """Return what a user should know of a card that can be used."""
    told = []
    if not figures["has_bf16"]:
        told.append("this card has no bf16: precision: auto means fp32 on it, and bf16 is left out below")
    used = max((int(card["memory.used"]) for card in figures["cards"] if card["memory.used"].isdecimal()), default=0)
    if figures["processes"] or used > USED_BY_NOBODY:
        told.append(
            f"the card is shared with others: {len(figures['processes'])} processes are at work on it and {used} MiB of"
            " its memory are taken; speeds, and what fits, will be off"
        )
    if any(card["mig.mode.current"] == "Enabled" for card in figures["cards"]):
        told.append("the card is divided (MIG): what is measured is one of its parts")
    if len(figures["visible"]) > 1:
        told.append(f"{len(figures['visible'])} cards can be seen here; the first of them is checked")
    if _minor(figures["cuda_of_driver"]) < _minor(figures["cuda_of_torch"]):
        told.append(
            f"the driver knows CUDA {figures['cuda_of_driver']}, and torch is built for {figures['cuda_of_torch']}:"
            " that works but for what is compiled on the way (torch.compile)"
        )
    return told


def packages() -> dict[str, str | None]:
    """Return the versions of the project's libraries, and of what a torch for CUDA brings."""
    names = [*_wanted(), "triton", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-nccl-cu13"]
    return {name: _version(name) for name in names}


def missing_packages() -> list[str]:
    """Return those of the project's libraries that the checks need and that are not installed."""
    not_here = {"snakemake", "snakemake-executor-plugin-slurm", "protobuf", "sentencepiece"}
    return [name for name in _wanted() if name not in not_here and _version(name) is None]


def nvidia_smi(fields: tuple[str, ...], query: str = "--query-gpu") -> list[dict[str, str]]:
    """Return what nvidia-smi says of each card, or of each process on one; nothing where it gives no answer."""
    command = ["nvidia-smi", f"{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    rows = [[value.strip() for value in line.split(",")] for line in lines]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def cuda_of_driver() -> str | None:
    """Return the newest CUDA that the driver is for, as "13.0"; None without a driver."""
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
