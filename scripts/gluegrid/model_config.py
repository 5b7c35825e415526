"""A checkpoint's config.json, checked against its weights before transformers builds anything of the sizes it names."""

import re
from collections.abc import Iterator
from pathlib import Path

from gluegrid.errors import StagingError
from gluegrid.untrusted_json import every_value, read_untrusted_json, shown

CONFIG = "config.json"
# Above any number of tokens or positions, and any base of rotary positions that is written as an integer.
LARGEST_INTEGER = 2**31 - 1
MOST_LABELS = 100_000  # transformers makes a name for each
# A model that shares its layers' weights, as ALBERT does, has more layers than tensors.
MOST_SHARED_LAYERS = 100
# The names that transformers' text models have for the same three things.
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
# What makes transformers load other files than those that were fetched, or weights that cannot be trained.
REFUSED = {
    "transformers_weights": "names a file of weights of its own; gluegrid loads model.safetensors",
    "quantization_config": "says that the weights are quantised; gluegrid trains whole ones",
}
CLASS_REFERENCE = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)


def read_model_config(folder: Path) -> dict:
    """Return the checkpoint's config.json, checked as far as it can be without its weights. Raises StagingError."""
    config = read_untrusted_json(folder / CONFIG)
    for key, _, value in every_value(config):
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise StagingError(f"{CONFIG}: {shown(key)} is {shown(value)}, which no model can mean")
    for part in _parts(config):
        _check_labels(part)
        for key, reason in REFUSED.items():
            if part.get(key):
                raise StagingError(f"{CONFIG}: {key} {reason}")
        for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
            if "/" in str(part.get(key)):
                raise StagingError(f"{CONFIG}: {key} names code of the hub, {shown(part[key])}; remove it")
        for key in part.keys() & (WIDTHS | HEADS | LAYERS):
            for number in _numbers(part, key):
                if type(number) is not int or number < 1:
                    raise StagingError(f"{CONFIG}: {key} is {shown(number)}, which is no size")
    return config


def _parts(config: dict) -> Iterator[dict]:
    """Yield the config and those of its parts, as `text_config`."""
    yield config
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, dict):
            yield from _parts(value)


def _numbers(config: dict, key: str) -> list:
    """Return the numbers under a key: one, one for each layer, or none where it is null."""
    value = config[key]
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _check_labels(config: dict) -> None:
    for key in config:
        if key.endswith("num_labels") and config[key] is not None:
            number = config[key]
            if type(number) is not int or not 0 <= number <= MOST_LABELS:
                raise StagingError(f"{CONFIG}: {key} is {shown(number)}, not a number of labels up to {MOST_LABELS}")
    for key in ("id2label", "label2id"):
        labels = config.get(key) or {}
        if not isinstance(labels, dict) or len(labels) > MOST_LABELS:
            raise StagingError(f"{CONFIG}: {key} is no mapping of up to {MOST_LABELS} labels")


def check_sizes(config: dict, shapes: dict[str, list[int]]) -> None:
    """Raise StagingError for a size that no tensor has and for layers without tensors. `shapes` are the weights'.

    This is a plausibility, which costs nothing; the exact comparison comes when transformers builds the model.
    """
    largest = max((max(shape, default=1) for shape in shapes.values() if 0 not in shape), default=0)
    most_layers = max(len(shapes), MOST_SHARED_LAYERS)
    for part in _parts(config):
        for key in sorted(part.keys() & (WIDTHS | HEADS)):
            if max(_numbers(part, key), default=0) > largest:
                raise StagingError(
                    f"{CONFIG}: {key} is {shown(part[key])}, but the largest dimension of the weights is {largest}"
                )
        for key in sorted(part.keys() & LAYERS):
            if max(_numbers(part, key), default=0) > most_layers:
                raise StagingError(f"{CONFIG}: {key} is {shown(part[key])}, but the weights have {len(shapes)} tensors")


def check_class_references(file: str, auto_map: object, folder: Path) -> None:
    """Raise StagingError unless each class of an `auto_map` is one of a module in the folder: "modeling_x.XModel"."""
    classes = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    for reference in (name for item in classes for name in (item if isinstance(item, list) else [item])):
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
