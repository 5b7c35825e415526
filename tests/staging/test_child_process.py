"""What libraries do to a process of their own ends in one line, whatever it is."""

import faulthandler
import os

import pytest

from gluegrid.common.errors import StagingError
from gluegrid.staging import model_check


def crash() -> None:
    faulthandler.disable()  # pytest's, whose words of this crash are for no reader
    os.abort()


def hang() -> None:
    while True:
        pass


def half_a_gigabyte() -> dict:
    return {"size": len(bytearray(2**29))}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (crash, r"^it: it crashed \(SIGABRT\)"),
        (lambda: os._exit(3), "^it: it exited with code 3"),
        (hang, "^it: it took more than 1 s"),
        (half_a_gigabyte, "^it: MemoryError"),
        (lambda: {}["key"], "^it: KeyError 'key'"),
    ],
    ids=["crash", "exit", "hang", "memory", "error"],
)
def test_a_library_that_crashes_hangs_or_fills_the_memory_ends_in_one_line(monkeypatch, function, message):
    monkeypatch.setattr(model_check, "CPU_SECONDS", 1 if function is hang else 60)
    monkeypatch.setattr(model_check, "MEMORY_BYTES", 2**28)
    with pytest.raises(StagingError, match=message):
        model_check.in_child("it", function)


def test_files_that_are_mapped_into_memory_are_allowed_for(monkeypatch):
    monkeypatch.setattr(model_check, "MEMORY_BYTES", 2**28)
    assert model_check.in_child("it", half_a_gigabyte, mapped_bytes=2**29) == half_a_gigabyte()
