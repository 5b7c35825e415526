"""Whether a GPU, its driver and the installed torch fit together, and which build of torch would fit."""

import importlib.util
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# The oldest Linux driver that runs programs of a CUDA release family, by minor version compatibility: NVIDIA, CUDA
# Compatibility, tables of minor version compatibility, and CUDA Toolkit release notes, table 2
# (docs.nvidia.com/deploy/cuda-compatibility, docs.nvidia.com/cuda/cuda-toolkit-release-notes).
OLDEST_DRIVERS = {13: (580, 65, 6), 12: (525, 60, 13), 11: (450, 80, 2)}
DRIVER_OF_TODAY = "580"


@dataclass(frozen=True)
class Build:
    """A build of torch: its CUDA version, and the compute capabilities of the GPUs that it has code for."""

    cuda: str
    oldest_card: tuple[int, int]
    newest_card: tuple[int, int]

    @property
    def suffix(self) -> str:
        """The suffix of its version."""
        return f"+cu{self.cuda.replace('.', '')}"


# Of torch 2.12 to 2.14, for Linux on x86-64: PyTorch, RELEASE.md, "PyTorch CUDA Support Matrix", with the issues 178665
# and 190355 of pytorch/pytorch. CUDA 13 has no code for GPUs before Turing.
BUILDS = [Build("13.0", (7, 5), (12, 1)), Build("12.6", (5, 0), (9, 0))]


def torch_build() -> tuple[str, str | None] | None:
    """Return the version and the CUDA version of the installed torch, or None, without importing it."""
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
    spec = importlib.util.find_spec("torch")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    text = (folder / "version.py").read_text(encoding="utf-8") if folder and (folder / "version.py").exists() else ""
    found = re.search(r"^cuda\b[^=\n]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return version, found[1] if found else None


def oldest_driver(cuda: str) -> tuple[int, ...] | None:
    """Return the oldest driver for programs of a CUDA version; None for an unknown version."""
    return OLDEST_DRIVERS.get(int(cuda.partition(".")[0]))


def driver_runs(driver: str, cuda: str) -> bool | None:
    """Tell whether a driver runs programs of a CUDA version; None if that is not known."""
    oldest, own = oldest_driver(cuda), numbers_in(driver)
    return own >= oldest if oldest and own else None


def build_for(driver: str, capability: tuple[int, int] | None) -> Build | None:
    """Return the newest build of torch that fits a driver and a GPU; None if none does."""
    fitting = (
        build
        for build in BUILDS
        if driver_runs(driver, build.cuda)
        and (capability is None or build.oldest_card <= capability <= build.newest_card)
    )
    return next(fitting, None)


def advice_for(driver: str, capability: tuple[int, int] | None, version: str) -> str:
    """Say what to do if the installed torch does not fit."""
    build = build_for(driver, capability)
    if build is None:
        return f"no build of torch {plain(version)} fits: ask the site for driver {DRIVER_OF_TODAY} or newer"
    return (
        f"install torch=={plain(version)}{build.suffix} (for CUDA {build.cuda}; pytorch.org, Get Started)"
        " with .venv/bin/python -m pip"
        + ("" if build is BUILDS[0] else f", or ask the site for driver {DRIVER_OF_TODAY} or newer")
    )


def plain(version: str) -> str:
    """Return a version without its build suffix."""
    return version.partition("+")[0]


def written(driver: tuple[int, ...]) -> str:
    """Return a driver's version as NVIDIA writes it."""
    return ".".join([str(driver[0]), *(f"{part:02}" for part in driver[1:])])


def numbers_in(driver: str) -> tuple[int, ...]:
    """Return the numbers of a driver's version."""
    return tuple(map(int, re.findall(r"\d+", driver)))
