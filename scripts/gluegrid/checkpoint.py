"""Whether a fetched checkpoint can be trained, found out where it is fetched: broken and hostile files cost no GPU.

First what costs nothing (sizes, headers, numbers), then transformers itself, with a model that has shapes and no
weights, in a process of its own, where at last the weights are read.
"""

import os
import tempfile
from pathlib import Path

from gluegrid.child_process import in_child
from gluegrid.models.model_config import check_sizes, read_model_config
from gluegrid.models.tokenizer import check_tokenizer_files, describe_tokenizer, positions_of
from gluegrid.models.weights import check_numbers, read_shapes


def describe_checkpoint(folder: Path, trust_remote_code: bool) -> dict:
    """Return what a manifest says of a model beside its files. Raises StagingError, in one line.

    `tokenizer` as describe_tokenizer gives it, `parameters` of the encoder, rows of its `embeddings`, and the
    `positions` that it has, or None. Writes the tokenizer's one file into the folder.
    """
    config = read_model_config(folder)
    check_sizes(config, read_shapes(folder))
    check_tokenizer_files(folder)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    # transformers copies a model's own code to where modules are cached, and imports it from there.
    with tempfile.TemporaryDirectory(prefix="gluegrid-") as modules:
        return in_child(
            "the model cannot be loaded", _describe, folder, trust_remote_code, modules, mapped_bytes=weights
        )


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
