"""JSON Schemas of what verification relies on in each file, so that a damaged file gives a one-line error."""

from functools import cache
from pathlib import Path

import jsonschema

from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json
from gluegrid.experiment.config import config_schema
from gluegrid.experiment.options import OPTIONS
from gluegrid.experiment.references import schema_of

LONGEST_MESSAGE = 200  # characters; jsonschema quotes the whole value
LONGEST_VARIANT = 200  # characters of its name


def mapping_of(of: dict, **more: object) -> dict:
    """Return the shape of an object whose values all have the same shape, under any keys."""
    return {"type": "object", "additionalProperties": of, **more}


def object_of(**properties: dict) -> dict:
    """Return the shape of an object that has these keys, and may have others."""
    return {"type": "object", "required": list(properties), "properties": properties}


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
OBJECTS = {"type": "array", "items": {"type": "object"}}
FILES = mapping_of(object_of(bytes=COUNT, sha256=TEXT), minProperties=1)
STAGED = {"source": TEXT, "revision": TEXT, "resolved_revision": {"type": ["string", "null"]}, "files": FILES}
TOKENIZER = object_of(file=TEXT, sha256=TEXT, max_length={"type": ["integer", "null"]})

MODEL_MANIFEST = object_of(**STAGED, tokenizer={"anyOf": [TOKENIZER, {"type": "null"}]})
TASK_MANIFEST = object_of(**STAGED, rows=mapping_of(COUNT))
TASK_MANIFEST["properties"]["label_names"] = mapping_of(mapping_of({"type": "array", "items": TEXT}))
TOKENS_MANIFEST = object_of(
    made_from=object_of(data_sha256=mapping_of(TEXT)), splits=mapping_of(object_of(rows=COUNT)), files=FILES
)
RECORD = object_of(
    schema_version=COUNT,
    identity={"type": "object"},
    run_sha256=TEXT,
    model_files=mapping_of(TEXT),
    task_files=mapping_of(TEXT),
    tokens_files=mapping_of(TEXT),
    predictions_sha256=mapping_of(TEXT),
    model_revision=TEXT,
    git=object_of(commit={"type": ["string", "null"]}),
)
# Newer keys, which older records lack.
RECORD["properties"] |= {
    "compute_paths": {"type": "array", "items": TEXT},
    "deterministic": {"type": "boolean"},
    "continued": OBJECTS,
}
RECORD_OF_TRAINING = {"allOf": [RECORD, object_of(train_rows=COUNT)]}
RESULTS = mapping_of({"type": ["number", "boolean", "null"]}, minProperties=1)
TABLES = object_of(experiment=TEXT, cells=OBJECTS, summaries=OBJECTS, optimism=OBJECTS)


@cache
def head_shape() -> dict:
    """Return the shape of a call's file in heads/, which holds the completed experiment file."""
    return object_of(config=config_shape())


@cache
def config_shape() -> dict:
    """Return the shape of the config in a call's file; for an imported experiment it also lists the cells."""
    lists = {key: {"type": "array"} for key in ("text_columns", "test", "metrics")}
    source = {"source": TEXT, "revision": TEXT}
    task = object_of(
        **source, label_column=TEXT, train={"type": ["string", "null"]}, validation={"type": "object"}, **lists
    )
    completed = object_of(models=mapping_of(object_of(**source)), tasks=mapping_of(task))
    schema = config_schema()
    more = {
        "references": {"type": "array", "items": schema_of("references")},  # contents in place of paths
        "imported": {"type": "array", "items": listed_cell(run=run_shape())},
    }
    return {"allOf": [schema | {"properties": schema["properties"] | more}, completed]}


def listed_cell(**more: dict) -> dict:
    """Return the shape of a cell in a list: its identity, why it has no result, and its log."""
    name = config_schema()["$defs"]["name"]
    variant = {"type": "string", "pattern": r"\A[A-Za-z0-9][A-Za-z0-9.+_-]*\Z", "maxLength": LONGEST_VARIANT}
    seed = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
    reason = {"type": ["string", "null"]}
    return object_of(model=name, task=name, variant=variant, seed=seed, reason=reason, log=TEXT, **more)


@cache
def run_shape() -> dict:
    """Return the shape of a run.json."""
    of_one_cell = {key: option.schema for key, option in OPTIONS.items()}
    own = object_of(recipe=COUNT, experiment=TEXT, model=object_of(name=TEXT, source=TEXT), task=object_of(name=TEXT))
    start = {"init_from": object_of(task=TEXT, variant=TEXT, run_sha256=TEXT)}
    return own | {"properties": of_one_cell | own["properties"] | start}


def read_shaped(path: Path, shape: dict) -> dict:
    """Return the JSON object in a file. Raise DataError with file, key and problem if it lacks this shape."""
    if not path.exists():
        raise DataError(f"{path}: is missing")
    content = read_json(path)
    check_shape(str(path), content, shape)
    return content


def check_shape(file: str, content: dict, shape: dict) -> None:
    """Raise DataError with file, key and problem if the content of a file lacks this shape."""
    try:
        error = min(jsonschema.Draft202012Validator(shape).iter_errors(content), key=_position, default=None)
    except RecursionError:
        raise DataError(f"{file}: is nested too deep") from None
    if error is not None:
        where = ".".join(map(str, error.absolute_path))
        raise DataError(f"{file}: {where + ': ' if where else ''}{error.message[:LONGEST_MESSAGE]}")


def _position(error: jsonschema.ValidationError) -> list[str]:
    return [str(part) for part in error.absolute_path]
