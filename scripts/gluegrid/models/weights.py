"""A checkpoint's safetensors files, checked to be what their headers say, and their weights to be numbers.

The format: 8 bytes with the header's length, the header in JSON (name to dtype, shape and offsets), and the numbers;
https://github.com/huggingface/safetensors#format. The library checks that the tensors' sizes follow from dtype and
shape and fill the file without gap or overlap. What it lets through is checked here.
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
WEIGHT_NAMES = (".weight", ".bias", ".gamma", ".beta")  # masks and their like may well be infinite
TRAINABLE = ("F64", "F32", "F16", "BF16")


def read_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor that transformers will load. Raises StagingError, naming the file."""
    files = {path.name: _shapes_in(path) for path in sorted(folder.glob("*.safetensors"))}
    used = [WEIGHTS] if WEIGHTS in files else _shards(folder, files)
    shapes = {name: shape for file in used for name, shape in files[file].items()}
    if not shapes:
        raise StagingError(f"{', '.join(used)}: holds no weights; save the model again")
    return shapes


def check_numbers(folder: Path) -> None:
    """Read every weight; StagingError names the first that has NaN or infinity, which no learning rate can train."""
    import safetensors
    import torch

    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys()
        for name in names:
            # Opened for each: what was read of an open file stays in memory.
            with safetensors.safe_open(path, framework="pt") as file:
                if name.endswith(WEIGHT_NAMES) and not torch.isfinite(file.get_tensor(name)).all():
                    raise StagingError(
                        f"{path.name}: {shown(name)} has infinity, or what is no number, among its weights;"
                        " no training can mend that: use another checkpoint"
                    )


def _shards(folder: Path, files: dict[str, dict]) -> list[str]:
    """Return the files that the index names, each with all that the index expects in it."""
    if not (folder / INDEX).exists():
        raise StagingError(f"{INDEX}: is not there, and no {WEIGHTS} either; which shards make up the model?")
    index = read_untrusted_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise StagingError(f"{INDEX}: has no weight_map from names to files")
    for name, file in index.items():
        if file not in files:
            raise StagingError(f"{INDEX}: expects {shown(name)} in {shown(file)}, which is none of the model's files")
        if name not in files[file]:
            raise StagingError(f"{INDEX}: expects {shown(name)} in {file}, which does not have it")
    return sorted(set(index.values()))


def _shapes_in(path: Path) -> dict[str, list[int]]:
    import safetensors

    header = _header(path)
    with one_line_errors(f"{path.name}: is not whole, or its header lies"):
        with safetensors.safe_open(path, framework="np"):
            pass
        tensors = json.loads(header, object_pairs_hook=unique_keys)
    tensors.pop("__metadata__", None)
    for name, tensor in tensors.items():
        if len(tensor["shape"]) > MOST_DIMENSIONS:
            raise StagingError(f"{path.name}: {shown(name)} has {len(tensor['shape'])} dimensions")
        if name.endswith(".weight") and tensor["dtype"] not in TRAINABLE:
            raise StagingError(
                f"{path.name}: {shown(name)} is of {tensor['dtype']}, as in a quantised model;"
                f" gluegrid trains weights of {', '.join(TRAINABLE)}"
            )
    return {name: tensor["shape"] for name, tensor in tensors.items()}


def _header(path: Path) -> bytes:
    """Return a file's header, unless its length cannot be true: the library would read 100 MB of one."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
            problem = f"is not whole, or its header lies: {length} bytes of header in {size}"
            raise StagingError(f"{path.name}: {problem}; copy or download it again")
        if length > LARGEST_HEADER:
            raise StagingError(
                f"{path.name}: its header is {size_in_words(length)}, more than {size_in_words(LARGEST_HEADER)}"
            )
        return stream.read(length)
