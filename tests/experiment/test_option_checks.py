"""Training values that do not go together, that need a package, or that do nothing: told with file, line and key."""

import sys
from pathlib import Path

import pytest
from config_texts import START, load, problems_of, with_model

GLUE = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
NO_EQUAL_PARTS = "each device takes an equal part, so choose a multiple of"
SAVE_BEST = "the best epoch is chosen by its score, so set eval_strategy to epoch"
NO_FP16 = "fp16 needs a GPU, so choose bf16 or fp32"
SIXTEEN_BITS = "it computes in 16 bits, so choose the precision auto, bf16 or fp16"
CONFLICTS = [
    (
        START + "global_batch_size: 10\ngpus: 4\n",
        f"5: global_batch_size: 10 conflicts with gpus: 4; {NO_EQUAL_PARTS} 4",
    ),
    (
        START + "global_batch_size: 9\ngpus: 3\nnodes: 2\n",
        f"5: global_batch_size: 9 conflicts with gpus: 3 and nodes: 2; {NO_EQUAL_PARTS} 6",
    ),
    (
        with_model("{source: org/bert, gpus: 3}") + "global_batch_size: 32\n",
        f"3: models.bert.gpus: 3 conflicts with global_batch_size: 32 (from the top level); {NO_EQUAL_PARTS} 3",
    ),
    (
        START + "global_batch_size: 8\ngpus: 2\ngradient_accumulation_steps: 5\n",
        "5: global_batch_size: 8 conflicts with gpus: 2 and gradient_accumulation_steps: 5;"
        " it is computed in 10 parts, so choose at least 10",
    ),
    (START + "precision: fp16\ndevice: cpu\n", f"5: precision: fp16 conflicts with device: cpu; {NO_FP16}"),
    (
        START + "precision: tf32\ndevice: cpu\n",
        "5: precision: tf32 conflicts with device: cpu; tf32 needs a GPU, so choose bf16 or fp32",
    ),
    (
        START + "device: cpu\nprecision: [fp32, tf32]\n",
        "6: precision: tf32 conflicts with device: cpu; tf32 needs a GPU, so choose bf16 or fp32",
    ),
    (
        with_model("{source: org/bert, precision: fp16}\n  other: {source: org/other}")
        + "cells: {other: {cola: {device: cpu}}, bert: {rte: {device: cpu}}}\n",
        f"6: cells.bert.rte.device: cpu conflicts with precision: fp16 (from models.bert); {NO_FP16}",
    ),
    (
        START + "save_model: best\n",
        f"5: save_model: best conflicts with eval_strategy: no (the default); {SAVE_BEST}",
    ),
    (
        START.replace("[cola, rte]", "{cola: {eval_strategy: no}, rte: }") + "save_model: best\neval_strategy: epoch\n",
        f"4: tasks.cola.eval_strategy: no conflicts with save_model: best (from the top level); {SAVE_BEST}",
    ),
    (
        START + "warmup_ratio: 0.1\nlr_scheduler_type: constant\n",
        "5: warmup_ratio: 0.1 conflicts with lr_scheduler_type: constant;"
        " constant has no warm-up, so choose constant_with_warmup",
    ),
    (
        START + "warmup_ratio: 1\nlr_scheduler_type: polynomial\n",
        "5: warmup_ratio: 1 conflicts with lr_scheduler_type: polynomial;"
        " polynomial needs updates after the warm-up, so choose a value below 1",
    ),
    (
        START + "lr_scheduler_type: polynomial\nlearning_rate: 1e-7\n",
        "6: learning_rate: 1e-07 conflicts with lr_scheduler_type: polynomial;"
        " polynomial ends at a rate of 1e-07, so choose a higher learning_rate, or linear",
    ),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("text", "expected"), CONFLICTS)
def test_values_that_do_not_go_together_are_one_line(text, expected):
    assert problems_of(text) == [f"c.yaml:{expected}"]


def use_flash_attention(precision: str = "auto", device: str = "cuda") -> str:
    return START + f"attn_implementation: flash_attention_2\nprecision: {precision}\ndevice: {device}\n"


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """Return a folder of packages that can be found; without it, none of those asked for is there."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    for module in ("tensorboard", "tensorboardX", "wandb", "mlflow", "flash_attn"):
        monkeypatch.delitem(sys.modules, module, raising=False)  # other tests import some of them
    return tmp_path / "packages"


def install(packages: Path, module: str) -> None:
    (packages / module).mkdir(parents=True)
    (packages / module / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")


def test_flash_attention_is_for_gpus_and_16_bits(packages):
    install(packages, "flash_attn")
    for precision in ("auto", "bf16", "fp16"):
        assert load(use_flash_attention(precision)).warnings == []
    for precision in ("fp32", "tf32"):
        conflict = f"attn_implementation: flash_attention_2 conflicts with precision: {precision}"
        assert problems_of(use_flash_attention(precision)) == [f"c.yaml:5: {conflict}; {SIXTEEN_BITS}"]
    assert problems_of(use_flash_attention("bf16", "cpu")) == [
        "c.yaml:5: attn_implementation: flash_attention_2 conflicts with device: cpu;"
        " it needs a GPU, so choose auto, sdpa or eager"
    ]
    assert problems_of(START + "attn_implementation: flash_attention_2\n") == [
        f"c.yaml:5: attn_implementation: flash_attention_2 conflicts with precision: fp32 (the default); {SIXTEEN_BITS}"
    ]


NEEDED = {
    "flash_attn": (
        use_flash_attention(),
        "attn_implementation: flash_attention_2 needs the package flash-attn, which is not installed;"
        " run pip install flash-attn, or leave flash_attention_2 out",
    )
}
NEEDED |= {
    module: (
        START + f"report_to: [{tracker}]\n",
        f"report_to.0: {tracker} needs the package {tracker}, which is not installed;"
        f" run pip install {tracker}, or leave {tracker} out",
    )
    for module, tracker in (
        *(("tensorboard", "tensorboard"), ("tensorboardX", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")),
    )
}


@pytest.mark.parametrize(("module", "text", "problem"), [(module, *needed) for module, needed in NEEDED.items()])
def test_a_package_that_an_option_needs_must_be_installed_and_is_not_imported(packages, module, text, problem):
    (packages / module).mkdir(parents=True)  # as wandb makes a folder of its name where it runs
    assert problems_of(text) == [f"c.yaml:5: {problem}"]
    (packages / module).rmdir()
    install(packages, module)
    assert load(text).warnings == []


FLAT_IN_FACT = "constant_with_warmup does not warm up, since warmup_ratio is 0 (the default);"
NO_ADAPTERS = "is empty, so all weights are trained; for adapters, write lora: {}"


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("lr_scheduler_type: constant_with_warmup", [f"5: lr_scheduler_type: {FLAT_IN_FACT}"]),
        ("lr_scheduler_type: constant_with_warmup\nwarmup_ratio: 0.1", []),
        ("lora:", [f"5: lora: {NO_ADAPTERS}"]),
        ("cells: {bert: {cola: {lora: }}}", [f"5: cells.bert.cola.lora: {NO_ADAPTERS}"]),
        ("lora: {}\ncells: {bert: {cola: {lora: null}}}", []),
    ],
)
def test_an_option_that_does_nothing_is_warned_of_once(text, warnings):
    found = load(f"{START}{text}\n").warnings
    assert [line.removesuffix(" set warmup_ratio, or write constant") for line in found] == [
        f"c.yaml:{warning}" for warning in warnings
    ]


@pytest.mark.parametrize(
    ("tasks", "cells", "is_used"),
    [
        ("{cola: {learning_rate: 1e-5}, rte: {learning_rate: [1e-5, 2e-5]}}", "{}", False),
        ("{cola: {learning_rate: 1e-5}, rte: {}}", "{bert: {rte: {learning_rate: 1e-5}}}", False),
        ("{cola: {learning_rate: 1e-5}, rte: {num_train_epochs: 2}}", "{}", True),
        ("[cola, rte]", "{}", True),
    ],
)
def test_a_models_value_that_holds_for_none_of_its_cells_is_warned_of(tasks, cells, is_used):
    text = with_model("{source: org/bert, learning_rate: 1e-3}").replace("[cola, rte]", tasks)
    problem = "applies to no cell, since a task's options win over a model's; set it under cells"
    expected = [] if is_used else [f"c.yaml:3: models.bert.learning_rate: {problem}"]
    assert load(f"{text}cells: {cells}\n").warnings == expected


def test_a_batch_size_that_another_one_of_each_task_replaces_is_warned_of():
    text = with_model("{source: org/bert, global_batch_size: 64}")
    text = text.replace("[cola, rte]", "{cola: {per_device_train_batch_size: 8}}")
    assert [line.partition(" applies")[0] for line in load(text).warnings] == [
        "c.yaml:3: models.bert.global_batch_size:"
    ]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "precision: fp16",
            "precision: tf32",
            "precision: bf16\ndevice: cpu",
            "global_batch_size: 12\ngpus: 3\nnodes: 2",
        ),
        *("save_model: last", "save_model: best\neval_strategy: epoch", "eval_strategy: epoch", "report_to: []"),
        *("lr_scheduler_type: constant", "lr_scheduler_type: constant\nwarmup_ratio: 0", "warmup_ratio: 1"),
        *("train_sampling_strategy: group_by_length\nglobal_batch_size: 7", "gradient_checkpointing: true"),
        *("lora: {r: 4, lora_alpha: 0.5, lora_dropout: 0.5, target_modules: [query, größe.0]}", "max_grad_norm: 0"),
        *("lora: {target_modules: all-linear}", "weight_decay: 0.01", "gpus: 64", "attn_implementation: eager"),
        "gradient_accumulation_steps: 4\nglobal_batch_size: 6",
        *(f"lr_scheduler_type: {name}\nwarmup_ratio: 0.1" for name in ("cosine", "polynomial", "inverse_sqrt")),
    ],
)
def test_options_that_go_together_are_accepted_in_silence_at_any_level(text):
    assert load(f"{START}{text}\n").warnings == []
    of_cell = "".join(f"      {line}\n" for line in text.splitlines() if not line.startswith("report_to"))
    assert load(f"{START}cells:\n  bert:\n    cola:\n{of_cell}").warnings == []


def test_a_conflict_of_many_cells_is_one_line():
    models = ", ".join(f"m{number}: {{source: a/b}}" for number in range(50))
    text = f"experiment: x\nmodels: {{{models}}}\ntasks: [{', '.join(GLUE)}]\nsave_model: best\n"
    assert len(problems_of(text)) == 1


def test_a_conflict_that_a_more_specific_level_lifts_is_none():
    models = "{source: org/bert, device: cuda}\n  other: {source: org/other, precision: fp32}"
    assert load(with_model(models) + "precision: fp16\ndevice: cpu\n").warnings == []
