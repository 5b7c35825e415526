"""Models that bring Python code of their own: it runs only where the experiment file trusts it."""

import os
from pathlib import Path

import builders
import pytest
import safetensors.torch
import torch
from checkpoints import assert_refused, change

from gluegrid.common.errors import TrainingError
from gluegrid.models import classifier

CONFIGURATION = """
from transformers import PreTrainedConfig

with open({mark!r}, "w") as stream:
    stream.write("ran")


class BagConfig(PreTrainedConfig):
    model_type = "bag"

    def __init__(self, vocab_size=26, hidden_size=8, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)
"""
MODELING = """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_bag import BagConfig


class BagForSequenceClassification(PreTrainedModel):
    config_class = BagConfig
    base_model_prefix = "bag"

    def __init__(self, config):
        super().__init__(config)
        self.bag = torch.nn.ModuleDict({{"words": torch.nn.Embedding(config.vocab_size, config.hidden_size)}})
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self):
        return self.bag["words"]

    def forward(self, input_ids, attention_mask, labels=None):
        logits = self.classifier((self.bag["words"](input_ids) * attention_mask[..., None]).mean(1))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
"""
AUTO_MAP = {
    "AutoConfig": "configuration_bag.BagConfig",
    "AutoModelForSequenceClassification": "modeling_bag.BagForSequenceClassification",
}


@pytest.fixture
def bag(tmp_path, monkeypatch):
    """A bag of words with its own code, staged in a folder named as ours are."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = builders.write_tokenizer(tmp_path / "org--bag-of.words@main")
    mark = str(tmp_path / "ran")
    (folder / "configuration_bag.py").write_text(CONFIGURATION.format(mark=mark), encoding="utf-8")
    (folder / "modeling_bag.py").write_text(MODELING.format(), encoding="utf-8")
    weights = {"bag.words.weight": torch.randn(26, 8)}
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder / "config.json", model_type="bag", vocab_size=26, hidden_size=8, auto_map=AUTO_MAP)
    return folder


OWN_CODE = r"`trust_remote_code: true` for the model in the experiment file"


def test_code_of_a_models_own_is_not_run_when_it_is_not_trusted(bag, tmp_path):
    assert_refused(bag, rf"^config\.json: the model has its own Python code \(auto_map\).* {OWN_CODE}")
    with pytest.raises(TrainingError, match=OWN_CODE):
        classifier.load_model(bag, builders.task(), seed=1)
    assert not (tmp_path / "ran").exists()


def test_trusted_code_is_run_with_a_warning_and_its_model_is_trained(bag, tmp_path):
    code = """if True:
        import sys
        from pathlib import Path
        import builders, torch
        from gluegrid.common import cli
        from gluegrid.staging.model_check import describe_checkpoint
        cli.setup()
        described = describe_checkpoint(Path(sys.argv[1]), True)
        assert not list(Path(sys.argv[2]).glob("modules/*"))
        from gluegrid.models.classifier import load_model
        model, *_ = load_model(Path(sys.argv[1]), builders.task(), seed=1, trust_remote_code=True)
        inputs = torch.ones(2, 7, dtype=torch.long)
        model(input_ids=inputs, attention_mask=inputs, labels=torch.tensor([0, 1])).loss.backward()
        print(described["parameters"], described["embeddings"], type(model).__name__)
    """
    home = tmp_path / "home"
    tests = os.pathsep.join([str(builders.SCRIPTS), str(Path(builders.__file__).parent)])
    process = builders.python(code, bag, home, env={"HF_HOME": str(home), "PYTHONPATH": tests})
    output, errors = process.communicate()
    assert output.split() == ["208", "26", "BagForSequenceClassification"], errors
    assert errors.count("running the model's own Python code: configuration_bag.py, modeling_bag.py") == 2
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        ({"AutoConfig": "configuration_bag.BagConfig", "AutoModel": "x.Y"}, "no AutoModelForSequenceClassification"),
        ({"AutoModel": "modeling_bag.BagModel"}, 'no AutoModelForSequenceClassification, only ."AutoModel".'),
        (AUTO_MAP | {"AutoConfig": "org/code--configuration_bag.BagConfig"}, "is in another repository"),
        (AUTO_MAP | {"AutoConfig": "/tmp/configuration_bag.BagConfig"}, "which does not name a class in a module"),
        (AUTO_MAP | {"AutoConfig": 7}, "auto_map has 7, which does not name a class in a module"),
        (AUTO_MAP | {"AutoConfig": "configuration_cat.X"}, "names configuration_cat.py, which is missing"),
        (AUTO_MAP | {"AutoConfig": "configuration_bag.Cat"}, "cannot be used: AttributeError .* 'Cat'"),
        (["configuration_bag.BagConfig"], "it must map Auto classes"),
    ],
)
def test_trusted_code_that_cannot_be_had_is_refused(bag, auto_map, message):
    change(bag / "config.json", auto_map=auto_map)
    assert_refused(bag, rf"^config\.json: .*{message}", trust_remote_code=True)
