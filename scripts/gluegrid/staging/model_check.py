"""Check when a checkpoint is fetched whether it can be trained, so that broken and hostile files cost no GPU time.

First come cheap checks (sizes, headers, numbers). Then a separate process lets transformers build the model with
shapes but no weights, and finally reads the weights.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from gluegrid.common.errors import GluegridError, StagingError, one_line_errors
from gluegrid.models.model_config import check_sizes, read_model_config
from gluegrid.models.tokenizer import check_tokenizer_files, describe_tokenizer, positions_of
from gluegrid.models.weights import check_numbers, read_shapes

CPU_SECONDS = 120  # torch and transformers take 10 to import, 40 when Python has not compiled them yet
MEMORY_BYTES = 6 * 2**30  # they and the largest tokenizers take 2


def describe_checkpoint(folder: Path, trust_remote_code: bool) -> dict:
    """Return what a manifest records about a model besides its files. Raise StagingError, in one line.

    These are `tokenizer` (see describe_tokenizer), the number of the encoder's `parameters`, the rows of its
    `embeddings`, and its `positions`, or None. Write the tokenizer as a single file into the folder.
    """
    config = read_model_config(folder)
    check_sizes(config, read_shapes(folder))
    check_tokenizer_files(folder)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    # transformers copies a model's own code to its cache of modules and imports it from there.
    with tempfile.TemporaryDirectory(prefix="gluegrid-") as modules:
        arguments = (folder, trust_remote_code, modules)
        return in_child("the model cannot be loaded", _describe, *arguments, mapped_bytes=weights)


def _describe(folder: Path, trust_remote_code: bool, modules: str) -> dict:
    os.environ |= {
        "HF_MODULES_CACHE": modules,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RUST_BACKTRACE": "0",
    }
    from gluegrid.models.classifier import embeddings_of, load_shapes

    model = load_shapes(folder, trust_remote_code)
    check_numbers(folder)
    embeddings = embeddings_of(model)
    return {
        "tokenizer": describe_tokenizer(folder, trust_remote_code, embeddings),
        "parameters": sum(parameter.numel() for parameter in model.base_model.parameters()),
        "embeddings": embeddings,
        "positions": positions_of(model.config),
    }


def in_child(what: str, function: Callable[..., dict], *arguments: object, mapped_bytes: int = 0) -> dict:
    """Call a function in a child process; return its result, passed as JSON. Raise errors as StagingError after `what`.

    `mapped_bytes` is the size of the files that it maps into memory, which counts as memory.
    """
    # Fork, so that the child need not import again what this process has imported.
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
    # The sixth number counts the pages that RLIMIT_DATA limits.
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    _limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + memory)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    if torch := sys.modules.get("torch"):
        # Threads that torch may have started were not forked; computing with them would wait for ever.
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


def _end_of(code: int) -> str:
    """Say how a child ended without an answer."""
    if code == -signal.SIGXCPU:
        return f"it took more than {CPU_SECONDS} s; its files may be broken"
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name}), for lack of memory or because of a broken file"
    return f"it exited with code {code}"
