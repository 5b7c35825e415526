"""Checks of the machine on which `make doctor` is called: Python, packages, disk, git, programs, the hub."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from gluegrid.common.escaping import listed
from gluegrid.common.files import size_in_words
from gluegrid.common.formatting import counted
from gluegrid.common.provenance import PROJECT, git_state
from gluegrid.site import node_report
from gluegrid.site.cards import oldest_driver, plain, torch_build, written
from gluegrid.site.findings import Finding, fault, note, ok
from gluegrid.site.quotas import quota_findings
from gluegrid.site.slurm_site import name_of_user

LOCK = PROJECT / "requirements.lock"
OLDEST_PYTHON = (3, 11)  # as pyproject.toml says
FOLDERS = ("results", "resources", ".snakemake")  # that cells and their jobs write to
HUB = "https://huggingface.co"
LITTLE_SPACE = 20e9  # bytes: about ten models of BERT's size, staged and trained
NO_SPACE = 1e9
LITTLE_TEMPORARY_SPACE = 1e9
FEW_FILES, HARDLY_ANY_FILES = 20_000, 1_000
REINSTALL = "rm -r .venv, then run make install"
TRUE = {"1", "true", "yes", "on"}


def findings() -> Iterator[Finding]:
    """Check whether this machine is ready for a call of snakemake."""
    yield from python_findings()
    yield from torch_findings()
    yield from program_findings()
    yield from git_findings()
    yield from disk_findings()


def python_findings() -> Iterator[Finding]:
    """Check Python's version and the installed packages against requirements.lock."""
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield fault(
            f"Python {version} is too old: gluegrid needs 3.11 or later",
            "rm -r .venv, then run make install PYTHON=/path/to/python3.11",
        )
    locked = _locked()
    installed = {name: _installed(name) for name in locked}
    missing = [name for name, found in installed.items() if found is None]
    others = [
        f"{name} {found} instead of {locked[name]}"
        for name, found in installed.items()
        if found is not None and plain(found) != locked[name]
    ]
    if missing:
        yield fault(
            f"{counted(len(missing), 'package')} of requirements.lock not installed: {listed(missing)}", REINSTALL
        )
    if others:
        yield note(
            f"{counted(len(others), 'package')} not in the version of requirements.lock: {listed(others)}", REINSTALL
        )
    if not missing and not others:
        yield ok(f"Python {version}, with the {counted(len(locked), 'package')} of requirements.lock")


def _locked() -> dict[str, str]:
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_findings() -> Iterator[Finding]:
    """Report which CUDA the installed torch is built for and which driver it needs."""
    if (build := torch_build()) is None:
        return  # reported among the packages
    version, cuda = build
    if cuda is None:
        yield note(
            f"torch {version} is built without CUDA, so it trains on CPUs only (`device: cpu`)",
            "for GPUs, install a CUDA build (pytorch.org, Get Started) with .venv/bin/python -m pip",
        )
    elif oldest := oldest_driver(cuda):
        yield ok(f"torch {version} is built for CUDA {cuda} and needs driver {written(oldest)} or newer")
    else:
        yield ok(f"torch {version} is built for CUDA {cuda}")


def program_findings() -> Iterator[Finding]:
    """Check for the programs that Snakemake calls."""
    if shutil.which("which") is None:
        yield fault("Snakemake's SLURM plugin needs the program `which`, which is missing", "install it (dnf, apt)")


def git_findings() -> Iterator[Finding]:
    """Check whether records can name the code's commit."""
    state = git_state()
    if state.get("unknown"):
        yield note(f"{state['unknown']}: records cannot name the code's commit", "install git, or repair the clone")
    elif state["commit"] is None:
        yield note(
            "not a git checkout: records cannot name the code's commit",
            "work in a git clone, so that records name the code that made them",
        )
    elif state["dirty"]:
        yield note(
            f"code changed since commit {state['commit'][:9]}: records will say so",
            "commit your changes, so that records name the code that made them",
        )
    else:
        yield ok(f"git: commit {state['commit'][:9]}, unchanged")


def disk_findings() -> Iterator[Finding]:
    """Check the free space of each file system that is written to, and the user's quotas."""
    places = {name: _nearest(Path(name)) for name in FOLDERS}
    by_device: dict[int, list[str]] = {}
    for name, place in places.items():
        by_device.setdefault(place.stat().st_dev, []).append(name)
    for names in by_device.values():
        yield _space(
            ", ".join(names),
            places[names[0]],
            LITTLE_SPACE,
            "move them to a larger disk, or link them to one (docs/cluster.md)",
        )
    temporary = Path(tempfile.gettempdir())
    yield _space(
        f"temporary files ({temporary})", temporary, LITTLE_TEMPORARY_SPACE, "set TMPDIR to a folder with more space"
    )
    yield from quota_findings([*places.values()], name_of_user())


def _nearest(path: Path) -> Path:
    """Return the path itself if it exists, else the nearest folder above it that does."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _space(what: str, place: Path, little: float, advice: str) -> Finding:
    """Report how much space and how many files are left to this user at a place."""
    if not os.access(place, os.W_OK | os.X_OK):
        return fault(
            f"{what}: {place.resolve()} is not writable", "move the clone, or link the folder, to where you can write"
        )
    status = os.statvfs(place)
    free, kind = status.f_bavail * status.f_frsize, node_report.kind_of_file_system(str(place))
    files = f", room for {status.f_favail:,} files" if status.f_files else ""
    told = f"{what}: {size_in_words(free)} free{files} ({kind})"
    if status.f_files and status.f_favail < FEW_FILES:  # 0: this file system does not count files
        mark = note if status.f_favail > HARDLY_ANY_FILES else fault
        return mark(told, advice)
    if free < min(NO_SPACE, little / 10):
        return fault(told, advice)
    return note(told, advice) if free < little else ok(told)


def endpoint() -> str:
    """Return the address of the hub or of the user's mirror."""
    return os.environ.get("HF_ENDPOINT") or HUB


def hub_findings() -> Iterator[Finding]:
    """Check whether models and datasets can be fetched from here."""
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name, "").lower() in TRUE]
    if offline:
        yield note(
            f"the hub is switched off by {offline[0]}",
            f"unset {offline[0]} to fetch models and datasets; local folders do not need the hub",
        )
        return
    proxies = [name for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY") if os.environ.get(name)]
    through = f" through {proxies[0]}={os.environ[proxies[0]]}" if proxies else ""
    answer, where = node_report.reach(endpoint()), f"{endpoint()}{through}"
    without = "without a network, see docs/offline.md"
    if answer["error"]:
        yield note(
            f"the hub does not answer at {where}: {answer['error']}",
            f"set HF_ENDPOINT for a mirror or https_proxy for a proxy; {without}",
        )
    elif not answer["is_json"] or answer["status"] in (407, 502, 503):
        yield note(
            f"{where} answers, but not as the hub does (status {answer['status']})",
            f"check HF_ENDPOINT, and whether a login page or a proxy answers in its place; {without}",
        )
    else:
        yield ok(f"the hub answers at {where}")
