"""Starts of scripts/train.py by a Python that has imported what a training imports: each is a fork, with its own
environment, session and output, and costs a tenth of a second instead of five. As a script: that Python.
"""

import functools
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from waiting import wait_until

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class Started:
    """A process with the interface of subprocess.Popen, although it is not our child."""

    def __init__(self, answer: str):
        self.pid, self._ended = json.loads(answer)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        path = Path(self._ended)
        return int(path.read_text()) if path.exists() else None

    def wait(self, timeout: float) -> int:
        """Return the exit code once it has ended."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return code


def start(command: list[str], environment: dict[str, str], log: Path) -> Started:
    """Start a script with arguments as the leader of a group, its output added to the log."""
    server = _server()
    server.stdin.write(json.dumps([command, environment, str(log), str(Path.cwd())]) + "\n")
    server.stdin.flush()
    started = Started(server.stdout.readline())
    wait_until(lambda: _leads_a_group(started))  # so that its group can be killed
    return started


def _leads_a_group(started: Started) -> bool:
    try:
        return os.getpgid(started.pid) == started.pid
    except ProcessLookupError:  # it has ended already
        return True


@functools.cache
def _server() -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "ACCELERATE_"))}
    return subprocess.Popen(
        [sys.executable, __file__],
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    """Fork for each line of input; note how each child ended in a file beside its log."""
    sys.path.insert(0, str(SCRIPTS))
    import gluegrid.training.run_cell  # noqa: F401

    ended: dict[int, Path] = {}
    while True:
        while ended and (reaped := os.waitpid(-1, os.WNOHANG))[0]:
            _note(ended.pop(reaped[0]), os.waitstatus_to_exitcode(reaped[1]))
        if not select.select([0], [], [], 0.02)[0]:
            continue
        if not (line := sys.stdin.readline()):
            return
        command, environment, log, folder = json.loads(line)
        if not (pid := os.fork()):
            break
        ended[pid] = Path(f"{log}.ended.{pid}")
        print(json.dumps([pid, str(ended[pid])]), flush=True)
    _become(command, environment, Path(log), folder)
    runpy.run_path(command[0], run_name="__main__")


def _note(path: Path, code: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(str(code))
    new.rename(path)


def _become(command: list[str], environment: dict[str, str], log: Path, folder: str) -> None:
    os.setsid()
    # Signals as in a terminal, even if nohup or a shell's & started the tests.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command


if __name__ == "__main__":
    main()
