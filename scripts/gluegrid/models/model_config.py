"""A checkpoint's config.json, checked against its weights before transformers builds anything of the sizes it names."""

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
# The names that transformers' text models have for the same four things.
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
# A model that shares its layers' weights, as ALBERT does, has more layers than tensors.
MOST_SHARED_LAYERS = 100
MOST_POSITIONS = 10_000_000  # transformers numbers them, whether or not they have embeddings
MOST_LABELS = 100_000  # transformers makes a name for each
# Above any number of tokens, and any base of rotary positions that is written as an integer.
LARGEST_INTEGER = 2**31 - 1
# What makes transformers load other files than those that were fetched, or weights that cannot be trained.
REFUSED = {
    "transformers_weights": "names a file of weights of its own; gluegrid loads model.safetensors",
    "quantization_config": "says that the weights are quantised; gluegrid trains whole ones",
}
IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
NOT_TRUSTED = (
    "brings its own Python code (auto_map); gluegrid runs it only with `trust_remote_code: true` at the model in the"
    " experiment file"
)
MOST_BYTES = 10_000_000  # of a file of JSON
DEEPEST = 32
LONGEST_SHOWN = 60
CLASS_REFERENCE = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)


def read_model_config(folder: Path) -> dict:
    """Return the checkpoint's config.json, checked as far as it can be without its weights. Raises StagingError."""
    config = read_untrusted_json(folder / CONFIG)
    for key, _, value in every_value(config):
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise StagingError(f"{CONFIG}: {shown(key)} is {shown(value)}, which no model can mean")
    for part in _parts(config):
        _check_keys(part)
        _check_labels(part)
        _check_numbers(part)
    return config


def _parts(config: dict) -> Iterator[dict]:
    """Yield the config and those of its parts, as `text_config`."""
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
            raise StagingError(f"{CONFIG}: {key} names code of the hub, {shown(config[key])}; remove it")


def _check_labels(config: dict) -> None:
    for key, number in config.items():
        is_number_of_labels = type(number) is int and 0 <= number <= MOST_LABELS
        if key.endswith("num_labels") and number is not None and not is_number_of_labels:
            raise StagingError(f"{CONFIG}: {key} is {shown(number)}, not a number of labels up to {MOST_LABELS}")
    for key in ("id2label", "label2id"):
        labels = config.get(key) or {}
        if not isinstance(labels, dict) or len(labels) > MOST_LABELS:
            raise StagingError(f"{CONFIG}: {key} is no mapping of up to {MOST_LABELS} labels")


def _check_numbers(config: dict) -> None:
    for key in sorted(config.keys() & SIZES):
        for number in _numbers(config, key):
            if type(number) is not int or number < 1:
                raise StagingError(f"{CONFIG}: {key} is {shown(number)}, which is no size")
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
    """Raise StagingError for a size that no tensor has and for layers without tensors. `shapes` are the weights'.

    This is a plausibility, which costs nothing; the exact comparison comes when transformers builds the model.
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
    """Say that the model's own code is about to be run, that of the classes which an `auto_map` names, or null.

    Raises StagingError where a class is not one of a module in the folder, as "modeling_x.X" is of modeling_x.py.
    """
    for reference in references:
        if reference is None:
            continue
        if isinstance(reference, str) and "--" in reference:
            raise StagingError(
                f"{file}: its code {shown(reference)} lies in another repository, which is not fetched;"
                " use a copy of the model that has its code beside it"
            )
        if not isinstance(reference, str) or not CLASS_REFERENCE.fullmatch(reference):
            raise StagingError(f"{file}: auto_map has {shown(reference)}, which is no class of a module")
        module = f"{reference.partition('.')[0]}.py"
        if not (folder / module).is_file():
            raise StagingError(f"{file}: auto_map asks for {module}, which is not there")
    files = ", ".join(sorted(path.name for path in folder.glob("*.py")))
    logger.warning("running the model's own Python code: %s", files)


def read_untrusted_json(path: Path) -> dict:
    """Return a file's JSON object. StagingError names the file, and the key of what is out of bounds."""
    check_size(path, MOST_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StagingError(f"{path.name}: is no JSON that can be read: {error}") from error
    if not isinstance(content, dict):
        raise StagingError(f"{path.name}: holds no JSON object")
    for key, depth, value in every_value(content):
        if depth > DEEPEST:
            raise StagingError(f"{path.name}: {shown(key)} is nested more than {DEEPEST} deep")
        # transformers writes infinity as {"__float__": "Infinity"}.
        if key == "__float__" or (isinstance(value, float) and not math.isfinite(value)):
            raise StagingError(f"{path.name}: {shown(key)} is {shown(value)}, not a finite number")
    return content


def check_size(path: Path, most: int) -> None:
    """Raise StagingError for a file that is not there, or has more than `most` bytes."""
    if not path.is_file():
        raise StagingError(f"{path.name}: is not there")
    size = path.stat().st_size
    if size > most:
        raise StagingError(f"{path.name}: is {size_in_words(size)}, which is more than {size_in_words(most)}")


def shown(value: object) -> str:
    """Return a value as JSON, cut to what fits into a message."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"more than 10^{int(math.log10(abs(value)))}"
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def every_value(content: object) -> Iterator[tuple[str, int, object]]:
    """Yield each value in a JSON value with its key, or that of the list it is in, and its depth."""
    waiting: list[tuple[str, int, object]] = [("", 0, content)]
    while waiting:
        key, depth, value = waiting.pop()
        yield key, depth, value
        if isinstance(value, dict):
            waiting += [(name, depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(key, depth + 1, item) for item in value]
