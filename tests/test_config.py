"""The experiment file: what it may say, which level wins, and one line for each mistake."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gluegrid.config import REGISTRY, SCHEMA, load_config, load_registry
from gluegrid.errors import ConfigError
from gluegrid.experiment import Experiment, load_experiment

GLUE = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]

# Line 1 to 4 of the files below.
START = """\
experiment: small
models:
  bert: {source: org/bert}
tasks: [cola, rte]
"""

# What messages say of whole places.
TRAINING = (
    "device, global_batch_size, learning_rate, max_eval_samples, max_seq_length, max_train_samples, num_train_epochs,"
    " per_device_eval_batch_size, per_device_train_batch_size"
)
TOP_KEYS = (
    "cells, device, experiment, global_batch_size, learning_rate, max_eval_samples, max_seq_length, max_train_samples,"
    " models, num_train_epochs, per_device_eval_batch_size, per_device_train_batch_size, seeds, task_defaults, tasks,"
    " threads"
)
MODEL_KEYS = f"{TRAINING}, revision, seeds, source, threads, tokenizer"
TASK_KEYS = (
    "device, display_name, folder, global_batch_size, label_column, labels, learning_rate, max_eval_samples,"
    " max_seq_length, max_train_samples, metric_label, metrics, num_train_epochs, per_device_eval_batch_size,"
    " per_device_train_batch_size, revision, seeds, source, test, text_columns, threads, train, train_rows, validation"
)
CELL_KEYS = f"{TRAINING}, seeds, threads"
REGISTERED = "ax, cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb, wnli"

# What messages say is allowed.
NAME = "letters a-z and A-Z, digits, '.', '_' and '-', the first a letter or digit, at most 64 characters"
EXPERIMENT = f"name of the folder under results/: {NAME}"
SOURCE = "an id on the hub (organisation/name), or a folder written with a leading './', '../', '/' or '~/'"
REVISION = (
    "a commit, tag or branch of the hub (a branch's commit is recorded when fetched);"
    " for a local folder any name for its state, by default a hash of its files"
)
RATE = "a number above 0, at most 1; peak learning rate of AdamW, decayed linearly to 0"
BATCH = "a whole number of at least 1, at most 65536; examples per device and update"
GLOBAL_BATCH = (
    "a whole number of at least 1, at most 1048576; examples per update over all devices,"
    " instead of per_device_train_batch_size"
)
EVAL_BATCH = "a whole number of at least 1, at most 65536; examples per device and evaluation step"
EPOCHS = "a number above 0, at most 10000; passes over the training examples"
LENGTH = "a whole number of at least 4, at most 65536; longer inputs are truncated to this many tokens"
TRAIN_SAMPLES = "a whole number of at least 1, or null; only the first so many training examples"
EVAL_SAMPLES = "a whole number of at least 1, or null; only the first so many examples of each validation split"
SEED = "a whole number of at least 0, at most 4294967295; a seed"
SEEDS = "a list of at least 1, without repetition; one cell per seed, such as [42, 43]"
THREADS = (
    "a whole number of at least 1, at most 1024; CPU threads of one cell"
    " (part of what a run is, since results are bit-equal only at equal thread counts)"
)
DEVICE = "cuda: fail at once where the job finds no GPU; cpu: train without one"
TASKS = "a list of tasks of the registry, or a mapping of tasks to values, to their definition, or to nothing"
METRICS = "accuracy, f1, matthews_correlation, pearson, spearmanr"
NO_MAPPING = "must map keys to values; it needs experiment, models and tasks, as config.yaml"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text: str) -> Experiment:
    path = Path("c.yaml")
    path.write_text(text, encoding="utf-8", newline="")
    return load_experiment(path)


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def with_model(entry: str) -> str:
    return START.replace("{source: org/bert}", entry)


def with_tasks(tasks: str) -> str:
    return START.replace("[cola, rte]", tasks)


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


def test_a_bad_name_on_the_command_line_is_not_blamed_on_a_line_of_the_file():
    Path("c.yaml").write_text(START)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("c.yaml"), "../x")
    assert caught.value.problems == [f"c.yaml: experiment: '../x' is not allowed; allowed: {EXPERIMENT}"]


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
    (START + '"a\\nb": no\n', f"5: 'a\\nb': unknown key (its value is 'no'). Known: {TOP_KEYS}"),
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
        "5: task_defaults.sourc: unknown key (its value is 'a/b'). Did you mean 'source'? Known: revision, source",
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
        "4: tasks.colla: not in the registry, and as a task of your own it lacks source, text_columns, metrics."
        f" Did you mean 'cola'? Known: {REGISTERED}",
    ),
    (
        with_tasks("\n- cola\n- qpq\n"),
        "6: tasks.qpq: not in the registry, and as a task of your own it lacks source, text_columns, metrics."
        f" Did you mean 'qqp'? Known: {REGISTERED}",
    ),
    (
        with_tasks("{mine: {source: a/b, text_columns: [x]}}"),
        f"4: tasks.mine: not in the registry, and as a task of your own it lacks metrics. Known: {REGISTERED}",
    ),
    (
        START + "cells: {brt: {cola: {threads: 1}}}\n",
        "5: cells.brt: 'brt' is not a model of this file. Did you mean 'bert'? Known: bert",
    ),
    (
        START + "cells:\n  bert:\n    mnli: {threads: 1}\n",
        "7: cells.bert.mnli: 'mnli' is not a task of this file. Known: cola, rte",
    ),
    (
        with_model("{source: org/bert, tokenizer: brt}"),
        "3: models.bert.tokenizer: 'brt' is not a model of this file. Did you mean 'bert'? Known: bert",
    ),
    (
        with_model("{source: a/a, tokenizer: b}\n  b: {source: b/b, tokenizer: c}\n  c: {source: c/c}"),
        "3: models.bert.tokenizer: 'b' itself uses the tokenizer of 'c'; name that one",
    ),
]

VALUES = {
    "learning_rate": (["0", "-2e-5", "1.5", "'2e-5'", "true", "1e400", ".nan", "null", "[2e-5]"], RATE),
    "per_device_train_batch_size": (["0", "-1", "32.0", "65537", "true", "'32'", "null"], BATCH),
    "global_batch_size": (["0", "-1", "32.0", "1048577", "true", "many", "null"], GLOBAL_BATCH),
    "per_device_eval_batch_size": (["0", "-1", "32.0", "65537", "false", "'8'", "null"], EVAL_BATCH),
    "num_train_epochs": (["0", "-3", "10001", "1e400", ".nan", "true", "three", "null"], EPOCHS),
    "max_seq_length": (["3", "-128", "128.0", "65537", "true", "'128'", "null"], LENGTH),
    "max_train_samples": (["0", "-1", "10.0", "1e3", "true", "all"], TRAIN_SAMPLES),
    "max_eval_samples": (["0", "-1", "10.0", "true", "all"], EVAL_SAMPLES),
    "threads": (["0", "-1", "4.0", "1025", "true", "'4'", "null"], THREADS),
    "seeds": (["[]", "[1, 1]", "42", "{a: 1}", "null"], SEEDS),
    "seeds.0": (["[-1]", "[1.0]", "[true]", "['1']", "[4294967296]", "[null]", "[[1]]"], SEED),
}
SHOWN = {
    "1e400": "inf",
    ".nan": "'.nan'",
    "1e3": "1000.0",
    "-2e-5": "-2e-05",
    "[2e-5]": "[2e-05]",
    "{a: 1}": "{'a': 1}",
}
SHOWN |= {text: repr(text) for text in ("many", "three", "all")}


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
        f"3: models.bert.revision: 1234567 is not allowed; allowed: text, so put quotes around it; {REVISION}",
    ),
    (
        START.replace("small", "2024"),
        f"1: experiment: 2024 is not allowed; allowed: text, so put quotes around it; {EXPERIMENT}",
    ),
    (
        START + "threads: " + "9" * 80 + "\n",
        f"5: threads: {'9' * 57}... is not allowed; allowed: {THREADS}",
    ),
]

UNSAFE_NAMES = [
    "../x",
    "a/b",
    "..",
    "",
    "a b",
    "a\n",
    "x" * 65,
    "x" * 300,
    "bеrt",
    ".hidden",
    "-x",
    "a{b}",
    "a\\b",
    "$(x)",
]


def shown(name: str) -> str:
    """How a message quotes a name that is not allowed."""
    text = repr(name)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(name: str) -> str:
    """How a message writes a name as part of a key."""
    return shown(name) if not name.isprintable() else name if len(name) <= 60 else name[:57] + "..."


def unsafe_names() -> list[tuple[str, str]]:
    cases = []
    for name in UNSAFE_NAMES:
        written = yaml.dump(name, default_style='"', allow_unicode=True, width=1000).strip()
        problem = f"the name {shown(name)} is not allowed; allowed: {NAME}"
        cases += [
            (START.replace("small", written), f"1: experiment: {shown(name)} is not allowed; allowed: {EXPERIMENT}"),
            (START.replace("bert:", f"? {written}\n  :"), f"3: models.{dotted(name)}: {problem}"),
            (with_tasks(f"[{written}]"), f"4: tasks.{dotted(name)}: {problem}"),
        ]
    return cases


MALFORMED_SOURCES = [
    (
        with_model(f"{{source: {written}}}"),
        f"3: models.bert.source: {shown(yaml.safe_load(written))} is not allowed; allowed: {SOURCE}",
    )
    for written in (
        "a/b/c",
        "a//b",
        "a/",
        "'org/bert '",
        "org/be rt",
        "https://huggingface.co/a/b",
        "''",
        "-a/b",
        "~x/y",
    )
]

FOLDERS = [
    (
        with_model("{source: ./nowhere}"),
        "3: models.bert.source: the folder './nowhere' cannot be used: it does not exist (seen from {cwd})",
    ),
    (
        with_model("{source: ./empty}"),
        "3: models.bert.source: the folder './empty' cannot be used: it holds no config.json and *.safetensors",
    ),
    (
        with_tasks("\n- cola\n- rte\n") + "task_defaults: {source: ./empty}\n",
        "5: tasks.cola.source: the folder './empty' cannot be used: it holds no cola/<split>-00000-of-00001.parquet\n"
        "6: tasks.rte.source: the folder './empty' cannot be used: it holds no rte/<split>-00000-of-00001.parquet",
    ),
    (
        with_model(f"{{source: ./{'x' * 290}}}"),
        f"3: models.bert.source: the folder './{'x' * 54}... cannot be used: File name too long",
    ),
]

OWN = "source: a/b, text_columns: [x]"
TASKS_THAT_MAKE_NO_SENSE = [
    (with_tasks("[cola, ax]"), "4: tasks.ax: has no train split, so it cannot be trained; leave it out"),
    (
        with_tasks("{cola: {validation: {}}}"),
        "4: tasks.cola: has no validation split, so nothing could be reported; name one under validation",
    ),
    (
        with_tasks("{cola: {metrics: [pearson]}}"),
        "4: tasks.cola.metrics: 'pearson' does not suit a classification; allowed: accuracy, f1, matthews_correlation",
    ),
    (
        with_tasks(f"{{mine: {{{OWN}, metrics: [accuracy]}}}}"),
        "4: tasks.mine.metrics: 'accuracy' does not suit a regression (what a task without labels is);"
        " allowed: pearson, spearmanr",
    ),
    (
        with_tasks(f"{{mine: {{{OWN}, labels: [a, b, c], metrics: [f1]}}}}"),
        "4: tasks.mine.metrics: 'f1' is for two labels, and the task has 3",
    ),
    (
        with_tasks("{mnli: {validation: {a: '', b: '', c: _mm}}}"),
        "4: tasks.mnli.validation: two splits have the suffix ''; each needs its own",
    ),
    (
        with_tasks("{cola: {validation: {train: ''}}}"),
        "4: tasks.cola: the training split 'train' is also one to be scored or predicted",
    ),
    (
        with_tasks("{cola: {validation: {a: mm}}}"),
        "4: tasks.cola.validation.a: 'mm' is not allowed; allowed: '' or a suffix such as _mm",
    ),
    (
        with_tasks("{cola: {text_columns: [a, b, c]}}"),
        "4: tasks.cola.text_columns: ['a', 'b', 'c'] is not allowed;"
        " allowed: a list of at least 1, at most 2, without repetition; one or two columns of text",
    ),
    (
        with_tasks("{cola: {labels: [one]}}"),
        "4: tasks.cola.labels: ['one'] is not allowed; allowed: a list of at least 2, without repetition;"
        " names of the classes in the order of their numbers; without it the task is a regression",
    ),
    (with_tasks("\n- cola\n- rte\n- cola\n"), "7: tasks.2: 'cola' stands twice; keep one of them"),
]

BOTH_BATCH_SIZES = "global_batch_size: 8, per_device_train_batch_size: 8"
BOTH = "stands beside per_device_train_batch_size; give one of them"
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
        "3: models.bert: null is not allowed; allowed: a model (source, revision, tokenizer) and values for it",
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
        "5: cells: ['bert'] is not allowed; allowed: a mapping of models to tasks to values for that cell",
    ),
]

SEVERAL_PLACES = [
    (
        START.replace("small", "a b").replace("org/bert", "a/b/c") + "threads: 0\ncells: {bert: {cola: {seeds: []}}}\n",
        f"1: experiment: 'a b' is not allowed; allowed: {EXPERIMENT}\n"
        f"3: models.bert.source: 'a/b/c' is not allowed; allowed: {SOURCE}\n"
        f"5: threads: 0 is not allowed; allowed: {THREADS}\n"
        f"6: cells.bert.cola.seeds: [] is not allowed; allowed: {SEEDS}",
    ),
    (
        with_tasks("[ax]") + "cells:\n  brt: {cola: {}}\n",
        "4: tasks.ax: has no train split, so it cannot be trained; leave it out\n"
        "6: cells.brt: 'brt' is not a model of this file. Did you mean 'bert'? Known: bert\n"
        "6: cells.brt.cola: 'cola' is not a task of this file. Known: ax",
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *UNKNOWN_KEYS,
        *UNKNOWN_NAMES,
        *bad_values(),
        *ENUMS_AND_TEXTS,
        *unsafe_names(),
        *MALFORMED_SOURCES,
        *FOLDERS,
        *TASKS_THAT_MAKE_NO_SENSE,
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


def test_loading_writes_nothing(tmp_path):
    load(START)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def nodes_of(schema: dict, name: str = "top"):
    """Yield every place of the schema with its name."""
    yield name, schema
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(key), dict):
            yield from nodes_of(schema[key], f"{name}.{key}")
    for key, value in schema.get("properties", {}).items():
        yield from nodes_of(value, f"{name}.{key}")


@pytest.mark.parametrize(("name", "node"), list(nodes_of(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))))
def test_the_schema_describes_every_place_and_uses_only_keywords(name, node):
    kinds = {"type", "enum", "description", "properties", "additionalProperties", "propertyNames", "required", "items"}
    limits = {"minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "pattern"}
    limits |= {"minItems", "maxItems", "uniqueItems", "minProperties"}
    # An unquoted comma in a description would make the rest of it a key.
    assert node.keys() <= kinds | limits | ({"$schema", "$defs"} if name == "top" else set())
    assert name == "top" or "description" in node
    assert node.get("type") != "object" or "properties" not in node or node["additionalProperties"] is False


def test_the_registry_passes_its_own_checks():
    assert REGISTRY.name == "tasks.yaml"
    assert all(task["metrics"] for task in load_registry().values())


KEYS = st.sampled_from(f"{TOP_KEYS}, {MODEL_KEYS}, {TASK_KEYS}, bert, cola, rte, org/bert, ''".split(", ")) | st.text(
    max_size=5
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(
        ["org/bert", "./x", "~/x", "cola", "cpu", "accuracy", 1, 42, 2e-5, [42], ["cola"], {"cola": None}]
    )
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
VALID = yaml.safe_load(START)


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.dictionaries(KEYS, TREES, max_size=5), on_top_of=st.sampled_from([{}, VALID]))
@example(changes={"learning_rate": float("nan")}, on_top_of=VALID)
def test_any_mapping_is_an_experiment_or_a_config_error(changes, on_top_of):
    try:
        experiment = load(yaml.dump(on_top_of | changes, allow_unicode=True))
    except ConfigError as error:
        assert error.problems
        assert all(len(line.splitlines()) == 1 for line in error.problems)
    else:
        assert experiment.cells
