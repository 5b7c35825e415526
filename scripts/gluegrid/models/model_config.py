"""Check a checkpoint's config.json against its weights, before transformers builds a model of the sizes it states."""

import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path

from gluegrid.common.errors import StagingError
from gluegrid.common.files import size_in_words

logger = logging.getLogger(__name__)

CONFIG = "config.json"
# The names of four kinds of sizes in transformers' text models.
WIDTHS = {
    *("vocab_size", "hidden_size", "intermediate_size", "embedding_size", "pooler_hidden_size", "dim", "hidden_dim"),
    *("d_model", "d_ff", "d_inner", "n_embd", "n_inner", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"),
}
HEADS = {
    *("num_attention_heads", "num_key_value_heads", "num_heads", "n_heads", "n_head"),
    *("encoder_attention_heads", "decoder_attention_heads"),
}
LAYERS = {
    *("num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers"),
    *("num_decoder_layers", "num_hidden_groups", "inner_group_num"),
}
POSITIONS = {"max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_length", "max_seq_len"}
SIZES = WIDTHS | HEADS | LAYERS
# A model that shares weights between layers, as ALBERT does, has more layers than tensors.
MOST_SHARED_LAYERS = 100
MOST_POSITIONS = 10_000_000  # transformers enumerates them, even without embeddings
MOST_LABELS = 100_000  # transformers makes a name for each
# Larger than any number of tokens, and than any integer base of rotary positions.
LARGEST_INTEGER = 2**31 - 1
# Keys that make transformers load other files than those that were staged, or weights that cannot be trained.
REFUSED = {
    "transformers_weights": "names another weights file, but gluegrid loads model.safetensors; remove it",
    "quantization_config": "says that the weights are quantized, which cannot be trained; use unquantized weights",
}
IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
NOT_TRUSTED = (
    "has its own Python code (auto_map), which gluegrid runs only with `trust_remote_code: true` for the model in the"
    " experiment file"
)
MOST_BYTES = 10_000_000  # per JSON file
DEEPEST = 32
LONGEST_SHOWN = 60
CLASS_REFERENCE = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)


def read_model_config(folder: Path) -> dict:
    """Return the checkpoint's config.json, checked as far as possible without the weights. Raises StagingError."""
    config = read_untrusted_json(folder / CONFIG)
    for key, _, value in every_value(config):
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise StagingError(f"{CONFIG}: {shown(key)} is {shown(value)}, which is too large for any model")
    for part in _parts(config):
        _check_keys(part)
        _check_labels(part)
        _check_numbers(part)
    return config


def _parts(config: dict) -> Iterator[dict]:
    """Yield the config and the configs of its parts, such as `text_config`."""
    yield config
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, dict):
            yield from _parts(value)


def _check_keys(config: dict) -> None:
    for key, reason in REFUSED.items():
        if config.get(key):
            raise StagingError(f"{CONFIG}: {key} {reason}")
    for key in IMPLEMENTATIONS:
        if "/" in str(config.get(key)):
            raise StagingError(f"{CONFIG}: {key} names code on the hub, {shown(config[key])}; remove it")


def _check_labels(config: dict) -> None:
    for key, number in config.items():
        is_number_of_labels = type(number) is int and 0 <= number <= MOST_LABELS
        if key.endswith("num_labels") and number is not None and not is_number_of_labels:
            raise StagingError(f"{CONFIG}: {key} is {shown(number)}; it must be a number of labels up to {MOST_LABELS}")
    for key in ("id2label", "label2id"):
        labels = config.get(key) or {}
        if not isinstance(labels, dict) or len(labels) > MOST_LABELS:
            raise StagingError(f"{CONFIG}: {key} must be a mapping of up to {MOST_LABELS} labels")


def _check_numbers(config: dict) -> None:
    for key in sorted(config.keys() & SIZES):
        for number in _numbers(config, key):
            if type(number) is not int or number < 1:
                raise StagingError(f"{CONFIG}: {key} is {shown(number)}; it must be a positive whole number")
    for key in sorted(config.keys() & POSITIONS):
        if isinstance(config[key], int | float) and config[key] > MOST_POSITIONS:
            raise StagingError(f"{CONFIG}: {key} is {shown(config[key])}, more positions than any model has")


def _numbers(config: dict, key: str) -> list:
    """Return the numbers under a key: one, one for each layer, or none where it is null."""
    value = config[key]
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def check_sizes(config: dict, shapes: dict[str, list[int]]) -> None:
    """Raise StagingError for a size that no tensor has, and for layers without tensors. `shapes` are the weights'.

    This is a cheap plausibility check; the exact comparison happens when transformers builds the model.
    """
    largest = max((max(shape, default=1) for shape in shapes.values() if 0 not in shape), default=0)
    for part in _parts(config):
        for key in sorted(part.keys() & (WIDTHS | HEADS)):
            if max(_numbers(part, key), default=0) > largest:
                raise StagingError(
                    f"{CONFIG}: {key} is {shown(part[key])}, but the largest dimension of the weights is {largest}"
                )
        for key in sorted(part.keys() & LAYERS):
            if max(_numbers(part, key), default=0) > max(len(shapes), MOST_SHARED_LAYERS):
                raise StagingError(f"{CONFIG}: {key} is {shown(part[key])}, but the weights have {len(shapes)} tensors")


def check_trusted_code(file: str, references: list, folder: Path) -> None:
    """Log that the model's own code is about to run, given the classes (or None) that its `auto_map` names.

    Raises StagingError if a class is not in a module in the folder, as "modeling_x.X" is in modeling_x.py.
    """
    for reference in references:
        if reference is None:
            continue
        if isinstance(reference, str) and "--" in reference:
            raise StagingError(
                f"{file}: its code {shown(reference)} is in another repository, which is not staged;"
                " use a copy of the model that contains its code"
            )
        if not isinstance(reference, str) or not CLASS_REFERENCE.fullmatch(reference):
            raise StagingError(f"{file}: auto_map has {shown(reference)}, which does not name a class in a module")
        module = f"{reference.partition('.')[0]}.py"
        if not (folder / module).is_file():
            raise StagingError(f"{file}: auto_map names {module}, which is missing")
    files = ", ".join(sorted(path.name for path in folder.glob("*.py")))
    logger.warning("running the model's own Python code: %s", files)


def read_untrusted_json(path: Path) -> dict:
    """Return a file's JSON object. Raises StagingError, which names the file and any key that is out of bounds."""
    check_size(path, MOST_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StagingError(f"{path.name}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise StagingError(f"{path.name}: does not contain a JSON object")
    for key, depth, value in every_value(content):
        if depth > DEEPEST:
            raise StagingError(f"{path.name}: {shown(key)} is nested more than {DEEPEST} levels deep")
        # transformers writes infinity as {"__float__": "Infinity"}.
        if key == "__float__" or (isinstance(value, float) and not math.isfinite(value)):
            raise StagingError(f"{path.name}: {shown(key)} is {shown(value)}, not a finite number")
    return content


def check_size(path: Path, most: int) -> None:
    """Raise StagingError for a file that is missing, or has more than `most` bytes."""
    if not path.is_file():
        raise StagingError(f"{path.name}: is missing")
    size = path.stat().st_size
    if size > most:
        raise StagingError(f"{path.name}: has {size_in_words(size)}, but may have at most {size_in_words(most)}")


def shown(value: object) -> str:
    """Return a value as JSON, shortened for a message."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"more than 10^{int(math.log10(abs(value)))}"
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def every_value(content: object) -> Iterator[tuple[str, int, object]]:
    """Yield each value inside a JSON value, with its key (for items, that of their list) and depth."""
    waiting: list[tuple[str, int, object]] = [("", 0, content)]
    while waiting:
        key, depth, value = waiting.pop()
        yield key, depth, value
        if isinstance(value, dict):
            waiting += [(name, depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(key, depth + 1, item) for item in value]
