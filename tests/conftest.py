"""What all tests share: where the project and the shared folder are, and how long each test file took."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from clones import Clone, clone_into

PROJECT = Path(__file__).resolve().parents[1]
_seconds: Counter[str] = Counter()


@pytest.fixture
def project() -> Path:
    """The root of the project."""
    return PROJECT


@pytest.fixture
def shared() -> Path:
    """The folder of real models and data. Tests skip where it is absent; continuous integration must have it."""
    folder = Path(os.environ.get("GLUEGRID_SHARED", PROJECT.parent / "shared"))
    if not folder.is_dir():
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"there is no folder {folder}; GLUEGRID_SHARED can name another")
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `make demo` has run. To be copied, not changed."""
    clone = clone_into(tmp_path_factory.mktemp("demo") / "clone")
    (clone.root / ".venv").symlink_to(sys.prefix)
    # The environment that runs the tests is the one of the lock; make is told not to install it again.
    make = ["make", "--old-file=.venv/installed", "demo"]
    done = subprocess.run(make, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results/demo/results.md" in done.stdout
    return clone


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.location[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, seconds in _seconds.most_common():
        terminalreporter.write_line(f"{seconds:.1f} s {name}")
