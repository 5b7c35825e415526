"""The setting of a check, and its findings."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from gluegrid.common.files import json_if_there, write_json

Value = TypeVar("Value")
SIZES_PRETENDED = "tiny"


@dataclass(frozen=True)
class Setting:
    """Where the checks work. `folder` is theirs alone and is removed at the end; `out` is the user's.

    `data` and `tokenizer` are folders, or None if they are synthetic. `cards` are the usable GPUs, of which checks see
    the first. `ends` is when the check is killed, by time.monotonic().
    """

    folder: Path
    out: Path
    data: Path | None
    tokenizer: Path | None
    pretend: bool
    cards: tuple[str, ...] = ()
    ends: float = math.inf

    @property
    def device(self) -> str:
        """The device on which checks compute."""
        return "cpu" if self.pretend else "cuda"

    @property
    def threads(self) -> int:
        """The CPU threads of each training."""
        return 1 if self.pretend else len(os.sched_getaffinity(0))

    def of(self, real: Value, pretended: Value) -> Value:
        """Return the first value on a GPU, the second if it is simulated."""
        return pretended if self.pretend else real

    def size(self, name: str) -> str:
        """Return the size of the model that is used for this size (benchmarks/sizes.py)."""
        return self.of(name, SIZES_PRETENDED)

    @property
    def seconds_left(self) -> float:
        """The seconds until the check is killed."""
        return self.ends - time.monotonic()

    def start(self, function: Callable[..., None], *arguments: object) -> BaseProcess:
        """Start a function in a process: on a GPU in a fresh one, since CUDA does not survive a fork."""
        process = get_context(self.of("spawn", "fork")).Process(target=function, args=arguments)
        process.start()
        return process

    def findings(self, number: int) -> dict:
        """Return what an earlier check has found; nothing if it has not run."""
        return json_if_there(self.path_of_findings(number))

    def path_of_findings(self, number: int) -> Path:
        """Return where a check writes what it finds."""
        return self.folder / f"check-{number}.json"


class SkippedError(Exception):
    """The reason why a check does not apply here."""


@dataclass
class Findings:
    """What a check finds: `figures` (plain data), `failures` and `notes`, for people.

    They are on disk after each `save`, so that a check that is killed at its limit keeps what it has measured.
    """

    path: Path
    figures: dict = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def must(self, holds: bool, otherwise: str) -> None:
        """Fail the check, with these words, unless something holds."""
        if not holds:
            self.failures.append(otherwise)

    def note(self, text: str) -> None:
        """Add a note for the user."""
        self.notes.append(text)

    def save(self, **values: object) -> None:
        """Write what was found so far."""
        content = {"figures": self.figures, "failures": self.failures, "notes": self.notes}
        write_json(self.path, content | values)
