import builders
import numpy
import pyarrow
import pytest

from gluegrid.training.predict import with_answers


def answers(task, labels, logits):
    """Return the columns that are added to a table with these labels and logits, in single precision."""
    logits = list(numpy.array(logits, numpy.float32))
    table = with_answers(pyarrow.table({"idx": range(len(labels)), "label": labels, "logits": logits}), task)
    assert table.column_names == ["idx", "label", "logits", "prediction", "label_name", "prediction_name"]
    return table.select(table.column_names[3:]).to_pydict()


def test_a_class_is_predicted_and_named_and_a_hidden_label_has_no_name():
    task = builders.task(labels=["no", "yes", "maybe"])
    assert answers(task, [2, 0, -1], [[0, 1, 0], [1, 1, 0], [0, 0, 1]]) == {
        "prediction": [1, 0, 2],  # the first of equals
        "label_name": ["maybe", "no", None],
        "prediction_name": ["yes", "no", "maybe"],
    }


def test_a_regression_predicts_a_number_without_a_name():
    found = answers(builders.task(labels=None), [1.5, 2.0], [[0.1], [3.5]])
    assert found["prediction"] == pytest.approx([0.1, 3.5])
    assert found["label_name"] == found["prediction_name"] == [None, None]
