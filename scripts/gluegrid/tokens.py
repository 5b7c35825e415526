"""Texts to tokens: Arrow files that training maps into memory, and a manifest that says what they were made from."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import tokenizers

from gluegrid.errors import DataError
from gluegrid.files import read_json, replacing, write_json
from gluegrid.locks import describe, lock
from gluegrid.manifests import file_identity
from gluegrid.sources import split_of
from gluegrid.tasks import Task

logger = logging.getLogger(__name__)

HIDDEN_LABEL = -1  # GLUE's test labels
ROWS_AT_ONCE = 10_000


def tokenize_task(
    tokenizer_manifest: Path, task_manifest: Path, task: Task, max_seq_length: int, manifest: Path
) -> None:
    """Write the tokens of every split of a task, then their manifest. Raises DataError."""
    model = read_json(tokenizer_manifest)
    data = read_json(task_manifest)
    identity = tokens_identity(model, data, task, max_seq_length)
    with lock(manifest.parent.with_name(f"{manifest.parent.name}.lock"), _tell_waiting):
        if manifest.exists() and read_json(manifest).get("made_from") == identity:
            logger.info("already tokenised by another run")
            return
        tokenizer = load_tokenizer(tokenizer_manifest, identity["truncated_to"])
        splits = {}
        for split in task.splits:
            texts = read_split(task_manifest.parent, data, task, split)
            splits[split] = _write_split(manifest.parent / f"{split}.arrow", texts, tokenizer, task)
            logger.info("%s: %d rows, %d tokens", split, splits[split]["rows"], splits[split]["tokens"])
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
    tokenizer = model["tokenizer"]
    if tokenizer is None:
        raise DataError(
            f"the model {model['source']} has no tokenizer; name another model's in the config: tokenizer: <alias>"
        )
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


def load_tokenizer(manifest: Path, max_length: int) -> tokenizers.Tokenizer:
    """Return a staged model's tokenizer, truncating the longer text of a pair first, as run_glue.py does."""
    file = read_json(manifest)["tokenizer"]["file"]
    tokenizer = tokenizers.Tokenizer.from_file(str(manifest.parent / file))
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    return tokenizer


def read_split(folder: Path, data: dict, task: Task, split: str) -> pyarrow.Table:
    """Return a split's idx, label and text columns. Raises DataError with file and column."""
    names = [name for name in data["files"] if split_of(name) == split]
    if not names:
        known = ", ".join(sorted(data["rows"]))
        raise DataError(f"{folder}: task {task.name!r} has no split {split!r}; it has: {known}")
    tables: list[pyarrow.Table] = []
    for name in names:
        tables.append(_read_file(folder / name, task, first_row=sum(map(len, tables))))
    table = pyarrow.concat_tables(tables)
    if len(table) == 0:
        raise DataError(f"{folder / names[0]}: has no rows")
    return table


def _read_file(path: Path, task: Task, first_row: int) -> pyarrow.Table:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: is no readable parquet file: {error}") from error
    for column in (*task.text_columns, task.label_column):
        if column not in table.column_names:
            raise DataError(f"{path}: has no column {column!r}; it has: {', '.join(table.column_names)}")
    for column in task.text_columns:
        _check_texts(path, column, table.column(column))
    columns = {column: table.column(column) for column in task.text_columns}
    columns["label"] = _checked_labels(path, table.column(task.label_column), task)
    has_numbers = "idx" in table.column_names and pyarrow.types.is_integer(table.column("idx").type)
    own_numbers = pyarrow.array(range(first_row, first_row + len(table)), pyarrow.int64())
    columns["idx"] = table.column("idx") if has_numbers else own_numbers
    return pyarrow.table(columns)


def _check_texts(path: Path, column: str, texts: pyarrow.ChunkedArray) -> None:
    if not (pyarrow.types.is_string(texts.type) or pyarrow.types.is_large_string(texts.type)):
        raise DataError(f"{path}: column {column!r} holds {texts.type}, not text")
    if texts.null_count:
        row = texts.is_null().to_pylist().index(True)
        raise DataError(f"{path}: column {column!r} has no text in row {row}")


def _checked_labels(path: Path, labels: pyarrow.ChunkedArray, task: Task) -> pyarrow.ChunkedArray:
    """Return labels as int64 (classes) or float32 (regression)."""
    wanted = pyarrow.float32() if task.is_regression else pyarrow.int64()
    try:
        labels = labels.cast(wanted)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{path}: column {task.label_column!r} holds {labels.type}, which is no label: {error}"
        ) from error
    values = labels.to_pylist()
    for row, value in enumerate(values):
        if not _is_legal(value, task):
            allowed = "a number" if task.is_regression else f"0 to {len(task.labels) - 1}"
            raise DataError(f"{path}: column {task.label_column!r} has {value!r} in row {row}; allowed: {allowed}")
    return labels


def _is_legal(label: float | None, task: Task) -> bool:
    if label is None:
        return False
    return math.isfinite(label) if task.is_regression else HIDDEN_LABEL <= label < len(task.labels)


def _write_split(path: Path, table: pyarrow.Table, tokenizer: tokenizers.Tokenizer, task: Task) -> dict:
    """Write one split; return its number of rows and of tokens, and the length of its longest row."""
    tokens, longest = 0, 0
    schema = _schema(task)
    with replacing(path) as temporary, pyarrow.OSFile(str(temporary), "wb") as sink:
        with pyarrow.ipc.new_stream(sink, schema) as writer:
            for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
                encodings = tokenizer.encode_batch(list(_inputs(batch, task)))
                lengths = [len(encoding.ids) for encoding in encodings]
                tokens, longest = tokens + sum(lengths), max([longest, *lengths])
                columns = [
                    pyarrow.array([encoding.ids for encoding in encodings], schema.field("input_ids").type),
                    pyarrow.array([encoding.type_ids for encoding in encodings], schema.field("token_type_ids").type),
                    batch.column("label").cast(schema.field("label").type),
                    batch.column("idx").cast(schema.field("idx").type),
                ]
                writer.write_batch(pyarrow.record_batch(columns, schema=schema))
    return {"rows": len(table), "tokens": tokens, "longest": longest}


def _schema(task: Task) -> pyarrow.Schema:
    return pyarrow.schema(
        {
            "input_ids": pyarrow.list_(pyarrow.int32()),
            "token_type_ids": pyarrow.list_(pyarrow.int32()),
            "label": pyarrow.float32() if task.is_regression else pyarrow.int64(),
            "idx": pyarrow.int64(),
        }
    )


def _inputs(batch: pyarrow.RecordBatch, task: Task) -> Iterable[str | tuple[str, str]]:
    texts = [batch.column(column).to_pylist() for column in task.text_columns]
    return texts[0] if len(texts) == 1 else zip(*texts, strict=True)


def _tell_waiting(holder: dict) -> None:
    logger.info("waiting for another run that makes these tokens: %s", describe(holder))
