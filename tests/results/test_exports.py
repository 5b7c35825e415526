import csv
import io
import json
import math
import re
from pathlib import Path

import builders
import pytest

from gluegrid.results.exports import results_csv, results_json
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.results_md import results_markdown

SCORES = {  # accuracy of each variant, seed by seed
    "base": (0.5, 0.6, 0.7),
    "learning_rate-3e-05": (0.75, 0.8, 0.1),
    "learning_rate-5e-05": (0.9, 0.9, None),
}


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """An experiment with a sweep on one of its tasks: one run is degenerate, one failed."""
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(
        tmp_path, seeds=[1, 2, 3], cells={"tiny": {"pair": {"learning_rate": [2e-5, 3e-5, 5e-5], "lora": [None, {}]}}}
    )
    for cell in experiment.cells.values():
        scores = {"eval_pearson": cell.seed / 10, "eval_spearmanr": 0.5}
        if cell.task == "pair":
            accuracy = SCORES.get(cell.variant, (0.2,) * 3)[cell.seed - 1]
            scores = accuracy and {"eval_accuracy": accuracy, "eval_f1": accuracy} | (
                {"degenerate": True} if accuracy == 0.1 else {}
            )
        if scores:
            builders.write_result(experiment, cell, scores | {"eval_samples": 5})
    return experiment


def rows_of_csv(experiment):
    return list(csv.DictReader(io.StringIO(results_csv(experiment, read_outcomes(experiment)))))


COLUMNS = [
    *("model", "model_source", "model_revision", "task", "variant", "seed", "metric", "score", "status", "reason"),
    *("learning_rate", "per_device_train_batch_size", "num_train_epochs", "max_seq_length"),
]
LAST_COLUMNS = ["precision", "device", "seconds", "data", "chosen", "log", "run_sha256", "state", "precision_used"]


def test_the_columns_are_the_cell_its_score_its_values_where_they_are_from_and_all_metrics(swept):
    header = list(rows_of_csv(swept)[0])
    assert header[: len(COLUMNS)] == COLUMNS
    assert header[len(COLUMNS)] == "lora"
    rest = header[len(COLUMNS) + 1 :]
    assert rest[: len(LAST_COLUMNS)] == LAST_COLUMNS
    assert rest[len(LAST_COLUMNS) :] == sorted(rest[len(LAST_COLUMNS) :])
    assert {"eval_accuracy", "eval_pearson", "train_runtime"} < set(rest)


def test_a_row_is_tidy(swept):
    by_cell = {(row["task"], row["variant"], row["seed"]): row for row in rows_of_csv(swept)}
    row = by_cell["number", "base", "2"]
    entry = swept.models["tiny"]
    assert (row["model"], row["model_source"]) == ("tiny", entry["source"])
    assert (row["metric"], float(row["score"])) == ("pearson/spearmanr", pytest.approx(0.35))
    assert (row["status"], row["state"], row["reason"], row["seconds"]) == ("done", "done", "", row["train_runtime"])
    missing = by_cell["pair", "learning_rate-5e-05", "3"]
    assert (missing["status"], missing["score"], missing["seconds"], missing["device"]) == ("not run", "", "", "")


def test_two_lines_of_pandas_give_models_by_tasks(swept, project):
    """The two lines are those of docs/results.md."""
    Path(swept.paths.results_csv).write_text(results_csv(swept, read_outcomes(swept)), encoding="utf-8")
    text = (project / "docs" / "results.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import pandas as pd\n.*?)```", text, re.DOTALL)
    names = {}
    exec(code.replace("results/demo/", f"results/{swept.name}/"), names)
    table = names["table"]
    assert list(table.columns) == ["number", "pair"] and list(table.index) == ["tiny"]
    assert table.loc["tiny", "pair"] == pytest.approx(0.6)
    assert table.loc["tiny", "number"] == pytest.approx(0.35)


def test_every_row_has_its_values_and_whether_its_variant_was_chosen(swept):
    rows = rows_of_csv(swept)
    assert len(rows) == 6 * 3 + 3
    chosen = {(row["task"], row["variant"]) for row in rows if row["chosen"] == "yes"}
    assert chosen == {("pair", "base"), ("number", "base")}
    assert {row["chosen"] for row in rows} == {"yes", "no"}
    values = {(row["task"], row["variant"]): (row["learning_rate"], row["lora"]) for row in rows}
    assert values["number", "base"] == values["pair", "base"] == ("2e-05", "")
    adapters = '{"lora_alpha": 16, "lora_dropout": 0, "r": 8, "target_modules": "all-linear"}'
    assert values["pair", "learning_rate-3e-05_lora-default"] == ("3e-05", adapters)


def test_each_row_has_the_precision_that_was_used(swept):
    cell = next(iter(swept.cells.values()))
    builders.write_result(swept, cell, {"eval_accuracy": 1, "eval_f1": 1, "eval_samples": 5}, precision="bf16")
    first, *others = rows_of_csv(swept)
    assert first["precision"] == first["precision_used"] == "bf16"
    assert {(row["state"], row["precision_used"]) for row in others} == {("done", "fp32"), ("not run", "")}


def test_without_a_sweep_only_the_choice_is_added(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path)
    assert list(rows_of_csv(experiment)[0]) == [*COLUMNS, *LAST_COLUMNS]
    content = json.loads(results_json(experiment, read_outcomes(experiment)))
    assert [(entry["chosen"], entry["values"], entry["n"]) for entry in content["summaries"]] == [(True, {}, 0)] * 2
    assert content["optimism"] == []


def test_summaries_have_each_number_over_seeds_in_full_precision(swept):
    content = json.loads(results_json(swept, read_outcomes(swept)))
    by_variant = {entry["variant"]: entry for entry in content["summaries"] if entry["task"] == "pair"}
    one = by_variant["base"]
    assert {key: one[key] for key in ("model", "n", "of", "failed", "degenerate", "chosen")} == {
        **{"model": "tiny", "n": 3, "of": 3, "failed": 0, "degenerate": 0, "chosen": True},
    }
    assert one["values"] == {"learning_rate": 2e-5, "lora": None}
    assert one["all"].keys() == {"eval_accuracy", "eval_f1", "score"}
    assert one["all"]["score"] == {
        **{"count": 3, "mean": pytest.approx(0.6, abs=1e-15), "sd": pytest.approx(0.1, abs=1e-15)},
        **{"median": 0.6, "best": 0.7},
    }
    assert one["without_degenerate"] is None
    pearson = content["summaries"][-1]["all"]["eval_pearson"]
    assert (pearson["mean"], pearson["sd"]) == (pytest.approx(0.2), pytest.approx(math.sqrt(0.02 / 2)))


def test_summaries_count_failed_and_degenerate_runs_and_leave_the_latter_out(swept):
    content = json.loads(results_json(swept, read_outcomes(swept)))
    by_variant = {entry["variant"]: entry for entry in content["summaries"] if entry["task"] == "pair"}
    collapsed, failed = by_variant["learning_rate-3e-05"], by_variant["learning_rate-5e-05"]
    assert (collapsed["degenerate"], collapsed["all"]["score"]["mean"]) == (1, pytest.approx(0.55))
    assert collapsed["without_degenerate"]["score"]["mean"] == pytest.approx(0.775)
    assert collapsed["without_degenerate"]["score"]["count"] == 2
    assert (failed["n"], failed["of"], failed["chosen"]) == (2, 3, False)


def test_every_point_of_a_sweep_has_a_row_of_its_table(swept):
    text = results_markdown(swept, read_outcomes(swept))
    table = text.partition("### tiny, Pair\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 2 + 6
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0] == ["learning_rate", "lora", "Result", "Score", "Seeds", "Chosen"]
    assert cells[2][0] == "2e-05"
    assert cells[2][2:] == ["60.00/60.00 ± 10.00/10.00", "60.00 ± 10.00", "3 of 3", "chosen"]
    (collapsed,) = [row for row in cells if "degenerate" in row[4]]
    assert collapsed[4] == "3 of 3, 1 degenerate; without it 77.50 ± 3.54"
    assert "Best of 5 of 6 points: the others have fewer seeds with a score." in text
    assert "### tiny, number" not in text
    assert "so its score is optimistic" in text
