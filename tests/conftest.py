"""What all tests share: fixtures, the order in which tests start, and a report on how long each test file took."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Page, browser
from clones import Clone, clone_into
from cluster import Cluster, start
from needs import give_up
from network_trace import STRACE
from sharing_between_workers import made_once
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

PROJECT = Path(__file__).resolve().parents[1]
MARKER_OF_FIXTURE = {"cluster": "cluster", "chromium": "browser", "shared": "shared"}
SLOWEST_FIRST = ["cluster", "training", "models", "workflow", "execution", "staging", "verification", "sharing"]
_seconds: Counter[str] = Counter()


@pytest.fixture
def project() -> Path:
    """The root of the project."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and data. Tests skip if it is absent; continuous integration must have it."""
    folder = Path(os.environ.get("GLUEGRID_SHARED", PROJECT.parent / "shared"))
    if not folder.is_dir():
        give_up(f"there is no folder {folder}; GLUEGRID_SHARED can name another")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> None:
    """Limit torch to one thread, with which results are the same bits everywhere."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def fresh_accelerator() -> Iterator[Callable[[], None]]:
    """Let a test choose a precision, which Accelerate allows once per process; each call allows another one."""
    from accelerate.state import AcceleratorState

    def reset() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)

    reset()
    yield reset
    reset()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `make demo` has run, one for all workers. Copy it; do not change it."""
    return Clone(made_once(tmp_path_factory, "demo", _run_demo))


def _run_demo(root: Path) -> None:
    clone = clone_into(root)
    (clone.root / ".venv").symlink_to(sys.prefix)
    # The tests run in the locked environment already, so make must not install it again.
    make = ["make", "--old-file=.venv/installed", "demo"]
    done = subprocess.run(make, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results/demo/results.md" in done.stdout
    told = done.stderr.splitlines()
    assert sum(bool(re.match(r"\d\d:\d\d:\d\d +\d+/18 bert-demo-", line)) for line in told) == 18, done.stderr
    # On a slow machine each step of staging may take long enough for a line of its own.
    always = [line for line in told if not re.match(r"\d\d:\d\d:\d\d (fetched|tokenized) ", line)]
    assert len(always) + len(done.stdout.splitlines()) < 70, done.stderr + done.stdout


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real SLURM. Tests leave it as they found it: all nodes and daemons up, no job in the queue."""
    if os.geteuid() != 0 or shutil.which("slurmctld") is None:
        give_up("needs root and Debian's SLURM; tests/cluster/install.sh installs it")
    cluster = start(tmp_path_factory.mktemp("slurm") / "cluster")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Page]:
    """A page in a real browser. Tests skip if there is none; continuous integration must have it."""
    if (program := shutil.which("chromium")) is None:
        give_up("needs Debian's chromium; tests/cluster/install.sh installs it")
    with browser(program) as page:
        yield page


@pytest.fixture
def strace() -> tuple[str, ...]:
    """The words to put before a command to trace it."""
    if shutil.which("strace") is None:
        give_up("needs strace; tests/cluster/install.sh installs it")
    return STRACE


def pytest_configure() -> None:
    """Let the processes that tests start get a terminal's signals, even if `nohup` or a shell's `&` started the tests.

    Children inherit that a signal is ignored, but not that it has a handler.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


class ByFile(LoadScopeScheduling):
    """Gives the tests of a file to one worker, which makes its fixtures once.

    At most two clusters are started: one for the tests of faults, and one for all others.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        shares_a_cluster = path.parent.name == "cluster" and path.name != "test_faults.py"
        return str(path.parent if shares_a_cluster else path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Return the scheduler that assigns tests to the workers of pytest-xdist."""
    return ByFile(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that need more than Python."""
    for fixture, marker in MARKER_OF_FIXTURE.items():
        if fixture in item.fixturenames:
            item.add_marker(marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start long tests first, so that no worker is left with one at the end."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = Path(item.location[0]).parts[1]
    return SLOWEST_FIRST.index(folder) if folder in SLOWEST_FIRST else len(SLOWEST_FIRST)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.location[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, seconds in _seconds.most_common():
        terminalreporter.write_line(f"{seconds:.1f} s {name}")
