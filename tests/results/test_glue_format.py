"""GLUE's form against the official files themselves, which say how many test examples there are and name the labels."""

import json

import pyarrow.parquet
import pytest
from glue_cells import WANTED

from gluegrid.common.files import sha256
from gluegrid.experiment.config import load_registry
from gluegrid.results.glue_choice import FILES, TASKS


def split_file(shared, task, split):
    return shared / "glue" / task / f"{split}-00000-of-00001.parquet"


def labels_in(path):
    """Return the names that the hub's metadata give to the classes, in their order; None for a regression."""
    features = json.loads(pyarrow.parquet.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    return features["label"].get("names")


def test_the_form_is_the_one_that_stands_in_the_tests():
    names = [(file.name, file.task, file.split, file.rows, file.names and tuple(file.names.values())) for file in FILES]
    assert names == list(WANTED)
    assert len(FILES) == 11
    assert set(TASKS) == set(load_registry())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_rows_and_labels_are_those_of_the_official_file(shared, file):
    path = split_file(shared, file.task, file.split)
    if file.task == "qqp":
        path = split_file(shared, "qqp", "validation")  # the only official file of it that is there
    else:
        assert pyarrow.parquet.read_metadata(path).num_rows == file.rows
        assert pyarrow.parquet.read_table(path, columns=["idx"]).column("idx").to_pylist() == list(range(file.rows))
        assert sha256(path) == file.official["sha256"]
    assert labels_in(path) == (file.names and list(file.names))
