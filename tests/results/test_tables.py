from dataclasses import replace

import builders
import pytest
import yaml
from groups import outcome
from hypothesis import given, settings
from rendering import HOSTILE, rows_of
from wcwidth import wcswidth

from gluegrid.common import escaping
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.references import by_model_and_task, document
from gluegrid.results import result_text, tables
from gluegrid.results.official_data import SYNTHETIC
from gluegrid.results.selection import chosen
from gluegrid.results.summary import Group
from gluegrid.results.table_notes import TableNotes, seeds_lines, synthetic_note

REGISTRY = load_registry()


def group(task, *outcomes, model="bert"):
    """Return the cells of one GLUE task; without outcomes, one cell that was not run."""
    entry = REGISTRY[task]
    of_task = builders.task(
        name=task,
        labels=entry.get("labels"),
        metrics=entry["metrics"],
        validation=entry.get("validation", {"validation": ""}),
    )
    return Group(model, of_task, "base", entry["display_name"], entry["metric_label"], outcomes or [outcome(task)])


def from_percents(**values):
    """Return metrics as all_results.json has them, from metrics in percent."""
    return {f"eval_{name}": value if value is None else value / 100 for name, value in values.items()}


def cells(line):
    """Return the texts of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split(" |")]


COLA = group("cola", outcome("cola", results=from_percents(matthews_correlation=57.60) | {"train_runtime": 225.955}))
MRPC = group(
    "mrpc", outcome("mrpc", results=from_percents(accuracy=85.784, f1=89.999) | {"train_runtime": 97.6, "epoch": 5})
)
MNLI = group("mnli", outcome("mnli", results=from_percents(accuracy=84.63, accuracy_mm=84.54) | {"epoch": 1.5}))


def test_the_table_of_a_model_is_the_documents_to_the_letter():
    expected = """\
| Task   | Metric                     | Result      | Training time (s)   | epochs   |
|--------|----------------------------|-------------|---------------------|----------|
| CoLA   | Matthews corr              | 57.60       | 225.96              | 3        |
| MRPC   | Accuracy/F1                | 85.78/90.00 | 97.60               | 5        |
| MNLI   | Matched acc/Mismatched acc | 84.63/84.54 | 100.00              | 1.5      |"""
    assert tables.model_table([COLA, MRPC, MNLI]) == expected


def test_all_nine_tasks_are_named_as_in_the_document():
    names = [group(task).display_name for task in REGISTRY if task != "ax"]
    assert names == ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([outcome()], ["not run", "-", "-"]),
        ([outcome(reason="the disk is full")], ["failed", "-", "-"]),
        ([outcome(seed=1), outcome(seed=2, reason="killed")], ["failed", "-", "-"]),
    ],
)
def test_a_cell_without_a_result_says_why(outcomes, expected):
    assert cells(tables.model_table([group("cola", *outcomes)]).splitlines()[2])[2:] == expected


def seeds(*scores, missing=()):
    """Return one cell of CoLA for each score in percent, and the given cells that have none."""
    done = [
        outcome(seed=seed, results=from_percents(matthews_correlation=score) | {"train_runtime": 10.0 * (seed + 1)})
        for seed, score in enumerate(scores)
    ]
    return group("cola", *done, *missing)


def shown(*groups):
    """Return what stands in the column of results, and the notes below the table."""
    rows = tables.model_table(groups).splitlines()[2:]
    return [cells(row)[2].replace("\\", "") for row in rows], TableNotes(groups).lines()


def test_several_seeds_give_their_mean_and_their_number():
    assert shown(seeds(50, 60, 61)) == (["57.00 ± 6.08"], ["Notes:", "- Mean ± standard deviation over 3 seeds."])


def test_a_missing_seed_is_left_out_and_said():
    (result,), (title, *lines) = shown(seeds(50, 60, missing=[outcome(seed=9)]))
    assert (result, title) == ("55.00 ± 7.07*", "Notes (* marks the numbers that they qualify):")
    assert lines == ["- CoLA: 2 of 3 seeds", "- Mean ± standard deviation over 3 seeds."]


def test_seeds_that_failed_where_none_has_a_result_are_counted():
    failed = group("cola", outcome(seed=1), outcome(seed=2, reason="killed"))
    assert shown(failed) == (["failed"], ["Notes:", "- CoLA: 1 of 2 seeds failed"])


DEGENERATE = from_percents(matthews_correlation=0) | {"degenerate": True}


@pytest.mark.parametrize(
    ("others", "result", "notes"),
    [
        ([], "55.00 ± 7.07", []),
        ([outcome(seed=8, reason="killed")], "55.00 ± 7.07*", ["2 of 3 seeds, 1 failed"]),
        (
            [outcome(seed=8, reason="killed"), outcome(seed=9, results=DEGENERATE)],
            "36.67 ± 32.15*",
            ["3 of 4 seeds, 1 failed", "1 of 3 seeds degenerate; without it 55.00 ± 7.07"],
        ),
        (
            [outcome(seed=seed, results=DEGENERATE) for seed in (8, 9)],
            "27.50 ± 32.02*",
            ["2 of 4 seeds degenerate; without them 55.00 ± 7.07"],
        ),
        (
            [outcome(seed=9, results={"eval_matthews_correlation": None, "degenerate": True})],
            "undefined*",
            ["1 of 3 seeds degenerate; without it 55.00 ± 7.07"],
        ),
    ],
)
def test_failed_and_degenerate_seeds_are_counted_and_the_mean_shown_without(others, result, notes):
    results, lines = shown(seeds(50, 60, missing=others))
    assert results == [result]
    assert lines[1:-1] == [f"- CoLA: {note}" for note in notes]


def test_degenerate_seeds_alone_have_no_mean_without_them():
    assert shown(group("cola", outcome(results=DEGENERATE)))[1][1] == "- CoLA: degenerate"
    both = group("cola", *[outcome(seed=seed, results=DEGENERATE) for seed in (1, 2)])
    assert shown(both)[1][1] == "- CoLA: 2 of 2 seeds degenerate"


def test_a_number_without_degenerate_runs_is_of_the_kind_that_the_table_shows():
    results = [from_percents(accuracy=80, f1=90), from_percents(accuracy=40, f1=50) | {"degenerate": True}]
    mrpc = group("mrpc", *[outcome("mrpc", seed, result) for seed, result in enumerate(results)])
    assert "- MRPC: 1 of 2 seeds degenerate; without it 80.00/90.00" in TableNotes([mrpc]).lines()
    assert "- MRPC: 1 of 2 seeds degenerate; without it 85.00" in TableNotes([mrpc], of_scores=True).lines()


def test_one_seed_that_is_left_of_several_has_no_spread():
    assert shown(seeds(50, missing=[outcome(seed=9)]))[0] == ["50.00*"]


def test_each_metric_has_its_spread_and_an_undefined_one_none():
    results = [from_percents(accuracy=80, f1=90), from_percents(accuracy=84, f1=None)]
    mrpc = group("mrpc", *[outcome("mrpc", seed, result) for seed, result in enumerate(results)])
    assert result_text.result(mrpc) == "82.00/undefined ± 2.83/undefined"


def test_the_number_of_seeds_is_said_with_the_tasks_where_it_differs():
    assert seeds_lines([COLA, MRPC]) == ["1 seed, so the spread is not known."]
    assert seeds_lines([seeds(50, 60)]) == ["Mean ± standard deviation over 2 seeds."]
    several = group("mrpc", *[outcome("mrpc", seed, MRPC.outcomes[0].results) for seed in (1, 2)])
    assert seeds_lines([COLA, several]) == [
        "1 seed, so the spread is not known: CoLA.",
        "Mean ± standard deviation over 2 seeds: MRPC.",
    ]
    assert seeds_lines([group("cola")]) == []


def test_another_seed_would_not_change_what_is_only_evaluated():
    finished = group("cola", outcome(results=from_percents(matthews_correlation=50), run={"do_train": False}))
    assert seeds_lines([finished]) == []
    assert seeds_lines([COLA, finished]) == ["1 seed, so the spread is not known."]
    of_mnli = {"do_train": False, "init_from": {"task": "mnli", "variant": "base", "run_sha256": ""}}
    assert seeds_lines([group("cola", outcome(results=from_percents(matthews_correlation=50), run=of_mnli))])


def test_a_prediction_is_named_and_counts_in_no_mean():
    run = {"do_train": False, "init_from": {"task": "mnli", "variant": "base", "run_sha256": ""}}
    done = outcome("ax", results={"predict_samples": 6}, run=run)
    del done.results["epoch"], done.results["train_runtime"]
    row = cells(tables.model_table([group("ax", done)]).splitlines()[2])
    assert row[2:] == ["predicted\\*", "-", "-"]
    assert TableNotes([group("ax", done)]).lines()[1:] == ["- AX: from mnli", "- AX: not trained here"]
    assert cells(tables.models_by_tasks([COLA, group("ax", done)]).splitlines()[2]) == [
        *("bert", "57.60", "predicted\\*", "57.60"),
    ]
    assert cells(tables.models_by_tasks([group("ax", done)]).splitlines()[2]) == ["bert", "predicted\\*", "-"]


def points_of(*scores, task="cola", keys=("eval_matthews_correlation",)):
    """Return a group for each learning rate, with a seed for each score; None failed."""
    found = []
    for rate, of_rate in zip((2e-05, 3e-05, 5e-05), scores, strict=False):
        variant = "base" if rate == 2e-05 else f"learning_rate-{rate}"
        run = {"learning_rate": rate, "warmup_ratio": 0.1}
        outcomes = [
            outcome(task, seed, score and dict.fromkeys(keys, score / 100), "killed", run=run, variant=variant)
            for seed, score in enumerate(of_rate)
        ]
        found.append(replace(group(task, *outcomes), variant=variant))
    return found


def test_the_chosen_point_is_named_below_the_table():
    results, lines = shown(*chosen(points_of((50, 52), (60, 62), (55, 57))))
    assert results == ["61.00 ± 1.41*"]
    assert lines[1:3] == ["- CoLA: best of 3 points", "- CoLA: learning_rate 3e-05"]
    assert shown(*chosen(points_of((50, 52), (60, 62))))[1][1] == "- CoLA: best of 2 points"
    assert shown(*chosen(points_of((50, 52))))[0] == ["51.00 ± 1.41"]


def test_a_point_with_fewer_seeds_is_not_among_those_it_is_the_best_of():
    results, lines = shown(*chosen(points_of((50, 52), (60, None), (55, 57))))
    assert results == ["56.00 ± 1.41*"]
    assert lines[1:3] == ["- CoLA: best of 2 of 3 points", "- CoLA: learning_rate 5e-05"]


def test_a_sweep_without_a_score_names_no_point():
    assert shown(*chosen(points_of((None, None), (None, None)))) == (
        ["failed"],
        ["Notes:", "- CoLA: 2 of 2 seeds failed"],
    )


def test_median_and_best_have_tables_of_their_own():
    groups = [seeds(50, 60, 61, missing=[outcome(seed=9)]), MRPC]
    mrpc = f"{(85.784 + 89.999) / 2:.2f}"
    assert cells(tables.models_by_tasks(groups).splitlines()[2])[1:3] == ["57.00 ± 6.08\\*", mrpc]
    assert cells(tables.models_by_tasks(groups, "median").splitlines()[2])[1:3] == ["60.00\\*", mrpc]
    assert cells(tables.models_by_tasks(groups, "best").splitlines()[2]) == [
        *("bert", "61.00\\*", mrpc),
        f"{(61 + (85.784 + 89.999) / 2) / 2:.2f}\\*",
    ]
    assert TableNotes(groups, of_scores=True).lines()[1:] == ["- CoLA: 3 of 4 seeds"]


def test_the_best_seed_of_several_metrics_is_that_with_the_best_score():
    results = [from_percents(accuracy=80, f1=90), from_percents(accuracy=84, f1=80)]
    mrpc = group("mrpc", *[outcome("mrpc", seed, result) for seed, result in enumerate(results)])
    assert cells(tables.models_by_tasks([mrpc], "best").splitlines()[2])[1] == "85.00"


def test_the_mean_of_seeds_is_rounded_once():
    assert result_text.result(seeds(50.004, 50.004, 50.008)) == "50.01 ± 0.00"


def test_an_undefined_metric_is_named_and_kept_out_of_the_mean():
    stsb = group("stsb", outcome("stsb", results=from_percents(pearson=None, spearmanr=None)))
    assert result_text.result(stsb) == "undefined/undefined"
    assert cells(tables.models_by_tasks([COLA, stsb]).splitlines()[2]) == [
        "bert",
        "57.60",
        "undefined",
        "57.60\\*",
    ]
    assert TableNotes([COLA, stsb], of_scores=True).lines()[1:] == ["- Mean of bert: over 1 of 2 tasks"]


def test_one_undefined_seed_makes_the_mean_undefined():
    assert result_text.result(seeds(50, None)) == "undefined"


def test_models_by_tasks_averages_metrics_then_tasks():
    mnli = group("mnli", outcome("mnli", results=from_percents(accuracy=84, accuracy_mm=85)))
    lines = tables.models_by_tasks([COLA, MRPC, mnli]).splitlines()
    assert cells(lines[0]) == ["Model", "CoLA", "MRPC", "MNLI", "Mean"]
    mrpc = (85.784 + 89.999) / 2
    assert cells(lines[2]) == ["bert", "57.60", f"{mrpc:.2f}", "84.50", f"{(57.6 + mrpc + 84.5) / 3:.2f}"]


def test_models_by_tasks_says_how_many_tasks_a_mean_lacks():
    groups = [COLA, group("mrpc", outcome("mrpc", reason="killed")), group("mnli")]
    other = [group(of_task.task.name, model="roberta") for of_task in groups]
    lines = tables.models_by_tasks(groups + other).splitlines()
    assert cells(lines[2]) == ["bert", "57.60", "failed", "not run", "57.60\\*"]
    assert cells(lines[3]) == ["roberta", "not run", "not run", "not run", "-"]
    assert TableNotes(groups + other, of_scores=True).lines()[1:] == ["- Mean of bert: over 1 of 3 tasks"]


def test_reasons_stay_in_their_column_and_on_their_line():
    reason = "no column 'text'\nit has: a | b\r\n\tc"
    lines = tables.failures([outcome(reason=reason)]).splitlines()
    assert len(lines) == 3
    assert cells(lines[2]) == ["bert/cola/base/seed-42", "no column 'text' it has: a \\| b c", "`logs/cola.log`"]


def test_a_long_reason_is_cut():
    reason = cells(tables.failures([outcome(reason="x" * 1000)]).splitlines()[2])[1]
    assert reason == "x" * (tables.LONGEST_REASON - 3) + "..."


SUBSET = "train 41,294 of 392,702"
FEW = "train 1,000 of 392,702, validation_matched 200 of 9,815, validation_mismatched 200 of 9,832"


def mnli(*data, model="bert"):
    """Return MNLI's cells, one for each text about its data."""
    results = from_percents(accuracy=78.83, accuracy_mm=81.36)
    outcomes = [outcome("mnli", seed, results, model=model, data=text) for seed, text in enumerate(data)]
    return group("mnli", *outcomes, model=model)


def test_a_number_from_other_data_is_marked_and_a_note_says_how_they_differ():
    expected = """\
| Task   | Metric                     | Result        | Training time (s)   | epochs   |
|--------|----------------------------|---------------|---------------------|----------|
| CoLA   | Matthews corr              | 57.60         | 225.96              | 3        |
| MNLI   | Matched acc/Mismatched acc | 78.83/81.36\\* | 100.00              | 3        |"""
    assert tables.model_table([COLA, mnli(SUBSET)]) == expected
    assert tables.notes_below([COLA, mnli(SUBSET)]) == (
        "Notes (\\* marks the numbers that they qualify):\n\n"
        "- MNLI: train 41,294 of 392,702\n- 1 seed, so the spread is not known.\n"
    )


def test_a_number_beside_the_documents_is_marked_too():
    document = {"mnli": {"accuracy": 84.63, "accuracy_mm": 84.54}}
    row = cells(tables.beside_reference([mnli(SUBSET)], document, "the document").splitlines()[2])
    assert row[2:4] == ["78.83/81.36\\*", "84.63/84.54"]


def test_seeds_of_different_data_are_told_apart():
    assert shown(mnli(SUBSET, "", SUBSET))[1][1] == "- MNLI: train 41,294 of 392,702 in 2 of 3 runs"


@pytest.mark.parametrize(
    ("run", "named"),
    [
        ({"train_sampling_strategy": "group_by_length"}, ["group_by_length"]),
        ({"lora": {"r": 8}, "gpus": 2}, ["lora"]),
        ({"lora": {"r": 8}, "train_sampling_strategy": "group_by_length"}, ["group_by_length", "lora"]),
        ({"gpus": 2, "precision": "bf16"}, []),
    ],
)
def test_options_that_make_another_number_are_notes(run, named):
    results, lines = shown(group("cola", outcome(results=from_percents(matthews_correlation=57.60), run=run)))
    assert results == ["57.60" + ("*" if named else "")]
    assert lines[1:-1] == [f"- CoLA: {name}" for name in named]


LORA = {"lora": {"r": 8}}


def with_adapters(task, model="bert", data="", run=LORA):
    """Return the group of a task that was trained with adapters."""
    results = dict.fromkeys(group(task).task.metric_keys(), 0.5)
    return group(task, outcome(task, results=results, run=run, model=model, data=data), model=model)


def test_a_note_names_all_that_it_is_about_once():
    three = [with_adapters("cola"), with_adapters("mrpc"), with_adapters("rte", run={})]
    assert shown(*three)[0] == ["50.00*", "50.00/50.00*", "50.00"]
    assert TableNotes(three).lines()[1] == "- CoLA, MRPC: lora"


def test_what_is_true_of_all_numbers_marks_none():
    both = [with_adapters("cola"), with_adapters("mrpc", data=SUBSET)]
    assert shown(*both)[0] == ["50.00", "50.00/50.00*"]
    assert TableNotes(both).lines()[1:3] == ["- All numbers: lora", f"- MRPC: {SUBSET}"]
    assert shown(both[0])[0] == ["50.00*"]


def test_models_by_tasks_names_models_where_a_note_is_not_about_all_of_a_task():
    adapted = {"bert": ("cola", "mrpc", "rte"), "roberta": ("cola",), "electra": ("cola", "mrpc")}
    every = [
        with_adapters(task, model, run=LORA if task in tasks else {})
        for model, tasks in adapted.items()
        for task in ("cola", "mrpc", "rte")
    ]
    assert TableNotes(every, of_scores=True).lines()[1:] == ["- all of bert, CoLA, MRPC (electra): lora"]


def synthetic(task, model="bert"):
    return with_adapters(task, model, SYNTHETIC, run={})


def test_synthetic_data_are_said_once_and_mark_nothing():
    both = [synthetic("cola"), synthetic("mrpc")]
    assert shown(*both) == (
        ["50.00", "50.00/50.00"],
        ["Notes:", "- All numbers: synthetic data", "- 1 seed, so the spread is not known."],
    )
    assert tables.notes_below(both, of_scores=True, said=result_text.SYNTHETIC_DATA) == ""
    assert tables.data_notes(both) == []
    assert synthetic_note(both).startswith("The data are synthetic, ")
    assert "*" not in tables.score_or_state(both[0])
    mixed = [COLA, *both[1:]]
    assert shown(*mixed)[0] == ["57.60", "50.00/50.00*"]
    assert synthetic_note(mixed) == "Synthetic data: MRPC."
    assert synthetic_note([COLA]) == ""


def test_models_by_tasks_marks_numbers_from_other_data_and_means_of_them():
    official = group("cola", *COLA.outcomes, model="roberta")
    failed = group("mnli", outcome("mnli", reason="killed", model="roberta"), model="roberta")
    lines = tables.models_by_tasks([COLA, mnli(SUBSET), official, failed]).splitlines()
    assert cells(lines[2]) == ["bert", "57.60", "80.09\\*", "68.85\\*"]
    assert cells(lines[3]) == ["roberta", "57.60", "failed", "57.60\\*"]


def test_models_by_tasks_has_no_escapes_in_the_terminal():
    assert "| 80.09* |" in tables.models_by_tasks([COLA, mnli(SUBSET)], table=tables.plain)


def test_marks_are_explained_task_by_task_and_where_models_differ_by_model():
    others = [mnli("", model="roberta"), mnli(FEW, model="electra"), mnli(FEW, model="deberta")]
    assert tables.data_notes([COLA, mnli(SUBSET)]) == ["- on MNLI: train 41,294 of 392,702"]
    assert tables.data_notes([COLA, mnli(SUBSET), *others]) == [
        "- on MNLI (bert): train 41,294 of 392,702",
        f"- on MNLI (electra, deberta): {FEW}",
    ]
    assert tables.data_notes([COLA, group("mnli")]) == []


def test_a_long_name_does_not_make_the_table_wide():
    named = Group("bert", COLA.task, "base", "N" * 300, "M" * 300, COLA.outcomes)
    for text in (tables.model_table([named]), tables.models_by_tasks([named])):
        assert f"| {'N' * 57}... " in text
        assert max(map(len, text.splitlines())) < 190


def test_tasks_of_the_same_name_keep_their_columns():
    same = [Group("bert", of_task.task, "base", "Same", "m", of_task.outcomes) for of_task in (COLA, MRPC)]
    lines = tables.models_by_tasks(same).splitlines()
    assert cells(lines[0]) == ["Model", "Same", "Same", "Mean"]
    assert cells(lines[2]) == ["bert", "57.60", "87.89", "72.75"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(HOSTILE, HOSTILE)
def test_no_name_and_no_reason_becomes_more_than_a_text_in_its_cell(one, other):
    named = [
        Group("bert", COLA.task, "base", one, other, COLA.outcomes),
        Group("bert", MRPC.task, "base", other, one, MRPC.outcomes),
    ]
    first, second = (escaping.one_line(escaping.shortened(text, result_text.LONGEST_NAME)) for text in (one, other))
    expected = [[first, second, "57.60", "225.96", "3"], [second, first, "85.78/90.00", "97.60", "5"]]
    assert rows_of(tables.model_table(named)) == [list(tables.COLUMNS), *expected]
    assert rows_of(tables.models_by_tasks(named))[0] == ["Model", first, second, "Mean"]
    assert [row[:2] for row in rows_of(tables.beside_reference(named, {}, "the document"))[1:]] == [
        [first, second],
        [second, first],
    ]
    cell, log = "bert/cola/base/seed-42", "`logs/cola.log`"
    failed = [outcome(reason=f"{one} "), outcome(reason=f"{other} ")]
    assert rows_of(tables.failures(failed))[1:] == [
        [cell, escaping.one_line(escaping.encodable(text)), log] for text in (one, other)
    ]


def test_results_stand_beside_the_documents():
    document = {"cola": {"matthews_correlation": 57.6, "train_runtime": 17.83, "epoch": 5}}
    lines = tables.beside_reference([COLA, MRPC], document, "the document").splitlines()
    assert cells(lines[0])[2:4] == ["Result", "Result of the document"]
    assert cells(lines[2]) == ["CoLA", "Matthews corr", "57.60", "57.60", "225.96", "17.83", "3", "5"]
    assert cells(lines[3]) == ["MRPC", "Accuracy/F1", "85.78/90.00", "-", "97.60", "-", "5", "-"]


def test_the_documents_own_numbers_come_out_as_it_printed_them():
    documented = by_model_and_task(document())["google-bert/bert-base-uncased"]
    results = {
        task: from_percents(**{key: value for key, value in values.items() if key not in ("train_runtime", "epoch")})
        | {"train_runtime": values["train_runtime"], "epoch": values["epoch"]}
        for task, values in documented.items()
    }
    groups = [group(task, outcome(task, results=results[task])) for task in documented]
    for line in tables.beside_reference(groups, documented, "the document").splitlines()[2:]:
        _, _, ours, theirs, our_time, their_time, our_epochs, their_epochs = cells(line)
        assert (ours, our_time, our_epochs) == (theirs, their_time, their_epochs)
    assert "| 85.78/90.00 | 97.68 " in tables.model_table(groups).replace("            |", " |")


def test_the_reference_is_the_document_value_for_value(shared):
    ours = by_model_and_task(document())
    theirs = yaml.safe_load((shared / "reference" / "seed_results.yaml").read_text(encoding="utf-8"))
    renamed = {
        f"google-bert/{model}": {task: {**row, "epoch": row["epochs"]} for task, row in tasks.items()}
        for model, tasks in theirs.items()
    }
    for tasks in renamed.values():
        for row in tasks.values():
            del row["epochs"]
    assert ours == renamed


@pytest.mark.parametrize("table", [tables.markdown, lambda headers, rows: tables.aligned([headers, *rows])])
def test_columns_stay_aligned_beside_wide_letters(table):
    lines = table(["Task", "Score"], [["情感分析", "91.00"], ["CoLA", "64.06"], ["e\u0301tude", "12.34"]]).splitlines()
    assert len({wcswidth(line) for line in lines}) == 1
    assert tables.width_of("\n".join(lines)) == wcswidth(lines[0])
