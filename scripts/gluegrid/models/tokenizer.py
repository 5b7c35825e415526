"""A staged model's tokenizer, saved as one file for the light `tokenizers` library.

transformers builds a model's tokenizer from several files (tokenizer.json, tokenizer_config.json, vocab.txt, ...). It
does so once, when the model is staged, so that tokenizing a task needs no transformers, whose import takes seconds.
"""

import logging
from pathlib import Path

from gluegrid.common.errors import StagingError, one_line_errors
from gluegrid.common.files import sha256, write_text
from gluegrid.models.model_config import NOT_TRUSTED, check_size, check_trusted_code, read_untrusted_json, shown

logger = logging.getLogger(__name__)

BACKEND = "tokenizer_backend.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
MOST_BYTES = 100_000_000  # per file; the largest known one, with 256,000 tokens, has 35 MB
MOST_TOKENS = 10_000_000
NO_LIMIT = 100_000  # transformers writes 1e30 for tokenizers without their own limit
SHORTEST = 8  # a pair of texts of one token each takes 5
SAMPLES = (("A cat sat.",), ("A cat sat.", "中文 é 🙂"))
LONGEST_SAMPLE = 64  # tokens; the two texts have 24 bytes
# Settings that would make transformers read a vocabulary from elsewhere than the model's staged files.
REFUSED = ("vocab", "merges", "gguf_file", "tokenizer_object", "init_inputs", "merges_file", "spm_file")
# These count positions from padding_idx + 1, so that many rows of their tables are not available for tokens.
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


def describe_tokenizer(folder: Path, trust_remote_code: bool = False, embeddings: int = MOST_TOKENS) -> dict | None:
    """Write a model's tokenizer as one file; return its entry in the manifest, None for a model without a tokenizer.

    `vocabulary` is the highest token id plus 1, at most the model's number of `embeddings`. `max_length` is the largest
    number of tokens that tokenizer and position embeddings both allow, or None. Raises StagingError.
    """
    if not any((folder / name).exists() for name in VOCABULARIES):
        return None
    check_tokenizer_files(folder)
    config, tokenizer = _load(folder, trust_remote_code)
    with one_line_errors("the tokenizer cannot be used"):
        vocabulary = _vocabulary(tokenizer)
        last = max(vocabulary, key=vocabulary.__getitem__)
        highest = vocabulary[last]
        # Before writing, since the file has an entry for every id up to the highest.
        if highest >= embeddings:
            raise StagingError(
                f"the tokenizer has token ids up to {highest} ({shown(last)}), but the model embeds {embeddings}"
                " tokens; use the model's own tokenizer, or call model.resize_token_embeddings(len(tokenizer))"
            )
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
        write_text(folder / BACKEND, tokenizer.backend_tokenizer.to_str())
        _try_out(folder / BACKEND, highest, config)
        return {
            "file": BACKEND,
            "sha256": sha256(folder / BACKEND),
            "max_length": _max_length(tokenizer.model_max_length, config),
            "vocabulary": highest + 1,
            "pad_token_id": tokenizer.pad_token_id,
            "token_type_ids": "token_type_ids" in tokenizer.model_input_names,
        }


def check_tokenizer_files(folder: Path) -> None:
    """Raise StagingError for mistakes in a tokenizer's files that can be found without transformers."""
    for name in VOCABULARIES:
        if (folder / name).exists():
            check_size(folder / name, MOST_BYTES)
    for name in ("special_tokens_map.json", "added_tokens.json"):
        if (folder / name).exists():
            read_untrusted_json(folder / name)
    settings = _settings(folder)
    for key in REFUSED:
        if settings.get(key):
            raise StagingError(f"{TOKENIZER_CONFIG}: {key} would replace the tokenizer's files; remove it")
    versions = settings.get("fast_tokenizer_files") or []
    if not isinstance(versions, list) or not all(isinstance(name, str) and "/" not in name for name in versions):
        raise StagingError(f"{TOKENIZER_CONFIG}: fast_tokenizer_files is {shown(versions)}, not a list of file names")
    added = settings.get("added_tokens_decoder") or {}
    if not isinstance(added, dict) or not all(name.isdecimal() and int(name) < MOST_TOKENS for name in added):
        raise StagingError(f"{TOKENIZER_CONFIG}: added_tokens_decoder is {shown(added)}, not a mapping from token ids")


def _settings(folder: Path) -> dict:
    path = folder / TOKENIZER_CONFIG
    return read_untrusted_json(path) if path.exists() else {}


def _load(folder: Path, trust_remote_code: bool) -> tuple:
    """Return the model's config and its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    _check_own_code(folder, trust_remote_code)
    with one_line_errors("the tokenizer cannot be loaded"):
        options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        config = AutoConfig.from_pretrained(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if not tokenizer.is_fast:
        problem = f"the tokenizer, a {type(tokenizer).__name__}, has no fast version"
        raise StagingError(f"{problem}, which gluegrid needs; use a model with a tokenizer.json")
    pad_with_the_end_of_texts(tokenizer)
    return config, tokenizer


def pad_with_the_end_of_texts(tokenizer) -> None:
    """Let a tokenizer without a padding token, as many decoders have, pad with its end-of-text token.

    Raises StagingError for one without either.
    """
    if tokenizer.pad_token_id is not None:
        return
    if tokenizer.eos_token_id is None:
        raise StagingError(
            "the tokenizer has neither a padding token nor an end-of-text token;"
            f" set pad_token to one of its tokens in {TOKENIZER_CONFIG}"
        )
    tokenizer.pad_token = tokenizer.eos_token
    logger.info("the tokenizer has no padding token; padding with its end-of-text token: %s", tokenizer.eos_token)


def _check_own_code(folder: Path, trust_remote_code: bool) -> None:
    """Raise StagingError for a tokenizer with its own, untrusted code, unless transformers knows its class."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    settings = _settings(folder)
    own = settings.get("auto_map")
    if not own or (isinstance(own, dict) and "AutoTokenizer" not in own):
        return
    if trust_remote_code:
        check_trusted_code(TOKENIZER_CONFIG, own["AutoTokenizer"] if isinstance(own, dict) else own, folder)
        return
    known = str(settings.get("tokenizer_class")).removesuffix("Fast")
    if not (tokenizer_class_from_name(known) or tokenizer_class_from_name(f"{known}Fast")):
        raise StagingError(f"{TOKENIZER_CONFIG}: the tokenizer {NOT_TRUSTED}")


def _vocabulary(tokenizer) -> dict[str, int]:
    """Return all tokens with their ids, which are unique for each word. Raises StagingError."""
    of_words = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    if len(set(of_words.values())) < len(of_words):
        raise StagingError("the tokenizer's vocabulary gives the same id to several tokens; save the tokenizer again")
    # transformers makes a vocabulary of only special tokens if it does not find the vocabulary file.
    if not of_words.keys() - set(tokenizer.all_special_tokens):
        raise StagingError("the tokenizer has only special tokens in its vocabulary; is one of its files missing?")
    return tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)


def _try_out(path: Path, highest: int, config) -> None:
    """Tokenize some texts with the written file. Raises StagingError if the model could not take the result."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    segments = getattr(config, "type_vocab_size", None) or 0
    for texts in SAMPLES:
        encoding = tokenizer.encode(*texts)
        if not 0 < len(encoding.ids) <= LONGEST_SAMPLE:
            raise StagingError(
                f"the tokenizer makes {len(encoding.ids)} tokens of {shown(' '.join(texts))}; are its files damaged?"
            )
        if max(encoding.ids) > highest:
            raise StagingError(
                f"the tokenizer makes the token id {max(encoding.ids)}, but its highest is {highest}; save it again"
            )
        if 1 < segments <= max(encoding.type_ids):
            raise StagingError(
                f"the tokenizer numbers segments up to {max(encoding.type_ids)}, but the model has {segments} segments;"
                " use the model's own tokenizer"
            )


def _max_length(of_tokenizer: int | float, config) -> int | None:
    """Return the smaller of the tokenizer's and the position embeddings' limits. Raises StagingError."""
    limits = [int(of_tokenizer)] if of_tokenizer < NO_LIMIT else []
    if positions := positions_of(config):
        limits.append(positions)
    shortest = min(limits, default=None)
    if shortest is not None and shortest < SHORTEST:
        raise StagingError(
            f"the model takes at most {shortest} tokens, fewer than {SHORTEST};"
            " correct model_max_length or max_position_embeddings"
        )
    return shortest


def positions_of(config) -> int | None:
    """Return how many tokens a model's position embeddings allow; None for a model without such a limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return None
    if config.model_type in OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    return positions
