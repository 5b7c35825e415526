import hashlib
from pathlib import Path

import builders
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from glue_cells import write_predictions

from gluegrid.analysis.glue_submission import content_of
from gluegrid.common.errors import DataError, RecordError
from gluegrid.experiment.cell import Cell
from gluegrid.results.glue_choice import FILES
from gluegrid.results.outcomes import Outcome

FILE = {file.name: file for file in FILES}
RTE = builders.task(name="rte", labels=["entailment", "not_entailment"], test=["test"])
STSB = builders.task(name="stsb", labels=None, metrics=["pearson"], test=["test"])


def outcome(split, digest):
    return Outcome(
        Cell("m", "t", "base", 1, {}), Path("log"), results={}, record={"predictions_sha256": {split: digest}}
    )


def content(tmp_path, name, task, logits, idx=None):
    file = FILE[name]
    digest = write_predictions(tmp_path / "p.parquet", numpy.array(logits, numpy.float32), idx)
    return content_of(file, task, outcome(file.split, digest), tmp_path / "p.parquet")


def said(*predictions):
    lines = [f"{index}\t{prediction}" for index, prediction in enumerate(predictions)]
    return "\n".join(["index\tprediction", *lines, ""]).encode()


def test_the_largest_output_gives_the_name_and_the_first_of_equals(tmp_path):
    made = content(tmp_path, "RTE.tsv", RTE, [[2, 1], [1, 2], [0, 0]])
    assert (made.text, made.clipped) == (said("entailment", "not_entailment", "entailment"), None)


def test_the_name_decides_where_the_data_number_their_labels_otherwise(tmp_path):
    other = builders.task(name="rte", labels=["not_entailment", "entailment"], test=["test"])
    made = content(tmp_path, "RTE.tsv", other, [[2, 1], [1, 2]])
    assert made.text == said("not_entailment", "entailment")


def test_numbers_of_classes_are_glues_own(tmp_path):
    wnli = builders.task(name="wnli", labels=["not_entailment", "entailment"], test=["test"])
    assert content(tmp_path, "WNLI.tsv", wnli, [[2, 1], [1, 2]]).text == said("0", "1")
    other = builders.task(name="wnli", labels=["entailment", "not_entailment"], test=["test"])
    assert content(tmp_path, "WNLI.tsv", other, [[2, 1], [1, 2]]).text == said("1", "0")


def test_classes_are_those_that_are_scored(tmp_path):
    logits = numpy.random.default_rng(0).normal(size=(200, 2)).round(1).astype(numpy.float32)
    expected = [("entailment", "not_entailment")[number] for number in RTE.kind.predictions(logits)]
    assert content(tmp_path, "RTE.tsv", RTE, logits).text == said(*expected)


def test_rows_are_ordered_by_their_index(tmp_path):
    made = content(tmp_path, "RTE.tsv", RTE, [[1, 2], [2, 1], [1, 2]], idx=[2, 0, 1])
    assert made.text == said("entailment", "not_entailment", "not_entailment")


def test_scores_are_clipped_and_keep_every_digit(tmp_path):
    scores = [-0.5, 0.0, -0.0, 1e-6, 2.3333333, 0.1, 3.0, 5.0, 5.0000005, 400.0]
    made = content(tmp_path, "STS-B.tsv", STSB, [[score] for score in scores])
    assert made.text == said("0.0", "0.0", "0.0", "0.000001", "2.3333333", "0.1", "3.0", "5.0", "5.0", "5.0")
    assert made.clipped == 3


def test_scores_read_back_are_the_models_own(tmp_path):
    logits = numpy.random.default_rng(0).uniform(0, 5, size=(1000, 1)).astype(numpy.float32)
    made = content(tmp_path, "STS-B.tsv", STSB, logits)
    read = [numpy.float32(line.split(b"\t")[1]) for line in made.text.splitlines()[1:]]
    assert (numpy.array(read) == logits[:, 0]).all()


@pytest.mark.parametrize("number", [numpy.nan, numpy.inf])
def test_a_prediction_that_is_no_number_is_refused(tmp_path, number):
    for name, task, logits in (("STS-B.tsv", STSB, [[1.0], [number]]), ("RTE.tsv", RTE, [[1.0, 2.0], [number, 0.0]])):
        with pytest.raises(DataError, match=f"'logits' has {number} in row 1"):
            content(tmp_path, name, task, logits)


def test_predictions_that_were_changed_since_are_refused(tmp_path):
    file, path = FILE["RTE.tsv"], tmp_path / "p.parquet"
    digest = write_predictions(path, numpy.array([[1, 2]], numpy.float32))
    write_predictions(path, numpy.array([[2, 1]], numpy.float32))
    with pytest.raises(RecordError, match=r"p\.parquet: its SHA-256 is not the one in run_record\.json"):
        content_of(file, RTE, outcome("test", digest), path)


def test_missing_predictions_are_named(tmp_path):
    file, path = FILE["RTE.tsv"], tmp_path / "p.parquet"
    digest = hashlib.sha256(b"").hexdigest()
    with pytest.raises(RecordError, match=r"p\.parquet: is missing"):
        content_of(file, RTE, outcome("test", digest), path)
    write_predictions(path, numpy.array([[1, 2]], numpy.float32))
    with pytest.raises(RecordError, match=r"p\.parquet: is missing"):
        content_of(file, RTE, outcome("test_matched", digest), path)


def test_a_file_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"idx": [0], "label": [-1], "logits": [[1.0, 2.0, 3.0]]}), path)
    one = outcome("test", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="rows without exactly 2 numbers"):
        content_of(FILE["RTE.tsv"], RTE, one, path)
