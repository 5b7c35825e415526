"""Texts to tokens: Arrow files that training maps into memory, and a manifest that says what they were made from."""

import logging
import time
from contextlib import suppress
from pathlib import Path

import pyarrow

from gluegrid.common.errors import GluegridError
from gluegrid.common.files import link_or_copy, read_json, replacing, write_json
from gluegrid.common.manifests import check_file, file_identity
from gluegrid.encoder import Encoder
from gluegrid.examples import NUMBERS, Split
from gluegrid.execution.invocation import is_newer_than_head
from gluegrid.execution.locks import describe, lock
from gluegrid.experiment.staged_tokens import tokens_identity
from gluegrid.experiment.task import Task

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
        if _take_over(manifest, identity):
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


def _take_over(manifest: Path, identity: dict) -> bool:
    """Use tokens of the same tokenizer that were made from the same under another name, if there are any: of equal data
    of another source, or of a release that named tokens by the task's alias.

    Such a release took a column of the task that is called `idx` for the rows' numbers.
    """
    if NUMBERS in (*identity["text_columns"], identity["label_column"]):
        return False
    for other in sorted(manifest.parents[1].glob(f"*/{manifest.name}")):
        with suppress(GluegridError, OSError, KeyError, TypeError, AttributeError):  # it is not whole, or not any more
            content = read_json(other)
            if other == manifest or content["made_from"] != identity:
                continue
            for name, file in content["files"].items():
                with replacing(manifest.parent / name) as temporary:
                    temporary.unlink()
                    link_or_copy(other.parent / name, temporary)
                check_file(manifest, name, file["sha256"])
            write_json(manifest, content)
            logger.info("the same tokens are in %s already", other.parent)
            return True
    return False


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
