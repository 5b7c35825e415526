"""The experiment file: what it may say, which level wins, and one line for each mistake."""

import json
import time
from pathlib import Path

import pytest
import yaml
from config_texts import START, load, problems_of, with_model, with_tasks

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.config import load_config, load_registry
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.options import OPTIONS

GLUE = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]

# What messages say of whole places.
SHORTENED = 400  # characters of a list of known keys that a message shows


def known(*more: str) -> str:
    """How a message lists the keys that are known at a place of training values and these others."""
    text = ", ".join(sorted((*OPTIONS, *more)))
    return text if len(text) <= SHORTENED else text[: SHORTENED - 3] + "..."


TOP_KEYS = known(
    *("cells", "checkpoint_minutes", "experiment", "models", "references", "report_to", "task_defaults", "tasks")
)
MODEL_KEYS = known("reference", "revision", "source", "tokenizer", "trust_remote_code")
TASK_KEYS = known(
    *("columns", "cut_from_train", "encoding", "files", "quoting", "uneven_rows"),
    *("display_name", "folder", "label_column", "labels", "metric_label", "metrics", "official", "revision"),
    *("source", "test", "text_columns", "train", "train_rows", "validation"),
)
CELL_KEYS = known()
REGISTERED = "ax, cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb, wnli"

# What messages say is allowed.
NAME = "letters a-z and A-Z, digits, '.', '_' and '-', the first a letter or digit, at most 64 characters"
EXPERIMENT = f"name of the folder under results/: {NAME}"
SOURCE = (
    "an id on the hub (organization/name), or a folder (for a task also a file)"
    " that begins with './', '../', '/' or '~/'"
)
REVISION = (
    "a commit, tag or branch on the hub (the commit of a branch is recorded when it is fetched);"
    " for a local folder any name for its version, by default a hash of its files"
)
RATE = "a number above 0, at most 1; peak learning rate of AdamW"
BATCH = "a whole number of at least 1, at most 65536; examples per device and update"
GLOBAL_BATCH = (
    "a whole number of at least 1, at most 1048576; examples per update over all devices,"
    " instead of per_device_train_batch_size"
)
EVAL_BATCH = "a whole number of at least 1, at most 65536; examples per device and evaluation step"
EPOCHS = "a number above 0, at most 10000; passes over the training examples"
LENGTH = "a whole number of at least 4, at most 65536; longer inputs are truncated to this many tokens"
SAMPLES = "a whole number of at least 1, at most 1000000000, or null; only the first so many"
TRAIN_SAMPLES = f"{SAMPLES} training examples"
EVAL_SAMPLES = f"{SAMPLES} examples of each validation split"
SEED = "a whole number of at least 0, at most 4294967295; a seed"
SEEDS = "a list of at least 1, at most 1000, without repetition; one cell per seed, such as [42, 43]"
THREADS = (
    "a whole number of at least 1, at most 1024; CPU threads of one cell"
    " (part of the run, since results are bit-identical only with equal numbers of threads)"
)
WARMUP = "a number of at least 0, at most 1; share of the updates in which the learning rate rises from 0"
DECAY = "a number of at least 0, at most 10; decay of AdamW, on all weights but biases and those of normalisations"
NORM = "a number of at least 0, at most 1000000; norm to which gradients are clipped; 0: not clipped"
ACCUMULATION = "a whole number of at least 1, at most 65536; batches per update"
CHECKPOINTING = "true: compute activations twice instead of keeping them; less memory, more time"
GPUS = (
    "a whole number of at least 1, at most 64; GPUs per node that train one cell together (with device: cpu, processes)"
)
NODES = "a whole number of at least 1, at most 64; nodes of one cell"
LORA = "train low-rank adapters instead of all weights: r, lora_alpha, lora_dropout, target_modules"
RANK = "a whole number of at least 1, at most 4096; rank of the adapters"
ALPHA = "a number above 0, at most 1000000; scale of the adapters, divided by r"
DROPOUT = "a number of at least 0, below 1; dropout before the adapters"
MODULES = "names of the linear layers to adapt, such as [query, value]; all-linear for all of the encoder's"
TRACKERS = "a list, without repetition; trackers of the training, such as [tensorboard]; by default none"
# Each key with a value of its choices that has a typo, what is meant, all choices, and their description.
CHOICES = {
    "precision": (
        *("bf-16", "bf16", "auto, fp32, tf32, bf16, fp16"),
        "arithmetic on fp32 weights; auto: bf16 if the GPU supports it, else fp32",
    ),
    "train_sampling_strategy": (
        *("group_by_lenght", "group_by_length", "random, group_by_length"),
        "random: random batches; group_by_length: batches of examples of similar length, which give other results",
    ),
    "lr_scheduler_type": (
        *(
            "cosin",
            "cosine",
            "linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt",
        ),
        "how the learning rate changes over the updates",
    ),
    "attn_implementation": (
        *("flash_attention", "flash_attention_2", "auto, eager, sdpa, flash_attention_2"),
        "auto: the fastest that the model and the device support, without padding if possible",
    ),
    "eval_strategy": (
        *("epochs", "epoch", "no, epoch"),
        "epoch: also score the validation splits after each epoch, and keep the curve",
    ),
    "save_model": (
        *("lst", "last", "none, last, best"),
        "none, last (the last epoch) or best (the epoch with the best score, with eval_strategy:"
        " epoch), as a folder that transformers loads",
    ),
}
DEVICE = "cuda: fail at once if the job has no GPU; cpu: train without one"
TASKS = "a list of tasks in the registry, or a mapping of tasks to values, to their definition, or to nothing"
METRICS = "accuracy, f1, macro_f1, matthews_correlation, pearson, spearmanr"
TEXT = "text of 1 to 300 characters on one line, without control characters"
TRUST = "true or false: run the Python code that comes with the model, with your rights"
NO_MAPPING = "must contain keys with values; it needs experiment, models and tasks, as in config.yaml"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_shipped_config_loads(project):
    experiment = load_experiment(project / "config.yaml")
    assert list(experiment.models) == ["bert-base-uncased", "bert-large-uncased"]
    assert list(experiment.tasks) == GLUE
    assert len(experiment.cells) == 18


def test_every_task_of_the_registry_but_ax_can_be_trained():
    assert sorted(load_registry()) == sorted([*GLUE, "ax"])
    assert list(load(with_tasks(f"[{', '.join(GLUE)}]")).tasks) == GLUE


def test_a_list_of_tasks_is_short_for_a_mapping():
    assert load(START).config == load(with_tasks("{cola: , rte: {}}")).config


def test_the_registry_fills_in_a_task():
    task = load(START).tasks["rte"]
    assert (task["source"], task["folder"], task["label_column"]) == ("nyu-mll/glue", "rte", "label")
    assert (task["train"], task["validation"], task["test"]) == ("train", {"validation": ""}, ["test"])


@pytest.mark.parametrize("key", ["num_train_epochs", "max_seq_length", "threads", "max_eval_samples"])
def test_the_more_specific_level_wins(key):
    levels = {
        "top": f"{key}: 11\n",
        "model": f"models:\n  bert: {{source: org/bert, {key}: 12}}\n  other: {{source: org/other}}\n",
        "task": f"tasks:\n  cola: {{{key}: 13}}\n  rte:\n  wnli: {{{key}: 15}}\n",
        "cell": f"cells: {{bert: {{cola: {{{key}: 14}}}}}}\n",
    }
    experiment = load("experiment: small\n" + "".join(levels.values()))
    expected = {("other", "rte"): 11, ("bert", "rte"): 12, ("other", "cola"): 13, ("bert", "wnli"): 15}
    expected[("bert", "cola")] = 14
    assert {cell: experiment.values(*cell)[key] for cell in expected} == expected


def test_null_lifts_a_limit_that_a_less_specific_level_sets():
    text = START + "max_train_samples: 10\ncells: {bert: {cola: {max_train_samples: null}}}\n"
    cells = load(text).cells
    assert [cell.run.get("max_train_samples") for cell in cells.values()] == [None, 10]


@pytest.mark.parametrize(
    ("top", "cell"),
    [
        ("per_device_train_batch_size: 8", "global_batch_size: 64"),
        ("global_batch_size: 64", "per_device_train_batch_size: 8"),
    ],
)
def test_one_batch_size_replaces_the_other_of_a_less_specific_level(top, cell):
    experiment = load(START + f"{top}\ncells: {{bert: {{cola: {{{cell}}}}}}}\n")
    assert experiment.values("bert", "rte") == yaml.safe_load(top)
    assert experiment.values("bert", "cola") == yaml.safe_load(cell)


def test_a_task_of_ones_own_takes_a_few_lines():
    own = "source: org/reviews, text_columns: [text], labels: [bad, good], metrics: [accuracy, f1]"
    task = load(with_tasks(f"{{reviews: {{{own}}}}}")).tasks["reviews"]
    assert (task["revision"], task["train"], task["validation"]) == ("main", "train", {"validation": ""})


def test_a_regression_of_ones_own_needs_no_labels():
    own = "source: org/reviews, text_columns: [a, b], metrics: [pearson, spearmanr]"
    assert "labels" not in load(with_tasks(f"{{stars: {{{own}}}}}")).tasks["stars"]


def test_a_new_source_does_not_inherit_the_revision_of_the_one_it_replaces():
    tasks = load(with_tasks("{cola: {source: other/glue}, rte: {source: other/glue, revision: v2}, wnli: }")).tasks
    assert tasks["cola"]["revision"] == "main"
    assert tasks["rte"]["revision"] == "v2"
    assert tasks["wnli"]["revision"] == load_registry()["wnli"]["revision"]


def test_task_defaults_move_all_tasks_to_another_source():
    tasks = load(START + "task_defaults: {source: other/glue, revision: v3}\n").tasks
    assert {(task["source"], task["revision"]) for task in tasks.values()} == {("other/glue", "v3")}


def test_a_task_overrides_the_task_defaults():
    tasks = load(with_tasks("{cola: {revision: v4}, rte: {source: my/glue}}") + "task_defaults: {source: a/b}\n").tasks
    assert [(task["source"], task["revision"]) for task in tasks.values()] == [("a/b", "v4"), ("my/glue", "main")]


def test_the_name_on_the_command_line_replaces_that_of_the_file():
    Path("c.yaml").write_text(START)
    assert load_config(Path("c.yaml"), "another")[0]["experiment"] == "another"


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("../../x", "character 1 is '.', FULL STOP"),
        ("a b", "character 2 is ' ', SPACE"),
        ("$(touch x)", "character 1 is '$', DOLLAR SIGN"),
        ("bеrt", "character 2 is 'е', CYRILLIC SMALL LETTER IE"),
        ("", ""),
        ("x" * 300, ""),
    ],
)
def test_a_bad_name_on_the_command_line_is_not_blamed_on_the_file(name, odd):
    Path("c.yaml").write_text(START)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("c.yaml"), name)
    assert caught.value.problems == [f"--config: experiment: {not_allowed(name, odd)}{EXPERIMENT}"]


# What Snakemake makes of `--config experiment=42` and the like.
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (42, "42"),
        (2.5, "2.5"),
        (True, "true"),
        (["a"], "['a']"),
        ({"a": "b"}, "{'a': 'b'}"),
        (10**100, "1" + "0" * 56 + "..."),
    ],
)
def test_a_value_on_the_command_line_that_is_no_text_is_one_line(value, shown):
    Path("c.yaml").write_text(START)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("c.yaml"), value)
    assert caught.value.problems == [
        f"--config: experiment: Snakemake read {shown}, which is not text; choose a name with letters, such as run-42"
    ]


@pytest.mark.parametrize(
    "nothing",
    ["cells:", "cells: {}", "cells: {bert: }", "cells: {bert: {}}", "cells: {bert: {cola: }}", "task_defaults:"],
)
def test_a_key_with_nothing_below_it_means_none(nothing):
    with_nothing, without = load(START + nothing + "\n"), load(START)
    assert {name: cell.run for name, cell in with_nothing.cells.items()} == {
        name: cell.run for name, cell in without.cells.items()
    }


def test_a_cell_with_nothing_below_it_must_still_be_one_of_this_file():
    assert [line.partition(": '")[0] for line in problems_of(START + "cells:\n  brt:\n  bert:\n    mnli:\n")] == [
        "c.yaml:6: cells.brt",
        "c.yaml:8: cells.bert.mnli",
    ]


TRUSTING = "experiment: small\nmodels:\n  bert:\n    source: org/bert\n    trust_remote_code: {}\ntasks: [cola]\n"


def test_each_model_that_runs_its_own_code_is_warned_of_with_its_line():
    more = "  other: {source: org/other, trust_remote_code: true}\n  third: {source: org/third}\ntasks:"
    warning = "Python code from the model's repository will run with your permissions, here and on compute nodes"
    assert load(TRUSTING.format("true").replace("tasks:", more)).warnings == [
        f"c.yaml:5: models.bert.trust_remote_code: {warning}",
        f"c.yaml:6: models.other.trust_remote_code: {warning}",
    ]


@pytest.mark.parametrize("text", [START, TRUSTING.format("false")])
def test_an_experiment_without_such_models_warns_of_nothing(text):
    assert load(text).warnings == []


def test_a_frozen_experiment_warns_of_nothing():
    assert Experiment(load(TRUSTING.format("true")).config).warnings == []


def test_a_model_may_name_itself_as_its_tokenizer():
    models = "{source: org/bert, tokenizer: bert}\n  other: {source: org/other, tokenizer: bert}"
    experiment = load(with_model(models))
    assert experiment.tokenizer_key("other") == experiment.model_key("bert")


def test_values_shared_by_an_anchor_are_checked_where_they_are_used():
    text = "x: &x {seeds: [1], bogus: 2}\n" + with_model("{source: org/bert, <<: *x}")
    assert [line.partition(" unknown")[0] for line in problems_of(text)] == [
        "c.yaml:1: x:",
        "c.yaml:4: models.bert.bogus:",
    ]


UNKNOWN_KEYS = [
    (
        START + "learning_rte: 3e-5\n",
        f"5: learning_rte: unknown key (its value is 3e-05). Did you mean 'learning_rate'? Known: {TOP_KEYS}",
    ),
    (START + "zzz: [1]\n", f"5: zzz: unknown key (its value is [1]). Known: {TOP_KEYS}"),
    (
        START + '"a\\nb": no\n',
        f"5: 'a\\nb': unknown key (character 2 is U+000A, a control character; its value is 'no'). Known: {TOP_KEYS}",
    ),
    (
        with_model("{source: org/bert, revison: main}"),
        f"3: models.bert.revison: unknown key (its value is 'main'). Did you mean 'revision'? Known: {MODEL_KEYS}",
    ),
    (
        with_tasks("\n  cola:\n    metric: [f1]\n"),
        f"6: tasks.cola.metric: unknown key (its value is ['f1']). Did you mean 'metrics'? Known: {TASK_KEYS}",
    ),
    (
        START + "task_defaults: {sourc: a/b}\n",
        "5: task_defaults.sourc: unknown key (its value is 'a/b'). Did you mean 'source'?"
        " Known: revision, source, synthetic",
    ),
    (
        START + "cells:\n  bert:\n    cola: {seed: 1}\n",
        f"7: cells.bert.cola.seed: unknown key (its value is 1). Did you mean 'seeds'? Known: {CELL_KEYS}",
    ),
    (
        START + "cells: {bert: {cola: {max_seq_len: 1}}}\n",
        "5: cells.bert.cola.max_seq_len: unknown key (its value is 1)."
        f" Did you mean 'max_seq_length'? Known: {CELL_KEYS}",
    ),
]

UNKNOWN_NAMES = [
    (
        with_tasks("[colla]"),
        "4: tasks.colla: unknown task; to define your own, add source, text_columns, metrics."
        f" Did you mean 'cola'? Known: {REGISTERED}",
    ),
    (
        with_tasks("\n- cola\n- qpq\n"),
        "6: tasks.qpq: unknown task; to define your own, add source, text_columns, metrics."
        f" Did you mean 'qqp'? Known: {REGISTERED}",
    ),
    (
        with_tasks("{mine: {source: a/b, text_columns: [x]}}"),
        f"4: tasks.mine: unknown task; to define your own, add metrics. Known: {REGISTERED}",
    ),
    (
        START + "cells: {brt: {cola: {threads: 1}}}\n",
        "5: cells.brt: 'brt' is not a model in this file. Did you mean 'bert'? Known: bert",
    ),
    (
        START + "cells:\n  bert:\n    mnli: {threads: 1}\n",
        "7: cells.bert.mnli: 'mnli' is not a task in this file. Known: cola, rte",
    ),
    (
        with_model("{source: org/bert, tokenizer: brt}"),
        "3: models.bert.tokenizer: 'brt' is not a model in this file. Did you mean 'bert'? Known: bert",
    ),
    (
        with_model("{source: a/a, tokenizer: b}\n  b: {source: b/b, tokenizer: c}\n  c: {source: c/c}"),
        "3: models.bert.tokenizer: 'b' itself uses the tokenizer of 'c'; name that model",
    ),
]

VALUES = {
    "learning_rate": (["0", "-2e-5", "1.5", "'2e-5'", "true", "1e400", ".nan", "null", "{}"], RATE),
    "per_device_train_batch_size": (["0", "-1", "32.0", "65537", "true", "'32'", "null"], BATCH),
    "global_batch_size": (["0", "-1", "32.0", "1048577", "true", "many", "null"], GLOBAL_BATCH),
    "per_device_eval_batch_size": (["0", "-1", "32.0", "65537", "false", "'8'", "null"], EVAL_BATCH),
    "num_train_epochs": (["0", "-3", "10001", "1e400", ".nan", "true", "three", "null"], EPOCHS),
    "max_seq_length": (["3", "-128", "128.0", "65537", "true", "'128'", "null"], LENGTH),
    "max_train_samples": (["0", "-1", "10.0", "1e3", "true", "all"], TRAIN_SAMPLES),
    "max_eval_samples": (["0", "-1", "10.0", "true", "all"], EVAL_SAMPLES),
    "threads": (["0", "-1", "4.0", "1025", "true", "'4'", "null"], THREADS),
    "warmup_ratio": (["-0.1", "10", "true", "'0.1'", ".nan", "null"], WARMUP),
    "weight_decay": (["-1", "10.5", "false", "null"], DECAY),
    "max_grad_norm": (["-1", "1000001", "1e400", "true", "none", "null"], NORM),
    "gradient_accumulation_steps": (["0", "2.0", "65537", "true", "null"], ACCUMULATION),
    "gradient_checkpointing": (["1", "0", "'yes'", "'true'", "null"], CHECKPOINTING),
    "gpus": (["0", "-1", "1.0", "65", "true", "auto", "null"], GPUS),
    "nodes": (["0", "1.5", "65", "true", "null"], NODES),
    "lora": (["true", "8", "all-linear"], LORA),
    "report_to": (["wandb", "null", "true", "none", "{wandb: true}"], TRACKERS),
    "seeds": (["[]", "[1, 1]", "42", "{a: 1}", "null"], SEEDS),
    "seeds.0": (["[-1]", "[1.0]", "[true]", "['1']", "[4294967296]", "[null]", "[[1]]"], SEED),
}
SHOWN = {
    "1e400": "inf",
    ".nan": "'.nan'",
    "1e3": "1000.0",
    "-2e-5": "-2e-05",
    "{a: 1}": "{'a': 1}",
}
SHOWN |= {"{wandb: true}": "{'wandb': True}"}
SHOWN |= {text: repr(text) for text in ("many", "three", "all", "none", "auto", "all-linear", "wandb")}


def bad_values() -> list[tuple[str, str]]:
    return [
        (
            START + f"{key.removesuffix('.0')}: {text}\n",
            f"5: {key}: {SHOWN.get(text, text) if key != 'seeds.0' else text[1:-1]} is not allowed; allowed: {allowed}",
        )
        for key, (texts, allowed) in VALUES.items()
        for text in texts
    ]


ENUMS_AND_TEXTS = [
    (
        START + "device: cpuu\n",
        f"5: device: 'cpuu' is not allowed; allowed: one of cuda, cpu (did you mean 'cpu'?); {DEVICE}",
    ),
    (START + "device: 1\n", f"5: device: 1 is not allowed; allowed: one of cuda, cpu; {DEVICE}"),
    (
        with_tasks("{cola: {metrics: [acuracy]}}"),
        f"4: tasks.cola.metrics.0: 'acuracy' is not allowed; allowed: one of {METRICS} (did you mean 'accuracy'?);"
        " a metric",
    ),
    (
        with_model("{source: org/bert, revision: 1234567}"),
        f"3: models.bert.revision: 1234567 is not allowed; allowed: text, so put it in quotes; {REVISION}",
    ),
    (
        START.replace("small", "2024"),
        f"1: experiment: 2024 is not allowed; allowed: text, so put it in quotes; {EXPERIMENT}",
    ),
    (
        START + "threads: " + "9" * 80 + "\n",
        f"5: threads: {'9' * 57}... is not allowed; allowed: {THREADS}",
    ),
]

CHOICES_WITH_TYPOS = [
    (
        START + f"{key}: {typo}\n",
        f"5: {key}: '{typo}' is not allowed; allowed: one of {choices} (did you mean '{meant}'?); {description}",
    )
    for key, (typo, meant, choices, description) in CHOICES.items()
]
ADAPTERS = [
    (START + f"lora: {{{key}: {text}}}\n", f"5: lora.{key}: {SHOWN.get(text, text)} is not allowed; allowed: {allowed}")
    for key, text, allowed in (
        *(("r", text, RANK) for text in ("0", "8.0", "4097", "true", "'8'", "null")),
        *(("lora_alpha", text, ALPHA) for text in ("0", "-1", "1000001", "true", "null")),
        *(("lora_dropout", text, DROPOUT) for text in ("-0.1", "1", "true", "null")),
        *(("target_modules", text, MODULES) for text in ("8", "null")),
    )
]
ADAPTERS += [
    (
        START + "lora: {alpha: 16}\n",
        "5: lora.alpha: unknown key (its value is 16). Did you mean 'lora_alpha'?"
        " Known: lora_alpha, lora_dropout, r, target_modules",
    ),
    (
        with_tasks("{cola: {lora: {target_modules: all_linear}}}"),
        "4: tasks.cola.lora.target_modules: 'all_linear' is not allowed;"
        " write all-linear, or a list of layer names, such as [query, value]",
    ),
    (
        START + "lora:\n  r: 4\n  target_modules: [all-linear]\n",
        "7: lora.target_modules: all-linear cannot be mixed with layer names; write it alone, without brackets",
    ),
]
# Each name, and how a message names its first character that is not allowed.
UNSAFE_NAMES = {
    "../x": "character 1 is '.', FULL STOP",
    "a/b": "character 2 is '/', SOLIDUS",
    "..": "character 1 is '.', FULL STOP",
    "": "",
    "a b": "character 2 is ' ', SPACE",
    "a\n": "character 2 is U+000A, a control character",
    "x" * 65: "",
    "x" * 300: "",
    ".hidden": "character 1 is '.', FULL STOP",
    "-x": "character 1 is '-', HYPHEN-MINUS",
    "a{b}": "character 2 is '{', LEFT CURLY BRACKET",
    "a\\b": "character 2 is '\\\\', REVERSE SOLIDUS",
    "$(x)": "character 1 is '$', DOLLAR SIGN",
    "bеrt": "character 2 is 'е', CYRILLIC SMALL LETTER IE",
    "bᎬrt": "character 2 is 'Ꭼ', CHEROKEE LETTER GV",
    "ｂert": "character 1 is 'ｂ', FULLWIDTH LATIN SMALL LETTER B",
    "be\u0301rt": "character 3 is U+0301, COMBINING ACUTE ACCENT",
    "bert‐base": "character 5 is '‐', HYPHEN",
    "bert٣": "character 5 is '٣', ARABIC-INDIC DIGIT THREE",
    "be\u200brt": "character 3 is U+200B, ZERO WIDTH SPACE",
    "bert\u00a0": "character 5 is U+00A0, NO-BREAK SPACE",
    "\ufeffbert": "character 1 is U+FEFF, ZERO WIDTH NO-BREAK SPACE",
    "be\u00adrt": "character 3 is U+00AD, SOFT HYPHEN",
    "\u202etreb": "character 1 is U+202E, RIGHT-TO-LEFT OVERRIDE",
    "be\ud800rt": "character 3 is U+D800, half of a surrogate pair",
    "be\ue000rt": "character 3 is U+E000, a character of private use",
    "模型": "character 1 is '模', CJK UNIFIED IDEOGRAPH-6A21",
}


def shown(name: str) -> str:
    """How a message quotes a name that is not allowed."""
    text = repr(name)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(name: str) -> str:
    """How a message writes a name as part of a key."""
    return shown(name) if not name.isprintable() else name if len(name) <= 60 else name[:57] + "..."


def not_allowed(value: str, odd: str) -> str:
    """How a message says that a text is not allowed, and which of its characters is odd."""
    return f"{shown(value)} is not allowed{f' ({odd})' if odd else ''}; allowed: "


def unsafe_names() -> list[tuple[str, str]]:
    cases = []
    for name, odd in UNSAFE_NAMES.items():
        written = json.dumps(name)
        problem = not_allowed(name, odd)
        cases += [
            (START.replace("small", written), f"1: experiment: {problem}{EXPERIMENT}"),
            (START.replace("bert:", f"? {written}\n  :"), f"3: models.{dotted(name)}: the name {problem}{NAME}"),
            (with_tasks(f"[{written}]"), f"4: tasks.{dotted(name)}: the name {problem}{NAME}"),
        ]
    return cases


MALFORMED_SOURCES = [
    (with_model(f"{{source: {json.dumps(source)}}}"), f"3: models.bert.source: {not_allowed(source, odd)}{SOURCE}")
    for source, odd in {
        "a/b/c": "character 4 is '/', SOLIDUS",
        "a//b": "character 3 is '/', SOLIDUS",
        "a/": "",
        "org/bert ": "character 9 is ' ', SPACE",
        "org/be rt": "character 7 is ' ', SPACE",
        "https://huggingface.co/a/b": "character 6 is ':', COLON",
        "": "",
        "-a/b": "character 1 is '-', HYPHEN-MINUS",
        "~x/y": "character 2 is 'x', LATIN SMALL LETTER X",
        "gооgle/bert": "character 2 is 'о', CYRILLIC SMALL LETTER O",
        "org／bert": "character 4 is '／', FULLWIDTH SOLIDUS",
        "org/b\u00adert": "character 6 is U+00AD, SOFT HYPHEN",
        "．/model": "character 1 is '．', FULLWIDTH FULL STOP",
        "./a\u2028b": "character 4 is U+2028, LINE SEPARATOR",
        "./a\x85b": "character 4 is U+0085, a control character",
        "./\u202egpj": "character 3 is U+202E, RIGHT-TO-LEFT OVERRIDE",
        "./\u2066a": "character 3 is U+2066, LEFT-TO-RIGHT ISOLATE",
        "~/\udfff": "character 3 is U+DFFF, half of a surrogate pair",
        "./" + "x" * 299: "",
    }.items()
]

MALFORMED_REVISIONS = [
    (
        with_model(f"{{source: a/b, revision: {json.dumps(revision)}}}"),
        f"3: models.bert.revision: {not_allowed(revision, odd)}{REVISION}",
    )
    for revision, odd in {
        "mаin": "character 2 is 'а', CYRILLIC SMALL LETTER A",
        "main\u200b": "character 5 is U+200B, ZERO WIDTH SPACE",
        "a/../b": "character 3 is '.', FULL STOP",
        "v1 ": "character 3 is ' ', SPACE",
        "/main": "character 1 is '/', SOLIDUS",
        "main/": "",
        "a//b": "character 3 is '/', SOLIDUS",
        "a/-b": "character 3 is '-', HYPHEN-MINUS",
        "$(x)": "character 1 is '$', DOLLAR SIGN",
        "r" * 101: "",
    }.items()
]

OTHER_LOOKALIKES = [
    (
        START + "lеarning_rate: 3e-5\n",
        "5: lеarning_rate: unknown key (character 2 is 'е', CYRILLIC SMALL LETTER IE; its value is 3e-05)."
        f" Did you mean 'learning_rate'? Known: {TOP_KEYS}",
    ),
    (
        START + "seeds\u200b: [1]\n",
        "5: 'seeds\\u200b': unknown key (character 6 is U+200B, ZERO WIDTH SPACE; its value is [1])."
        f" Did you mean 'seeds'? Known: {TOP_KEYS}",
    ),
    (
        START + "ｓｅｅｄｓ: [1]\n",
        "5: ｓｅｅｄｓ: unknown key (character 1 is 'ｓ', FULLWIDTH LATIN SMALL LETTER S; its value is [1])."
        f" Did you mean 'seeds'? Known: {TOP_KEYS}",
    ),
    (
        "# two files in one\n\ufeffexperiment: a\n" + START,
        "2: '\\ufeffexperiment': unknown key (character 1 is U+FEFF, ZERO WIDTH NO-BREAK SPACE; its value is 'a')."
        f" Did you mean 'experiment'? Known: {TOP_KEYS}",
    ),
    (
        START + "learning_rate: 2e−5\n",
        f"5: learning_rate: '2e−5' is not allowed (character 3 is '−', MINUS SIGN); allowed: {RATE}",
    ),
    (
        START + "threads: ４\n",
        f"5: threads: '４' is not allowed (character 1 is '４', FULLWIDTH DIGIT FOUR); allowed: {THREADS}",
    ),
    (
        START + "device: сpu\n",
        "5: device: 'сpu' is not allowed (character 1 is 'с', CYRILLIC SMALL LETTER ES);"
        f" allowed: one of cuda, cpu (did you mean 'cpu'?); {DEVICE}",
    ),
    (
        START + "cells: {bеrt: {colа: {threads: 1}}}\n",
        "5: cells.bеrt: 'bеrt' (character 2 is 'е', CYRILLIC SMALL LETTER IE) is not a model in this file."
        " Did you mean 'bert'? Known: bert\n"
        "5: cells.bеrt.colа: 'colа' (character 4 is 'а', CYRILLIC SMALL LETTER A) is not a task in this file."
        " Did you mean 'cola'? Known: cola, rte",
    ),
    (
        with_model("{source: org/bert, tokenizer: bеrt}"),
        "3: models.bert.tokenizer: 'bеrt' (character 2 is 'е', CYRILLIC SMALL LETTER IE) is not a model in this file."
        " Did you mean 'bert'? Known: bert",
    ),
    (
        with_tasks('{cola: {train: "trаin"}}'),
        "4: tasks.cola.train: 'trаin' is not allowed (character 3 is 'а', CYRILLIC SMALL LETTER A);"
        " allowed: the training split",
    ),
    (
        with_tasks('{cola: {test: ["te\\u00adst"]}}'),
        f"4: tasks.cola.test.0: 'te\\xadst' is not allowed (character 3 is U+00AD, SOFT HYPHEN); allowed: {NAME}",
    ),
    (
        with_tasks('{cola: {validation: {"vаl": ""}}}'),
        "4: tasks.cola.validation.vаl: the name 'vаl' is not allowed (character 2 is 'а', CYRILLIC SMALL LETTER A);"
        f" allowed: {NAME}",
    ),
    (
        with_tasks('{cola: {folder: "../cola"}}'),
        "4: tasks.cola.folder: '../cola' is not allowed (character 1 is '.', FULL STOP);"
        " allowed: folder within the source that contains <split>-*.parquet",
    ),
    *(
        (
            with_tasks(f'{{cola: {{display_name: "a{written}b"}}}}'),
            f"4: tasks.cola.display_name: 'a{shown}b' is not allowed (character 2 is {odd}); allowed: {TEXT}",
        )
        for written, shown, odd in (
            ("\\t", "\\t", "U+0009, a control character"),
            ("\\x9b", "\\x9b", "U+009B, a control character"),
            ("\\N", "\\x85", "U+0085, a control character"),
            ("\\L", "\\u2028", "U+2028, LINE SEPARATOR"),
            ("\\P", "\\u2029", "U+2029, PARAGRAPH SEPARATOR"),
            ("\\u202a", "\\u202a", "U+202A, LEFT-TO-RIGHT EMBEDDING"),
            ("\\u2069", "\\u2069", "U+2069, POP DIRECTIONAL ISOLATE"),
            ("\\ud83d\\ude00", "\\ud83d\\ude00", "U+D83D, half of a surrogate pair"),
        )
    ),
]

FOLDERS = [
    (
        with_model("{source: ./nowhere}"),
        "3: models.bert.source: the folder './nowhere' cannot be used: it does not exist (seen from {cwd})",
    ),
    (
        with_model("{source: ./empty}"),
        "3: models.bert.source: the folder './empty' cannot be used: it contains no config.json and *.safetensors",
    ),
    (
        with_tasks("\n- cola\n- rte\n") + "task_defaults: {source: ./empty}\n",
        "5: tasks.cola.source: the folder './empty' cannot be used: it contains no cola/<split>-00000-of-00001.parquet"
        "\n"
        "6: tasks.rte.source: the folder './empty' cannot be used: it contains no rte/<split>-00000-of-00001.parquet",
    ),
    (
        with_model(f"{{source: ./{'x' * 290}}}"),
        f"3: models.bert.source: the folder './{'x' * 54}... cannot be used: File name too long",
    ),
    (
        with_tasks("\n- cola\n- rte\n- wnli\n") + "task_defaults:\n  source: ./nowhere\n",
        "10: task_defaults.source: the folder './nowhere' cannot be used: it does not exist (seen from {cwd})",
    ),
    (
        with_tasks("\n  cola:\n  rte: {source: ./empty}\n") + "task_defaults: {source: ./nowhere}\n",
        "6: tasks.rte.source: the folder './empty' cannot be used: it contains no rte/<split>-00000-of-00001.parquet\n"
        "8: task_defaults.source: the folder './nowhere' cannot be used: it does not exist (seen from {cwd})",
    ),
    (
        with_model("{source: ./c.yaml}"),
        "3: models.bert.source: the folder './c.yaml' cannot be used: it does not exist (seen from {cwd})",
    ),
]

OWN = "source: a/b, text_columns: [x]"
TASKS_THAT_MAKE_NO_SENSE = [
    (
        with_tasks("{ax: {init_from: null, do_train: true}}"),
        "4: tasks.ax.do_train: has no train split, so it cannot be trained; leave it out, or set do_train: false",
    ),
    (
        with_tasks("{cola: {validation: {}}}"),
        "4: tasks.cola: has no validation split, so there would be no score; name one under validation",
    ),
    (
        with_tasks("{cola: {metrics: [pearson]}}"),
        "4: tasks.cola.metrics: 'pearson' does not suit a classification;"
        " allowed: accuracy, f1, macro_f1, matthews_correlation",
    ),
    (
        with_tasks(f"{{mine: {{{OWN}, metrics: [accuracy]}}}}"),
        "4: tasks.mine.metrics: 'accuracy' does not suit a regression (a task without labels);"
        " allowed: pearson, spearmanr",
    ),
    (
        with_tasks(f"{{mine: {{{OWN}, labels: [a, b, c], metrics: [f1]}}}}"),
        "4: tasks.mine.metrics: 'f1' is for two labels, but the task has 3; use macro_f1 instead",
    ),
    (
        with_tasks("{mnli: {validation: {a: '', b: '', c: _mm}}}"),
        "4: tasks.mnli.validation: two splits have the suffix ''; each needs its own",
    ),
    (
        with_tasks("{cola: {validation: {train: ''}}}"),
        "4: tasks.cola: the training split 'train' is also under validation or test; use another split there",
    ),
    (
        with_tasks("{cola: {validation: {a: mm}}}"),
        "4: tasks.cola.validation.a: 'mm' is not allowed (character 1 is 'm', LATIN SMALL LETTER M);"
        " allowed: '' or a suffix such as _mm",
    ),
    (
        with_tasks("{cola: {text_columns: [a, b, c]}}"),
        "4: tasks.cola.text_columns: ['a', 'b', 'c'] is not allowed;"
        " allowed: a list of at least 1, at most 2, without repetition; one or two text columns",
    ),
    (
        with_tasks("{cola: {labels: [one]}}"),
        "4: tasks.cola.labels: ['one'] is not allowed; allowed: a list of at least 2, without repetition;"
        " the class names in the order of their numbers; without it the task is a regression",
    ),
    (with_tasks("\n- cola\n- rte\n- cola\n"), "7: tasks.2: 'cola' is listed twice; keep one of them"),
    (
        with_tasks("{cola: {validation: {dev: ''}, test: [test, dev]}}"),
        "4: tasks.cola.test: 'dev' is also a validation split, which is predicted anyway; leave it out here",
    ),
    (
        with_tasks("{cola: {validation: {dev: _" + "x" * 30 + "}}}"),
        f"4: tasks.cola.validation.dev: '_{'x' * 30}' is not allowed; allowed: '' or a suffix such as _mm",
    ),
]

CASE = "only in case, which some file systems do not distinguish; rename one of them"
NAMES_THAT_DIFFER_IN_CASE = [
    (with_model("{source: a/b}\n  BERT: {source: a/b}"), f"4: models.BERT: differs from 'bert' {CASE}"),
    (with_tasks(f"\n  cola:\n  Cola: {{{OWN}, metrics: [pearson]}}\n"), f"6: tasks.Cola: differs from 'cola' {CASE}"),
]

TRUST_THAT_IS_NO_BOOLEAN = [
    (TRUSTING.format(text), f"5: models.bert.trust_remote_code: {shown} is not allowed; allowed: {TRUST}")
    for text, shown in {
        "yes": "'yes'",
        "'true'": "'true'",
        "True": "'True'",
        "1": "1",
        "": "null",
        "[true]": "[True]",
    }.items()
]
TRUST_IN_OTHER_PLACES = [
    (
        START + "trust_remote_code: true\n",
        f"5: trust_remote_code: unknown key (its value is true). Known: {TOP_KEYS}",
    ),
    (
        START + "cells: {bert: {cola: {trust_remote_code: true}}}\n",
        f"5: cells.bert.cola.trust_remote_code: unknown key (its value is true). Known: {CELL_KEYS}",
    ),
]

TOO_MUCH = [
    (
        START + f"seeds: [{', '.join(map(str, range(1001)))}]\n",
        f"5: seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16... is not allowed; allowed: {SEEDS}",
    ),
    (
        START.replace("bert:", "".join(f"m{number}: {{source: a/b}}\n  " for number in range(100)) + "bert:")
        + f"seeds: [{', '.join(map(str, range(500)))}]\n",
        " more than 100000 cells (models x tasks x seeds x values of lists); split it into several experiment files",
    ),
    (
        START + "max_train_samples: 1000000001\n",
        f"5: max_train_samples: 1000000001 is not allowed; allowed: {TRAIN_SAMPLES}",
    ),
]

BOTH_BATCH_SIZES = "global_batch_size: 8, per_device_train_batch_size: 8"
BOTH = "is set together with per_device_train_batch_size; keep one of them"
TWO_BATCH_SIZES = [
    (START + "global_batch_size: 8\nper_device_train_batch_size: 8\n", f"5: global_batch_size: {BOTH}"),
    (with_model(f"{{source: a/b, {BOTH_BATCH_SIZES}}}"), f"3: models.bert.global_batch_size: {BOTH}"),
    (with_tasks(f"{{cola: {{{BOTH_BATCH_SIZES}}}}}"), f"4: tasks.cola.global_batch_size: {BOTH}"),
    (START + f"cells: {{bert: {{cola: {{{BOTH_BATCH_SIZES}}}}}}}\n", f"5: cells.bert.cola.global_batch_size: {BOTH}"),
]

WHOLE_FILES = [
    ("", f" {NO_MAPPING}"),
    ("# nothing\n", f" {NO_MAPPING}"),
    ("- a\n- b\n", f" {NO_MAPPING}"),
    ("text\n", f" {NO_MAPPING}"),
    ("{}\n", " the key 'experiment' is missing\n the key 'models' is missing\n the key 'tasks' is missing"),
    ("experiment: x\ntasks: [cola]\n", " the key 'models' is missing"),
    ("models: {m: {source: a/b}}\ntasks: [cola]\n", " the key 'experiment' is missing"),
    ("experiment: x\nmodels: {m: {source: a/b}}\n", " the key 'tasks' is missing"),
    (with_model("{revision: main}"), "3: models.bert: the key 'source' is missing"),
    (
        with_model(""),
        "3: models.bert: null is not allowed;"
        " allowed: a model (source, revision, tokenizer, trust_remote_code) and values for it",
    ),
    (with_tasks(""), f"4: tasks: null is not allowed; allowed: {TASKS}"),
    (with_tasks("cola"), f"4: tasks: 'cola' is not allowed; allowed: {TASKS}"),
    (with_tasks("[cola, 5]"), f"4: tasks: ['cola', 5] is not allowed; allowed: {TASKS}"),
    (with_tasks("{cola: 5}"), "4: tasks.cola: 5 is not allowed; allowed: values for one task"),
    (
        START.replace("\n  bert: {source: org/bert}", " [bert]"),
        "2: models: ['bert'] is not allowed; allowed: a mapping of aliases to models",
    ),
    (
        START + "cells: [bert]\n",
        "5: cells: ['bert'] is not allowed; allowed: a mapping of models to tasks to values for that cell, or nothing",
    ),
]

SEVERAL_PLACES = [
    (
        START.replace("small", "a b").replace("org/bert", "a/b/c") + "threads: 0\ncells: {bert: {cola: {seeds: []}}}\n",
        f"1: experiment: 'a b' is not allowed (character 2 is ' ', SPACE); allowed: {EXPERIMENT}\n"
        f"3: models.bert.source: 'a/b/c' is not allowed (character 4 is '/', SOLIDUS); allowed: {SOURCE}\n"
        f"5: threads: 0 is not allowed; allowed: {THREADS}\n"
        f"6: cells.bert.cola.seeds: [] is not allowed; allowed: {SEEDS}",
    ),
    (
        with_tasks("[ax]") + "cells:\n  brt: {cola: {}}\n",
        "6: cells.brt: 'brt' is not a model in this file. Did you mean 'bert'? Known: bert\n"
        "6: cells.brt.cola: 'cola' is not a task in this file. Known: ax",
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *UNKNOWN_KEYS,
        *UNKNOWN_NAMES,
        *bad_values(),
        *ENUMS_AND_TEXTS,
        *CHOICES_WITH_TYPOS,
        *ADAPTERS,
        *unsafe_names(),
        *MALFORMED_SOURCES,
        *MALFORMED_REVISIONS,
        *OTHER_LOOKALIKES,
        *FOLDERS,
        *TASKS_THAT_MAKE_NO_SENSE,
        *NAMES_THAT_DIFFER_IN_CASE,
        *TRUST_THAT_IS_NO_BOOLEAN,
        *TRUST_IN_OTHER_PLACES,
        *TOO_MUCH,
        *TWO_BATCH_SIZES,
        *WHOLE_FILES,
        *SEVERAL_PLACES,
    ],
)
def test_each_mistake_is_one_line_with_file_line_key_and_what_is_allowed(text, expected):
    Path("empty").mkdir()
    problems = problems_of(text)
    assert problems == [f"c.yaml:{line}" for line in expected.replace("{cwd}", str(Path.cwd())).split("\n")]
    assert all(line.isprintable() for line in problems)


def test_only_the_first_of_very_many_mistakes_are_told():
    text = START + "".join(f"k{number}: 1\n" for number in range(5000))
    problems = problems_of(text)
    assert [line.partition(": unknown")[0] for line in problems[:100]] == [
        f"c.yaml:{number + 5}: k{number}" for number in range(100)
    ]
    assert problems[100:] == ["c.yaml: has more mistakes; these are the first 100"]


@pytest.mark.parametrize(
    "text",
    [
        START + "seeds: [" + "".join(f"a{number}, {number}, " for number in range(12_000)) + "]\n",
        START + "cells: {" + "".join(f"m{number}: {{x: }}, " for number in range(8000)) + "}\n",
        with_tasks("{cola: {validation: {" + "".join(f"s{number}: '', " for number in range(8000)) + "}}}"),
        with_model(
            "{source: a/b}\n  " + "".join(f"m{number}: {{source: a/b, tokenizer: x}}\n  " for number in range(4000))
        ),
        with_model(f"{{source: {'a/' * 100_000}}}"),
        START + f"{'k' * 100_000}: {'v' * 100_000}\n",
        with_tasks("{" + "t" * 64 + ": {per_device_train_batch_size" + "﷽" * 30 + ": " + "v" * 100 + "}}"),
    ],
    ids=[
        "two kinds of items",
        "unknown cells",
        "equal suffixes",
        "unknown tokenizers",
        "long text",
        "long key",
        "all long",
    ],
)
def test_large_mistakes_are_told_at_once_and_in_short_lines(text):
    started = time.process_time()
    problems = problems_of(text)
    assert time.process_time() - started < 100  # a few seconds for YAML; what is quadratic would take minutes
    assert all(len(line) <= 620 and line.isprintable() for line in problems)


def test_loading_writes_nothing(tmp_path):
    load(START)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
