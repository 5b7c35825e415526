"""The zip of a model's test predictions that GLUE's server takes, and the origin of each prediction."""

import hashlib
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy

from gluegrid.analysis.predictions import read_predictions
from gluegrid.common import paths
from gluegrid.common.errors import DataError, RecordError
from gluegrid.common.escaping import quoted
from gluegrid.common.files import canonical_json, read_json, replacing, sha256
from gluegrid.common.manifests import recorded_hashes
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.task import Task
from gluegrid.results.glue_choice import FILES, HEADER, LEAST, MOST, Choice, GlueFile, choices
from gluegrid.results.made_from import note_made, origin_now, write_made
from gluegrid.results.official_data import other_files
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.staging.examples import check_label_names

INDEX = re.compile(r"0|[1-9][0-9]*", re.ASCII)
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)  # no sign, no exponent, no nan


def check_file(file: GlueFile, content: bytes) -> None:
    """Raise DataError with the file and the line unless GLUE's server would take the content."""
    lines = content.decode("utf-8", errors="replace").split("\n")
    if lines[0] != HEADER:
        raise DataError(f"{file.name}: the header is {quoted(lines[0])}, not {HEADER!r}")
    if lines.pop() != "":
        raise DataError(f"{file.name}: the last line has no line end")
    rows = [line.split("\t") for line in lines[1:]]
    if len(rows) != file.rows:
        raise DataError(
            f"{file.name}: has {len(rows):,} predictions, but GLUE's server needs {file.rows:,}:"
            f" the split {file.split!r} of {file.task} is not the official one. Use the split of nyu-mll/glue."
        )
    for number, row in enumerate(rows, start=2):
        _check_row(file, number, row)
    _check_indexes(file, [int(index) for index, _ in rows])


def check_archive(path: Path, contents: Mapping[str, bytes]) -> None:
    """Raise DataError unless the archive holds exactly GLUE's files, at the top level, with these contents."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(file.name for file in FILES):
            raise DataError(f"{path}: holds {', '.join(names)}, not GLUE's {len(FILES)} files")
        differing = [name for name in names if archive.read(name) != contents[name]]
    if differing:
        raise DataError(f"{path}: {differing[0]} differs from what was written. Check the disk.")


def _check_row(file: GlueFile, number: int, row: list[str]) -> None:
    if len(row) != 2 or not INDEX.fullmatch(row[0]):
        raise DataError(f"{file.name}: line {number} is {quoted(chr(9).join(row))}, not an index and a prediction")
    if file.names is None:
        if not (NUMBER.fullmatch(row[1]) and LEAST <= float(row[1]) <= MOST):
            raise DataError(
                f"{file.name}: line {number} predicts {quoted(row[1])}, not a number from {LEAST:g} to {MOST:g}"
            )
    elif row[1] not in file.names.values():
        legal = ", ".join(file.names.values())
        raise DataError(f"{file.name}: line {number} predicts {quoted(row[1])}, not one of {legal}")


def _check_indexes(file: GlueFile, indexes: list[int]) -> None:
    wanted = range(file.rows)
    if indexes == list(wanted):
        return
    twice = [index for index, count in Counter(indexes).items() if count > 1]
    missing = sorted(set(wanted) - set(indexes))
    if twice:
        problem = f"index {twice[0]} appears twice"
    else:
        problem = f"index {missing[0]} is missing" if missing else "the indexes are not in order"
    raise DataError(f"{file.name}: {problem}; `idx` must number the test examples from 0, each once")


@dataclass(frozen=True)
class Content:
    """The content of a file; `clipped` counts the numbers that were out of range."""

    text: bytes
    clipped: int | None


def content_of(file: GlueFile, task: Task, outcome: Outcome, predictions: Path) -> Content:
    """Return the file's content from a cell's predictions of its split.

    Raise RecordError where they are not what training wrote, by the hash in the cell's record, and DataError where they
    are unreadable. Whether GLUE takes them is for check_file.
    """
    _check_hash(file, outcome, predictions)
    rows = read_predictions(predictions, task)
    order = numpy.argsort(rows.idx, kind="stable")
    idx, answers = rows.idx[order], task.kind.predictions(rows.logits[order])
    if file.names is None:
        clipped = numpy.clip(answers, LEAST, MOST)
        return Content(_text(idx, map(_number, clipped)), int(numpy.count_nonzero(clipped != answers)))
    # By name, since the data may number their labels differently than GLUE does.
    return Content(_text(idx, (file.names[task.labels[answer]] for answer in answers)), None)


def _check_hash(file: GlueFile, outcome: Outcome, predictions: Path) -> None:
    recorded = outcome.record.get("predictions_sha256", {}).get(file.split)
    if recorded is None or not predictions.exists():
        raise RecordError(f"{predictions}: is missing. Delete the cell's all_results.json to retrain it.")
    if sha256(predictions) != recorded:
        raise RecordError(
            f"{predictions}: its SHA-256 is not the one in run_record.json."
            " Delete the cell's all_results.json to retrain it."
        )


def _text(idx, predictions) -> bytes:
    lines = [f"{index}\t{prediction}\n" for index, prediction in zip(idx.tolist(), predictions, strict=True)]
    return "".join([HEADER, "\n", *lines]).encode()


def _number(value: float) -> str:
    """Return the shortest text of a number in single precision, as logits are, without exponent or sign."""
    return numpy.format_float_positional(numpy.float32(value) + 0, unique=True, trim="0")


EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip's times, so that its bytes depend on the predictions alone
ON_UNIX, PLAIN_FILE = 3, 0o100644 << 16


def write_submission(experiment: Experiment, model: str) -> dict:
    """Write a model's submission.zip and submission.json, both or neither; return the content of the latter.

    Raise ConfigError where the experiment's tasks make no submission, and RecordError or DataError where a result is
    missing or GLUE would reject it.
    """
    outcomes = read_outcomes(experiment)
    texts, about = submission_of(experiment, model)
    archive = _archive(texts)
    about |= {"zip_sha256": hashlib.sha256(archive).hexdigest()}
    file = Path(experiment.paths.submission_zip.format(model=model))
    with replacing(file) as temporary:
        temporary.write_bytes(archive)
        check_archive(temporary, texts)
        note_made(experiment, file, about["zip_sha256"], origin_now(experiment, outcomes))
        # Before the zip takes its place, so that no zip is without it.
        beside = Path(experiment.paths.submission_json.format(model=model))
        write_made(experiment, outcomes, {beside: canonical_json(about)})
    return about


def submission_of(experiment: Experiment, model: str) -> tuple[dict[str, bytes], dict]:
    """Return the files of a model's submission and their origins. Raise what `write_submission` raises."""
    made = choices(experiment, model)
    contents = {file.name: _content(experiment, file, made[file.task].outcome) for file in FILES}
    about = {
        "experiment": experiment.name,
        "model": made[FILES[0].task].outcome.cell.run["model"],
        "files": {file.name: _origin(file, made[file.task], contents[file.name]) for file in FILES},
    }
    return {name: content.text for name, content in contents.items()}, about


def lines_about(about: dict) -> list[str]:
    """Return a line for each file of a submission: its number of predictions, their cell and any reservations."""
    return [f"{name}: {'; '.join(_facts(origin))}" for name, origin in about["files"].items()]


def _content(experiment: Experiment, file: GlueFile, outcome: Outcome) -> Content:
    """Return a file's checked content. Errors name the cell."""
    predictions = Path(experiment.paths.predictions.format(**outcome.cell.wildcards, split=file.split))
    try:
        _check_label_names(experiment, outcome)
        content = content_of(file, _task(outcome), outcome, predictions)
        check_file(file, content.text)
    except DataError as error:
        raise DataError(f"{outcome.cell.name}: {error}") from error
    return content


def _check_label_names(experiment: Experiment, outcome: Outcome) -> None:
    """Raise DataError where the label names in the staged data contradict the task's."""
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
    """Return where a file's predictions come from, and their scores on validation."""
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


def _facts(origin: dict) -> Iterator[str]:
    yield f"{origin['rows']:,} predictions of {origin['cell']}, {origin['chosen']}"
    if not origin["split_is_official"]:
        yield f"its {origin['split']} split is not the official file: check that the examples are GLUE's"
    if origin["degenerate"]:
        yield "degenerate: one answer for all examples of a validation split, or an undefined metric"
    if origin.get("clipped"):
        yield f"{origin['clipped']:,} of them were out of range and set to {LEAST:g} or {MOST:g}"
