import glue_cells
import pytest
from glue_cells import TASKS, TRAINED, write_cell

from gluegrid.common.errors import ConfigError, RecordError
from gluegrid.results.glue_choice import FILES, cells_to_choose_from, choices


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_predictions(monkeypatch):
    """Predictions play no part in the choice, and those of QQP take time to write."""
    monkeypatch.setattr(glue_cells, "WANTED", ())


def tasks_with(**entries):
    return {task: entries.get(task) for task in TASKS}


def problems_of(experiment):
    with pytest.raises(ConfigError) as error:
        cells_to_choose_from(experiment, "tiny")
    start = "no submission to GLUE for tiny of small: tasks: "
    assert all(line.startswith(start) for line in error.value.problems)
    return [line.removeprefix(start) for line in error.value.problems]


def write_all(experiment, scores=None):
    """Write all cells; `scores` by cell's name, 0.5 where it says nothing."""
    for cell in experiment.cells.values():
        write_cell(experiment, cell, (scores or {}).get(cell.name, 0.5))


def chosen(experiment):
    return {task: (choice.outcome.cell.name, choice.how) for task, choice in choices(experiment, "tiny").items()}


def test_every_cell_of_the_model_on_glues_tasks_is_asked_for(folder):
    experiment = glue_cells.experiment(folder)
    cells = cells_to_choose_from(experiment, "tiny")
    assert [cell.name for cell in cells] == [f"tiny/{task}/base/seed-{seed}" for task in TASKS for seed in (1, 2)]


def test_other_tasks_and_models_play_no_part(folder):
    own = {"source": "./pair", "text_columns": ["sentence"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
    models = {"tiny": {"source": "./model"}, "other": {"source": "./model"}}
    experiment = glue_cells.experiment(folder, tasks=tasks_with() | {"own": own}, models=models)
    cells = cells_to_choose_from(experiment, "tiny")
    assert {cell.model for cell in cells} == {"tiny"}
    assert {cell.task for cell in cells} == {*TASKS}


def test_missing_tasks_are_named_with_what_to_add(folder):
    present = {task: None for task in TASKS if task not in ("ax", "wnli")}
    assert problems_of(glue_cells.experiment(folder, tasks=present)) == [
        "lacks wnli, ax; add `wnli:`, `ax:` under tasks"
    ]


def test_a_task_whose_test_split_is_left_out_is_named(folder):
    changed = tasks_with(qqp={"test": []}, mnli={"test": ["test_matched"]})
    assert problems_of(glue_cells.experiment(folder, tasks=changed)) == [
        "qqp: test: lacks test, which becomes QQP.tsv; add it",
        "mnli: test: lacks test_mismatched, which becomes MNLI-mm.tsv; add it",
    ]


def test_labels_that_glue_has_no_name_for_are_named(folder):
    changed = tasks_with(rte={"labels": ["yes", "no"]}, stsb={"labels": ["low", "high"], "metrics": ["accuracy"]})
    assert problems_of(glue_cells.experiment(folder, tasks=changed)) == [
        "stsb: labels: ['low', 'high'] cannot become STS-B.tsv; leave them out",
        "rte: labels: ['yes', 'no'] cannot become RTE.tsv; name them ['entailment', 'not_entailment']",
    ]


def test_labels_in_another_order_are_all_right(folder):
    changed = tasks_with(rte={"labels": ["not_entailment", "entailment"]})
    assert cells_to_choose_from(glue_cells.experiment(folder, tasks=changed), "tiny")


def test_every_model_of_mnli_must_predict_ax(folder):
    experiment = glue_cells.experiment(folder, tasks=tasks_with(ax={"seeds": [2]}))
    assert problems_of(experiment) == [
        "ax: is not predicted by the model of tiny/mnli/base/seed-1, which may be the best;"
        " give ax `init_from: mnli` and the seeds of mnli"
    ]


def test_ax_is_of_the_variant_of_mnli_that_was_chosen(folder):
    experiment = glue_cells.experiment(folder, tasks=tasks_with(mnli={"learning_rate": [2e-5, 3e-5]}))
    write_all(experiment, {f"tiny/mnli/learning_rate-3e-05/seed-{seed}": 0.5 + seed / 10 for seed in (1, 2)})
    made = chosen(experiment)
    assert made["mnli"][0] == "tiny/mnli/learning_rate-3e-05/seed-2"
    assert made["ax"] == ("tiny/ax/learning_rate-3e-05/seed-2", f"predicted by the model of {made['mnli'][0]}")


def test_ax_and_mnli_may_both_be_of_a_checkpoint_that_is_finished(folder):
    finished = tasks_with(mnli={"do_train": False}, ax={"init_from": None})
    experiment = glue_cells.experiment(folder, tasks=finished)
    write_all(experiment)
    made = chosen(experiment)
    assert made["mnli"] == ("tiny/mnli/base/seed-1", "the only seed")
    assert made["ax"] == ("tiny/ax/base/seed-1", "predicted by the model of tiny/mnli/base/seed-1")


def test_ax_of_the_checkpoint_is_not_by_a_model_of_mnli_that_was_trained(folder):
    experiment = glue_cells.experiment(folder, tasks=tasks_with(ax={"init_from": None}), seeds=[1])
    assert problems_of(experiment)[0].startswith("ax: is not predicted by the model of tiny/mnli/base/seed-1, ")


def test_each_task_has_the_seed_that_is_best_on_validation(folder):
    experiment = glue_cells.experiment(folder, seeds=[1, 2, 3])
    best = {"cola": 2, "sst2": 1, "mrpc": 3, "mnli": 3, "rte": 2}
    write_all(experiment, {f"tiny/{task}/base/seed-{seed}": 0.6 for task, seed in best.items()})
    made = chosen(experiment)
    # Of equals the first.
    assert {task: name for task, (name, _) in made.items()} == {
        task: f"tiny/{task}/base/seed-{3 if task == 'ax' else best.get(task, 1)}" for task in TASKS
    }
    assert {how for task, (_, how) in made.items() if task != "ax"} == {"best of 3 seeds on validation"}
    assert made["ax"] == ("tiny/ax/base/seed-3", "predicted by the model of tiny/mnli/base/seed-3")


def test_one_seed_is_no_choice(folder):
    experiment = glue_cells.experiment(folder, seeds=[7])
    write_all(experiment)
    assert {how for task, (_, how) in chosen(experiment).items() if task in TRAINED} == {"the only seed"}


def test_an_undefined_score_is_worse_than_the_worst(folder):
    experiment = glue_cells.experiment(folder)
    write_all(experiment, {"tiny/stsb/base/seed-1": None, "tiny/stsb/base/seed-2": -1.0})
    assert chosen(experiment)["stsb"][0] == "tiny/stsb/base/seed-2"


def test_mnli_counts_with_both_of_its_validation_splits(folder):
    experiment = glue_cells.experiment(folder)
    write_all(experiment)
    for seed, matched, mismatched in ((1, 0.9, 0.1), (2, 0.6, 0.6)):
        cell = experiment.cell("tiny", "mnli", "base", str(seed))
        write_cell(experiment, cell, results={"eval_accuracy": matched, "eval_accuracy_mm": mismatched})
    assert chosen(experiment)["mnli"][0] == "tiny/mnli/base/seed-2"


def test_of_variants_the_best_on_average_is_taken_and_of_its_seeds_the_best(folder):
    experiment = glue_cells.experiment(folder, tasks=tasks_with(rte={"learning_rate": [2e-5, 3e-5]}))
    scores = {"base": {1: 0.1, 2: 0.9}, "learning_rate-3e-05": {1: 0.6, 2: 0.7}}
    write_all(
        experiment,
        {f"tiny/rte/{variant}/seed-{seed}": score for variant, of in scores.items() for seed, score in of.items()},
    )
    assert chosen(experiment)["rte"] == (
        "tiny/rte/learning_rate-3e-05/seed-2",
        "best of 2 seeds of the best of 2 variants on validation",
    )


def test_with_a_holdout_its_scores_choose(folder):
    experiment = glue_cells.experiment(folder, tasks=tasks_with(rte={"selection": "holdout"}))
    write_all(experiment)
    for seed, validation, holdout in ((1, 0.9, 0.1), (2, 0.1, 0.9)):
        cell = experiment.cell("tiny", "rte", "base", str(seed))
        write_cell(experiment, cell, results={"eval_accuracy": validation, "eval_accuracy_holdout": holdout})
    assert chosen(experiment)["rte"] == ("tiny/rte/base/seed-2", "best of 2 seeds on the holdout")


def test_cells_without_a_result_are_named_with_their_reason(folder):
    experiment = glue_cells.experiment(folder)
    write_all(experiment)
    (folder / "results/small/runs/tiny/qqp/base/seed-2/all_results.json").unlink()
    (folder / "results/small/runs/tiny/ax/base/seed-1/run_record.json").unlink()
    with pytest.raises(RecordError) as error:
        choices(experiment, "tiny")
    first, *lines = str(error.value).splitlines()
    assert first == "tiny: cells that a submission to GLUE needs have no result; run snakemake again"
    assert lines[0] == ("tiny/qqp/base/seed-2: not run yet; log: results/small/logs/train/tiny/qqp/base/seed-2.log")
    assert lines[1].startswith("tiny/ax/base/seed-1: ")
    assert len(lines) == 2
    assert {file.task for file in FILES} == {*TASKS}
