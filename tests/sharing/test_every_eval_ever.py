"""`make export FORMAT=every_eval_ever`: what it writes is what the format asks for."""

import json
import os
import subprocess
import sys
import zipfile
from importlib import resources, util
from pathlib import Path

import jsonschema
import pytest
from clones import PROJECT
from shared_experiments import write_experiment

from gluegrid.common.files import read_json, write_json
from gluegrid.sharing.every_eval_ever import export_evaluations

FILE = Path("grid-every_eval_ever.zip")
TEXT, NUMBER = {"type": "string", "minLength": 1}, {"type": "number"}
DETAILS = {"type": "object", "additionalProperties": TEXT}


def needs(required: str, **properties: dict) -> dict:
    """Return the shape of an object that must have these keys, beside properties that it may have."""
    known = {name: properties.get(name, TEXT) for name in required.split()} | properties
    return {"type": "object", "required": required.split(), "properties": known | {"additional_details": DETAILS}}


# Our own declaration of what the format asks for, as far as we write it; version 0.3.0.
OF_THE_HUB = needs(
    "dataset_name source_type hf_repo", source_type={"const": "hf_dataset"}, samples_number={"type": "integer"}
)
OF_A_FOLDER = needs("dataset_name source_type", source_type={"const": "other"})
METRIC = needs(
    "lower_is_better score_type min_score max_score",
    **{"lower_is_better": {"type": "boolean"}, "score_type": {"const": "continuous"}},
    **{"min_score": NUMBER, "max_score": NUMBER},
)
RESULT = needs(
    "evaluation_name source_data metric_config score_details",
    source_data={"oneOf": [OF_THE_HUB, OF_A_FOLDER]},
    metric_config=METRIC,
    score_details=needs("score", score=NUMBER, details=DETAILS),
)
MODEL = needs(
    "name id additional_details", id={"type": "string", "pattern": "^[^/]+/[^/]+$"}, inference_engine=needs("name")
)
MODEL["properties"]["additional_details"] = DETAILS | {"required": ["deployment_type", "model_availability"]}
EVALUATION = {
    **needs(
        "schema_version evaluation_id retrieved_timestamp source_metadata eval_library model_info evaluation_results",
        evaluation_timestamp=TEXT,
        retrieved_timestamp={"type": "string", "pattern": r"^[0-9]+(\\.[0-9]+)?$"},
        source_metadata=needs(
            "source_type source_organization_name evaluator_relationship",
            source_type={"enum": ["documentation", "evaluation_run"]},
            evaluator_relationship={"enum": ["first_party", "third_party", "collaborative", "other"]},
        ),
        eval_library=needs("name version"),
        model_info=MODEL,
        evaluation_results={"type": "array", "minItems": 1, "items": RESULT},
    ),
    "additionalProperties": False,
}


def real_schema() -> dict:
    """Return the schema that GLUEGRID_EEE_SCHEMA names or the format's package has, else one that fits all."""
    if path := os.environ.get("GLUEGRID_EEE_SCHEMA"):
        return json.loads(Path(path).read_text(encoding="utf-8"))
    if util.find_spec("every_eval_ever") is None:
        return {}
    schema = resources.files("every_eval_ever") / "schemas" / "eval.schema.json"
    return json.loads(schema.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[dict[str, dict], list[dict]]:
    """The files of an experiment of four cells, of which one failed and one was not run, and its results."""
    failed, not_run = "bert/number/base/seed-1", "bert/number/base/seed-2"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("exported"))
        write_experiment("grid", {"bert": {}}, seeds=[1, 2], failed=[failed], not_run=[not_run])
        for path in Path("results").rglob("run_record.json"):
            write_json(path, read_json(path) | {"finished": "2026-01-02T03:04:05+00:00"})
        (line, _) = export_evaluations(Path("results"), "grid", FILE)
        assert line.startswith(f"{FILE}: 2 evaluations for Every Eval Ever, ")
        first = FILE.read_bytes()
        list(export_evaluations(Path("results"), "grid", FILE))
        assert FILE.read_bytes() == first
        stored = [json.loads(path.read_text()) for path in sorted(Path("results").rglob("all_results.json"))]
        with zipfile.ZipFile(FILE) as archive:
            return {name: json.loads(archive.read(name)) for name in archive.namelist()}, stored


@pytest.fixture
def exported(written) -> dict[str, dict]:
    """The files by their paths."""
    return written[0]


def test_each_cell_with_a_score_is_a_file_of_the_format(exported):
    assert len(exported) == 2
    for path, evaluation in exported.items():
        jsonschema.Draft202012Validator(EVALUATION).validate(evaluation)
        jsonschema.Draft7Validator(real_schema()).validate(evaluation)
        folder, task, developer, model, name = path.split("/")
        assert (folder, task, f"{developer}/{model}") == ("data", "pair", evaluation["model_info"]["id"])
        assert name.endswith(".json") and len(name) == 36 + len(".json")
    assert len({evaluation["evaluation_id"] for evaluation in exported.values()}) == 2


def test_the_files_hold_what_the_cells_do(written):
    exported, stored = written
    scores = [
        {
            each["metric_config"]["metric_id"]: each["score_details"]["score"]
            for each in evaluation["evaluation_results"]
        }
        for evaluation in exported.values()
    ]
    assert scores == [{"accuracy": each["eval_accuracy"], "f1": each["eval_f1"]} for each in stored]
    details = [evaluation["model_info"]["additional_details"] for evaluation in exported.values()]
    assert [each["seed"] for each in details] == ["1", "2"]
    assert {each["fine_tuned_on"] for each in details} == {"pair"}


def test_another_format_is_refused_with_those_there_are():
    command = [sys.executable, PROJECT / "scripts/commands.py", "export", "--format=lm_eval"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gluegrid: FORMAT=lm_eval: unknown; choose every_eval_ever")
