"""What is declared of the training options, where it must not change or stands twice."""

import jsonschema

from gluegrid.experiment.config import config_schema
from gluegrid.experiment.options import LORA, OPTIONS, RECIPES, TEXT

# Frozen: what run.json files that exist leave out. An option that is added adds what runs did before; no value changes.
RECIPE_1 = {
    "learning_rate": 2e-5,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
    "num_train_epochs": 3,
    "max_seq_length": 128,
    "max_train_samples": None,
    "max_eval_samples": None,
    "device": "cuda",
    "precision": "fp32",
    "train_sampling_strategy": "random",
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0,
    "weight_decay": 0,
    "max_grad_norm": 1,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "attn_implementation": "auto",
    "lora": None,
    "eval_strategy": "no",
    "save_model": "none",
    "gpus": 1,
    "nodes": 1,
    "do_train": True,
    "init_from": None,
    "selection": "validation",
}
# What makes a variant's name, or is written into every run.json, is frozen as well.
OTHER_DEFAULTS = {"seeds": [42], "threads": 4, "global_batch_size": None}
FOR_PREDICTION = {
    *("per_device_eval_batch_size", "max_seq_length", "max_eval_samples", "device", "precision"),
    *("attn_implementation", "gpus", "nodes", "do_train", "init_from", "threads"),
}
NOT_SWEPT = {"seeds", "threads", "device", "do_train", "init_from", "selection"}


def test_the_recipe_is_frozen():
    assert {key: repr(RECIPES[1][key]) for key in RECIPE_1} == {key: repr(value) for key, value in RECIPE_1.items()}
    assert {key: OPTIONS[key].default for key in OTHER_DEFAULTS} == OTHER_DEFAULTS
    assert not OTHER_DEFAULTS.keys() & RECIPES[1].keys()
    assert LORA == {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": "all-linear"}


def test_what_decides_a_cell_that_is_not_trained_or_may_be_listed_is_frozen_for_the_options_that_there_are():
    known = RECIPE_1.keys() | OTHER_DEFAULTS.keys()
    assert {key for key in known if OPTIONS[key].for_prediction} == FOR_PREDICTION
    assert {key for key in known if not OPTIONS[key].is_swept} == NOT_SWEPT


def test_the_columns_of_sweeps_keep_their_order():
    swept = [key for key in RECIPE_1 if key not in NOT_SWEPT]
    assert [key for key in RECIPES[1] if key in swept] == swept


def test_a_default_suits_its_own_schema():
    for key, option in OPTIONS.items():
        assert option.default is None or jsonschema.Draft202012Validator(option.schema).is_valid(option.default), key


def test_text_is_the_same_here_and_in_the_schema():
    assert config_schema()["$defs"]["text"] == TEXT
