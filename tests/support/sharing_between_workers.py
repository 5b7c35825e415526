"""Resources that are made once for all of pytest-xdist's workers."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first worker to request it makes, while the others wait for it.

    Where a worker has failed to make it, the next one tries again, and fails in its own tests.
    """
    own = factory.getbasetemp()
    common = own.parent if own.name.startswith("popen-") else own
    folder, made = common / name, common / f"{name}.made"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder
