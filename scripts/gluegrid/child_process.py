"""Work on files of others in a process of its own, with limits on its memory and its time.

A library that crashes on a file, fills the memory or never ends takes only that process with it.
"""

import json
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from gluegrid.common.errors import GluegridError, StagingError, one_line_errors

CPU_SECONDS = 120  # torch and transformers take 10 to import, 40 when Python has not compiled them yet
MEMORY_BYTES = 6 * 2**30  # they and the largest tokenizers take 2


def in_child(what: str, function: Callable[..., dict], *arguments: object, mapped_bytes: int = 0) -> dict:
    """Return what `function` returns, as JSON keeps it; raise what goes wrong as StagingError, `what` before it.

    `mapped_bytes` are those of the files that it maps into memory, which count as memory.
    """
    # Forked, so that what this process has imported need not be imported again.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    memory = MEMORY_BYTES + mapped_bytes
    child = context.Process(target=_work, args=(sender, memory, what, function, arguments))
    child.start()
    sender.close()
    try:
        answer = json.loads(receiver.recv_bytes())
    except EOFError:
        child.join()
        raise StagingError(f"{what}: {_end_of(child.exitcode)}") from None
    finally:
        child.kill()
        child.join()
    if "error" in answer:
        raise StagingError(answer["error"])
    return answer["result"]


def _work(sender: Connection, memory: int, what: str, function: Callable[..., dict], arguments: tuple) -> None:
    _limit(resource.RLIMIT_DATA, _memory_in_use() + memory)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    if torch := sys.modules.get("torch"):
        # The threads that torch may have started were not forked; to compute with them would wait for ever.
        torch.set_num_threads(1)
    try:
        with one_line_errors(what):
            answer = {"result": function(*arguments)}
    except GluegridError as error:
        answer = {"error": str(error)}
    sender.send_bytes(json.dumps(answer).encode())


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _memory_in_use() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
    return int(pages) * resource.getpagesize()


def _end_of(code: int) -> str:
    """Say how a child ended that gave no answer."""
    if code == -signal.SIGXCPU:
        return f"it took more than {CPU_SECONDS} s; are its files broken?"
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name}), for want of memory or over a broken file"
    return f"it ended with code {code}"
