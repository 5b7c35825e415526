import datasets
import numpy
import pyarrow
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from gluegrid.experiment.task_kinds import CLASSIFICATION, REGRESSION, kind_of

LABELS = [None, ["no", "yes"], ["a", "b", "c"]]


@pytest.mark.parametrize("labels", LABELS)
def test_a_kind_names_types_that_data_tokens_and_scoring_know(labels):
    kind = kind_of(labels)
    assert pyarrow.type_for_alias(kind.staged_type) in (pyarrow.int64(), pyarrow.float64())
    assert datasets.Value(kind.label_type).pa_type == pyarrow.type_for_alias(kind.label_type)


@pytest.mark.parametrize("labels", LABELS)
def test_the_loss_is_that_by_which_transformers_trains_such_a_task(labels):
    kind = kind_of(labels)
    outputs = kind.number_of_outputs(labels)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=10, num_labels=outputs, problem_type=kind.problem_type, **sizes)
    model = BertForSequenceClassification(config).eval()
    answers = numpy.array([0, 1, 1, 0], kind.label_type)
    with torch.no_grad():
        said = model(input_ids=torch.arange(8).reshape(4, 2), labels=torch.from_numpy(answers))
    loss = kind.loss(said.logits.numpy().astype(float), answers)
    assert loss == pytest.approx(said.loss.item(), rel=1e-6)


def test_predictions_are_the_class_of_the_greatest_logit_the_first_of_equals_or_the_number():
    logits = numpy.array([[1.0, 2.0], [3.0, 3.0], [5.0, 4.0]])
    assert CLASSIFICATION.predictions(logits).tolist() == [1, 0, 0]
    assert REGRESSION.predictions(logits[:, :1]).tolist() == [1.0, 3.0, 5.0]
