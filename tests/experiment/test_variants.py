"""Lists of values make variants: which there are, what they are called, and what a change of a list does to them."""

import json
from pathlib import Path

import pytest
import yaml

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.options import OPTIONS, SWEPT_KEYS
from gluegrid.experiment.variants import variant_name

SMALL = {"experiment": "small", "models": {"bert": {"source": "org/bert"}}, "tasks": {"cola": None, "rte": None}}
APPENDIX_A3 = {
    "per_device_train_batch_size": [16, 32],
    "learning_rate": [5e-5, 3e-5, 2e-5],
    "num_train_epochs": [2, 3, 4],
}
LONG = {"target_modules": [f"a_layer_with_a_long_name_{number}" for number in range(9)]}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(**values) -> Experiment:
    path = Path("c.yaml")
    path.write_text(yaml.safe_dump(SMALL | values, sort_keys=False))
    return load_experiment(path)


def write_runs(experiment: Experiment) -> None:
    """Write every run.json, as a call of snakemake does."""
    for cell in experiment.cells.values():
        path = Path(experiment.paths.run.format(**cell.wildcards))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(run_text(cell))


def new_cells(experiment: Experiment) -> set[str]:
    """Return the cells that would be trained, were all whose run.json is there done."""
    runs = {cell.name: Path(experiment.paths.run.format(**cell.wildcards)) for cell in experiment.cells.values()}
    texts = {cell.name: run_text(cell) for cell in experiment.cells.values()}
    return {name for name, path in runs.items() if not path.exists() or path.read_text() != texts[name]}


def variants_of(experiment: Experiment, task: str = "rte") -> list[str]:
    return list(dict.fromkeys(cell.variant for cell in experiment.cells_of("bert", task).values()))


def test_the_grid_of_the_bert_paper_has_every_combination_once():
    cells = load(**APPENDIX_A3).cells_of("bert", "rte").values()
    points = {tuple(cell.values[key] for key in APPENDIX_A3) for cell in cells}
    assert len(cells) == 18
    assert points == {
        (batch, rate, epochs) for batch in (16, 32) for rate in (5e-5, 3e-5, 2e-5) for epochs in (2, 3, 4)
    }


def test_variants_are_named_by_what_differs_from_the_first_values_in_the_order_of_the_alphabet():
    assert variants_of(load(learning_rate=[2e-5, 3e-5], per_device_train_batch_size=[32, 16])) == [
        "base",
        "per_device_train_batch_size-16",
        "learning_rate-3e-05",
        "learning_rate-3e-05_per_device_train_batch_size-16",
    ]


def test_each_variant_has_all_seeds_and_says_its_name_and_values():
    cells = load(learning_rate=[2e-5, 3e-5], seeds=[1, 2]).cells_of("bert", "rte")
    assert list(cells) == [
        *(("base", "1"), ("base", "2")),
        *(("learning_rate-3e-05", "1"), ("learning_rate-3e-05", "2")),
    ]
    run = cells["learning_rate-3e-05", "2"].run
    assert (run["variant"], run["learning_rate"], run["seed"]) == ("learning_rate-3e-05", 3e-5, 2)
    assert "learning_rate" not in cells["base", "1"].run, "2e-5 is the recipe's"


def test_a_list_of_one_value_is_that_value():
    assert {cell.name: cell.run for cell in load(learning_rate=[3e-5]).cells.values()} == {
        cell.name: cell.run for cell in load(learning_rate=3e-5).cells.values()
    }


def test_lists_may_stand_at_every_level_and_the_more_specific_replaces_the_less():
    experiment = load(
        learning_rate=[2e-5, 3e-5],
        tasks={"cola": {"learning_rate": 1e-5}, "rte": {"num_train_epochs": [3, 4]}},
        cells={"bert": {"rte": {"learning_rate": [5e-5, 4e-5, 1e-5]}}},
    )
    assert variants_of(experiment, "cola") == ["base"]
    assert {
        (c.values["learning_rate"], c.values["num_train_epochs"]) for c in experiment.cells_of("bert", "rte").values()
    } == {(rate, epochs) for rate in (5e-5, 4e-5, 1e-5) for epochs in (3, 4)}


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ({"learning_rate": 2e-5}, {"learning_rate": [2e-5, 3e-5]}, {"learning_rate-3e-05"}),
        (
            {"learning_rate": 2e-5},
            {"learning_rate": [5e-5, 3e-5, 2e-5]},
            {"learning_rate-5e-05", "learning_rate-3e-05"},
        ),
        ({}, {"learning_rate": [5e-5, 2e-5]}, {"learning_rate-5e-05"}),
        ({"learning_rate": [2e-5, 3e-5]}, {"learning_rate": [3e-5, 2e-5]}, set()),
        ({"learning_rate": [2e-5, 3e-5]}, {"learning_rate": [1e-5, 3e-5, 2e-5]}, {"learning_rate-1e-05"}),
        ({"learning_rate": [2e-5, 3e-5, 5e-5]}, {"learning_rate": [3e-5, 5e-5]}, set()),
        (
            {"learning_rate": [2e-5, 3e-5]},
            {"learning_rate": [2e-5, 3e-5], "num_train_epochs": [3, 4]},
            {"num_train_epochs-4", "learning_rate-3e-05_num_train_epochs-4"},
        ),
        ({"learning_rate": [2e-5]}, {"learning_rate": 2e-5}, set()),
        ({"num_train_epochs": [3, 4]}, {"num_train_epochs": [4.0, 3.0]}, set()),
    ],
)
def test_a_change_of_a_list_makes_only_new_cells_and_renames_none(before, after, new):
    write_runs(load(**before))
    changed = load(**after)
    assert new_cells(changed) == {f"bert/{task}/{variant}/seed-42" for task in ("cola", "rte") for variant in new}


def test_an_added_seed_makes_the_cells_of_that_seed_even_when_the_first_is_taken_out():
    write_runs(load(learning_rate=[2e-5, 3e-5], seeds=[1]))
    both = load(learning_rate=[3e-5, 2e-5], seeds=[2, 1])
    assert new_cells(both) == {
        f"bert/{task}/{variant}/seed-2" for task in ("cola", "rte") for variant in ("base", "learning_rate-3e-05")
    }
    only_new = load(learning_rate=[3e-5, 2e-5], seeds=[2])
    assert only_new.cell("bert", "rte", "base", "2").values["learning_rate"] == 2e-5


def test_a_changed_value_that_is_no_list_is_still_the_base():
    write_runs(load(learning_rate=2e-5))
    assert variants_of(load(learning_rate=3e-5)) == ["base"]


def test_a_broken_run_json_decides_nothing():
    path = Path(load().paths.run.format(model="bert", task="rte", variant="base", seed=42))
    path.parent.mkdir(parents=True)
    path.write_text("{broken")
    assert load(learning_rate=[3e-5, 2e-5]).cell("bert", "rte", "base", "42").values["learning_rate"] == 3e-5


@pytest.mark.parametrize("key", sorted(SWEPT_KEYS - {"global_batch_size"}))
def test_every_hyperparameter_may_be_a_list(key):
    schema = OPTIONS[key].schema
    values = {"number": [0.1, 0.2], "boolean": [False, True]}.get(str(schema.get("type")), [8, 16])
    values = [None, {}] if key == "lora" else schema.get("enum", values)[:2]
    found = load(**{key: values}).cells_of("bert", "rte").values()
    assert len({json.dumps(cell.values[key]) for cell in found}) == 2
    assert len({cell.variant for cell in found}) == 2


@pytest.mark.parametrize("key", sorted(OPTIONS.keys() - SWEPT_KEYS - {"seeds"}))
def test_what_is_no_hyperparameter_may_not_be_a_list(key):
    with pytest.raises(ConfigError, match=rf"c\.yaml:\d+: {key}: .* is not allowed"):
        load(**{key: ["cpu", "cuda"] if key == "device" else [1, 2]})


@pytest.mark.parametrize(
    ("different", "name"),
    [
        ({}, "base"),
        ({"num_train_epochs": 1}, "num_train_epochs-1"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing-true"),
        ({"lora": None}, "lora-none"),
        ({"lora": {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": "all-linear"}}, "lora-default"),
        ({"lora": {"r": 4, "target_modules": ["query", "value"]}}, "lora-r-4_target_modules-query+value"),
        ({"lora": {"target_modules": ["größe"]}}, "lora-target_modules-gr--e-efe5e58f"),
    ],
)
def test_a_value_in_a_name_is_what_people_write(different, name):
    assert variant_name(different) == name


def test_a_long_name_ends_in_a_hash_that_tells_it_from_others():
    names = {variant_name({"lora": LONG | {"r": r}, "learning_rate": 1e-5}) for r in (4, 16)}
    assert len(names) == 2
    assert all(len(name) < 200 for name in names)
    many = dict.fromkeys(sorted(SWEPT_KEYS), 0.123456789012)
    assert len(variant_name(many)) <= 150
    assert variant_name(many) != variant_name(many | {"weight_decay": 0.2})


def test_the_length_of_inputs_may_be_swept_and_names_other_tokens():
    experiment = load(max_seq_length=[128, 64])
    manifests = {cell.variant: experiment.tokens_manifest(cell) for cell in experiment.cells_of("bert", "rte").values()}
    folder = f"resources/tokens/org--bert@main/{experiment.examples_key('rte')}"
    assert manifests == {
        "base": f"{folder}-128/manifest.json",
        "max_seq_length-64": f"{folder}-64/manifest.json",
    }


def test_the_number_of_cells_counts_the_combinations_before_they_are_made():
    tens = {
        key: [number / 1000 for number in range(1, 11)] for key in ("learning_rate", "warmup_ratio", "weight_decay")
    }
    with pytest.raises(ConfigError, match=r"more than 100000 cells \(models x tasks x seeds x values of lists\)"):
        load(**tens, seeds=list(range(200)))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"learning_rate": []}, "a list of at least 1"),
        ({"learning_rate": [2e-5, 2]}, "learning_rate.1: 2 is not allowed"),
        ({"num_train_epochs": [3, 3.0]}, "num_train_epochs: has 3 twice"),
        ({"learning_rate": [2e-5, 2e-5]}, "without repetition"),
        ({"lora": [{"r": 4}, {"rank": 4}]}, "lora.1.rank: unknown key"),
        ({"lora": [None, {"target_modules": "query"}]}, "lora.1.target_modules: 'query' is not allowed"),
        ({"lr_scheduler_type": ["linear", "constant"], "warmup_ratio": [0, 0.1]}, "constant has no warm-up"),
    ],
)
def test_a_mistake_in_a_list_is_told_with_its_place(values, problem):
    with pytest.raises(ConfigError) as caught:
        load(**values)
    assert problem in str(caught.value)
