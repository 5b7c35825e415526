"""A staged model's tokenizer, as transformers builds it, kept as one file that the light `tokenizers` library reads.

transformers decides from several files (tokenizer.json, tokenizer_config.json, vocab.txt, ...) what a model's tokenizer
is. It does so once, when the model is staged; tokenising a task then needs no transformers, whose import takes seconds.
"""

from pathlib import Path

from gluegrid.errors import StagingError
from gluegrid.files import replacing, sha256

BACKEND = "tokenizer_backend.json"
NO_LIMIT = 100_000  # transformers writes 1e30 for tokenizers without a limit of their own
# These count positions from padding_idx + 1, so their tables have that many rows more than tokens fit in.
OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "longformer",
    "mpnet",
    "xmod",
    "data2vec-text",
)


def describe_tokenizer(folder: Path) -> dict | None:
    """Write a model's tokenizer as one file; return what a manifest says of it, None for a model that has none.

    `max_length` is the most tokens that tokenizer and position embeddings both allow, or None.
    """
    if not any(
        (folder / name).exists()
        for name in (
            "tokenizer.json",
            "vocab.txt",
            "vocab.json",
            "spiece.model",
            "spm.model",
            "sentencepiece.bpe.model",
            "tokenizer.model",
        )
    ):
        return None
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        backend = tokenizer.backend_tokenizer
    except (OSError, ValueError, ImportError, AttributeError, KeyError) as error:
        raise StagingError(f"transformers cannot load the tokenizer: {str(error).splitlines()[0]}") from error
    backend.no_padding()
    backend.no_truncation()
    with replacing(folder / BACKEND) as temporary:
        temporary.write_text(backend.to_str(), encoding="utf-8")
    return {
        "file": BACKEND,
        "sha256": sha256(folder / BACKEND),
        "max_length": _max_length(tokenizer.model_max_length, config),
        "vocabulary": backend.get_vocab_size(with_added_tokens=True),
        "pad_token_id": tokenizer.pad_token_id,
        "token_type_ids": "token_type_ids" in tokenizer.model_input_names,
    }


def _max_length(of_tokenizer: int, config) -> int | None:
    """Return the smaller of the tokenizer's and the position embeddings' limits."""
    limits = [of_tokenizer] if of_tokenizer < NO_LIMIT else []
    if positions := positions_of(config):
        limits.append(positions)
    return min(limits) if limits else None


def positions_of(config) -> int | None:
    """Return how many tokens a model's position embeddings take; None for one without such a limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return None
    if config.model_type in OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    return positions
