import csv
import io
import json
import os
import re
from pathlib import Path

import builders
import pytest
from hypothesis import HealthCheck, given, settings
from rendering import HOSTILE, texts_of

from gluegrid.common import paths
from gluegrid.execution import attempts, invocation
from gluegrid.execution.job_logs import last_line
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.cell import run_text
from gluegrid.operations.staged import staged_table
from gluegrid.results.outcomes import Outcome, read_outcomes
from gluegrid.results.results_md import results_markdown, table_definition, write_tables
from gluegrid.results.table_notes import SYNTHETIC_NOTE
from gluegrid.workflow.last_words import last_words

PAIR = {"eval_accuracy": 0.8578, "eval_f1": 0.9, "eval_combined_score": 0.8789, "eval_samples": 50}
OFFICIAL = {
    "train": {"rows": 1000, "sha256": "a" * 64},
    "validation": {"rows": 50, "sha256": "b" * 64},
    "test": {"rows": 60, "sha256": "c" * 64},
}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return builders.experiment(tmp_path)


@pytest.fixture
def pair(experiment):
    """The cell of the task with two metrics."""
    return experiment.cells["tiny", "pair", "base", "42"]


def outcome_of(experiment, cell):
    return next(outcome for outcome in read_outcomes(experiment) if outcome.cell == cell)


def state_of(experiment, cell):
    return paths.state_folder(Path(experiment.paths.run.format(**cell.wildcards)))


def write_log(experiment, rule, wildcards, text):
    log = Path(experiment.paths.log(rule, wildcards))
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text, encoding="utf-8")
    return log


def test_a_result_is_read_with_its_record(experiment, pair):
    builders.write_result(experiment, pair, PAIR)
    outcome = outcome_of(experiment, pair)
    assert (outcome.is_done, outcome.has_failed, outcome.reason) == (True, False, None)
    assert outcome.results["eval_f1"] == 0.9
    assert outcome.record["device"] == "CPU"


def test_a_cell_that_was_never_started_has_not_failed(experiment):
    assert [outcome.reason for outcome in read_outcomes(experiment)] == ["not run yet"] * 2
    assert not any(outcome.is_done or outcome.has_failed for outcome in read_outcomes(experiment))


def test_a_failed_cell_says_what_its_last_attempt_noted(experiment, pair):
    state = state_of(experiment, pair)
    for reason in (Reason(Cause.SIGTERM), Reason(Cause.FAILED, "the loss is nan at step 3")):
        attempts.start(state, "0")
        attempts.end(state, reason)
    outcome = outcome_of(experiment, pair)
    assert (outcome.has_failed, outcome.reason) == (True, "the loss is nan at step 3")
    assert str(outcome.log) == "results/small/logs/train/tiny/pair/base/seed-42.log"


@pytest.mark.parametrize(
    ("environment", "process"),
    [
        ({}, f"process {os.getpid()} on "),
        ({"SLURM_JOB_ID": "77", "SLURMD_NODENAME": "node3"}, "SLURM job 77 on node3"),
    ],
    ids=["local", "slurm"],
)
def test_a_cell_that_was_killed_without_a_word_names_its_process(experiment, pair, monkeypatch, environment, process):
    for name in ("SLURM_JOB_ID", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    attempts.start(state_of(experiment, pair), "0")
    outcome = outcome_of(experiment, pair)
    assert outcome.has_failed
    assert outcome.reason.startswith("killed, or still running")
    assert process in outcome.reason


def test_a_success_whose_result_is_gone_says_so(experiment, pair):
    state = state_of(experiment, pair)
    for reason in (Reason(Cause.FAILED, "out of memory"), Reason(Cause.DONE)):
        attempts.start(state, "0")
        attempts.end(state, reason)
    assert outcome_of(experiment, pair).reason.startswith("was trained, but its result is gone")
    assert [attempt["reason"] for attempt in attempts.read(state)] == ["out of memory", "done"]


def test_a_result_of_another_run_json_is_refused(experiment, pair):
    builders.write_result(experiment, pair, PAIR, run_sha256="0" * 64)
    outcome = outcome_of(experiment, pair)
    assert outcome.has_failed
    assert "another run.json" in outcome.reason


def test_a_changed_value_makes_a_result_stale(experiment, pair, tmp_path):
    builders.write_result(experiment, pair, PAIR)
    changed = builders.experiment(tmp_path, learning_rate=3e-5)
    assert "another run.json" in read_outcomes(changed)[0].reason


def test_a_record_of_another_schema_is_refused(experiment, pair):
    builders.write_result(experiment, pair, PAIR, schema_version=99)
    assert "schema version 99, not 1" in outcome_of(experiment, pair).reason


@pytest.mark.parametrize("value", [0.5, "7", None])
@pytest.mark.parametrize("key", ["train_samples", "eval_samples"])
def test_a_number_of_examples_that_is_no_count_is_refused_by_name(experiment, pair, key, value):
    builders.write_result(experiment, pair, PAIR | {key: value})
    assert f"{key!r} is missing or not a count; delete the file" in outcome_of(experiment, pair).reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", "missing"])
@pytest.mark.parametrize("key", ["eval_f1", "train_runtime", "epoch"])
def test_a_metric_that_is_no_number_is_refused_by_name(experiment, pair, key, value):
    path = builders.write_result(experiment, pair, PAIR | {key: value})
    if value == "missing":
        results = json.loads(path.read_text(encoding="utf-8"))
        del results[key]
        path.write_text(json.dumps(results), encoding="utf-8")
    outcome = outcome_of(experiment, pair)
    assert outcome.has_failed
    assert f"{key!r} is missing or not a number" in outcome.reason
    assert str(path) in outcome.reason


def test_an_undefined_metric_is_a_result(experiment, pair):
    builders.write_result(experiment, pair, PAIR | {"eval_f1": None, "degenerate": True})
    assert outcome_of(experiment, pair).is_done


@pytest.mark.parametrize("name", ["all_results.json", "run_record.json"])
@pytest.mark.parametrize("text", ["", '{"eval_f1": 0.', "[]", None])
def test_an_unreadable_file_is_named(experiment, pair, name, text):
    path = builders.write_result(experiment, pair, PAIR).with_name(name)
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    outcome = outcome_of(experiment, pair)
    assert not outcome.is_done
    if (name, text) == ("all_results.json", None):
        assert outcome.why == Reason(Cause.NOT_RUN)
    else:
        assert outcome.has_failed
        assert str(path) in outcome.reason


def test_a_model_that_could_not_be_fetched_fails_its_cells_with_the_logs_last_line(experiment):
    key = experiment.model_key("tiny")
    log = write_log(experiment, "fetch_model", key, "fetching\ngluegrid: the hub did not give it\n\n")
    for outcome in read_outcomes(experiment):
        assert outcome.has_failed
        assert (outcome.reason, outcome.log) == ("fetch_model failed: the hub did not give it", log)


def test_tokens_that_could_not_be_made_fail_only_their_task(experiment, pair):
    tokens = paths.TOKENS.format(**experiment.wildcards_of_tokens(pair))
    write_log(experiment, "tokenize_task", tokens, "gluegrid: no column 'x'")
    assert [outcome.reason for outcome in read_outcomes(experiment)] == [
        "tokenize_task failed: no column 'x'",
        "not run yet",
    ]


def test_a_log_of_a_fetch_that_succeeded_is_no_failure(experiment):
    key = experiment.model_key("tiny")
    write_log(experiment, "fetch_model", key, "fetching model.safetensors")
    manifest = Path(paths.MODEL_MANIFEST.format(model_key=key))
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}", encoding="utf-8")
    assert [outcome.reason for outcome in read_outcomes(experiment)] == ["not run yet"] * 2


def test_an_attempt_that_slurm_ended_says_what_slurm_said(experiment, pair, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    attempts.start(state_of(experiment, pair), "0")
    log = Path(".snakemake/slurm_logs/rule_train/tiny_pair_base_42/12.log")
    log.parent.mkdir(parents=True)
    log.write_text(
        "Building DAG of jobs...\nslurmstepd: error: *** STEP 12.0 ON gpu1 CANCELLED AT 2026-01-01T00:00:00"
        " DUE TO TIME LIMIT ***\nsrun: Job step aborted: Waiting up to 32 seconds for job step to finish.\n"
    )
    expected = "ended by SLURM: STEP 12.0 ON gpu1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT"
    assert str(attempts.why_without_result(attempts.read(state_of(experiment, pair))[-1])) == expected
    attempts.end(state_of(experiment, pair), Reason(Cause.FAILED, "the loss is nan"))
    assert str(attempts.why_without_result(attempts.read(state_of(experiment, pair))[-1])) == "the loss is nan"


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"start": 1}', "[" * 5000])
def test_what_is_no_attempt_is_left_out(experiment, pair, line):
    state = state_of(experiment, pair)
    attempts.start(state, "0")
    path = state / "attempts.jsonl"
    path.write_text(line + "\n" + path.read_text())
    assert len(attempts.read(state)) == 1


def test_an_attempt_that_never_reported_its_end_is_closed_by_the_next(experiment, pair):
    state = state_of(experiment, pair)
    attempts.start(state, "0")
    attempts.start(state, "0")
    assert [attempt["reason"] for attempt in attempts.read(state)] == [str(Reason(Cause.KILLED)), None]


def test_attempts_at_a_result_are_those_at_its_run_since_the_last_one(experiment, pair):
    state = state_of(experiment, pair)
    for run, cause in (("a", Cause.DONE), ("a", Cause.KILLED), ("b", Cause.KILLED), ("a", Cause.KILLED)):
        attempts.start(state, run)
        attempts.end(state, Reason(cause))
    assert len(attempts.at_this_result(state, "a")) == 2
    assert len(attempts.at_this_result(state, "b")) == 1


def test_the_launchers_traceback_after_our_error_is_not_the_reason(experiment, pair):
    log = Path(experiment.paths.log("train", paths.CELL).format(**pair.wildcards))
    log.parent.mkdir(parents=True)
    log.write_text(
        "12:00:00 begins\ngluegrid: the disk is full\nTraceback (most recent call last):\n  CalledProcessError\n"
    )
    assert last_line(log) == "the disk is full"


def test_a_training_that_never_noted_an_attempt_gives_its_logs_last_line(experiment, pair):
    write_log(experiment, "train", pair.name, "ImportError: libcuda\n")
    assert outcome_of(experiment, pair).reason == "train failed before its first step: ImportError: libcuda"


@pytest.fixture
def partial(experiment, pair):
    """An experiment of which one cell has a result, and the other failed with a reason of two lines."""
    builders.write_result(experiment, pair, PAIR)
    state = state_of(experiment, experiment.cells["tiny", "number", "base", "42"])
    attempts.start(state, "0")
    attempts.end(state, Reason(Cause.FAILED, "the loss is nan | inf\nat step 3"))
    return experiment


def test_the_markdown_of_a_partial_set_has_the_numbers_and_the_reasons(partial):
    text = write_tables(partial, read_outcomes(partial))
    assert Path(partial.paths.results_md).read_text(encoding="utf-8") == text
    assert "| Pair   | accuracy/f1       | 85.78/90.00 | 12.50               | 3        |" in text
    assert "| number | pearson/spearmanr | failed      | -                   | -        |" in text
    assert "| tiny/number/base/seed-42 | the loss is nan \\| inf at step 3 |" in text
    assert "- Cells: 1 of 2 have a result.\n" in text
    assert "- Missing: tiny/number/base/seed-42." in text
    assert "- Code: commit 0123456789ab.\n" in text


def test_the_csv_of_a_partial_set_has_a_row_per_cell_in_full_precision(partial, pair):
    builders.write_result(partial, pair, PAIR | {"eval_f1": 0.1 + 0.2})
    write_tables(partial, read_outcomes(partial))
    text = Path(partial.paths.results_csv).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["task"], row["state"]) for row in rows] == [("pair", "done"), ("number", "failed")]
    assert rows[0]["eval_f1"] == "0.30000000000000004"
    assert rows[1]["eval_f1"] == ""
    assert rows[1]["reason"] == "the loss is nan | inf\nat step 3"


def test_the_json_of_a_partial_set_has_run_results_and_record(partial, pair):
    write_tables(partial, read_outcomes(partial))
    content = json.loads(Path(partial.paths.results_json).read_text(encoding="utf-8"))
    done, failed = content["cells"]
    assert (content["experiment"], done["run"], failed["results"]) == ("small", pair.run, None)
    assert done["record"]["run_sha256"]


def test_tables_that_say_the_same_are_not_written_again(partial):
    write_tables(partial, read_outcomes(partial))
    path = Path(partial.paths.results_md)
    os.utime(path, (1, 1))
    write_tables(partial, read_outcomes(partial))
    assert path.stat().st_mtime == 1


def test_the_last_words_name_the_table_and_each_failure_on_one_line(partial):
    lines = last_words(partial, read_outcomes(partial)).splitlines()
    assert lines[-3:] == [
        "Tables: results/small/results.md",
        "Report: make reports EXPERIMENT=small",
        "FAILED tiny/number/base/seed-42: the loss is nan | inf at step 3"
        "; log: results/small/logs/train/tiny/number/base/seed-42.log",
    ]
    assert lines[1:9] == [
        "small: scores x 100 on validation, one seed",
        "",
        "Task      tiny",
        "Pair     87.89",
        "number  failed",
        "Mean    87.89*",
        "",
        "Notes (* marks the numbers that they qualify):",
    ]
    assert "- Mean of tiny: over 1 of 2 tasks" in lines


def test_the_last_words_tell_a_reason_of_several_cells_once_with_the_first_ones_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path, seeds=[1, 2, 3])
    monkeypatch.setattr("gluegrid.workflow.last_words.MOST_REASONS", 2)
    reasons = ["no GPU", "no GPU", "nan", "disk full", "the end", "the end"]
    for cell, reason in zip(experiment.cells.values(), reasons, strict=True):
        failing(experiment, cell, reason)
    log = "results/small/logs/train/tiny/pair/base/seed-{}.log"
    assert last_words(experiment, read_outcomes(experiment)).splitlines()[-3:] == [
        f"FAILED tiny/pair/base/seed-1 and 1 more: no GPU; log: {log.format(1)}",
        f"FAILED tiny/pair/base/seed-3: nan; log: {log.format(3)}",
        "... and 3 more cells without a result: results.md",
    ]


def test_the_last_words_say_the_precision(experiment, pair):
    assert "Precision" not in last_words(experiment, read_outcomes(experiment))
    builders.write_result(experiment, pair, PAIR, precision="bf16\x1b")
    assert "\nPrecision: bf16�.\n\nTables: " in last_words(experiment, read_outcomes(experiment))


def test_the_last_words_of_a_complete_set_name_no_failure(experiment, pair):
    builders.write_result(experiment, pair, PAIR)
    number = experiment.cells["tiny", "number", "base", "42"]
    builders.write_result(experiment, number, {"eval_pearson": 0.5, "eval_spearmanr": -0.25, "eval_samples": 50})
    text = last_words(experiment, read_outcomes(experiment))
    assert "FAILED" not in text
    assert re.search(r"^number +12\.50$", text, re.M)


@pytest.fixture
def call(experiment, monkeypatch):
    """A call of snakemake, of which everything that follows is a part."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return invocation.freeze(experiment.config, Path(experiment.paths.heads))


def test_what_ctrl_c_has_ended_is_stopped_and_no_failure(experiment, pair, call):
    attempts.start(state_of(experiment, pair), "0")
    attempts.end(state_of(experiment, pair), Reason(Cause.INTERRUPTED, step=7))
    invocation.interrupt()
    outcomes = read_outcomes(experiment)
    assert (outcomes[0].is_stopped, outcomes[0].has_failed) == (True, False)
    assert last_words(experiment, outcomes).splitlines()[-4:] == [
        "Tables: results/small/results.md",
        "Report: make reports EXPERIMENT=small",
        "STOPPED tiny/pair/base/seed-42: interrupted; step 7 is kept",
        "Stopped, goes on with the next call (0 of 2 cells are done)",
    ]
    text = write_tables(experiment, outcomes)
    assert "| Pair   | accuracy/f1       | stopped  | -" in text
    assert "## Stopped cells" in text and "failed" not in text.casefold()
    rows = list(csv.DictReader(io.StringIO(Path(experiment.paths.results_csv).read_text(encoding="utf-8"))))
    assert [row["state"] for row in rows] == ["stopped", "not run"]


@pytest.mark.parametrize("is_interrupted", [True, False])
@pytest.mark.parametrize("ended", [Reason(Cause.SIGTERM, step=7), None], ids=["scancel", "without a word"])
def test_what_an_interrupted_call_has_cancelled_is_stopped_and_what_somebody_else_has_is_not(
    experiment, pair, call, ended, is_interrupted
):
    attempts.start(state_of(experiment, pair), "0")
    if ended:
        attempts.end(state_of(experiment, pair), ended)
    if is_interrupted:
        invocation.interrupt()
    outcome = outcome_of(experiment, pair)
    assert (outcome.is_stopped, outcome.has_failed) == (is_interrupted, not is_interrupted)
    assert ended or (outcome.why.cause == Cause.INTERRUPTED) == is_interrupted


def test_what_was_wrong_before_ctrl_c_is_a_failure_all_the_same(experiment, pair, call):
    attempts.start(state_of(experiment, pair), "0")
    attempts.end(state_of(experiment, pair), Reason(Cause.FAILED, "the loss is nan"))
    invocation.interrupt()
    assert outcome_of(experiment, pair).has_failed


@pytest.mark.parametrize(
    ("text", "is_of_the_call", "reason"),
    [
        ("fetching", True, "not run yet"),
        ("fetching\ngluegrid: interrupted\n", True, "not run yet"),
        ("gluegrid: no such model", True, "fetch_model failed: no such model"),
        ("gluegrid: no such model", False, "fetch_model failed: no such model"),
        ("fetching", False, "fetch_model failed: fetching"),
    ],
)
def test_what_ctrl_c_ended_while_it_was_fetched_is_not_run_yet(experiment, pair, call, text, is_of_the_call, reason):
    invocation.interrupt()
    log = write_log(experiment, "fetch_model", experiment.model_key("tiny"), text)
    moment = call.stat().st_mtime + (1 if is_of_the_call else -1)
    os.utime(log, (moment, moment))
    assert outcome_of(experiment, pair).reason == reason
    assert ("FAILED model" in staged_table(experiment)) == (reason != "not run yet")


def test_a_cell_that_ctrl_c_ended_while_it_started_is_not_run_yet(experiment, pair, call):
    for path in (experiment.model_manifest("tiny"), experiment.task_manifest("pair"), experiment.tokens_manifest(pair)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("{}", encoding="utf-8")
    write_log(experiment, "train", paths.CELL.format(**pair.wildcards), "gluegrid: interrupted\nTraceback")
    assert outcome_of(experiment, pair).reason == "train failed before its first step: interrupted"
    invocation.interrupt()
    assert outcome_of(experiment, pair).why == Reason(Cause.NOT_RUN)


def test_what_is_peculiar_about_a_number_is_noted(experiment, pair):
    builders.write_result(experiment, pair, PAIR | {"train_samples": 10, "degenerate": True})
    text = write_tables(experiment, read_outcomes(experiment))
    assert f"- Trained on a subset, 10 of 100 examples: {pair.name}.\n" in text
    assert "degenerate" in text


def test_what_is_peculiar_about_several_cells_is_one_line(experiment, pair):
    number = experiment.cells["tiny", "number", "base", "42"]
    builders.write_result(experiment, pair, PAIR | {"degenerate": True})
    undefined = {"eval_pearson": None, "eval_spearmanr": None, "eval_samples": 50, "degenerate": True}
    builders.write_result(experiment, number, undefined)
    text = write_tables(experiment, read_outcomes(experiment))
    assert "\n- Degenerate (one answer for all examples of a validation split, or an undefined metric): " in text
    assert f": {pair.name}, {number.name}.\n" in text


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """An experiment of two finished checkpoints: one is evaluated, and one only predicts."""
    monkeypatch.chdir(tmp_path)
    text = {"text_columns": ["sentence"], "labels": ["no", "yes"], "metrics": ["accuracy", "f1"], "do_train": False}
    hidden = {"source": "./number", **text, "train": None, "validation": {}, "test": ["test"]}
    return builders.experiment(tmp_path, tasks={"pair": {"source": "./pair", **text}, "hidden": hidden}, seeds=[1])


def test_a_cell_that_is_not_trained_needs_no_numbers_of_training(untrained):
    evaluated, predicted = untrained.cells.values()
    builders.write_result(untrained, evaluated, PAIR)
    builders.write_result(untrained, predicted, {"predict_samples": 6})
    found = read_outcomes(untrained)
    assert [outcome.reason for outcome in found] == [None, None]
    text = write_tables(untrained, found)
    assert "| pair   | accuracy/f1 | 85.78/90.00 | -                   | -        |" in text
    assert "\n- All numbers: not trained here\n" in text
    assert "| hidden | accuracy/f1 | predicted   | -                   | -        |" in text
    assert "| tiny    | 87.89  | predicted | 87.89  |" in text
    assert "spread" not in text
    note = "Not trained here: scored or predicted with the head it came with: all cells."
    assert note in texts_of(text)


@pytest.mark.parametrize("key", ["eval_accuracy", "eval_samples"])
def test_a_cell_that_is_not_trained_needs_its_scores(untrained, key):
    evaluated, _ = untrained.cells.values()
    builders.write_result(untrained, evaluated, {name: value for name, value in PAIR.items() if name != key})
    assert f"{key!r} is missing" in outcome_of(untrained, evaluated).reason


def test_a_cell_with_a_holdout_needs_its_scores_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    holding = builders.experiment(tmp_path, selection="holdout")
    cell = holding.cells["tiny", "pair", "base", "42"]
    builders.write_result(holding, cell, PAIR | {"eval_accuracy_holdout": 0.5})
    assert "'eval_f1_holdout' is missing" in outcome_of(holding, cell).reason
    builders.write_result(holding, cell, PAIR | {"eval_accuracy_holdout": 0.5, "eval_f1_holdout": 0.25})
    assert outcome_of(holding, cell).is_done


ADAPTERS = {"r": 8, "lora_alpha": 16, "lora_dropout": 0, "target_modules": ["query", "v_proj"]}


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (
            {"train_sampling_strategy": "group_by_length"},
            "Batches of examples of like length, not random ones (train_sampling_strategy group_by_length)",
        ),
        ({"gpus": 2}, "Trained by 2 CPU processes together"),
        ({"gpus": 2, "nodes": 3, "device": "cuda"}, "Trained by 6 GPUs together (2 on each of 3 nodes)"),
        ({"nodes": 3, "device": "cuda"}, "Trained by 3 GPUs together (1 on each of 3 nodes)"),
    ],
)
def test_a_training_that_is_not_the_ordinary_one_is_noted_with_its_cells(experiment, tmp_path, values, note):
    for of in (experiment, builders.experiment(tmp_path, **values)):
        for cell in of.cells.values():
            scores = {"eval_pearson": 0.5, "eval_spearmanr": 0.5, "eval_samples": 50}
            builders.write_result(of, cell, PAIR if cell.task == "pair" else scores)
        texts = texts_of(write_tables(of, read_outcomes(of)))
        assert (f"{note}: all cells." in texts) == (of is not experiment)


def test_cells_with_adapters_are_named_where_others_have_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = builders.experiment(tmp_path, cells={"tiny": {"pair": {"lora": ADAPTERS}}})
    for cell in some.cells.values():
        scores = {"eval_pearson": 0.5, "eval_spearmanr": 0.5, "eval_samples": 50}
        builders.write_result(some, cell, PAIR if cell.task == "pair" else scores)
    (line,) = [line for line in texts_of(write_tables(some, read_outcomes(some))) if "adapters" in line]
    values = '"lora_alpha": 16, "lora_dropout": 0, "r": 8, "target_modules": ["query", "v_proj"]'
    assert line == f"Low-rank adapters trained, not all weights (lora {{{values}}}): tiny/pair/base/seed-42."


@pytest.fixture
def official(tmp_path, monkeypatch):
    """An experiment of one task that has official data."""
    monkeypatch.chdir(tmp_path)
    pair = {"source": "./pair", "text_columns": ["sentence"], "labels": ["no", "yes"], "metrics": ["accuracy", "f1"]}
    return builders.experiment(tmp_path, tasks={"pair": {**pair, "display_name": "Pair", "official": OFFICIAL}})


def files(**hashes):
    """Return the official files as a record lists them, with the given splits' hashes in place of theirs."""
    named = {split: values["sha256"] for split, values in OFFICIAL.items()} | hashes
    return {f"{split}-00000-of-00001.parquet": digest for split, digest in named.items()}


def test_official_data_leave_no_trace_in_the_tables(official):
    (cell,) = official.cells.values()
    builders.write_result(official, cell, PAIR | {"train_samples": 1000}, train_rows=1000, task_files=files())
    text = write_tables(official, read_outcomes(official))
    assert "| Pair   | accuracy/f1 | 85.78/90.00 | 12.50 " in text
    assert "official" not in text
    assert "*" not in text
    (row,) = csv.DictReader(io.StringIO(Path(official.paths.results_csv).read_text(encoding="utf-8")))
    assert (row["state"], row["data"]) == ("done", "")


def test_other_data_are_noted_below_every_table_and_their_files_once(official):
    (cell,) = official.cells.values()
    other = files(train="d" * 64, test="e" * 64)
    builders.write_result(official, cell, PAIR, train_rows=400, task_files=other)
    text = write_tables(official, read_outcomes(official))
    assert "| Pair   | accuracy/f1 | 85.78/90.00\\* | 12.50 " in text
    notes = "\n\nNotes (\\* marks the numbers that they qualify):\n\n- Pair: train 100 of 1,000\n"
    assert f"| tiny    | 87.89\\* | 87.89\\* |{notes}\n## What to know" in text
    assert text.count(notes) == 2
    assert "\n- Not the official files: train, test of pair.\n" in text
    assert "subset" not in text
    (row,) = csv.DictReader(io.StringIO(Path(official.paths.results_csv).read_text(encoding="utf-8")))
    (entry,) = json.loads(Path(official.paths.results_json).read_text(encoding="utf-8"))["cells"]
    assert row["data"] == entry["data"] == "train 100 of 1,000"
    assert "- Pair: train 100 of 1,000\n" in last_words(official, read_outcomes(official))


def test_synthetic_data_are_called_so_once_and_compared_with_nothing(official, tmp_path):
    tasks = {"pair": {**official.tasks["pair"], "synthetic": True}}
    experiment = builders.experiment(tmp_path, tasks=tasks)
    (cell,) = experiment.cells.values()
    assert run_text(cell) == run_text(*official.cells.values())
    assert table_definition(experiment) != table_definition(official)
    builders.write_result(experiment, cell, PAIR, train_rows=400, task_files=files(train="d" * 64))
    text = write_tables(experiment, read_outcomes(experiment))
    assert text.startswith(f"# Results of small\n\n{SYNTHETIC_NOTE}\n\n## tiny\n")
    assert text.count("ynthetic") == 1
    assert "1,000" not in text and "official" not in text and "*" not in text
    assert "- Trained on a subset, 100 of 400 examples: " in text
    (row,) = csv.DictReader(io.StringIO(Path(experiment.paths.results_csv).read_text(encoding="utf-8")))
    assert row["data"] == "synthetic"


def test_official_data_are_part_of_what_rebuilds_the_tables_and_of_no_run(official, tmp_path):
    tasks = {"pair": {**official.tasks["pair"], "official": {"train": OFFICIAL["train"]}}}
    changed = builders.experiment(tmp_path, tasks=tasks)
    assert table_definition(changed) != table_definition(official)
    assert [run_text(cell) for cell in changed.cells.values()] == [run_text(cell) for cell in official.cells.values()]


def failing(experiment, cell, reason):
    """Let a cell's last attempt have failed with this reason."""
    attempts.start(state_of(experiment, cell), "0")
    attempts.end(state_of(experiment, cell), Reason(Cause.FAILED, reason))


def test_a_hostile_reason_reaches_no_terminal_page_or_spreadsheet(experiment, pair):
    reason = "=HYPERLINK(1) \x1b[31m\u202e <img src=x> [a](b) `c` \x9b2J | \udcff\rd"
    failing(experiment, pair, reason)
    page = write_tables(experiment, read_outcomes(experiment))
    assert "| =HYPERLINK(1) �\\[31m� \\<img src=x\\> \\[a\\](b) \\`c\\` �2J \\| \\\\udcff d |" in page
    *_, line = last_words(experiment, read_outcomes(experiment)).splitlines()
    assert line.startswith(
        "FAILED tiny/pair/base/seed-42: =HYPERLINK(1) �[31m� <img src=x> [a](b) `c` �2J | \\udcff d; "
    )
    with Path(experiment.paths.results_csv).open(encoding="utf-8", newline="") as stream:
        row = next(csv.DictReader(stream))
    assert row["reason"].startswith("'=HYPERLINK(1) ")
    content = json.loads(Path(experiment.paths.results_json).read_text(encoding="utf-8"))
    assert content["cells"][0]["reason"] == reason.replace("\udcff", "\\udcff")


def test_a_hostile_record_becomes_no_markup(experiment, pair):
    builders.write_result(experiment, pair, PAIR, device="<b>GPU</b>", precision="[a](b)")
    page = write_tables(experiment, read_outcomes(experiment))
    assert "- Device: \\<b\\>GPU\\</b\\>.\n- Precision: \\[a\\](b).\n" in page


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HOSTILE, HOSTILE)
def test_whatever_a_name_and_a_reason_are_the_page_is_the_same_but_for_them(experiment, name, reason):
    hostile, plain = (texts_of(page_of_failures(experiment, *texts)) for texts in ((name, reason), ("name", "reason")))
    for theirs, ours in zip(hostile, plain, strict=True):
        assert theirs == ours or ours in ("name", "reason")


def page_of_failures(experiment, name, reason):
    """Return results.md of an experiment with a task of this name, of which all cells failed for this reason."""
    experiment.tasks["pair"]["display_name"] = name
    log = Path("train.log")
    why = Reason(Cause.FAILED, reason)
    return results_markdown(experiment, [Outcome(cell, log, why=why) for cell in experiment.cells.values()])


def test_the_tables_say_who_trained_a_part_of_a_cell_and_that_memory_was_short(experiment, pair):
    mine = {"git": {"commit": "0123456789abcdef", "dirty": False}, "device": "CPU"}
    other = {"git": {"commit": "fedcba9876543210", "dirty": True}, "device": "GPU"}
    continued = [{"step": 5, **mine}, {"step": 1200, **other}, {"step": 1300, **mine}]
    record = {"micro_batch_rows": {"train": 8, "eval": None}, "continued": continued}
    builders.write_result(experiment, pair, PAIR, **record)
    text = write_tables(experiment, read_outcomes(experiment))
    memory = "since memory was short, with the same updates"
    assert f"- Trained in micro-batches of 8 {memory}: {pair.name}.\n" in text
    mine, other = "ode 0123456789ab on CPU", "ode fedcba987654 with uncommitted changes on GPU"
    assert f"- C{mine} until step 5, then c{other}: {pair.name}.\n" in text
    assert f"- C{other} until step 1,200, then c{mine}: {pair.name}.\n" in text
    assert text.count(" until step ") == 2
