"""What the machine says on which `make doctor` is called: Python, packages, disk, git, programs, the hub."""

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
FOLDERS = ("results", "resources", ".snakemake")  # what cells and their jobs write
HUB = "https://huggingface.co"
LITTLE_SPACE = 20e9  # bytes: about ten models of BERT's size, staged and trained
NO_SPACE = 1e9
LITTLE_TEMPORARY_SPACE = 1e9
FEW_FILES, HARDLY_ANY_FILES = 20_000, 1_000
REINSTALL = "rm -r .venv, then make install"
TRUE = {"1", "true", "yes", "on"}


def findings() -> Iterator[Finding]:
    """Yield what this machine has for a call of snakemake."""
    yield from python_findings()
    yield from torch_findings()
    yield from program_findings()
    yield from git_findings()
    yield from disk_findings()


def python_findings() -> Iterator[Finding]:
    """Yield Python's version, and which packages are not those of the lock."""
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield fault(
            f"Python {version}: gluegrid needs 3.11 or later", f"make PYTHON=/path/to/python3.11 install: {REINSTALL}"
        )
    locked = _locked()
    installed = {name: _installed(name) for name in locked}
    missing = [name for name, found in installed.items() if found is None]
    others = [
        f"{name} {found} for {locked[name]}"
        for name, found in installed.items()
        if found is not None and plain(found) != locked[name]
    ]
    if missing:
        yield fault(
            f"of requirements.lock, {counted(len(missing), 'package')} not installed: {listed(missing)}", REINSTALL
        )
    if others:
        yield note(
            f"{counted(len(others), 'package')} in another version than requirements.lock: {listed(others)}", REINSTALL
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
    """Yield what the installed torch needs of a driver."""
    if (build := torch_build()) is None:
        return  # said among the packages
    version, cuda = build
    if cuda is None:
        yield note(
            f"torch {version} is built without CUDA: it trains on CPUs only (`device: cpu`)",
            "for GPUs, install a build for CUDA (pytorch.org, Get Started) with .venv/bin/python -m pip",
        )
    elif oldest := oldest_driver(cuda):
        yield ok(f"torch {version} is built for CUDA {cuda}: drivers from {written(oldest)} on run it")
    else:
        yield ok(f"torch {version} is built for CUDA {cuda}")


def program_findings() -> Iterator[Finding]:
    """Yield whether programs are there that Snakemake calls."""
    if shutil.which("which") is None:
        yield fault("the program `which` is missing, which Snakemake's SLURM plugin calls", "install it (dnf, apt)")


def git_findings() -> Iterator[Finding]:
    """Yield whether records will name the code."""
    state = git_state()
    if state.get("unknown"):
        yield note(f"{state['unknown']}: records cannot name the code's commit", "mend it, or install git")
    elif state["commit"] is None:
        yield note(
            "this is no git checkout: records cannot name the code's commit",
            "take a git clone, to tell them apart later",
        )
    elif state["dirty"]:
        yield note(
            f"code changed since commit {state['commit'][:9]}: records will say so",
            "git commit, to be able to tell later",
        )
    else:
        yield ok(f"git: commit {state['commit'][:9]}, unchanged")


def disk_findings() -> Iterator[Finding]:
    """Yield how much may be written where, each file system once, and the user's quotas."""
    places = {name: _nearest(Path(name)) for name in FOLDERS}
    by_device: dict[int, list[str]] = {}
    for name, place in places.items():
        by_device.setdefault(place.stat().st_dev, []).append(name)
    for names in by_device.values():
        yield _space(
            ", ".join(names), places[names[0]], LITTLE_SPACE, "move or link them to a larger disk (docs/cluster.md)"
        )
    temporary = Path(tempfile.gettempdir())
    yield _space(
        f"temporary files ({temporary})", temporary, LITTLE_TEMPORARY_SPACE, "export TMPDIR=a folder with more"
    )
    yield from quota_findings([*places.values()], name_of_user())


def _nearest(path: Path) -> Path:
    """Return a path that is there: itself, or the folder that it would be made in."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _space(what: str, place: Path, little: float, advice: str) -> Finding:
    """Return how much space, and how many files, are left to this user at a place."""
    if not os.access(place, os.W_OK | os.X_OK):
        return fault(f"{what}: {place.resolve()} is not writable", "clone, or link, to where you may write")
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
    """Return the address of the hub, or of the mirror that the user has chosen."""
    return os.environ.get("HF_ENDPOINT") or HUB


def hub_findings() -> Iterator[Finding]:
    """Yield whether models and data can be fetched from here."""
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name, "").lower() in TRUE]
    if offline:
        yield note(f"the hub is switched off ({offline[0]})", f"unset {offline[0]} to fetch; local folders need none")
        return
    proxies = [name for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY") if os.environ.get(name)]
    through = f" through {proxies[0]}={os.environ[proxies[0]]}" if proxies else ""
    answer, where = node_report.reach(endpoint()), f"{endpoint()}{through}"
    without = "for a machine without a network: docs/offline.md"
    if answer["error"]:
        yield note(
            f"the hub does not answer at {where}: {answer['error']}",
            f"a mirror: HF_ENDPOINT; a proxy: https_proxy; {without}",
        )
    elif not answer["is_json"] or answer["status"] in (407, 502, 503):
        yield note(
            f"what answers at {where} is no hub (status {answer['status']})",
            f"is HF_ENDPOINT right, or does a login page or a proxy answer in its place? {without}",
        )
    else:
        yield ok(f"the hub answers at {where}")
