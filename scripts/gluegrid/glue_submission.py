"""The zip of a model's test predictions as GLUE's server takes it, and beside it where each of them comes from."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from gluegrid.common import paths
from gluegrid.common.errors import DataError
from gluegrid.common.files import read_json, replacing, write_json
from gluegrid.common.manifests import recorded_hashes
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task
from gluegrid.glue_checks import check_archive, check_file
from gluegrid.glue_predictions import Content, content_of
from gluegrid.results.glue_choice import FILES, LEAST, MOST, Choice, GlueFile, choices
from gluegrid.results.official_data import other_files
from gluegrid.results.outcomes import Outcome
from gluegrid.staging.examples import check_label_names

EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip's times: its bytes follow from the predictions alone
ON_UNIX, PLAIN_FILE = 3, 0o100644 << 16


def write_submission(experiment: Experiment, model: str) -> dict:
    """Write a model's submission.zip and submission.json, whole or not at all; return what the latter says.

    Raises ConfigError where the experiment's tasks make no submission, and RecordError or DataError where a result is
    missing or not what GLUE takes: then nothing is written.
    """
    texts, about = submission_of(experiment, model)
    archive = _archive(texts)
    about |= {"zip_sha256": hashlib.sha256(archive).hexdigest()}
    with replacing(Path(experiment.paths.submission_zip.format(model=model))) as temporary:
        temporary.write_bytes(archive)
        check_archive(temporary, texts)
        # Before the zip takes its place, so that there is none without it.
        write_json(Path(experiment.paths.submission_json.format(model=model)), about)
    return about


def submission_of(experiment: Experiment, model: str) -> tuple[dict[str, bytes], dict]:
    """Return the files of a model's submission, and where they come from. Raises as `write_submission` does."""
    made = choices(experiment, model)
    contents = {file.name: _content(experiment, file, made[file.task].outcome) for file in FILES}
    about = {
        "experiment": experiment.name,
        "model": made[FILES[0].task].outcome.cell.run["model"],
        "files": {file.name: _origin(file, made[file.task], contents[file.name]) for file in FILES},
    }
    return {name: content.text for name, content in contents.items()}, about


def lines_about(about: dict) -> list[str]:
    """Return a line for each file of a submission: how many predictions of which cell, and what should be known."""
    return [": ".join([name, "; ".join([_what(origin), *_notes(origin)])]) for name, origin in about["files"].items()]


def _content(experiment: Experiment, file: GlueFile, outcome: Outcome) -> Content:
    """Return a file's content, checked. Errors name the cell."""
    predictions = Path(experiment.paths.predictions.format(**outcome.cell.wildcards, split=file.split))
    try:
        _check_label_names(experiment, outcome)
        content = content_of(file, _task(outcome), outcome, predictions)
        check_file(file, content.text)
    except DataError as error:
        raise DataError(f"{outcome.cell.name}: {error}") from error
    return content


def _check_label_names(experiment: Experiment, outcome: Outcome) -> None:
    """Raise DataError where the data's own names of the labels contradict the task's, if these data are staged here."""
    manifest = Path(paths.TASK_MANIFEST.format(task_key=experiment.task_key(outcome.cell.task)))
    if manifest.exists() and recorded_hashes(manifest) == outcome.record["task_files"]:
        check_label_names(manifest, read_json(manifest), _task(outcome))


def _task(outcome: Outcome) -> Task:
    return Task(**outcome.cell.run["task"])


def _archive(texts: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system, entry.external_attr, entry.compress_type = ON_UNIX, PLAIN_FILE, zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return stream.getvalue()


def _origin(file: GlueFile, choice: Choice, content: Content) -> dict:
    """Return where a file's predictions come from, and how good they are where that can be known."""
    one = choice.outcome
    task = _task(one)
    others = other_files({file.split: file.official}, task, one.record["task_files"])
    origin = {
        "cell": one.cell.name,
        **one.cell.wildcards,
        "seed": one.cell.seed,
        "chosen": choice.how,
        "scores": {key: one.results[key] for key in task.metric_keys()},
        "degenerate": one.is_degenerate,
        "data": one.data,
        "split": file.split,
        "split_is_official": file.split not in others,
        "rows": file.rows,
        "run_sha256": one.record["run_sha256"],
        "predictions_sha256": one.record["predictions_sha256"][file.split],
        "sha256": hashlib.sha256(content.text).hexdigest(),
    }
    return origin if content.clipped is None else origin | {"clipped": content.clipped}


def _what(origin: dict) -> str:
    return f"{origin['rows']:,} predictions of {origin['cell']}, {origin['chosen']}"


def _notes(origin: dict) -> list[str]:
    notes = []
    if not origin["split_is_official"]:
        notes.append(f"its {origin['split']} split is not the official file, so make sure that the examples are")
    if origin["degenerate"]:
        notes.append("degenerate: one answer for all examples of a validation split, or an undefined metric")
    if origin.get("clipped"):
        notes.append(f"{origin['clipped']:,} of them set to {LEAST:g} or {MOST:g}, which they were beyond")
    return notes
