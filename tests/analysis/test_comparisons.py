import json
from pathlib import Path

import builders
import numpy
import pytest
from clones import PROJECT, Clone, job_counts
from groups import outcome
from hypothesis import given, settings
from rendering import HOSTILE, rows_of, texts_of
from saved_predictions import flipped, save_result, write_predictions

from gluegrid.analysis import comparison_report
from gluegrid.analysis.bootstrap import Difference
from gluegrid.analysis.comparison_report import comparisons_json, comparisons_markdown, write_comparisons
from gluegrid.analysis.comparisons import Comparison, LeftOut, compare
from gluegrid.common.errors import GluegridError
from gluegrid.experiment.experiment import Experiment
from gluegrid.results.outcomes import read_outcomes, validation_predictions

RATES = {"good": 0.05, "same": 0.05, "bad": 0.25}
LABELS = numpy.arange(300) % 7 % 2
NUMBERS = (numpy.arange(300) * 7 % 26 / 5).astype(numpy.float32)


@pytest.fixture
def experiment(tmp_path, monkeypatch) -> Experiment:
    """Three models, two of them equally good, with three seeds on a task of classes and one of numbers."""
    monkeypatch.chdir(tmp_path)
    return experiment_with_models(tmp_path)


def experiment_with_models(folder: Path, names=tuple(RATES), **values) -> Experiment:
    models = {name: {"source": f"./{name}"} for name in names}
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        for file in ("config.json", "model.safetensors", "vocab.txt"):
            (folder / name / file).write_text("{}", encoding="utf-8")
    for task in ("pair", "number"):  # snakemake looks at data that are not staged
        for split in ("validation", "test"):
            builders.write_split(folder / task, split, {"sentence": ["a"], "label": [1]})
    return builders.experiment(folder, models=models, **({"seeds": [1, 2, 3]} | values))


def save(experiment: Experiment, cell, rate: float) -> None:
    """Save a result with so many wrong answers, or such errors."""
    generator = numpy.random.default_rng([*cell.name.encode()])
    if cell.task == "number":
        save_result(experiment, cell, NUMBERS, NUMBERS + generator.normal(scale=rate * 5, size=len(NUMBERS)))
    else:
        save_result(experiment, cell, LABELS, flipped(LABELS, rate, generator))


def save_all(experiment: Experiment, *without: tuple) -> None:
    for key, cell in experiment.cells.items():
        if key not in without:
            save(experiment, cell, RATES[cell.model])


def compared(experiment: Experiment):
    return compare(experiment, read_outcomes(experiment), 1000)


def reasons(comparisons) -> dict:
    return {(each.task, *each.models): each.reason for each in comparisons.left_out}


def test_every_two_models_are_compared_on_every_task_and_their_mean(experiment):
    save_all(experiment)
    found = compared(experiment)
    pairs = [("good", "same"), ("good", "bad"), ("same", "bad")]
    assert [(each.tasks, each.first, each.second) for each in found.of_tasks] == [
        ([task], *pair) for task in ("pair", "number") for pair in pairs
    ]
    assert [(each.tasks, each.first, each.second) for each in found.of_means] == [
        (["pair", "number"], *pair) for pair in pairs
    ]
    assert [each.difference.sign for each in found.of_tasks] == [0, 1, 1] * 2
    assert [each.difference.sign for each in found.of_means] == [0, 1, 1]
    assert found.left_out == []
    assert found.resamples == 1000


def test_intervals_of_differences_end_where_the_metrics_do(experiment):
    for cell in experiment.cells.values():
        right = cell.seed == 1 or cell.model != "bad"  # one of its seeds is right, two are all wrong
        if cell.task == "pair":
            save_result(experiment, cell, LABELS, LABELS if right else 1 - LABELS)
        else:
            save_result(experiment, cell, NUMBERS, NUMBERS if right else -NUMBERS)
    found = compared(experiment)
    ends = {
        (each.tasks[0], each.second): (each.difference.low, each.difference.high)
        for each in [*found.of_tasks, *found.of_means]
        if each.first == "good" and each.second == "bad" and len(each.tasks) == 1
    }
    assert ends["pair", "bad"][1] == 1.0  # of accuracy, from 0 to 1
    assert ends["number", "bad"][1] == 2.0  # of correlations, from -1 to 1


def test_scores_are_those_of_the_tables(experiment):
    save_all(experiment)
    found = compared(experiment)
    scores = {
        (group.task.name, group.model): pytest.approx(group.score(), abs=1e-12)
        for of_task in found.by_task
        for group in of_task
    }
    for each in found.of_tasks:
        assert each.scores == (scores[each.tasks[0], each.first], scores[each.tasks[0], each.second])
        assert each.difference.value == pytest.approx(each.scores[0] - each.scores[1])
    of_pairs = {(each.first, each.second, *each.tasks): each for each in found.of_tasks}
    for each in found.of_means:
        parts = [of_pairs[each.first, each.second, task].difference.value for task in each.tasks]
        assert each.difference.value == pytest.approx(numpy.mean(parts))
        assert each.difference.low < each.difference.value < each.difference.high


def test_comparisons_across_precisions_are_said(experiment):
    save_all(experiment)
    text = comparisons_markdown(experiment, compared(experiment))
    assert "- Precision: fp32.\n" in text
    assert "different precisions" not in text
    for cell in experiment.cells.values():
        if cell.model == "good" and cell.task == "pair":
            path = Path(experiment.paths.run_record.format(**cell.wildcards))
            path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "bf16"}))
    found = compared(experiment)
    text = comparisons_markdown(experiment, found)
    names = ", ".join(f"good/pair/base/seed-{seed}" for seed in (1, 2, 3))
    assert f"- Precisions differ: bf16 in {names}; fp32 in all others.\n" in text
    assert "- These comparisons are across precisions: on Pair good in bf16, same in fp32, bad in fp32.\n" in text
    inputs = json.loads(comparisons_json(experiment, found))["inputs"]
    assert {(each["model"], each["task"], each["precision"]) for each in inputs if each["model"] != "same"} == {
        *(("good", "pair", "bf16"), ("good", "number", "fp32"), ("bad", "pair", "fp32"), ("bad", "number", "fp32"))
    }


def test_the_same_files_give_the_same_bits_and_another_model_changes_none(experiment, tmp_path):
    save_all(experiment)
    found = compared(experiment)
    assert comparisons_json(experiment, compared(experiment)) == comparisons_json(experiment, found)
    of_two = experiment_with_models(tmp_path, names=("bad", "good"))
    # The other way round, too.
    other = compared(of_two).of_tasks[0].difference
    one = found.of_tasks[1].difference
    assert (one.value, one.low, one.high) == (-other.value, -other.high, -other.low)


def test_many_comparisons_are_adjusted_for_their_number_and_have_enough_resamples(experiment):
    save_all(experiment)
    found = compare(experiment, read_outcomes(experiment), 10)
    assert found.resamples == 600
    for each in found.of_tasks:
        assert each.adjusted >= each.difference.p_value
    best = min(found.of_tasks, key=lambda each: each.difference.p_value)
    assert best.adjusted == pytest.approx(6 * best.difference.p_value)
    assert best.adjusted <= 0.05
    of_means = sorted((each.difference.p_value, each.adjusted) for each in found.of_means)
    assert of_means[0][1] == pytest.approx(3 * of_means[0][0])


def test_what_has_no_result_is_left_out_and_said(experiment):
    save_all(
        experiment,
        *(("bad", "pair", "base", seed) for seed in "123"),
        *(("same", "number", "base", seed) for seed in "23"),
    )
    found = compared(experiment)
    assert reasons(found) == {("pair", "bad"): "not run"}
    assert [(each.tasks, each.first, each.second) for each in found.of_tasks][:2] == [
        (["pair"], "good", "same"),
        (["number"], "good", "same"),
    ]
    one_seed = {(each.first, each.second): each.is_of_one_seed for each in found.of_tasks if each.tasks == ["number"]}
    assert one_seed == {("good", "same"): True, ("good", "bad"): False, ("same", "bad"): True}
    # The mean is of tasks that both have.
    assert [(each.first, each.second) for each in found.of_means] == [("good", "same")]
    assert found.of_means[0].is_of_one_seed
    markdown = comparisons_markdown(experiment, found)
    assert "| 1 of 3 " in markdown
    assert "†" in markdown
    assert "- † rests on one seed" in markdown
    inputs = json.loads(comparisons_json(experiment, found))["inputs"]
    missing = [(each["model"], each["task"], each["seed"]) for each in inputs if each["reason"] == "not run yet"]
    assert missing == [("same", "number", seed) for seed in "23"] + [("bad", "pair", seed) for seed in "123"]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_models_with_results_are_an_error(experiment, count):
    for key in list(experiment.cells)[:count]:
        save(experiment, experiment.cells[key], 0.1)
    with pytest.raises(
        GluegridError,
        match=rf"^small: a comparison needs two models with results, and {count} of 3 have any. Run snakemake first.$",
    ):
        compared(experiment)


@pytest.mark.parametrize(
    ("labels", "idx", "reason"),
    [
        (LABELS[:200], numpy.arange(200), "300 and 200 examples in validation"),
        (LABELS, numpy.arange(300)[::-1], "different examples or labels in validation"),
        (1 - LABELS, numpy.arange(300), "different examples or labels in validation"),
    ],
)
def test_models_scored_on_other_examples_are_not_compared(experiment, labels, idx, reason):
    save_all(experiment)
    for seed in "123":
        save_result(experiment, experiment.cell("same", "pair", "base", seed), labels, labels, idx)
    found = compared(experiment)
    turned = "200 and 300 examples in validation" if len(labels) == 200 else reason
    assert reasons(found) == {("pair", "good", "same"): reason, ("pair", "same", "bad"): turned}
    assert [(each.first, each.second) for each in found.of_tasks if each.tasks == ["pair"]] == [("good", "bad")]


def test_seeds_scored_on_other_examples_are_not_averaged(experiment):
    save_all(experiment)
    save_result(experiment, experiment.cell("same", "pair", "base", "2"), LABELS[:200], LABELS[:200])
    expected = {("pair", "same"): "seeds 1 and 2 have different examples or labels in validation"}
    assert reasons(compared(experiment)) == expected


def test_predictions_that_are_not_those_of_the_record_are_not_used(experiment):
    save_all(experiment)
    path = validation_predictions(experiment, experiment.cell("bad", "pair", "base", "1"))["validation"]
    write_predictions(path, LABELS, numpy.eye(2)[LABELS], numpy.arange(300))  # all right
    found = compared(experiment)
    assert reasons(found) == {
        ("pair", "bad"): f"{path}: its SHA-256 is not the one in run_record.json; run `make verify`"
    }
    path.unlink()
    assert reasons(compared(experiment)) == {("pair", "bad"): f"{path}: cannot be read: No such file or directory"}


def test_results_that_do_not_follow_from_predictions_are_not_compared(experiment):
    save_all(experiment)
    cell = experiment.cell("bad", "pair", "base", "2")
    path = Path(experiment.paths.all_results.format(**cell.wildcards))
    results = json.loads(path.read_text()) | {"eval_accuracy": 0.99}
    path.write_text(json.dumps(results))
    score = (0.99 + results["eval_f1"]) / 2
    reason = reasons(compared(experiment))["pair", "bad"]
    assert reason.startswith(f"seed 2: its score is {score}, but its predictions give 0.")


def test_degenerate_runs_count_and_are_counted(experiment):
    save_all(experiment)
    save_result(experiment, experiment.cell("same", "pair", "base", "2"), LABELS, numpy.zeros_like(LABELS))
    found = compared(experiment)
    markdown = comparisons_markdown(experiment, found)
    assert "3 of 3, 1 degenerate" in markdown
    assert "- Degenerate runs are included." in markdown
    one = next(each for each in found.of_tasks if (each.first, each.second) == ("good", "same"))
    assert one.difference.value > 0.15


def test_a_model_with_an_undefined_score_is_left_out(experiment):
    save_all(experiment)
    save_result(experiment, experiment.cell("same", "number", "base", "2"), NUMBERS, numpy.ones_like(NUMBERS))
    assert reasons(compared(experiment)) == {("number", "same"): "its score is undefined for a seed"}
    nearly_constant = numpy.ones_like(NUMBERS)
    nearly_constant[3] = 2
    save_result(experiment, experiment.cell("same", "number", "base", "2"), NUMBERS, nearly_constant)
    reason = reasons(compared(experiment))["number", "same"]
    assert reason.startswith("its score is undefined in ")
    assert reason.endswith(" of 1,000 resamples")


def test_the_chosen_variant_stands_for_a_model_and_how_it_was_chosen_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = experiment_with_models(
        tmp_path, names=("good", "bad"), cells={"good": {"pair": {"learning_rate": [1e-5, 3e-5]}}}
    )
    for key, cell in experiment.cells.items():
        save(experiment, cell, 0.3 if key[:3] == ("good", "pair", "base") else RATES[cell.model])
    found = compared(experiment)
    assert [each.difference.sign for each in found.of_tasks] == [1, 1]
    markdown = comparisons_markdown(experiment, found)
    assert "learning_rate-3e-05" in markdown
    assert "favors models with more points: good on Pair (of 2)." in markdown
    assert {each["variant"] for each in json.loads(comparisons_json(experiment, found))["inputs"]} == {
        "base",
        "learning_rate-3e-05",
    }


def test_a_task_without_a_validation_split_is_none_to_compare_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = experiment_with_models(tmp_path, names=("good", "bad"))
    experiment.tasks["number"]["validation"] = {}
    for cell in experiment.cells.values():
        if cell.task == "pair":
            save(experiment, cell, RATES[cell.model])
    found = compared(experiment)
    assert [each.tasks for each in found.of_tasks] == [["pair"]]
    assert (found.of_means, found.left_out) == ([], [])


def test_json_has_all_that_it_was_made_from_and_says_who_is_better(experiment):
    save_all(experiment)
    found = compared(experiment)
    content = json.loads(comparisons_json(experiment, found))
    assert len(content["inputs"]) == 18
    for each in content["inputs"]:
        cell = experiment.cell(*(each[key] for key in ("model", "task", "variant", "seed")))
        record = json.loads(Path(experiment.paths.run_record.format(**cell.wildcards)).read_text())
        assert each["predictions_sha256"] == record["predictions_sha256"]
        assert each["run_sha256"] == record["run_sha256"]
    assert content["method"]["resamples"] == 1000
    assert [each["better"] for each in content["tasks"]] == [None, "good", "same"] * 2
    assert content["tasks"][1]["difference"]["low"] == found.of_tasks[1].difference.low


def test_both_files_are_written(experiment):
    save_all(experiment)
    text = write_comparisons(experiment, compared(experiment))
    assert Path("results/small/comparisons.md").read_text(encoding="utf-8") == text
    assert json.loads(Path("results/small/comparisons.json").read_text())["experiment"] == "small"
    assert "## Pair (accuracy/f1)" in text
    assert "of 1,000 resamples" in text
    assert "These are 6 comparisons on tasks." in text


def comparison(first, second, low, high, task="pair", adjusted=0.5, is_of_one_seed=False) -> Comparison:
    middle = (low + high) / 2
    difference = Difference(middle, low, high, 0.97, 0.03 if low * high > 0 else 0.2)
    return Comparison([task], first, second, (0.8 + middle, 0.8), difference, is_of_one_seed, adjusted)


def test_the_matrix_counts_wins_ties_and_losses_of_the_row():
    comparisons = [
        comparison("a", "b", 0.01, 0.02, adjusted=0.04),
        comparison("a", "b", 0.01, 0.02, "number", adjusted=0.06),
        comparison("a", "b", -0.01, 0.02, "third"),
        comparison("a", "c", -0.02, -0.01, adjusted=0.01, is_of_one_seed=True),
        comparison("b", "c", -0.02, 0.01, is_of_one_seed=True),
    ]
    plain = rows_of(comparison_report.wins_ties_losses(["a", "b", "c"], comparisons))
    assert plain == [
        ["", "a", "b", "c"],
        ["a", "-", "2/1/0", "0/0/1†"],
        ["b", "0/1/2", "-", "0/1/0"],
        ["c", "1/0/0†", "0/1/0", "-"],
    ]
    adjusted = comparison_report.wins_ties_losses(["a", "b", "c"], comparisons, is_adjusted=True)
    assert rows_of(adjusted)[1:3] == [["a", "-", "1/2/0", "0/0/1†"], ["b", "0/2/1", "-", "0/1/0"]]


def test_a_row_has_scores_times_100_and_the_better_model():
    rows = rows_of(
        comparison_report.comparisons_table(
            [comparison("a", "b", 0.01, 0.02), comparison("a", "b", -0.03, -0.01), comparison("a", "b", -0.01, 0.02)]
        )
    )
    assert rows[1] == ["a", "b", "81.50", "80.00", "+1.50", "+1.00 to +2.00", "0.970", "a", "0.030", "0.500"]
    assert [row[7] for row in rows[1:]] == ["a", "b", "-"]
    assert rows[2][4:6] == ["-2.00", "-3.00 to -1.00"]


@settings(max_examples=60, deadline=None)
@given(first=HOSTILE, second=HOSTILE, reason=HOSTILE)
def test_names_and_reasons_stay_texts(first, second, reason):
    rows_of(comparison_report.comparisons_table([comparison(first, second, 0.01, 0.02)]))
    rows_of(comparison_report.wins_ties_losses([first, second], []))
    of_task = builders.task(name="task")
    left_out = comparison_report.left_out_table([LeftOut("task", [first, second], reason)], [hostile(of_task, first)])
    assert len(rows_of(left_out)) == 2


def hostile(of_task, name):
    from gluegrid.results.summary import Group

    return Group("model", of_task, "base", name, "Accuracy", [outcome()])


def test_all_of_it_is_text(experiment):
    save_all(experiment)
    experiment.tasks["pair"]["display_name"] = "a|b <b>*c*</b>"
    headings = texts_of(comparisons_markdown(experiment, compared(experiment)))
    assert "a|b <b>*c*</b> (accuracy/f1)" in headings


@pytest.mark.long
def test_snakemake_compare_trains_nothing_and_knows_what_is_new(experiment, tmp_path):
    without = [("same", "pair", "base", "2"), *(("bad", "number", "base", seed) for seed in "123")]
    save_all(experiment, *without)
    clone = Clone(tmp_path)
    snakefile = "--snakefile", str(PROJECT / "Snakefile"), "--cores", "1"
    done = clone.snakemake(*snakefile, "--verbose", "compare")
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout) == {"compare": 1}
    content = json.loads(Path("results/small/comparisons.json").read_text())
    assert content["method"]["resamples"] == 10_000
    assert [each["reason"] for each in content["left_out"]] == ["not run"]
    assert "Nothing to be done" in clone.snakemake(*snakefile, "--dry-run", "compare").stdout
    save(experiment, experiment.cells[without[0]], 0.05)
    assert clone.planned(*snakefile, "compare") == {"compare": 1}
    # With `all`, what that trains comes first.
    planned = clone.snakemake(*snakefile, "--dry-run", "all", "compare").stdout
    assert job_counts(planned)["train"] >= 3
    assert planned.index("Training bad on number") < planned.index("Comparing the models of small")
