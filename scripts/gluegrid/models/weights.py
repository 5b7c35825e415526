"""Check that a checkpoint's safetensors files match their headers, and that all weights are finite.

The format is: 8 bytes with the header's length, the header in JSON (name to dtype, shape and offsets), and the values;
see https://github.com/huggingface/safetensors#format. The library checks that the tensors' sizes match dtype and shape
and fill the file without gap or overlap. This module checks the rest.
"""

import json
from pathlib import Path

from gluegrid.common.errors import StagingError, one_line_errors
from gluegrid.common.files import size_in_words, unique_keys
from gluegrid.models.model_config import read_untrusted_json, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LENGTH_BYTES = 8
LARGEST_HEADER = 10_000_000  # bytes; a tensor takes about 100
MOST_DIMENSIONS = 16
WEIGHT_NAMES = (".weight", ".bias", ".gamma", ".beta")  # other tensors, such as masks, may be infinite
TRAINABLE = ("F64", "F32", "F16", "BF16")


def read_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor that transformers will load. Raises StagingError, which names the file."""
    files = {path.name: _shapes_in(path) for path in sorted(folder.glob("*.safetensors"))}
    used = [WEIGHTS] if WEIGHTS in files else _shards(folder, files)
    shapes = {name: shape for file in used for name, shape in files[file].items()}
    if not shapes:
        raise StagingError(f"{', '.join(used)}: contains no weights; save the model again")
    return shapes


def check_numbers(folder: Path) -> None:
    """Read every weight. Raises StagingError, which names the first one with NaN or infinity."""
    import safetensors
    import torch

    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys()
        for name in names:
            # Reopened for each tensor, since what was read from an open file stays in memory.
            with safetensors.safe_open(path, framework="pt") as file:
                if name.endswith(WEIGHT_NAMES) and not torch.isfinite(file.get_tensor(name)).all():
                    raise StagingError(
                        f"{path.name}: {shown(name)} contains infinite values or NaN, which training cannot repair;"
                        " use another checkpoint"
                    )


def _shards(folder: Path, files: dict[str, dict]) -> list[str]:
    """Return the files that the index names, after checking that each contains what the index expects."""
    if not (folder / INDEX).exists():
        raise StagingError(f"{INDEX}: is missing, and so is {WEIGHTS}; copy or download the model again")
    index = read_untrusted_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise StagingError(f"{INDEX}: lacks a weight_map from names to files; copy or download it again")
    for name, file in index.items():
        if file not in files:
            raise StagingError(
                f"{INDEX}: expects {shown(name)} in {shown(file)}, which is not one of the model's files"
            )
        if name not in files[file]:
            raise StagingError(f"{INDEX}: expects {shown(name)} in {file}, which does not contain it")
    return sorted(set(index.values()))


def _shapes_in(path: Path) -> dict[str, list[int]]:
    import safetensors

    header = _header(path)
    with one_line_errors(f"{path.name}: is incomplete, or its header is wrong"):
        with safetensors.safe_open(path, framework="np"):
            pass
        tensors = json.loads(header, object_pairs_hook=unique_keys)
    tensors.pop("__metadata__", None)
    for name, tensor in tensors.items():
        if len(tensor["shape"]) > MOST_DIMENSIONS:
            raise StagingError(f"{path.name}: {shown(name)} has {len(tensor['shape'])} dimensions")
        if name.endswith(".weight") and tensor["dtype"] not in TRAINABLE:
            raise StagingError(
                f"{path.name}: {shown(name)} has the type {tensor['dtype']}, as in a quantized model;"
                f" gluegrid can train only {', '.join(TRAINABLE)}"
            )
    return {name: tensor["shape"] for name, tensor in tensors.items()}


def _header(path: Path) -> bytes:
    """Return a file's header after checking its stated length, since the library would read up to 100 MB."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
            problem = f"is incomplete, or its header is wrong: {length} bytes of header in a file of {size}"
            raise StagingError(f"{path.name}: {problem}; copy or download it again")
        if length > LARGEST_HEADER:
            raise StagingError(
                f"{path.name}: its header has {size_in_words(length)}, more than {size_in_words(LARGEST_HEADER)};"
                " copy or download it again"
            )
        return stream.read(length)
