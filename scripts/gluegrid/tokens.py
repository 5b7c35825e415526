"""Texts to tokens: Arrow files that training maps into memory, and a manifest that says what they were made from."""

import logging
import time
from pathlib import Path

import pyarrow

from gluegrid.encoder import Encoder
from gluegrid.errors import DataError
from gluegrid.examples import Split
from gluegrid.files import read_json, replacing, write_json
from gluegrid.head import is_newer_than_head
from gluegrid.locks import describe, lock
from gluegrid.manifests import check_file, file_identity
from gluegrid.sources import split_of
from gluegrid.tasks import Task

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOG_LINES = 10


def tokenize_task(
    tokenizer_manifest: Path, task_manifest: Path, task: Task, max_seq_length: int, manifest: Path
) -> None:
    """Write the tokens of every split of a task, then their manifest. Raises DataError."""
    model = read_json(tokenizer_manifest)
    data = read_json(task_manifest)
    identity = tokens_identity(model, data, task, max_seq_length)
    with lock(manifest.parent.with_name(f"{manifest.parent.name}.lock"), _tell_waiting):
        if is_newer_than_head(manifest) and read_json(manifest).get("made_from") == identity:
            logger.info("already tokenised by another run")
            return
        check_file(tokenizer_manifest, model["tokenizer"]["file"], model["tokenizer"]["sha256"])
        splits = _write_splits(
            manifest.parent,
            [Split(task_manifest, data, task, name) for name in dict.fromkeys(task.splits)],
            Encoder(tokenizer_manifest, identity["truncated_to"]),
        )
        content = {
            "made_from": identity,
            "pad_token_id": model["tokenizer"]["pad_token_id"],
            "token_type_ids": model["tokenizer"]["token_type_ids"],
            "vocabulary": model["tokenizer"]["vocabulary"],
        }
        files = {f"{split}.arrow": file_identity(manifest.parent / f"{split}.arrow") for split in splits}
        write_json(manifest, content | {"splits": splits, "files": files})


def tokens_identity(model: dict, data: dict, task: Task, max_seq_length: int) -> dict:
    """Return what tokens are made from: hashes of the tokenizer and the data, columns, labels, length.

    Training compares this with what its run.json asks for. Raises DataError for a model without a tokenizer.
    """
    tokenizer = _tokenizer_of(model)
    limit = tokenizer["max_length"]
    return {
        "tokenizer_sha256": tokenizer["sha256"],
        "data_sha256": {
            name: identity["sha256"] for name, identity in data["files"].items() if split_of(name) in task.splits
        },
        "text_columns": task.text_columns,
        "label_column": task.label_column,
        "labels": task.labels,
        "splits": task.splits,
        "truncated_to": min(max_seq_length, limit) if limit else max_seq_length,
    }


def _tokenizer_of(model: dict) -> dict:
    tokenizer = model["tokenizer"]
    if tokenizer is None or tokenizer["pad_token_id"] is None:
        lacks = "no tokenizer" if tokenizer is None else "a tokenizer without a padding token"
        raise DataError(
            f"the model {model['source']} has {lacks}; name another model's in the config: tokenizer: <alias>"
        )
    return tokenizer


def _write_splits(folder: Path, splits: list[Split], encoder: Encoder) -> dict[str, dict]:
    """Write every split's tokens; return what the manifest says of each."""
    # All are read before the first is tokenised, which may take minutes: what is wrong is told at once.
    rows = [split.check() for split in splits]
    written = {}
    for split, count in zip(splits, rows, strict=True):
        written[split.name] = _write_split(folder / f"{split.name}.arrow", split, count, encoder)
        logger.info("%s: %d rows, %d tokens", split.name, count, written[split.name]["tokens"])
    return written


def _write_split(path: Path, split: Split, rows: int, encoder: Encoder) -> dict:
    """Write one split; return its number of rows and of tokens, and the length of its longest row."""
    tokens, longest = 0, 0
    schema = _schema(split.task)
    progress = _Progress(split.name, rows)
    with replacing(path) as temporary, pyarrow.OSFile(str(temporary), "wb") as sink:
        with pyarrow.ipc.new_stream(sink, schema) as writer:
            for examples in split:
                encodings = encoder.encode(examples)
                lengths = [len(encoding.ids) for encoding in encodings]
                tokens, longest = tokens + sum(lengths), max([longest, *lengths])
                ids = [encoding.ids for encoding in encodings]
                type_ids = [encoding.type_ids for encoding in encodings]
                columns = (ids, type_ids, examples.labels, examples.idx)
                arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
                writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
                progress.add(len(examples))
    return {"rows": rows, "tokens": tokens, "longest": longest}


class _Progress:
    """Writes a line with rows and time left, now and then."""

    def __init__(self, split: str, rows: int):
        self.split = split
        self.rows = rows
        self.done = 0
        self.started = self.told = time.monotonic()

    def add(self, rows: int) -> None:
        """Count rows that are written."""
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
            "label": pyarrow.float32() if task.is_regression else pyarrow.int64(),
            "idx": pyarrow.int64(),
        }
    )


def _tell_waiting(holder: dict) -> None:
    logger.info("waiting for another run that makes these tokens: %s", describe(holder))
