"""report.html of crafted results: what it shows of them, and that every text in it is text."""

import contextlib
import itertools
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import builders
import crafted_experiments
import pytest
from parsed_page import Element, parsed
from scipy import stats
from waiting import HANG

from gluegrid.common.files import read_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.score_section import MOST_IN_LANES, MOST_ROWS
from gluegrid.report.sweep_section import MOST_FIGURES
from gluegrid.report.write import write_report
from gluegrid.results.outcomes import read_outcomes

HOSTILE = "<script>alert(1)</script> \"q\" 'p' &amp; $x^2$ \N{GRINNING FACE} שלום {x}"


@dataclass(frozen=True)
class Report:
    """An experiment's folder, and its page."""

    root: Path
    experiment: Experiment
    html: str
    page: Element

    def section(self, name: str) -> Element:
        return self.page.one("section", id=name)

    @property
    def sections(self) -> list[str]:
        return [section.attributes["id"] for section in self.page.all("section")]


def report_of(root: Path, experiment: Experiment) -> Report:
    write_report(experiment, read_outcomes(experiment))
    html = (root / experiment.paths.report_html).read_text(encoding="utf-8")
    return Report(root, experiment, html, parsed(html))


@pytest.fixture(scope="module")
def realistic(tmp_path_factory):
    root = tmp_path_factory.mktemp("realistic")
    with contextlib.chdir(root):
        return report_of(root, crafted_experiments.realistic(root))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_asks_for_nothing_else(realistic):
    policy = realistic.page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert {element.tag for element in realistic.page.all()}.isdisjoint({"script", "link", "img", "iframe", "base"})
    assert not [element for element in realistic.page.all() if "src" in element.attributes]
    assert not re.search(r"@import|url\((?!#)|\son\w+=", realistic.html)
    assert len(re.findall("font-family", realistic.html)) < 3  # in the page's style alone
    addresses = [element.attributes["href"] for element in realistic.page.all("a")]
    assert addresses
    assert not [address for address in addresses if re.match(r"[a-z]+:|/", address)]


def test_every_link_leads_somewhere_and_no_place_has_two_of_a_name(realistic):
    ids = [element.attributes["id"] for element in realistic.page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    links = {element.attributes["href"] for element in realistic.page.all("a")}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    files = {link for link in links if not link.startswith("#")}
    folder = realistic.root / "results/bert-glue"
    assert [link for link in files if "run" in link] and all(
        (folder / link).exists() for link in files if "runs/" in link
    )


def test_a_score_is_the_mean_over_seeds_with_its_spread_and_students_interval(realistic):
    runs = realistic.root / "results/bert-glue/runs/bert-base-uncased/cola/base"
    values = [100 * read_json(path)["eval_matthews_correlation"] for path in sorted(runs.glob("*/all_results.json"))]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    cell = realistic.section("scores").all("table")[0].all("tr")[1].all("td")[0]
    assert cell.one("a").text == f"{mean:.2f} ± {sd:.2f}"
    assert [small.text for small in cell.all("small")] == [f"[{low:.2f}, {high:.2f}]"]


def test_what_is_best_by_more_than_chance_is_announced_to_eyes_and_ears(realistic):
    (headers, *rows) = cells_of(realistic.section("scores").all("table")[0])
    best = {
        row[0].text: {header.text: cell.text for header, cell in zip(headers, row, strict=True) if cell.all("strong")}
        for row in rows
    }
    tasks = read_json(realistic.root / realistic.experiment.paths.comparisons_json)["tasks"]
    won = {each["tasks"][0] for each in tasks if each["adjusted"] <= 0.05}
    assert best["bert-base-uncased"] == {}
    assert won == {"cola", "rte", "wnli"}
    assert best["bert-large-uncased"].keys() == {"CoLA", "RTE"}, "on WNLI it has a degenerate run"
    assert all("(best)" in text for text in best["bert-large-uncased"].values())
    assert "Holm-adjusted p at most 0.05" in realistic.section("scores").text


def test_without_comparisons_nothing_is_bold_and_the_page_says_what_to_run(here):
    experiment = crafted_experiments.load(here, tasks={"rte": None, "cola": None})
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell, gain=0.2 if "large" in cell.model else 0)
    for broken in (None, "{", "{}", '{"tasks": [1], "means": [], "method": {"level": 0.95}, "inputs": []}'):
        if broken:
            Path(experiment.paths.comparisons_json).write_text(broken)
        report = report_of(here, experiment)
        assert not report.section("scores").all("table")[0].all("strong")
        assert "snakemake compare report" in report.section("scores").text
        assert "comparisons" not in report.sections
    empty = '{"tasks": [], "means": [], "method": {"level": 0.95}, "inputs": []}'
    Path(experiment.paths.comparisons_json).write_text(empty)
    assert "comparisons" not in report_of(here, experiment).sections


def test_ranks_are_means_over_tasks(realistic):
    rows = realistic.section("scores").all("table")[0].rows
    assert [row[-1] for row in rows] == ["Rank", "2.00", "1.00"]


def test_means_of_different_tasks_are_not_set_against_each_other(here):
    tasks = {"rte": None, "cola": None, "sst2": None}
    experiment = crafted_experiments.load(here, tasks=tasks, seeds=[1, 2])
    for cell in experiment.cells.values():
        if (cell.model, cell.task) == ("bert-large-uncased", "cola"):
            crafted_experiments.write_failure(experiment, cell, "out of memory")
        else:
            crafted_experiments.write_cell(experiment, cell)
    report = report_of(here, experiment)
    headers, base, large = report.section("scores").all("table")[0].rows
    assert headers[-3:] == ["Mean", "Common", "Rank"]
    means = [statistics.mean(float(row[place].split()[0]) for place in (1, 3)) for row in (base, large)]
    assert [float(row[-2]) for row in (base, large)] == pytest.approx(means, abs=0.011)
    assert large[-3] == large[-2] and base[-3] != base[-2]
    assert "the tasks that all models have: RTE, SST-2." in report.section("scores").text
    (cost,) = [figure for figure in report.section("scores").all("figure") if "time" in figure.text]
    assert f"bert-base-uncased {base[-2]} for" in cost.text


def cells_of(table: Element) -> list[list[Element]]:
    return [[cell for cell in row.content if isinstance(cell, Element)] for row in table.all("tr")]


def test_a_number_leads_to_the_runs_predictions_and_code_that_it_comes_from(realistic):
    table = realistic.section("scores").all("table")[0]
    for number, model in ((1, "bert-base-uncased"), (2, "bert-large-uncased")):
        for place, task in enumerate(realistic.experiment.tasks):
            link = table.all("tr")[number].all("td")[place].one("a").attributes["href"]
            text = realistic.page.one("details", id=link[1:]).text
            chosen = chosen_variant(realistic, model, task)
            for path in chosen.glob("*/run_record.json"):
                record = read_json(path)
                assert record["run_sha256"] in text
                assert record["predictions_sha256"].items()
                assert all(digest in text for digest in record["predictions_sha256"].values())
                assert record["finished"] in text and record["job"]["slurm_job_id"] in text


def chosen_variant(report: Report, model: str, task: str) -> Path:
    """Return the folder of the variant with the best mean, as results.json would say it."""

    def score(folder: Path) -> float:
        of_seeds = [read_json(path) for path in folder.glob("*/all_results.json")]
        metrics = [key for key in of_seeds[0] if key.startswith("eval_") and "samples" not in key]
        return statistics.mean(statistics.mean(results[key] for key in metrics) for results in of_seeds)

    return max((report.root / f"results/bert-glue/runs/{model}/{task}").iterdir(), key=score)


def test_hashes_of_models_data_and_code_stand_once_and_cells_refer_to_them(realistic):
    record = read_json(next(realistic.root.glob("**/cola/base/seed-1/run_record.json")))
    for digest in (*record["model_files"].values(), *record["task_files"].values(), *record["tokens_files"].values()):
        assert realistic.html.count(f"<code>{digest}</code>") >= 1
    assert realistic.html.count(record["git"]["commit"]) == 1
    cell = realistic.page.one("details", id="number-1").all("details")[0]
    titles = {link.text.split()[0] for link in cell.all("a") if link.attributes["href"].startswith("#")}
    assert titles == {"Environment", "Model", "Data", "Tokens"}


def test_failed_and_missing_cells_are_counted_and_failures_have_reason_and_log(realistic):
    tiles = {
        tile.one("dt").text: tile.all("dd")[0].text
        for tile in realistic.page.one("dl", **{"class": "tiles"}).all("div")
    }
    assert (tiles["Cells with a result"], tiles["Failed"], tiles["Not run"]) == ("100 of 102", "1", "1")
    (_, row) = realistic.section("failures").one("table").rows
    assert row == [
        "bert-large-uncased/qqp/base/seed-3",
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 96.00 MiB",
        "results/bert-glue/logs/train/bert-large-uncased/qqp/base/seed-3.log",
    ]


def test_every_point_of_a_sweep_is_there_and_the_chosen_one_is_marked(realistic):
    tables = {table.one("caption").text: table.rows for table in realistic.section("sweeps").all("table")}
    rows = tables["bert-base-uncased on RTE"]
    assert rows[0] == ["learning_rate", "per_device_train_batch_size", "Score", "Seeds", "Chosen"]
    assert len(rows) == 1 + 6
    (chosen,) = [row for row in rows[1:] if row[-1] == "chosen"]
    assert float(chosen[2].split()[0]) == max(float(row[2].split()[0]) for row in rows[1:])
    assert chosen[2] == realistic.section("scores").all("table")[0].rows[1][8]


def test_points_without_a_score_and_a_chosen_one_without_make_no_figure(here):
    values = {"learning_rate": [1e-5, 2e-5]}
    experiment = crafted_experiments.load(
        here, models={"a": {"source": "some/a"}}, tasks={"stsb": values}, seeds=[1, 2]
    )
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell)
        path = Path(experiment.paths.all_results.format(**cell.wildcards))
        if cell.seed == 1:
            path.write_text(json.dumps(read_json(path) | {"eval_pearson": None, "degenerate": True}))
    report = report_of(here, experiment)
    assert not report.section("sweeps").all("figure")
    assert len(report.section("sweeps").one("table").rows) == 3


def test_there_are_figures_of_scores_sweeps_curves_cost_and_memory(realistic):
    counts = {name: len(realistic.section(name).all("figure")) for name in realistic.sections}
    assert {name: count for name, count in counts.items() if count} == {
        "scores": 2,  # the grid, and its cost
        "sweeps": 4,
        "training": 9,
        "cost": 2,  # memory of GPU and host
    }
    for figure in realistic.page.all("figure"):
        svg = figure.one("svg")
        assert svg.attributes["role"] == "img"
        assert svg.all("title")[0].text
        assert svg.all("desc")[0].text


def test_published_scores_stand_beside_ours_where_they_have_all_metrics(realistic):
    legend = realistic.section("scores").one("ul", **{"class": "legend"}).text
    assert "the document" in legend
    rows = realistic.section("references").all("table")[0].rows
    assert rows[0][:4] == ["Model", "Task", "Metric", "Ours"]
    assert ["bert-base-uncased", "MNLI", "accuracy"] in [row[:3] for row in rows]


def test_comparisons_are_shown_as_the_file_has_them(realistic):
    wins, adjusted, chances = (table.rows for table in realistic.section("comparisons").all("table")[:3])
    tasks = read_json(realistic.root / realistic.experiment.paths.comparisons_json)["tasks"]
    signs = [int(each["difference"]["low"] > 0) - int(each["difference"]["high"] < 0) for each in tasks]
    assert wins[1][2] == f"{signs.count(1)}/{signs.count(0)}/{signs.count(-1)}"
    assert wins[2][1] == f"{signs.count(-1)}/{signs.count(0)}/{signs.count(1)}"
    assert adjusted[1][2] != wins[1][2]
    assert (chances[1][2], chances[2][1]) == ("0.020", "0.980")
    assert "earlier results" not in realistic.section("comparisons").text


def test_comparisons_of_other_results_are_said_to_be(realistic):
    path = realistic.root / realistic.experiment.paths.comparisons_json
    content = read_json(path)
    text = path.read_text()
    content["inputs"][0]["predictions_sha256"] = {"validation": "0" * 64}
    try:
        path.write_text(json.dumps(content))
        with contextlib.chdir(realistic.root):
            changed = report_of(realistic.root, realistic.experiment)
    finally:
        path.write_text(text)
        with contextlib.chdir(realistic.root):
            report_of(realistic.root, realistic.experiment)
    assert "earlier results" in changed.section("comparisons").text


def test_a_large_grid_is_a_heat_map_whose_colours_do_not_exaggerate(here):
    models = {f"m{number}": {"source": f"some/m{number}"} for number in range(MOST_IN_LANES + 1)}
    experiment = crafted_experiments.load(here, models=models, tasks={"rte": None, "sst2": None}, seeds=[1])
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell, gain=0.0)
        path = Path(experiment.paths.all_results.format(**cell.wildcards))
        accuracy = 0.9 + 0.001 * int(cell.model[1:])
        path.write_text(json.dumps(read_json(path) | {"eval_accuracy": accuracy}))
    grid = report_of(here, experiment).section("scores").all("figure")[0].one("svg")
    texts = [text.text for text in grid.all("text")]
    assert {"90.00", "90.60", "RTE", "SST-2", "m0", "10.00 points below the highest score of the task"} <= set(texts)
    tiles = {path.attributes["style"] for path in grid.all("path") if "fill: #" in path.attributes.get("style", "")}
    greens = [int(re.search("fill: #..(..)", tile)[1], 16) for tile in tiles]
    assert len(greens) > 20  # of the scale, which goes from dark to bright, and of the tiles
    (first, *_) = [text for text in grid.all("text") if text.text == "90.00"]
    assert "fill: var" not in first.attributes["style"], "its ground is as bright as that of the best"


def test_the_page_can_be_walked_without_eyes(realistic):
    assert realistic.page.one("html").attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in realistic.page.all() if re.fullmatch(r"h\d", element.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    for table in realistic.page.all("table"):
        assert table.one("caption").text
        assert {cell.attributes["scope"] for cell in table.one("thead").all("th")} == {"col"}
        assert all(row.one("th").attributes["scope"] == "row" for row in table.one("tbody").all("tr"))


def test_equal_results_make_an_equal_page_in_another_process(realistic):
    program = (
        "import sys; from pathlib import Path; from gluegrid.experiment.loading import load_experiment\n"
        "from gluegrid.results.outcomes import read_outcomes; from gluegrid.report.write import write_report\n"
        "experiment = load_experiment(Path('config.yaml')); write_report(experiment, read_outcomes(experiment))"
    )
    process = builders.python(
        program, cwd=realistic.root, env={"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    )
    assert process.wait(HANG) == 0, process.stderr.read()
    assert (realistic.root / "results/bert-glue/report.html").read_text(encoding="utf-8") == realistic.html


def hostile_experiment(here: Path) -> Experiment:
    experiment = crafted_experiments.load(
        here,
        models={"bert": crafted_experiments.MODELS["bert-base-uncased"]},
        tasks={
            "cola": {"display_name": HOSTILE, "metric_label": HOSTILE, "learning_rate": [1e-5, 2e-5]},
            "rte": None,
        },
        seeds=[1, 2],
    )
    for cell in experiment.cells.values():
        if cell.task == "cola":
            crafted_experiments.write_cell(
                experiment, cell, device=f"{HOSTILE}\x1b\u202e", git={"commit": HOSTILE, "dirty": True}
            )
        else:
            crafted_experiments.write_failure(experiment, cell, f"{HOSTILE}\n\x1b[31mred\u202e")
    return experiment


def test_hostile_names_are_text(here):
    report = report_of(here, hostile_experiment(here))
    assert not report.page.all("script")
    assert HOSTILE in report.section("scores").all("table")[0].rows[0]
    reasons = [row[1] for row in report.section("failures").one("table").rows[1:]]
    assert reasons == [f"{HOSTILE} \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"] * 2
    assert report.section("training").all("figcaption")[0].text.split() == f"{HOSTILE} {HOSTILE}".split()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", report.html)


def test_without_any_result_the_page_says_what_to_do(here):
    report = report_of(here, crafted_experiments.load(here))
    assert "Run snakemake" in report.page.one("p", **{"class": "lead"}).text
    assert report.sections == ["scores", "references", "notes", "origins"]
    assert [link.attributes["href"][1:] for link in report.page.one("nav").all("a")] == report.sections
    assert {cell for row in report.section("scores").one("table").rows[1:] for cell in row[1:-1]} == {"not run"}
    assert "bold" not in report.section("scores").text
    assert not report.page.all("figure")


def test_with_failures_alone_the_page_shows_them(here):
    experiment = crafted_experiments.load(here, tasks={"rte": None})
    for cell in experiment.cells.values():
        crafted_experiments.write_failure(experiment, cell, "broken")
    report = report_of(here, experiment)
    cell = report.section("scores").one("table").all("tr")[1].all("td")[0]
    assert (cell.one("a").text, cell.one("small").text) == ("failed", "3 of 3 seeds")
    assert len(report.section("failures").one("table").rows) == 7


def test_one_cell_has_no_interval_and_its_page_says_so(here):
    experiment = crafted_experiments.load(here, tasks={"rte": None}, seeds=[42], models={"a": {"source": "some/a"}})
    (cell,) = experiment.cells.values()
    crafted_experiments.write_cell(experiment, cell, curve=None)
    report = report_of(here, experiment)
    number = report.section("scores").all("table")[0].all("tr")[1].all("td")[0]
    assert re.fullmatch(r"\d\d\.\d\d", number.one("a").text)
    assert not number.all("small")
    assert "interval" not in report.section("scores").all("p")[0].text
    assert report.sections == ["scores", "cost", "notes", "origins"]
    assert not report.page.all("figure"), "one number makes no figure"
    assert not report.section("scores").all("p", **{"class": "note"})


def test_undefined_and_degenerate_scores_are_said_to_be(here):
    experiment = crafted_experiments.load(here, tasks={"stsb": None}, seeds=[1, 2])
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell)
    changes = {"eval_pearson": None, "eval_spearmanr": None, "degenerate": True}
    path = here / "results/bert-glue/runs/bert-base-uncased/stsb/base/seed-1/all_results.json"
    path.write_text(json.dumps(read_json(path) | changes))
    report = report_of(here, experiment)
    table = report.section("scores").all("table")[0]
    assert table.rows[1][1] == "undefined"
    assert "1 degenerate" in table.all("tr")[1].all("td")[0].text
    assert not report.section("scores").all("figure"), "one score makes no figure"
    assert len(report.section("cost").all("figure")) == 2


def test_cells_that_only_predict_or_are_not_trained_need_no_score_and_no_time(here):
    experiment = crafted_experiments.load(here, tasks={"mnli": {"eval_strategy": "no"}, "ax": None}, seeds=[1])
    for cell in experiment.cells.values():
        if cell.task == "mnli":
            crafted_experiments.write_cell(experiment, cell)
        else:
            path = builders.write_result(experiment, cell, {}, predictions_sha256={"test": "f" * 64})
            path.write_text("{}", encoding="utf-8")
    report = report_of(here, experiment)
    rows = report.section("scores").all("table")[0].rows
    assert rows[0] == ["Model", "MNLI", "AX", "Mean", "Rank"]
    assert rows[1][2] == "predicted"
    labels = {text.text for text in report.section("scores").all("figure")[0].all("text")}
    assert "MNLI" in labels and "AX" not in labels
    assert "f" * 64 in report.section("origins").text


def test_the_page_says_in_which_precision_and_how_its_numbers_were_computed(here):
    experiment = crafted_experiments.load(here, models={"a": {"source": "some/a"}}, tasks={"rte": None}, seeds=[1, 2])
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell)
        path = here / experiment.paths.run_record.format(**cell.wildcards)
        more = {"precision": "bf16", "compute_paths": ["cuda_graphs"], "deterministic": False} if cell.seed == 2 else {}
        path.write_text(json.dumps(read_json(path) | {"precision": "fp32"} | more), encoding="utf-8")
    report = report_of(here, experiment)
    assert "; bf16; fp32; code " in report.page.one("header").text
    notes = report.section("notes").text
    assert "Precisions differ: bf16 in a/rte/base/seed-2; fp32 in all others." in notes
    assert "Computed as: CUDA graphs (1 run)." in notes
    assert "Not repeatable to the last bit" in notes
    for fact, value in (("computed as", "CUDA graphs"), ("repeatable to the last bit", "no")):
        assert report.html.count(f"<dt>{fact}</dt><dd><span><code>{value}</code>") == 1


def test_of_many_models_and_sweeps_some_are_drawn_and_all_are_in_tables(here):
    models = {f"m{number:02}": {"source": f"some/m{number}"} for number in range(MOST_ROWS + 4)}
    experiment = crafted_experiments.load(
        here, models=models, tasks={"rte": {"learning_rate": [1e-5, 2e-5]}}, seeds=[1]
    )
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell, gain=0.004 * int(cell.model[1:]))
    report = report_of(here, experiment)
    scores = report.section("scores")
    assert len(scores.all("table")[0].rows) == 1 + len(models)
    assert f"shows the {MOST_ROWS} models with the highest means" in scores.text
    labels = {text.text for text in scores.all("figure")[0].all("text")}
    assert len(labels & set(models)) == MOST_ROWS
    assert "m53" in labels
    assert len(report.section("sweeps").all("figure")) == MOST_FIGURES
    assert len(report.section("sweeps").all("table")) == len(models)
    assert f"The figures show the first {MOST_FIGURES} of {len(models)} sweeps" in report.section("sweeps").text


def test_a_grid_of_50_models_9_tasks_and_5_seeds_makes_a_page_of_less_than_5_megabytes(here):
    models = {f"model-{number:02}-of-a-lab": {"source": f"some/model-{number}"} for number in range(50)}
    experiment = crafted_experiments.load(here, models=models, seeds=[1, 2, 3, 4, 5])
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell)
    write_report(experiment, read_outcomes(experiment))
    size = Path(experiment.paths.report_html).stat().st_size
    assert 1_000_000 < size < 5_000_000


def test_a_sweep_of_three_values_has_a_figure_for_each(here):
    values = {"learning_rate": [1e-5, 2e-5], "warmup_ratio": [0, 0.1], "weight_decay": [0, 0.01]}
    experiment = crafted_experiments.load(here, models={"a": {"source": "some/a"}}, tasks={"rte": values}, seeds=[1])
    for cell in experiment.cells.values():
        crafted_experiments.write_cell(experiment, cell)
    report = report_of(here, experiment)
    titles = [figure.all("title")[0].text for figure in report.section("sweeps").all("figure")]
    assert titles == [f"Sweep of {key}: a on RTE" for key in values]
