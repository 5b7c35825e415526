"""An invocation: the plan of one call of snakemake, frozen when it starts, in a file below heads/.

The file has its experiment, the state of the code, its process and its start. An environment variable names it to every
job, which reads it instead of the config, so that edits do not affect queued jobs.
"""

import datetime
import json
import logging
import os
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from gluegrid.common.files import json_if_there, read_json, write_text
from gluegrid.common.provenance import git_state, is_running, now, this_process
from gluegrid.experiment.experiment_index import invocation_files, newest_invocation

VARIABLE = "GLUEGRID_HEAD"
# Set where the terminal shows the call's progress: jobs on this machine write to their logs alone.
LIVE = "GLUEGRID_LIVE"
SUBMITTED = "GLUEGRID_SUBMITTED"  # in a controller's job, the file of the plan that it carries out


@dataclass(frozen=True)
class SiteChoices:
    """A site's choices in its profile, which do not affect results.

    `pack_minutes` is how long a pack of small cells should take, 0 for no packs. `scratch` is the folder on a node's
    local disk to which inputs are copied; the job expands its variables.
    """

    pack_minutes: float = 15
    scratch: str = ""


def freeze(config: dict, folder: Path, started: str | None = None, site: SiteChoices | None = None) -> Path:
    """Write the invocation's file into `folder`, and name it to all jobs started from now on.

    `started` is when it began to plan (default: now); it does not know what others have made since.
    """
    path = _write(config, folder, started or now(), this_process(), site)
    os.environ[VARIABLE] = str(path)
    return path


def write_plan(config: dict, folder: Path) -> Path:
    """Write the file of an invocation without jobs, for an imported experiment or a controller; return its path."""
    # Nobody should wait for this process, or take it for a running snakemake.
    return _write(config, folder, now(), this_process() | {"process_started": None})


def submitted_plan() -> dict | None:
    """Return the plan of `make submit` that this call of snakemake carries out in a controller's job; else None."""
    path = os.environ.get(SUBMITTED)
    return read_json(Path(path)) if path else None


def _write(config: dict, folder: Path, started: str, process: dict, site: SiteChoices | None = None) -> Path:
    path = folder / f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}.json"
    content = {"started": started, "process": process, "git": git_state(), "config": config}
    content["site"] = asdict(site or SiteChoices())
    if plan := submitted_plan():
        # It runs a copy of that plan's code, which is not in a git checkout.
        content |= {"git": plan["git"], "submitted": os.environ[SUBMITTED]}
    content["written"] = datetime.datetime.now(datetime.UTC).isoformat()
    # Not sorted: the order of models and tasks in the config is the order of the tables.
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def path_of_current_invocation() -> str | None:
    """Return the path of this invocation's file; None for a script that was started by hand."""
    return os.environ.get(VARIABLE)


def current_invocation() -> dict | None:
    """Return the content of this invocation's file; None for a script that was started by hand."""
    path = path_of_current_invocation()
    return read_json(Path(path)) if path else None


def choices_of_site() -> SiteChoices:
    """Return the site's choices of this invocation; the defaults for a script that was started by hand."""
    return SiteChoices(**(current_invocation() or {}).get("site", {}))


def is_newer_than_invocation(path: Path) -> bool:
    """Tell whether a file was written since this invocation began to plan; without an invocation, whether it exists.

    A file with a time in the future does not count.
    """
    invocation = path_of_current_invocation()
    if invocation is None or not path.exists():
        return path.exists()
    return begun(Path(invocation), read_json(Path(invocation))) <= path.stat().st_mtime <= _time_on_the_disk_of(path)


def _time_on_the_disk_of(path: Path) -> float:
    """Return the current time by the clock that stamps a file."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as now_written:
        return os.fstat(now_written.fileno()).st_mtime


def begun(path: Path, invocation: dict) -> float:
    """Return when an invocation began to plan, in seconds by the clock that stamps files: the file server's, which may
    differ from those of the hosts.

    `invocation` is the content of its file; files of earlier releases have only the host's clock.
    """
    started = datetime.datetime.fromisoformat(invocation["started"]).timestamp()
    try:
        written = datetime.datetime.fromisoformat(invocation["written"]).timestamp()
        return started + round(path.stat().st_mtime - written)
    except (KeyError, OSError):
        return started


def interrupt() -> None:
    """Keep all programs of this invocation, and of other starts of it, from submitting anything more."""
    if path := path_of_current_invocation():
        for start in _starts(Path(path)):
            _interruption(start).touch()


def _starts(path: Path) -> list[Path]:
    """Return the files of all starts of an invocation: a controller may have several, any other has one."""
    plan = os.environ.get(SUBMITTED)
    if plan is None:
        return [path]
    return [file for file in path.parent.glob("*.json") if file == path or json_if_there(file).get("submitted") == plan]


def has_ended() -> bool:
    """Tell whether this invocation, on this host, was interrupted or has died; false without an invocation."""
    path = path_of_current_invocation()
    if path is None:
        return False
    return _interruption(path).exists() or not is_running(read_json(Path(path))["process"])


def was_interrupted(path: str | None) -> bool:
    """Tell whether the invocation with this file, if any, was asked to end by Ctrl-C or a signal."""
    return path is not None and _interruption(path).exists()


def was_left_behind(folder: Path, log: Path) -> bool:
    """Tell whether a job of the experiment's last invocation wrote a log, and that invocation was interrupted.

    Both times are from the clock of the file server.
    """
    newest = newest_invocation(folder)
    if newest is None or not was_interrupted(str(newest)):
        return False
    try:
        return log.stat().st_mtime >= newest.stat().st_mtime
    except OSError:
        return False


def _interruption(path: Path | str) -> Path:
    return Path(path).with_suffix(".interrupted")


@dataclass(frozen=True)
class Invocations:
    """All invocations of an experiment (at least one), newest first: the contents that `freeze` writes, with `path`.

    `controlled` is the plan of the controller that is running according to SLURM.
    """

    all: list[dict]
    controlled: str | None = None

    @property
    def newest(self) -> dict:
        """The last plan."""
        return self.all[0]

    @cached_property
    def running(self) -> list[dict]:
        """Those that run on this host, and that of the controller, on any host."""
        host = this_process()["host"]
        here = [each for each in self.all if each["process"]["host"] == host and is_running(each["process"])]
        of_controller = next((each for each in self.all if self.is_controlled(each)), None)
        return here if of_controller is None or of_controller in here else [*here, of_controller]

    def is_controlled(self, invocation: dict) -> bool:
        """Tell whether an invocation is a start of the running controller, whose newest one is current."""
        return self.controlled is not None and invocation.get("submitted") == self.controlled

    @property
    def unknown(self) -> dict | None:
        """The newest, if it was called on another host and may be running there."""
        elsewhere = self.newest["process"]["host"] != this_process()["host"]
        return self.newest if elsewhere and not self.running else None

    @cached_property
    def since(self) -> float | None:
        """When the first running one began, in seconds by the clock that stamps files; None if none is running."""
        return min((begun(invocation["path"], invocation) for invocation in self.running), default=None)


def invocations_of(experiment: Path) -> Invocations | None:
    """Return the invocations of the experiment in this folder; None if it never had one.

    Files that vanish meanwhile, or are from another release, are left out.
    """
    contents = [json_if_there(path) | {"path": path} for path in reversed(invocation_files(experiment))]
    known = [content for content in contents if {"started", "process", "config"} <= content.keys()]
    return Invocations(known) if known else None


POLL_SECONDS = 1


def tell_terminal(line: str) -> None:
    """Show one line on the terminal of this invocation; without one, on stderr."""
    path = _messages()
    if path is None:
        print(line, file=sys.stderr, flush=True)
        return
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"[{now()}] {line}\n")


class TerminalHandler(logging.Handler):
    """Lets the invocation's terminal show the warnings of a program whose log it does not show."""

    def __init__(self):
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a warning."""
        if LIVE in os.environ:
            tell_terminal(f"warning: {record.getMessage()}")


def show_messages() -> None:
    """Show the lines that programs of this invocation pass to `tell_terminal`, from now on and in the background."""
    threading.Thread(target=_show, args=(_messages(),), daemon=True).start()


def _messages() -> Path | None:
    invocation = path_of_current_invocation()
    return Path(invocation).with_suffix(".messages") if invocation else None


def _show(path: Path) -> None:
    shown = 0
    while True:
        time.sleep(POLL_SECONDS)
        text = path.read_bytes() if path.exists() else b""
        end = text.rfind(b"\n") + 1
        if end > shown:
            print(text[shown:end].decode(errors="replace"), end="", file=sys.stderr, flush=True)
            shown = end
