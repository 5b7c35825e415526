"""Tokenize texts into Arrow files that training maps into memory, with a manifest of what they were made from."""

import logging
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pyarrow
import tokenizers

from gluegrid.common.errors import DataError, GluegridError, in_one_line
from gluegrid.common.escaping import listed
from gluegrid.common.files import link_or_copy, read_json, replacing, write_json
from gluegrid.common.manifests import check_file, file_identity
from gluegrid.execution.invocation import is_newer_than_invocation
from gluegrid.execution.locks import describe, lock
from gluegrid.experiment.staged_tokens import tokens_identity
from gluegrid.experiment.task import Task
from gluegrid.staging.examples import NUMBERS, Examples, Split

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOG_LINES = 10
LONG = 4  # characters per token that truncation keeps; pairs with a longer text are shortened first
SPARE_TOKENS = 128  # cutting a word may change its tokens, of which WordPiece makes at most 100


class Encoder:
    """Encode as transformers' tokenizers do with `truncation=True`, which cuts the longer text of a pair first."""

    def __init__(self, tokenizer_manifest: Path, max_length: int):
        described = read_json(tokenizer_manifest)["tokenizer"]
        self.path = tokenizer_manifest.parent / described["file"]
        self.pad_token_id = described["pad_token_id"]
        self.max_length = max_length
        self.tokenizer = tokenizers.Tokenizer.from_file(str(self.path))
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")

    def encode(self, examples: Examples) -> list[tokenizers.Encoding]:
        """Return the tokens of each example. Raise DataError with file, columns and row."""
        try:
            texts = examples.texts
            return self.tokenizer.encode_batch(texts[0] if len(texts) == 1 else list(map(self._shortened_pair, *texts)))
        except BaseException as error:
            # The library raises Exception itself, and its panics are no subclass of it.
            if type(error) is not Exception and type(error).__name__ != "PanicException":
                raise
            if len(examples) > 1:
                for row in range(len(examples)):
                    self.encode(examples.only(row))
            raise DataError(
                f"{examples.file}: the tokenizer fails on {listed(examples.text_columns)} in row"
                f" {examples.first_row}: {in_one_line(error)}"
            ) from error

    def _shortened_pair(self, first: str, second: str) -> tuple[str, str]:
        """Shorten a pair of texts without changing its tokens, so that time does not grow with the product of lengths.

        The library encodes every combination of the parts that truncation cuts off two texts. Besides the tokens that
        are kept, truncation depends only on which text has more tokens, so the longer text must stay the longer one.
        """
        if max(len(first), len(second)) <= LONG * self.max_length:
            return first, second
        texts, whole = [first, second], [self._all_tokens(first), self._all_tokens(second)]
        longer = 0 if len(whole[0]) > len(whole[1]) else 1
        more_than = self.max_length
        for number in (1 - longer, longer):
            texts[number], tokens = self._shortened(texts[number], whole[number], more_than)
            more_than = max(more_than, tokens)
        return texts[0], texts[1]

    def _shortened(self, text: str, whole: tokenizers.Encoding, more_than: int) -> tuple[str, int]:
        """Return a beginning of a text with more than so many tokens, and their number; else the text itself."""
        place = more_than + SPARE_TOKENS
        if len(whole) > place:
            beginning = text[: whole.offsets[place][0]]
            tokens = self._all_tokens(beginning)
            is_same = tokens.ids[: self.max_length] == whole.ids[: self.max_length]
            if is_same and more_than < len(tokens) <= len(whole):
                return beginning, len(tokens)
        return text, len(whole)

    def _all_tokens(self, text: str) -> tokenizers.Encoding:
        return self._untruncated.encode(text, add_special_tokens=False)

    @cached_property
    def _untruncated(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_file(str(self.path))


def tokenize_task(
    tokenizer_manifest: Path, task_manifest: Path, task: Task, max_seq_length: int, manifest: Path
) -> None:
    """Write the tokens of every split of a task, then their manifest. Raise DataError for unusable data."""
    model = read_json(tokenizer_manifest)
    data = read_json(task_manifest)
    identity = tokens_identity(model, data, task, max_seq_length)

    def tell_waiting(holder: dict) -> None:
        logger.info("waiting for another process that makes these tokens: %s", describe(holder))

    with lock(manifest.parent.with_name(f"{manifest.parent.name}.lock"), tell_waiting):
        if is_newer_than_invocation(manifest) and read_json(manifest).get("made_from") == identity:
            logger.info("already tokenized by another process")
            return
        if _take_over(manifest, identity):
            return
        check_file(tokenizer_manifest, model["tokenizer"]["file"], model["tokenizer"]["sha256"])
        splits = _write_splits(
            manifest.parent,
            [Split(task_manifest, data, task, name) for name in dict.fromkeys(task.splits)],
            Encoder(tokenizer_manifest, identity["truncated_to"]),
        )
        of_tokenizer = {key: model["tokenizer"][key] for key in ("pad_token_id", "token_type_ids", "vocabulary")}
        files = {f"{split}.arrow": file_identity(manifest.parent / f"{split}.arrow") for split in splits}
        write_json(manifest, {"made_from": identity, **of_tokenizer, "splits": splits, "files": files})


def _take_over(manifest: Path, identity: dict) -> bool:
    """Use equal tokens of the same tokenizer under another name, if there are any: made from equal data of another
    source, or by a release that named tokens by the task's alias.

    Such a release took a task's own column named `idx` for the rows' numbers.
    """
    if NUMBERS in (*identity["text_columns"], identity["label_column"]):
        return False
    for other in sorted(manifest.parents[1].glob(f"*/{manifest.name}")):
        with suppress(
            GluegridError, OSError, KeyError, TypeError, AttributeError
        ):  # it is incomplete, or is being deleted
            content = read_json(other)
            if other == manifest or content["made_from"] != identity:
                continue
            for name, file in content["files"].items():
                with replacing(manifest.parent / name) as temporary:
                    temporary.unlink()
                    link_or_copy(other.parent / name, temporary)
                check_file(manifest, name, file["sha256"])
            write_json(manifest, content)
            logger.info("using the same tokens from %s", other.parent)
            return True
    return False


def _write_splits(folder: Path, splits: list[Split], encoder: Encoder) -> dict[str, dict]:
    """Write every split's tokens; return the manifest's entry for each."""
    # Check all splits before tokenizing the first, which may take minutes, so that problems show at once.
    rows = [split.check() for split in splits]
    written = {}
    for split, count in zip(splits, rows, strict=True):
        written[split.name] = _write_split(folder / f"{split.name}.arrow", split, count, encoder)
        logger.info("%s: %d rows, %d tokens", split.name, count, written[split.name]["tokens"])
    return written


def _write_split(path: Path, split: Split, rows: int, encoder: Encoder) -> dict:
    """Write one split; return its number of rows and tokens, and the length of its longest row."""
    tokens, longest = 0, 0
    schema = _schema(split.task)
    progress = _Progress(split.name, rows)
    with replacing(path) as temporary, pyarrow.OSFile(str(temporary), "wb") as sink:
        with pyarrow.ipc.new_stream(sink, schema) as writer:
            for examples in split:
                encodings = encoder.encode(examples)
                # A decoder's tokenizer makes no tokens from an empty text, and a model needs at least one.
                ids = [encoding.ids or [encoder.pad_token_id] for encoding in encodings]
                lengths = [len(of_row) for of_row in ids]
                tokens, longest = tokens + sum(lengths), max([longest, *lengths])
                columns = (
                    ids,
                    [encoding.type_ids or [0] for encoding in encodings],
                    examples.labels,
                    examples.idx,
                )
                arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
                writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
                progress.add(len(examples))
    return {"rows": rows, "tokens": tokens, "longest": longest}


class _Progress:
    """Log the rows done and the time left, now and then."""

    def __init__(self, split: str, rows: int):
        self.split = split
        self.rows = rows
        self.done = 0
        self.started = self.told = time.monotonic()

    def add(self, rows: int) -> None:
        """Count written rows."""
        self.done += rows
        now = time.monotonic()
        if now - self.told < SECONDS_BETWEEN_LOG_LINES or self.done == self.rows:
            return
        self.told = now
        left = (now - self.started) / self.done * (self.rows - self.done)
        share = 100 * self.done / self.rows
        logger.info("%s: %d of %d rows, %.0f %%, %.0f s left", self.split, self.done, self.rows, share, left)


def _schema(task: Task) -> pyarrow.Schema:
    return pyarrow.schema(
        {
            "input_ids": pyarrow.list_(pyarrow.int32()),
            "token_type_ids": pyarrow.list_(pyarrow.int32()),
            "label": pyarrow.type_for_alias(task.kind.label_type),
            "idx": pyarrow.int64(),
        }
    )
