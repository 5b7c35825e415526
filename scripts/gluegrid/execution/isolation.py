"""What a training process must not do: talk to a network, phone home, know the user's token, or share a cache."""

import atexit
import fcntl
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

# The user's tokens, caches and switches of Hugging Face's libraries: they are for fetching.
OF_THE_HUB = ("HF_", "HUGGINGFACE_", "HUGGING_FACE_")

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}

# Variables that move a library's cache, and where to in the private folder. Of these, `import torch` makes
# TORCHINDUCTOR_CACHE_DIR and evaluate a part of HF_HOME; CUDA's driver writes when it has to compile for a new GPU.
CACHES = {
    "HF_HOME": "huggingface",
    "XDG_CACHE_HOME": "cache",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
}

# With the host's name: TMPDIR may lie on a disk that hosts share, where locks do not always reach from one to the next.
PREFIX = f"gluegrid-cell-{socket.gethostname()}-"
IN_USE = "in-use"


def isolate() -> None:
    """Set the environment for Hugging Face's libraries and torch; call it before any of them is imported.

    Caches go into a folder in TMPDIR that is removed at exit; that of a killed process, when the next one starts.
    """
    _remove_leftovers()
    folder = _private_folder()
    for name in [name for name in os.environ if name.startswith(OF_THE_HUB)]:
        del os.environ[name]
    os.environ |= OFFLINE | {name: str(folder / part) for name, part in CACHES.items()}
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _remove_leftovers() -> None:
    """Remove the folders of processes of this host that were killed: their marks are there, and not locked."""
    for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{IN_USE}"):
        with suppress(OSError), mark.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unlocked = folder / "unlocked"
    # Never closed: the system frees the lock when the process ends, however it does.
    descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR)
    # Some network file systems have no locks; a killed process's folder then stays.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unlocked.rename(folder / IN_USE)
    return folder
