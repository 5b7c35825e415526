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
    """Where the checks work. `folder` is theirs alone and removed in the end, `out` the user's.

    `data` and `tokenizer` are folders, None where they are made up. `cards` are those that can be used, of which checks
    see the first. `ends`: when the check is ended, by time.monotonic().
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
        """Where checks compute."""
        return "cpu" if self.pretend else "cuda"

    @property
    def threads(self) -> int:
        """The CPU threads of what is trained."""
        return 1 if self.pretend else len(os.sched_getaffinity(0))

    def of(self, real: Value, pretended: Value) -> Value:
        """Return what is used on a card, or in its place."""
        return pretended if self.pretend else real

    def size(self, name: str) -> str:
        """Return the size of the model that stands for one of this size (benchmarks/sizes.py)."""
        return self.of(name, SIZES_PRETENDED)

    @property
    def seconds_left(self) -> float:
        """The seconds until the check is ended."""
        return self.ends - time.monotonic()

    def start(self, function: Callable[..., None], *arguments: object) -> BaseProcess:
        """Start a function as a process; on a card a fresh one, since CUDA does not survive a fork."""
        process = get_context(self.of("spawn", "fork")).Process(target=function, args=arguments)
        process.start()
        return process

    def findings(self, number: int) -> dict:
        """Return what an earlier check has found; nothing where it has not run."""
        return json_if_there(self.path_of_findings(number))

    def path_of_findings(self, number: int) -> Path:
        """Return where a check writes what it finds."""
        return self.folder / f"check-{number}.json"


class SkippedError(Exception):
    """Why a check cannot say anything here."""


@dataclass
class Findings:
    """What a check finds: `figures` (plain data), `failures` and `notes`, for people.

    They are on disk after each `save`, so that a check that is ended by its limit has not measured for nothing.
    """

    path: Path
    figures: dict = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def must(self, holds: bool, otherwise: str) -> None:
        """Let the check fail, with these words, unless something holds."""
        if not holds:
            self.failures.append(otherwise)

    def note(self, text: str) -> None:
        """Tell the user something."""
        self.notes.append(text)

    def save(self, **values: object) -> None:
        """Write what was found so far."""
        content = {"figures": self.figures, "failures": self.failures, "notes": self.notes}
        write_json(self.path, content | values)
