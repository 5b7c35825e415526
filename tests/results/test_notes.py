"""What is said below the tables of precisions, and of the ways in which numbers were computed."""

from dataclasses import replace

import pytest
from groups import outcome

from gluegrid.results.notes import compute_paths, notes, peculiarities, precision_notes

VERSIONS = dict.fromkeys(("python", "torch", "transformers", "accelerate", "tokenizers"), "1.0")
CODE = {"commit": "0123456789abcdef", "dirty": False}


def done(model="bert", task="cola", seed=1, **record):
    """Return a cell with a result that has this in its record."""
    known = {"device": "GPU", "driver": "1", "precision": "fp32", "versions": VERSIONS, "git": CODE, "train_rows": 9}
    return replace(outcome(task, seed, {"train_samples": 9}, model=model, run={"model": {}}), record=known | record)


def test_one_precision_is_said_without_cells():
    assert precision_notes([done(), done(seed=2), outcome(seed=3)]) == ["Precision: fp32."]
    assert precision_notes([outcome()]) == []


def test_of_several_precisions_it_is_said_which_cells_are_of_which():
    of_bert = [done(seed=seed, task=task) for seed in (1, 2) for task in ("cola", "rte")]
    of_roberta = [done(model="roberta", seed=seed, precision="bf16") for seed in (1, 2)]
    alone = done(seed=3, precision="tf32")
    assert precision_notes([*of_bert, alone, *of_roberta]) == [
        "Precision: bf16; fp32; tf32.",
        "Precisions differ: bf16 in all of roberta; tf32 in bert/cola/base/seed-3; fp32 in all others.",
    ]


def test_a_cell_whose_attempts_were_of_two_precisions_is_of_neither():
    part = {"step": 5, "git": CODE, "device": "old GPU", "precision": "fp32"}
    moved = done(precision="bf16", continued=[part])
    others = [done(seed=seed, precision="bf16") for seed in (2, 3)]
    assert precision_notes([*others, moved]) == [
        "Precision: bf16; fp32, then bf16.",
        "Precisions differ: fp32, then bf16 in bert/cola/base/seed-1; bf16 in all others.",
    ]
    code = "code 0123456789ab"
    assert peculiarities(moved) == [f"{code} on old GPU in fp32 until step 5, then {code} on GPU in bf16"]
    assert peculiarities(done(continued=[part])) == [f"{code} on old GPU until step 5, then {code} on GPU"]


def said(*outcomes, beginning: str) -> list[str]:
    return [line for line in notes(outcomes) if line.startswith(beginning)]


def test_the_ways_in_which_runs_were_computed_are_counted():
    packed = [done(seed=seed, compute_paths=["packed"]) for seed in range(17)]
    assert said(*packed, done(seed=17, compute_paths=["cuda_graphs"]), beginning="Computed") == [
        "Computed as: packed batches (17 runs), CUDA graphs (1 run)."
    ]
    both = [done(seed=20 + seed, compute_paths=paths) for seed, paths in enumerate([["cuda_graphs", "static"]] * 2)]
    assert said(*both, done(compute_paths=["padded"]), beginning="Computed") == [
        "Computed as: packed batches of few lengths and CUDA graphs (2 runs), padded batches (1 run)."
    ]


@pytest.mark.parametrize("record", [{}, {"compute_paths": []}], ids=["an older record", "nothing computed"])
def test_what_no_record_says_is_not_said(record):
    lines = notes([done(**record)])
    assert not [line for line in lines if line.startswith(("Computed as", "Not repeatable", "Precisions differ"))]


def test_a_way_of_a_later_release_is_said_as_it_stands():
    assert compute_paths({"compute_paths": ["by hand", "packed"]}) == "packed batches and by hand"


def test_runs_that_cannot_be_repeated_to_the_last_bit_are_named():
    beginning = "Not repeatable to the last bit, since GPU kernels were not deterministic"
    exact, inexact = done(deterministic=True), done(seed=2, deterministic=False)
    assert said(exact, inexact, beginning="Not") == [f"{beginning}: bert/cola/base/seed-2."]
    assert said(inexact, beginning="Not") == [f"{beginning}: all cells."]
    assert said(exact, done(seed=3), beginning="Not") == []
