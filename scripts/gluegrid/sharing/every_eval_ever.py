"""Results in the format of Every Eval Ever, a public database of evaluation results: a JSON file for each cell.

The format, version 0.3.0: https://github.com/evaleval/every_eval_ever. Its free-text fields take only strings.
"""

import datetime
import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gluegrid import __version__
from gluegrid.common.errors import GluegridError
from gluegrid.common.files import canonical_json, replacing, size_in_words
from gluegrid.common.formatting import counted
from gluegrid.common.paths import is_local
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.experiment_index import experiment_folders, newest_plan
from gluegrid.experiment.metrics import METRICS
from gluegrid.experiment.task import Task, definition
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.sharing.archive import SUFFIX, add_entry

FORMAT = "every_eval_ever"
SCHEMA = "0.3.0"
ORGANIZATION = "unknown"  # gluegrid does not know for whom it runs


def export_evaluations(results: Path, name: str, file: Path) -> Iterator[str]:
    """Write an experiment's results as a zip of such files; yield lines that say how many there are.

    Equal results give equal bytes: names and times come from the records. Raise GluegridError if there are none.
    """
    if file.suffix != SUFFIX:
        raise GluegridError(f"FILE={file}: the files come in a zip file; end its name in {SUFFIX}")
    (folder,) = experiment_folders(results, name)
    experiment = newest_plan(folder)
    evaluations = dict(_evaluations(experiment)) if experiment else {}
    if not evaluations:
        raise GluegridError(f"{folder}: no cell has a score yet, so there is nothing to export")
    with replacing(file) as temporary, zipfile.ZipFile(temporary, "w") as stream:
        for path, evaluation in evaluations.items():
            add_entry(stream, path, canonical_json(evaluation).encode())
    yield f"{file}: {counted(len(evaluations), 'evaluation')} for Every Eval Ever, {size_in_words(file.stat().st_size)}"
    yield f'  before you publish them, replace the organization "{ORGANIZATION}" in source_metadata with yours'


def _evaluations(experiment: Experiment) -> Iterator[tuple[str, dict]]:
    """Yield the path, as in the database, and the content of the file of each cell with a score."""
    for outcome in read_outcomes(experiment):
        if outcome.is_done and (evaluation := evaluation_of(experiment, outcome))["evaluation_results"]:
            developer, _, model = evaluation["model_info"]["id"].rpartition("/")
            name = uuid.uuid5(uuid.NAMESPACE_OID, outcome.record["run_sha256"])
            yield f"data/{outcome.cell.task}/{developer}/{model}/{name}.json", evaluation


def evaluation_of(experiment: Experiment, outcome: Outcome) -> dict:
    """Return the content of the file of one cell with a result."""
    cell, record = outcome.cell, outcome.record
    seconds = int(datetime.datetime.fromisoformat(record["finished"]).timestamp())
    model = _model(experiment, outcome)
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{cell.task}/{model['id']}/{seconds}-{record['run_sha256'][:12]}",
        "evaluation_timestamp": record["finished"],
        "retrieved_timestamp": str(seconds),
        "source_metadata": {
            "source_name": experiment.name,
            "source_type": "evaluation_run",
            "source_organization_name": ORGANIZATION,
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "gluegrid", "version": __version__, **_details(commit=record["git"]["commit"])},
        "model_info": model,
        "evaluation_results": list(_results(experiment, outcome)),
    }


def _model(experiment: Experiment, outcome: Outcome) -> dict:
    """Return the base model and how it was fine-tuned; the path of a local folder stays private."""
    cell, record = outcome.cell, outcome.record
    source = experiment.models[cell.model]["source"]
    model_id = f"local/{cell.model}" if is_local(source) else source if "/" in source else f"huggingface/{source}"
    told = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",  # of the fine-tuned weights, which gluegrid publishes nowhere
        "base_model_revision": record["model_revision"],
        "fine_tuned_on": cell.task if cell.values["do_train"] else None,
        "variant": cell.variant,
        "seed": cell.seed,
        "run_sha256": record["run_sha256"],
        "device": record["device"],
        "precision": record.get("precision"),
    }
    return {
        "name": cell.model,
        "id": model_id,
        "developer": model_id.partition("/")[0],
        "inference_engine": {"name": "transformers", "version": str(record["versions"].get("transformers"))},
        **_details(**told),
    }


def _results(experiment: Experiment, outcome: Outcome) -> Iterator[dict]:
    """Yield each metric on each validation split; skip undefined ones."""
    cell, results = outcome.cell, outcome.results
    task = Task(name=cell.task, **definition(experiment.tasks[cell.task]))
    training = {key: value for key, value in cell.values.items() if key not in ("seed", "threads")}
    for split, suffix in task.validation.items():
        for metric in task.metrics:
            key = f"eval_{metric}{suffix}"
            if results.get(key) is None:
                continue
            yield {
                "evaluation_result_id": f"{outcome.record['run_sha256']}/{split}/{metric}",
                "evaluation_name": cell.task,
                "source_data": _data(task, split, results[f"eval_samples{suffix}"], outcome),
                "evaluation_timestamp": outcome.record["finished"],
                "metric_config": _metric(metric, split),
                "score_details": {
                    "score": results[key],
                    "details": {"degenerate": "true" if outcome.is_degenerate else "false"},
                },
                "generation_config": _details(**training),
            }


def _data(task: Task, split: str, samples: int, outcome: Outcome) -> dict:
    more = _details(differs_from_official=outcome.data or None, split=split, examples=samples)
    if is_local(task.source):
        return {"dataset_name": task.name, "source_type": "other", "source_version": str(task.revision), **more}
    return {
        "dataset_name": task.name,
        "source_type": "hf_dataset",
        "hf_repo": task.source,
        **({"hf_config": task.folder} if task.folder else {}),
        "hf_split": split,
        "hf_revision": str(task.revision),
        "samples_number": samples,
        **more,
    }


def _metric(name: str, split: str) -> dict:
    least, most = METRICS[name].range
    return {
        "evaluation_description": f"{name} on {split}, after the last epoch",
        "metric_id": name,
        "metric_name": name,
        "metric_kind": name,
        "lower_is_better": False,
        "score_type": "continuous",
        "min_score": least,
        "max_score": most,
    }


def _details(**values: object) -> dict:
    """Return details as strings; leave out unknown values."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in values.items()
    }
    return {"additional_details": {key: texts[key] for key, value in values.items() if value is not None}}
