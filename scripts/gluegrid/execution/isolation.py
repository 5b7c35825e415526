"""Isolate a training process: no network, no telemetry, no access to the user's tokens and caches."""

import atexit
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path

# The user's tokens, caches and settings for Hugging Face's libraries, which are only for staging.
OF_THE_HUB = ("HF_", "HUGGINGFACE_", "HUGGING_FACE_")

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}

# Variables that set a library's cache, and its place in the private folder. evaluate uses a part of HF_HOME.
CACHES = {"HF_HOME": "huggingface", "XDG_CACHE_HOME": "cache", "TORCH_HOME": "torch"}

# The same for code compiled for a GPU, which other cells on such a GPU need, too. `import torch` creates the first; the
# CUDA driver writes when it has to compile for a new GPU. Torch and Triton name files by hashes of their inputs and
# rename them when they are complete, so cells may write at the same time or be killed; the driver locks its own files.
CACHES_OF_KERNELS = {
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
}
MOST_BYTES_OF_CUDAS_CACHE = 2**28
DRIVER = Path("/proc/driver/nvidia")

# How torch allocates memory on the GPU, by the variable that it reads first. With growing segments, batches of many
# lengths leave no unusable gaps. A user's own setting, in either variable, is kept.
ALLOCATOR, GROWING_SEGMENTS = "PYTORCH_ALLOC_CONF", "expandable_segments:True"
OLDER_ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"

# Contains the host's name, since TMPDIR may be on a disk that hosts share, where locks may not work across hosts.
PREFIX = f"gluegrid-cell-{socket.gethostname()}-"
IN_USE = "in-use"


def isolate(kernels: Path | None = None) -> None:
    """Set the environment for Hugging Face's libraries and torch; call it before any of them is imported.

    Caches go into a folder in TMPDIR that is removed at exit, or after a kill when the next process starts. Code
    compiled for a GPU is kept in the folder `kernels`, if that is given and writable.
    """
    _remove_leftovers()
    folder = _private_folder()
    for name in [name for name in os.environ if name.startswith(OF_THE_HUB)]:
        del os.environ[name]
    os.environ |= OFFLINE | {name: str(folder / part) for name, part in CACHES.items()}
    of_kernels = (kernels and _kernels_of_such_machines(kernels)) or folder
    os.environ |= {name: str(of_kernels / part) for name, part in CACHES_OF_KERNELS.items()}
    os.environ.setdefault("CUDA_CACHE_MAXSIZE", str(MOST_BYTES_OF_CUDAS_CACHE))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if OLDER_ALLOCATOR not in os.environ:
        os.environ.setdefault(ALLOCATOR, GROWING_SEGMENTS)


def _kernels_of_such_machines(folder: Path) -> Path | None:
    """Return the folder, created if necessary, for kernels of these versions and GPUs; None if it is not writable.

    Since its name contains them, folders for old releases and GPUs can be recognized and deleted.
    """
    torch = _version("torch")
    made_for = [torch, _version("triton"), _lines(DRIVER / "version")[:1], _cards()]
    key = hashlib.sha256(repr(made_for).encode()).hexdigest()[:12]
    mine = (folder / f"torch-{torch}-{key}").resolve()
    try:
        mine.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=mine):
            return mine
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cards() -> list[str]:
    """Return the models of this machine's GPUs as listed by NVIDIA's driver; empty without one."""
    lines = (line for path in DRIVER.glob("gpus/*/information") for line in _lines(path))
    return sorted({line.partition(":")[2].strip() for line in lines if line.startswith("Model:")})


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _remove_leftovers() -> None:
    """Remove the folders of killed processes of this host: those whose marker file is not locked."""
    for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{IN_USE}"):
        with suppress(OSError), mark.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unlocked = folder / "unlocked"
    # Never closed: the system releases the lock when the process ends, however it does.
    descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR)
    # Some network file systems have no locks; the folder of a killed process then remains.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unlocked.rename(folder / IN_USE)
    return folder
