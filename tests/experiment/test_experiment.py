"""From a config to cells: their values, their run.json, and the names of what they share."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gluegrid.common import paths
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.config import unswept_schema
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.options import LORA, RECIPES
from gluegrid.experiment.references import by_model_and_task, document

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "runs"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
REVISIONS = {
    "bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "bert-large-uncased": "6da4b6a26a1877e173fca3225479512db81a5e5b",
}
SMALL = {
    "experiment": "small",
    "models": {"bert": {"source": "org/bert"}, "other": {"source": "org/other"}},
    "tasks": {"cola": None, "rte": None},
}
EVERY_VALUE = {
    "learning_rate": 3e-5,
    "global_batch_size": 64,
    "per_device_eval_batch_size": 8,
    "num_train_epochs": 0.5,
    "max_seq_length": 64,
    "max_train_samples": 100,
    "max_eval_samples": 50,
    "seeds": [0, 4294967295],
    "threads": 2,
    "device": "cpu",
}
# Options that came later, each with a value that is not its default.
EVERY_OPTION = {
    "precision": "bf16",
    "train_sampling_strategy": "group_by_length",
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.06,
    "weight_decay": 0.01,
    "max_grad_norm": 0,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": True,
    "attn_implementation": "sdpa",
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["query", "größe"]},
    "eval_strategy": "epoch",
    "save_model": "last",
    "gpus": 2,
    "nodes": 3,
}
# Options that other cells or the data must suit: tests/workflow/test_starts.py, tests/experiment/test_variants.py.
OTHER_OPTIONS = ("do_train", "init_from", "selection")
OWN_TASK = {
    "source": "./reviews",
    "text_columns": ["title", "body"],
    "label_column": "stars",
    "labels": ["bad", "größer"],
    "validation": {"validation": "", "hard": "_hard"},
    "test": [],
    "metrics": ["f1", "accuracy"],
    "display_name": "Reviews",
    "train_rows": 10,
}


@pytest.fixture
def shipped(project) -> Experiment:
    return load_experiment(project / "config.yaml")


@pytest.fixture(autouse=True)
def in_a_folder_with_a_model_and_a_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model/config.json", "model/model.safetensors", "reviews/train-00000-of-00001.parquet"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f"content of {name}")


def load(config: dict) -> Experiment:
    path = Path("c.yaml")
    path.write_text(yaml.dump(config, sort_keys=False))
    return load_experiment(path)


def texts(experiment: Experiment) -> dict[str, str]:
    return {cell.name: run_text(cell) for cell in experiment.cells.values()}


def with_local_model(**changes) -> dict:
    return SMALL | {"models": {"bert": {"source": "./model"}}} | changes


def test_the_shipped_config_trains_as_the_document_did(shipped):
    documented = by_model_and_task(document())
    trained = {
        (cell.model, cell.task): cell.run.get("num_train_epochs", RECIPES[1]["num_train_epochs"])
        for cell in shipped.cells.values()
    }
    assert trained == {
        (model, task): documented[shipped.models[model]["source"]][task]["epoch"]
        for model in shipped.models
        for task in shipped.tasks
    }


@pytest.mark.parametrize(
    ("model", "three_epochs"),
    [
        ("bert-base-uncased", {"mnli"}),
        ("bert-large-uncased", {"stsb", "qqp", "mnli", "qnli", "wnli"}),
    ],
)
def test_three_epochs_are_for_just_these_tasks_and_five_for_the_others(shipped, model, three_epochs):
    epochs = {task: shipped.values(model, task)["num_train_epochs"] for task in shipped.tasks}
    assert epochs == {task: 3 if task in three_epochs else 5 for task in epochs}


def test_the_shipped_config_pins_every_model_and_task(shipped):
    for cell in shipped.cells.values():
        assert cell.run["model"]["revision"] == REVISIONS[cell.model]
        assert (cell.run["task"]["source"], cell.run["task"]["revision"]) == ("nyu-mll/glue", GLUE_REVISION)


def test_the_shipped_config_asks_for_the_gpus_own_precision_and_other_files_for_fp32(shipped, project):
    assert {cell.run["precision"] for cell in shipped.cells.values()} == {"auto"}
    assert RECIPES[1]["precision"] == "fp32"
    others = ["demo/config.yaml", *map(str, project.glob("experiments/*.yaml")), "examples/own_task/config.yaml"]
    assert not any("precision:" in (project / other).read_text(encoding="utf-8") for other in others)


def test_the_shipped_models_share_their_tokens(shipped):
    assert shipped.tokenizer_key("bert-large-uncased") == shipped.tokenizer_key("bert-base-uncased")
    assert shipped.cells[("bert-large-uncased", "rte", "base", "42")].run["model"]["tokenizer"] == {
        "source": "google-bert/bert-base-uncased",
        "revision": REVISIONS["bert-base-uncased"],
    }


def test_each_seed_is_a_cell_of_its_own():
    experiment = load(SMALL | {"seeds": [1, 2], "tasks": {"cola": {"seeds": [7]}, "rte": None}})
    assert list(texts(experiment)) == [
        f"{model}/{task}/base/seed-{seed}"
        for model in ("bert", "other")
        for task, seed in (("cola", 7), ("rte", 1), ("rte", 2))
    ]
    assert [cell.run["seed"] for cell in experiment.cells.values()] == [7, 1, 2] * 2


def test_cells_are_found_by_snakemakes_wildcards():
    for key, cell in load(SMALL).cells.items():
        assert key == tuple(cell.wildcards.values())
        assert cell.name == paths.CELL.format(**cell.wildcards)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("num_train_epochs: 3", "num_train_epochs: 3.0"),
        ("num_train_epochs: 4", "num_train_epochs: 4.0"),
        ("num_train_epochs: 20", "num_train_epochs: 2e1"),
        ("learning_rate: 3e-5", "learning_rate: .00003"),
        ("weight_decay: 8", "weight_decay: 8.0"),
        ("max_grad_norm: 1", "max_grad_norm: 1.0"),
        ("warmup_ratio: 0", "warmup_ratio: 0.0"),
        ("lora: {lora_alpha: 8}", "lora: {lora_alpha: 8.0}"),
        ("lora: {}", "lora: {r: 8}"),
        ("lora: null", "lora:"),
        ("max_train_samples: 10", "max_train_samples: 010"),
    ],
)
def test_two_spellings_of_a_number_are_the_same_run(one, same):
    Path("one.yaml").write_text(yaml.dump(SMALL) + one)
    Path("same.yaml").write_text(yaml.dump(SMALL) + same)
    assert texts(load_experiment(Path("one.yaml"))) == texts(load_experiment(Path("same.yaml")))


def test_a_whole_number_of_epochs_is_written_without_a_fraction():
    assert '"num_train_epochs": 4,' in texts(load(SMALL | {"num_train_epochs": 4.0}))["bert/cola/base/seed-42"]


def test_naming_the_recipes_own_values_changes_no_run():
    assert texts(load(SMALL | RECIPES[1])) == texts(load(SMALL))


def at_level(level: str, values: dict) -> dict:
    """Return the config with values for bert on cola, at one level."""
    return {
        "top": SMALL | values,
        "model": SMALL | {"models": SMALL["models"] | {"bert": {"source": "org/bert"} | values}},
        "task": SMALL | {"tasks": {"cola": values, "rte": None}},
        "cell": SMALL | {"cells": {"bert": {"cola": values}}},
    }[level]


def run_of_bert_on_cola(config: dict) -> dict:
    return load(config).cells["bert", "cola", "base", "42"].run


LEVELS = ("top", "model", "task", "cell")


@pytest.mark.parametrize("level", LEVELS)
def test_an_option_is_in_the_run_where_it_is_not_the_recipes_value_and_absent_where_it_is(level):
    without = run_of_bert_on_cola(SMALL)
    for key, value in EVERY_OPTION.items():
        assert run_of_bert_on_cola(at_level(level, {key: RECIPES[1][key]})) == without
        assert run_of_bert_on_cola(at_level(level, {key: value})) == without | {key: value}


def test_every_option_of_the_recipe_is_tried():
    assert RECIPES[1].keys() == {*EVERY_VALUE, *EVERY_OPTION, *OTHER_OPTIONS, "per_device_train_batch_size"} - {
        *("global_batch_size", "seeds", "threads"),
    }


def test_the_recipes_value_of_a_more_specific_level_lifts_an_option_of_a_less_specific_one():
    lifted = at_level("cell", {key: RECIPES[1][key] for key in EVERY_OPTION})
    runs = load(EVERY_OPTION | lifted).cells
    assert runs["bert", "cola", "base", "42"].run == run_of_bert_on_cola(SMALL)
    assert runs["bert", "rte", "base", "42"].run.items() >= EVERY_OPTION.items()


@pytest.mark.parametrize(
    "lora", [{}, {"r": 8}, {"lora_alpha": 16.0, "lora_dropout": 0.0}, {"target_modules": "all-linear"}]
)
def test_adapters_are_written_out_whatever_of_them_was_left_to_the_defaults(lora):
    expected = {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": "all-linear"}
    run = run_of_bert_on_cola(SMALL | {"lora": lora})
    assert json.dumps(run["lora"]) == json.dumps(expected)


def test_adapters_of_a_more_specific_level_inherit_nothing():
    config = at_level("cell", {"lora": {"r": 2}}) | {"lora": {"r": 4, "lora_alpha": 1}}
    assert run_of_bert_on_cola(config)["lora"] == LORA | {"r": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"models": SMALL["models"] | {"third": {"source": "org/third", "num_train_epochs": 9}}},
        {"models": {"bert": SMALL["models"]["bert"]}},
        {"models": dict(reversed(SMALL["models"].items())), "tasks": {"rte": None, "cola": None}},
        {"tasks": ["rte", "mnli"]},
        {"seeds": [42, 43]},
        {"cells": {"other": {"rte": {"threads": 1}}}},
        {"tasks": {"cola": {"display_name": "C", "metric_label": "M", "train_rows": 1}, "rte": None}},
    ],
)
def test_a_change_elsewhere_leaves_the_other_runs_as_they_were(change):
    before, after = texts(load(SMALL)), texts(load(SMALL | change))
    untouched = before.keys() & after.keys() - {"other/rte/base/seed-42"}
    assert untouched
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}


@pytest.mark.parametrize("change", (EVERY_VALUE | EVERY_OPTION).items())
def test_each_training_value_is_in_the_run(change):
    assert texts(load(SMALL | dict([change]))) != texts(load(SMALL))


def test_the_revision_of_a_local_folder_follows_its_content():
    before = load(with_local_model())
    assert load(with_local_model()).models == before.models
    Path("model/config.json").write_text("edited")
    after = load(with_local_model())
    assert after.models["bert"]["revision"] != before.models["bert"]["revision"]
    assert after.model_key("bert") != before.model_key("bert")
    assert texts(after) != texts(before)


def test_a_file_that_is_not_used_does_not_change_a_local_folders_revision():
    before = load(with_local_model()).models
    Path("model/pytorch_model.bin").write_text("never loaded")
    Path("model/README.md").write_text("never read")
    assert load(with_local_model()).models == before


def test_a_local_folder_keeps_the_revision_that_its_config_names():
    assert (
        load(with_local_model(models={"bert": {"source": "./gone", "revision": "v1"}})).models["bert"]["revision"]
        == "v1"
    )


def test_a_local_task_is_its_parquet_files():
    before = load(SMALL | {"tasks": {"reviews": OWN_TASK}}).tasks["reviews"]["revision"]
    Path("reviews/notes.txt").write_text("never read")
    assert load(SMALL | {"tasks": {"reviews": OWN_TASK}}).tasks["reviews"]["revision"] == before
    Path("reviews/validation-00000-of-00001.parquet").write_text("more")
    assert load(SMALL | {"tasks": {"reviews": OWN_TASK}}).tasks["reviews"]["revision"] != before


def test_the_tokens_are_named_by_tokenizer_data_and_length():
    models = {
        "bert": {"source": "org/bert"},
        "other": {"source": "org/other", "tokenizer": "bert", "max_seq_length": 64},
    }
    experiment = load(SMALL | {"models": models})
    tokens = [experiment.tokens_manifest(experiment.cell(model, "rte", "base", "42")) for model in models]
    key = experiment.examples_key("rte")
    assert re.fullmatch(re.escape(experiment.task_key("rte")) + "-[0-9a-f]{8}", key)
    assert tokens == [
        f"resources/tokens/org--bert@main/{key}-128/manifest.json",
        f"resources/tokens/org--bert@main/{key}-64/manifest.json",
    ]


def tokens_of(entry: dict, alias: str = "t") -> str:
    experiment = load(SMALL | {"tasks": {alias: entry}})
    return experiment.tokens_manifest(experiment.cell("bert", alias, "base", "42"))


TOKENISED = {
    "source": "org/data",
    "text_columns": ["text", "title"],
    "label_column": "label",
    "labels": ["no", "yes"],
    "metrics": ["accuracy"],
    "train": "train",
    "validation": {"validation": ""},
    "test": ["test"],
}


@pytest.mark.parametrize(
    "other",
    [
        {"source": "org/other"},
        {"revision": "1234abc"},
        {"folder": "part"},
        {"text_columns": ["title", "text"]},
        {"text_columns": ["text"]},
        {"label_column": "class"},
        {"labels": ["yes", "no"]},
        {"labels": None, "metrics": ["pearson"]},
        {"train": "validation", "validation": {"train": ""}},
        {"validation": {"test": ""}, "test": ["validation"]},
        {"validation": {"validation": "", "other": "_other"}},
        {"test": []},
        {"files": {"train": "train.csv", "validation": "b.csv", "test": "c.csv"}},
        {"cut_from_train": {"validation": 0.1}},
    ],
    ids=str,
)
def test_what_is_read_otherwise_has_tokens_of_its_own_whatever_it_is_called(other):
    changed = {key: value for key, value in (TOKENISED | other).items() if value is not None}
    assert tokens_of(changed) != tokens_of(TOKENISED)


def test_what_is_read_alike_shares_its_tokens_whatever_it_is_called():
    alike = TOKENISED | {"metrics": ["accuracy", "f1"], "validation": {"validation": "_dev"}, "display_name": "T"}
    assert tokens_of(alike, "another") == tokens_of(TOKENISED)


def test_a_long_name_of_data_leaves_room_for_the_names_of_locks():
    long = TOKENISED | {"source": f"org/{'d' * 180}", "folder": "f" * 60, "max_seq_length": 65_536}
    assert len(Path(tokens_of(long)).parent.name) <= paths.LONGEST_KEY
    assert tokens_of(long) != tokens_of(long | {"folder": "f" * 61})


def test_a_model_with_its_own_code_is_staged_apart_from_the_same_without():
    models = {"plain": {"source": "org/bert"}, "coded": {"source": "org/bert", "trust_remote_code": True}}
    experiment = load(SMALL | {"models": models})
    assert experiment.model_key("plain") == "org--bert@main"
    assert re.fullmatch("org--bert@main-[0-9a-f]{8}", experiment.model_key("coded"))


def test_resources_of_the_hub_have_readable_keys():
    assert paths.resource_key("google-bert/bert-base-uncased", "86b5e09") == "google-bert--bert-base-uncased@86b5e09"
    assert paths.resource_key("nyu-mll/glue", "refs/pr/1", "cola") == "nyu-mll--glue--cola@refs--pr--1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a/b", "main"), ("a--b", "main")),
        (("a/b", "main"), ("a", "main", "b")),
        (("a/b", "main", "c"), ("a/b--c", "main")),
        (("a/b", "x/y"), ("a/b", "x--y")),
        (("./x/bert", "1"), ("./y/bert", "1")),
        (("./a b", "1"), ("./a_b", "1")),
        (("/", "1"), ("..", "1")),
        ((f"a/{'x' * 290}1", "main"), (f"a/{'x' * 290}2", "main")),
        (("a/b", "r" * 100, "f" * 64), ("a/b", "r" * 100, "f" * 63)),
    ],
)
def test_distinct_resources_have_distinct_keys(one, other):
    assert paths.resource_key(*one) != paths.resource_key(*other)


PLACES = unswept_schema()["properties"]
TASK = PLACES["tasks"]["additionalProperties"]["properties"]


def accepted(place: dict, *more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts that a place of the schema accepts; `more` of them may be given, or nearly accepted."""
    texts = st.one_of(st.from_regex(place["pattern"]), *more)
    return texts.filter(lambda text: re.search(place["pattern"], text) and len(text) <= place["maxLength"])


# Names that resemble each other once '/' is '--', or are as long as they may be.
PARTS = ["a", "b", "a-", "a--", "b--a", "a--b", "x" * 64, "x" * 63]
PATHS = [*PARTS, *(f"{one}/{other}" for one in PARTS for other in PARTS)]
FOLDERS = ["./a", "../a", "/a", "~/a", "./a/", "./a b", "./a_b", "./A", "./a--b", "./b/a--b", "./é", "./è", "/", "."]
SOURCES = accepted(TASK["source"], st.text(max_size=298).map("./{}".format), st.sampled_from(FOLDERS))
RESOURCES = st.tuples(SOURCES, accepted(TASK["revision"]), st.just("") | accepted(TASK["folder"]))


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(RESOURCES)
@example(("./" + "é" * 298, "r" * 100, "f" * 64))
@example(("/", "r", ""))
@example(("../..", "r", ""))
def test_whatever_the_schema_accepts_has_a_key_that_is_one_safe_part_of_a_path(resource):
    key = paths.resource_key(*resource)
    assert re.fullmatch(r"[A-Za-z0-9._@-]{1,200}", key)
    assert key not in (".", "..")


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(RESOURCES, min_size=2, max_size=5, unique=True))
def test_different_resources_have_different_keys(resources):
    assert len({paths.resource_key(*resource) for resource in resources}) == len(resources)


def test_resources_that_resemble_each_other_have_different_keys():
    revisions = [*PATHS, *(f"{'r' * 99}{end}" for end in "12")]
    resources = list(itertools.product([*PATHS, *FOLDERS], revisions, ["", *PARTS]))
    assert all(re.search(TASK["source"]["pattern"], source) for source, _, _ in resources)
    assert len({paths.resource_key(*resource) for resource in resources}) == len(resources)


TRUSTING = {"bert": {"source": "org/bert", "trust_remote_code": True}}


def test_a_model_that_runs_its_own_code_says_so_in_its_runs_and_only_there():
    models = {"bert": {"source": "org/bert"}, "other": {"source": "org/other", "tokenizer": "bert"}}
    without = load(SMALL | {"models": models})
    trusting = load(SMALL | {"models": models | TRUSTING})
    changed = {name for name, text in texts(trusting).items() if text != texts(without)[name]}
    assert changed == {"bert/cola/base/seed-42", "bert/rte/base/seed-42"}
    run = trusting.cells[("bert", "cola", "base", "42")].run
    assert run["model"] == {"name": "bert", "source": "org/bert", "revision": "main", "trust_remote_code": True}


def test_not_running_a_models_code_is_the_same_run_whether_said_or_not():
    said = {"bert": {"source": "org/bert", "trust_remote_code": False}, "other": SMALL["models"]["other"]}
    assert texts(load(SMALL | {"models": said})) == texts(load(SMALL))


@pytest.mark.parametrize("trusts", [True, False])
def test_the_code_of_a_local_model_is_part_of_its_state_when_it_is_run(trusts):
    config = with_local_model(models={"bert": {"source": "./model", "trust_remote_code": trusts}})
    Path("model/modeling_ours.py").write_text("one = 1")
    before = load(config).models["bert"]["revision"]
    Path("model/modeling_ours.py").write_text("one = 2")
    assert (load(config).models["bert"]["revision"] != before) == trusts


def test_the_state_of_a_cell_lies_outside_its_runs_folder():
    run = Path(load(SMALL).paths.run.format(model="bert", task="rte", variant="base", seed=1))
    assert paths.state_folder(run) == Path("results/small/state/bert/rte/base/seed-1")


def golden_cells(project: Path) -> dict[str, object]:
    every_value = load(SMALL | EVERY_VALUE)
    local = load(
        {
            "experiment": "own",
            "per_device_train_batch_size": 8,
            "models": {"mine": {"source": "./model"}},
            "tasks": {"reviews": OWN_TASK},
        }
    )
    trusted = load(
        {
            "experiment": "small",
            "models": TRUSTING | {"ours": {"source": "org/ours", "trust_remote_code": True, "tokenizer": "bert"}},
            "tasks": {"rte": None},
        }
    )
    every_option = load(SMALL | EVERY_OPTION)
    Path("texts").mkdir()
    Path("texts/all.csv").write_text("text,label\n")
    Path("texts/hard.jsonl").write_text("{}\n")
    files = {key: value for key, value in OWN_TASK.items() if key not in ("validation", "test")}
    files |= {"source": "./texts", "files": {"train": "all.csv", "hard": ["hard.jsonl"]}, "test": ["hard"]}
    own_files = load(SMALL | {"tasks": {"reviews": files | {"cut_from_train": {"validation": 0.1}}}})
    shipped = (project / "config.yaml").read_text(encoding="utf-8")
    # As it was before it said auto; whoever writes this line keeps the cells of that time.
    Path("in_fp32.yaml").write_text(shipped.replace("\nprecision: auto ", "\nprecision: fp32 "), encoding="utf-8")
    in_fp32 = load_experiment(Path("in_fp32.yaml"))
    return {
        "bert-base-uncased_cola": in_fp32.cells[("bert-base-uncased", "cola", "base", "42")],
        "bert-large-uncased_mnli": in_fp32.cells[("bert-large-uncased", "mnli", "base", "42")],
        "every_option": every_option.cells["other", "cola", "base", "42"],
        "every_value": every_value.cells[("bert", "rte", "base", "4294967295")],
        "own_files_and_cut": own_files.cells[("bert", "reviews", "base", "42")],
        "local_model_own_task": local.cells[("mine", "reviews", "base", "42")],
        "trusted_model_other_tokenizer": trusted.cells[("ours", "rte", "base", "42")],
    }


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_an_upgrade_leaves_run_json_as_it_was(path, project):
    """The sample files are the contract: a cell whose run.json changes is trained again, in every project.

    When this fails, the change retrains users' cells. Mend the change; do not write the sample anew.
    """
    assert run_text(golden_cells(project)[path.stem]).encode() == path.read_bytes()


def test_each_golden_cell_has_its_sample(project):
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(golden_cells(project))
