"""Lines that the programs a head has started want its terminal to show while they go on, as a submission that waits.

The SLURM plugin shows what `sbatch` has said only once it has ended. So such lines go through a file beside the head's.
"""

import sys
import threading
import time
from pathlib import Path

from gluegrid.common.provenance import now
from gluegrid.head import path_of_current_head

POLL_SECONDS = 1


def tell_head(line: str) -> None:
    """Let the head's terminal show one line; without a head, this one."""
    path = _messages()
    if path is None:
        print(line, file=sys.stderr, flush=True)
        return
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"[{now()}] {line}\n")


def show_messages() -> None:
    """Show, from now on and in the background, what the programs that this head starts tell it."""
    threading.Thread(target=_show, args=(_messages(),), daemon=True).start()


def _messages() -> Path | None:
    head = path_of_current_head()
    return Path(head).with_suffix(".messages") if head else None


def _show(path: Path) -> None:
    shown = 0
    while True:
        time.sleep(POLL_SECONDS)
        text = path.read_bytes() if path.exists() else b""
        end = text.rfind(b"\n") + 1
        if end > shown:
            print(text[shown:end].decode(errors="replace"), end="", file=sys.stderr, flush=True)
            shown = end
