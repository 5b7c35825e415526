"""Run checks, each in a process of its own with a time limit, and print what they found."""

import importlib
import json
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

from gluegrid.common.errors import GluegridError, in_one_line
from gluegrid.common.files import json_if_there, write_text
from gluegrid.common.provenance import PROJECT, git_state, now, versions
from gluegrid.execution.isolation import ALLOCATOR, GROWING_SEGMENTS
from gluegrid.execution.visible_gpus import visible_gpus

from .setting import Findings, Setting, SkippedError

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
MADE_FROM = PROJECT / "made_from.json"  # names the commit where there is no checkout any more
NO_CARD = "no GPU can be used here; the first check says why"


@dataclass(frozen=True)
class Check:
    """A check: `place` names its function as <module of gpu_checks>.<function>, `seconds` is its limit."""

    number: int
    name: str
    seconds: float
    place: str

    def function(self) -> Callable[[Setting, Findings], None]:
        """Return the check's function. Load its module, and what that imports, only now."""
        module, _, function = self.place.rpartition(".")
        return getattr(importlib.import_module(f"{__package__}.{module}"), function)


def run_all(checks: Sequence[Check], setting: Setting, seconds_in_all: float, limit: float | None = None) -> bool:
    """Run the checks one after the other, report each, and write gpu-check.json; return whether none failed.

    `limit` replaces the checks' own limits, if given.
    """
    if setting.pretend:
        print("simulated on a CPU: nothing below was measured on a GPU", flush=True)
        _prepare_pretence(checks, setting)
    ends = time.monotonic() + seconds_in_all
    setting = replace(setting, cards=tuple(visible_gpus()))
    report = {
        "started": now(),
        "command": sys.argv,
        "pretended": setting.pretend,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "versions": versions(),
        "git": json_if_there(MADE_FROM) or git_state(),
        "checks": [],
    }
    for check in checks:
        result = _result(check, setting, min(limit or check.seconds, ends - time.monotonic()), report["checks"])
        report["checks"].append(result)
        _tell(check, result)
        write_text(setting.out / "gpu-check.json", json.dumps(report | {"finished": now()}, indent=2) + "\n")
    _tell_all(report["checks"], setting)
    return not any(result["result"] == FAILED for result in report["checks"])


def _prepare_pretence(checks: Sequence[Check], setting: Setting) -> None:
    """Import all checks once, since they are forks of this process, and install a stand-in for nvidia-smi."""
    from . import pretended

    pretended.put_nvidia_smi_first(setting.folder / "bin")
    for check in checks:
        with suppress(Exception):  # the check itself then fails
            check.function()


def _result(check: Check, setting: Setting, limit: float, earlier: list[dict]) -> dict:
    about = {"number": check.number, "name": check.name, "seconds": 0.0, "limit": limit, "figures": {}, "notes": []}
    if any(result["figures"].get("is_usable") is False for result in earlier):
        return about | {"result": SKIPPED, "why": NO_CARD}
    if limit <= 0:
        return about | {"result": SKIPPED, "why": "the total time limit of all checks is over"}
    began = time.monotonic()
    process = setting.start(_run, check, replace(setting, ends=began + limit))
    try:
        process.join(limit)
        is_late = process.is_alive()
    finally:
        _end(process)
    found = {"figures": {}, "failures": [], "notes": []} | setting.findings(check.number)
    why = found.get("skipped")
    failures = found["failures"]
    if is_late:
        failures = [*failures, f"took longer than {limit:.0f} s"]
    elif not found.get("is_complete"):
        failures = [*failures, _how_it_ended(process.exitcode)]
    result = FAILED if failures else SKIPPED if why else OK
    about |= {"seconds": time.monotonic() - began, "figures": found["figures"], "notes": found["notes"]}
    return about | {"result": result, "why": "; ".join(failures) or why}


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process exited with code {code}"


def _end(process: BaseProcess) -> None:
    """Kill a check's process, if it still runs, and everything that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _run(check: Check, setting: Setting) -> None:
    """Run a check in this process, as the leader of a group that can be killed as a whole, with its output in a log."""
    os.setsid()
    with (setting.out / f"check-{check.number}.log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _prepare_environment(setting)
    findings = Findings(setting.path_of_findings(check.number))
    skipped = None
    try:
        check.function()(setting, findings)
    except SkippedError as reason:
        skipped = str(reason)
    except Exception as error:  # libraries and drivers may raise anything
        traceback.print_exc()
        findings.failures.append(f"{_told(error)} (check-{check.number}.log has more)")
    findings.save(is_complete=True, skipped=skipped)
    for child in multiprocessing.active_children():
        child.kill()  # else this process would wait for it


def _prepare_environment(setting: Setting) -> None:
    """Show the check one GPU, set up torch's memory as for cells, and keep leases apart from those of cells."""
    os.environ["TMPDIR"], tempfile.tempdir = str(setting.folder), None
    if not setting.pretend:
        os.environ.setdefault(ALLOCATOR, GROWING_SEGMENTS)
    if setting.cards:
        os.environ["CUDA_VISIBLE_DEVICES"] = setting.cards[0]


def _told(error: Exception) -> str:
    message, name = in_one_line(error), type(error).__name__
    return message if isinstance(error, GluegridError) or message.startswith(name) else f"{name}: {message}"


def _tell(check: Check, result: dict) -> None:
    why = f"  {result['why']}" if result["why"] else ""
    print(f"{check.number}  {check.name:<40} {result['result']:<8} {result['seconds']:5.1f} s{why}", flush=True)
    for note in result["notes"]:
        print(f"     {note}", flush=True)


def _tell_all(results: list[dict], setting: Setting) -> None:
    counts = {kind: sum(result["result"] == kind for result in results) for kind in (OK, FAILED, SKIPPED)}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    seconds = sum(result["seconds"] for result in results)
    print(f"{told}; {seconds:.0f} s; {setting.out / 'gpu-check.json'}", flush=True)
