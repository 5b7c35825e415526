"""The parts of each JSON file that verification relies on, as JSON Schema, so that a damaged file is one line."""

from functools import cache
from pathlib import Path

import jsonschema

from gluegrid.config import config_schema
from gluegrid.errors import DataError
from gluegrid.files import read_json

LONGEST_MESSAGE = 200  # characters; jsonschema quotes the whole value


def _mapping(of: dict, **more: object) -> dict:
    return {"type": "object", "additionalProperties": of, **more}


def _object(**properties: dict) -> dict:
    return {"type": "object", "required": list(properties), "properties": properties}


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
FILES = _mapping(_object(bytes=COUNT, sha256=TEXT), minProperties=1)
STAGED = {"source": TEXT, "revision": TEXT, "resolved_revision": {"type": ["string", "null"]}, "files": FILES}
TOKENIZER = _object(file=TEXT, sha256=TEXT, max_length={"type": ["integer", "null"]})

MODEL_MANIFEST = _object(**STAGED, tokenizer={"anyOf": [TOKENIZER, {"type": "null"}]})
TASK_MANIFEST = _object(**STAGED, rows=_mapping(COUNT))
TOKENS_MANIFEST = _object(
    made_from=_object(data_sha256=_mapping(TEXT)), splits=_mapping(_object(rows=COUNT)), files=FILES
)
RECORD = _object(
    schema_version=COUNT,
    identity={"type": "object"},
    run_sha256=TEXT,
    model_files=_mapping(TEXT),
    task_files=_mapping(TEXT),
    tokens_files=_mapping(TEXT),
    predictions_sha256=_mapping(TEXT),
    model_revision=TEXT,
    git=_object(commit={"type": ["string", "null"]}),
)
RECORD_OF_TRAINING = {"allOf": [RECORD, _object(train_rows=COUNT)]}
RESULTS = _mapping({"type": ["number", "boolean", "null"]}, minProperties=1)
OBJECTS = {"type": "array", "items": {"type": "object"}}
TABLES = _object(experiment=TEXT, cells=OBJECTS, summaries=OBJECTS, optimism=OBJECTS)


@cache
def head_shape() -> dict:
    """Return the shape of a head's file: what an experiment file may say, completed."""
    lists = {key: {"type": "array"} for key in ("text_columns", "test", "metrics")}
    source = {"source": TEXT, "revision": TEXT}
    task = _object(
        **source, label_column=TEXT, train={"type": ["string", "null"]}, validation={"type": "object"}, **lists
    )
    completed = _object(models=_mapping(_object(**source)), tasks=_mapping(task))
    schema = config_schema()
    read_in = {"references": {"type": "array"}}  # contents in place of paths
    config = schema | {"properties": schema["properties"] | read_in}
    return _object(config={"allOf": [config, completed]})


def read_shaped(path: Path, shape: dict) -> dict:
    """Return the JSON object in a file; DataError with file, key and problem where it has not this shape."""
    if not path.exists():
        raise DataError(f"{path}: is missing")
    try:
        content = read_json(path)
        error = min(jsonschema.Draft202012Validator(shape).iter_errors(content), key=_position, default=None)
    except RecursionError:
        raise DataError(f"{path}: is nested too deep") from None
    if error is not None:
        where = ".".join(map(str, error.absolute_path))
        raise DataError(f"{path}: {where + ': ' if where else ''}{error.message[:LONGEST_MESSAGE]}")
    return content


def _position(error: jsonschema.ValidationError) -> list[str]:
    return [str(part) for part in error.absolute_path]
