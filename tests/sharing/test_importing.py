"""`make import`: one experiment of the archives of several clones, in which nothing unlike is counted together."""

import csv
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from clones import copy_of
from shared_experiments import REASON, killed_in_between, write_experiment
from waiting import HANG

from gluegrid.common.errors import GluegridError
from gluegrid.common.files import read_json
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.experiment_index import newest_plan
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.status import Observer, look
from gluegrid.operations.status_text import status_text
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.parity import parity_content
from gluegrid.results.summary import groups
from gluegrid.sharing.exporting import export_experiment
from gluegrid.sharing.importing import import_archives
from gluegrid.verification.findings import Findings, Hashes
from gluegrid.verification.verify import summary, verify_experiment
from gluegrid.workflow.experiment_file import experiment_of_workflow

RESULTS, MERGED = Path("results"), Path("results/merged")
BERT = {"bert": {}}
TABLES = ("results.md", "results.csv", "results.json")


@pytest.fixture
def archive_of(tmp_path, monkeypatch) -> Callable[..., str]:
    """A function that runs an experiment in a clone of its own and returns its archive, below the working folder."""
    working = tmp_path / "here"
    working.mkdir()
    monkeypatch.chdir(working)

    def make(name: str, models: dict[str, dict], *arguments, clone: str = "", **values) -> str:
        folder = tmp_path / f"clone-{clone or name}"
        folder.mkdir(exist_ok=True)
        with monkeypatch.context() as there:
            there.chdir(folder)
            write_experiment(name, models, *arguments, **values)
            list(export_experiment(RESULTS, name, working / f"{clone or name}.zip"))
        return f"{clone or name}.zip"

    return make


def merged(*files: str, name: str = "merged") -> list[str]:
    return list(import_archives(RESULTS, name, list(files)))


def verified(folder: Path = MERGED) -> Findings:
    findings = verify_experiment(folder, Hashes())
    assert findings.problems == []
    return findings


def rows(folder: Path = MERGED) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cells(folder: Path = MERGED) -> list[str]:
    return [f"{row['model']}/{row['task']}/{row['variant']}/seed-{row['seed']}" for row in rows(folder)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(*files: str) -> str:
    """Return why archives are not imported; nothing is changed then."""
    before = files_of(Path())
    with pytest.raises(GluegridError) as caught:
        merged(*files)
    assert files_of(Path()) == before
    return str(caught.value)


# One archive.


def test_an_import_has_the_tables_of_its_original_and_its_files_byte_for_byte(archive_of, tmp_path):
    archive = archive_of("grid", {"bert": {}, "roberta": {}}, seeds=[1, 2, 3], failed=["bert/pair/base/seed-2"])
    lines = merged(archive, name="grid")
    original, imported = tmp_path / "clone-grid" / "results" / "grid", RESULTS / "grid"
    for name in TABLES:
        assert (imported / name).read_bytes() == (original / name).read_bytes()
    for path, content in files_of(original / "runs").items():
        assert (imported / "runs" / path).read_bytes() == content
    assert lines[:2] == ["results/grid: 11 of 12 cells with a result", "  grid.zip: 11 of 12"]


def test_an_import_under_another_name_says_the_same(archive_of, tmp_path):
    merged(archive_of("grid", {"bert": {}}, seeds=[1, 2], failed=["bert/pair/base/seed-2"]))
    original = tmp_path / "clone-grid" / "results" / "grid"
    assert (MERGED / "results.csv").read_bytes() == (original / "results.csv").read_bytes()
    assert (MERGED / "results.md").read_text().splitlines()[1:] == (original / "results.md").read_text().splitlines()[
        1:
    ]
    assert read_json(MERGED / "results.json")["cells"] == read_json(original / "results.json")["cells"]


def test_an_import_is_verified_without_the_models_and_data_it_was_made_from(archive_of):
    merged(archive_of("grid", {"bert": {}}, seeds=[1, 2], failed=["bert/pair/base/seed-2"]))
    findings = verified()
    assert (findings.cells, findings.without_result) == (4, ["bert/pair/base/seed-2"])
    assert findings.metrics > 30 and findings.table_numbers > 40
    assert "  not here: 4 of the models, datasets and tokens they were made from" in summary(findings)


@pytest.mark.parametrize("part", ["all_results.json", "run_record.json", "run.json", "predictions_validation.parquet"])
def test_verification_finds_what_was_changed_in_an_import(archive_of, part):
    merged(archive_of("grid", {"bert": {}}))
    path = MERGED / "runs/bert/pair/base/seed-42" / part
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.").replace(b"grid", b"grip").replace(b"PAR1", b"PAR2"))
    problems = verify_experiment(MERGED, Hashes()).problems
    assert any(str(path.parent) in problem for problem in problems)


def test_what_failed_elsewhere_is_shown_with_its_reason_and_its_log_there(archive_of):
    failed = "bert/pair/base/seed-2"
    merged(
        archive_of("grid", {"bert": {}}, ["pair"], seeds=[1, 2, 3], failed=[failed], not_run=["bert/pair/base/seed-3"])
    )
    row = rows()[1]
    assert (row["state"], row["reason"]) == ("failed", REASON)
    assert row["log"] == f"results/grid/logs/train/{failed}.log"
    assert [row["state"] for row in rows()] == ["done", "failed", "not run"]
    text = status_text(look([Observer(MERGED)])[0])
    assert "Cells: 1 done, 0 running, 0 queued, 1 failed, 1 not begun." in text
    assert "This is an import; what is missing was missing where it ran." in text
    assert "snakemake runs" not in text and "Left:" not in text and "waits for" not in text
    assert f"FAILED {failed}: the loss is nan at step 3" in text


def test_a_result_that_is_gone_is_not_said_to_be_not_run(archive_of):
    merged(archive_of("grid", {"bert": {}}, ["pair"]))
    (MERGED / "runs/bert/pair/base/seed-42/all_results.json").unlink()
    (found,) = read_outcomes(newest_plan(MERGED))
    assert found.has_failed and found.reason == "its result was imported, and is gone; import it again"


def test_reports_and_the_config_are_kept_apart_from_what_is_made_here(archive_of, tmp_path):
    merged(archive_of("grid", {"bert": {}}, learning_rate=3e-5))
    original = tmp_path / "clone-grid" / "results" / "grid" / "results.md"
    assert (MERGED / "imported/1-grid/results.md").read_bytes() == original.read_bytes()
    assert read_json(MERGED / "imported/1-grid/config.json")["learning_rate"] == 3e-5
    assert sorted(path.name for path in (MERGED / "imported/1-grid").iterdir()) == [
        "config.json",
        "manifest.json",
        *sorted(TABLES),
    ]


def test_the_config_of_an_archive_is_an_experiment_file(archive_of):
    merged(archive_of("grid", {"bert": {}}, seeds=[1, 2], learning_rate=[1e-5, 2e-5]))
    again = load_experiment(MERGED / "imported/1-grid/config.json")
    imported = newest_plan(MERGED)
    assert [run_text(cell) for cell in again.cells.values()] == [run_text(cell) for cell in imported.cells.values()]


# Several.


def test_seeds_of_two_clones_are_one_group(archive_of):
    files = [
        archive_of("grid", {"bert": {}}, seeds=[1, 2], clone="a"),
        archive_of("grid", {"bert": {}}, seeds=[3, 4, 5], clone="b"),
    ]
    lines = merged(*files)
    assert lines[:3] == ["results/merged: 10 of 10 cells with a result", "  a.zip: 4 of 4", "  b.zip: 6 of 6"]
    (pair, number) = groups(newest_plan(MERGED), read_outcomes(newest_plan(MERGED)))
    assert [outcome.cell.seed for outcome in pair.done] == [1, 2, 3, 4, 5] and len(number.done) == 5
    values = [float(row["eval_accuracy"]) for row in rows() if row["task"] == "pair"]
    assert pair.mean("eval_accuracy") == pytest.approx(sum(values) / 5)
    assert len(set(values)) > 1
    verified()


def test_variants_of_two_clones_stand_together_and_base_is_the_first(archive_of):
    first = archive_of("grid", {"bert": {}}, ["pair"], seeds=[1], learning_rate=[2e-5, 3e-5], clone="a")
    second = archive_of("grid", {"bert": {}}, ["pair"], seeds=[2], learning_rate=[2e-5, 5e-5, 3e-5], clone="b")
    merged(second, first)
    assert cells() == [
        *(f"bert/pair/base/seed-{seed}" for seed in (2, 1)),
        "bert/pair/learning_rate-5e-05/seed-2",
        *(f"bert/pair/learning_rate-3e-05/seed-{seed}" for seed in (2, 1)),
    ]
    verified()


def test_base_is_the_first_also_where_it_is_of_a_later_archive(archive_of):
    archive_of("grid", {"bert": {}}, ["pair"], seeds=[1], learning_rate=2e-5, clone="a")
    first = archive_of("grid", {"bert": {}}, ["pair"], seeds=[1], learning_rate=[3e-5, 5e-5], clone="a")
    merged(first, archive_of("grid", {"bert": {}}, ["pair"], seeds=[1], learning_rate=2e-5, clone="b"))
    variants = [row["variant"] for row in rows()]
    assert variants == ["base", "learning_rate-3e-05", "learning_rate-5e-05"]
    verified()


def test_seeds_that_start_from_the_same_seeds_of_another_task_go_together(archive_of):
    values = {"number": {"init_from": "pair"}}
    first = archive_of("grid", BERT, seeds=[1], clone="a", **values)
    merged(first, archive_of("grid", BERT, seeds=[2], clone="b", **values))
    assert cells() == [f"bert/{task}/base/seed-{seed}" for task in ("pair", "number") for seed in (1, 2)]
    verified()


def test_models_and_tasks_of_several_clones_stand_in_one_table(archive_of):
    files = [
        archive_of("one", {"bert": {}, "roberta": {}}, seeds=[1, 2]),
        archive_of("two", {"bert": {}, "electra": {}}, ["pair"], seeds=[3]),
        archive_of("three", {"albert": {}, "bert": {}}, ["number"], seeds=[4], failed=["albert/number/base/seed-4"]),
    ]
    merged(*files)
    table = (MERGED / "results.md").read_text(encoding="utf-8").partition("## Models by tasks")[2]
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    (header, *body) = lines[:5]
    assert header == ["Model", "Pair", "number", "Mean"]
    assert [row[0] for row in body] == ["bert", "roberta", "electra", "albert"]
    assert body[2][2] == "-" and body[2][3].endswith("\\*")
    assert body[3][1:] == ["-", "failed", "-"]
    findings = verified()
    assert findings.cells == 8 + 2 + 2


def test_reports_are_made_of_an_import(archive_of, project):
    merged(
        archive_of("one", {"bert": {}, "roberta": {}}, seeds=[1, 2], failed=["bert/pair/base/seed-2"]),
        archive_of("two", {"electra": {}}, ["number"], seeds=[1, 2]),
    )
    command = [sys.executable, project / "scripts" / "commands.py", "reports", "merged"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Rewritten below results/merged: results, parity_table, compare, report\n"
    lines = (MERGED / "table.tex").read_text(encoding="utf-8").splitlines()
    (electra,) = [line for line in lines if line.startswith("electra & ")]
    assert electra.split(" & ")[1] == "-" and r"\pm" in electra.split(" & ")[2] and "(1 of 2 tasks)" in electra
    page = (MERGED / "report.html").read_text(encoding="utf-8")
    links = set(re.findall(r'href="([^#"]+)"', page))
    assert links and all((MERGED / link).exists() for link in links if not link.startswith("http"))
    (on_pair,) = [each for each in read_json(MERGED / "comparisons.json")["tasks"] if "pair" in str(each)]
    assert "electra" not in str(on_pair)
    verified()


def test_a_cell_that_is_in_several_archives_counts_once(archive_of):
    first = archive_of("grid", {"bert": {}}, seeds=[1, 2], clone="a")
    second = archive_of("grid", {"bert": {}}, seeds=[2, 3], clone="b")
    lines = merged(first, second)
    assert "  2 of them are in several archives, with the same predictions, and count once" in lines
    assert [row["seed"] for row in rows()] == ["1", "2", "3"] * 2
    verified()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_result_counts_more_than_a_failure_and_a_failure_more_than_nothing(archive_of, order):
    def cell(seed: int) -> str:
        return f"bert/pair/base/seed-{seed}"

    archive_of("grid", {"bert": {}}, ["pair"], seeds=[1, 2, 3], failed=[cell(1)], not_run=[cell(2)], clone="a")
    archive_of("grid", {"bert": {}}, ["pair"], seeds=[1, 2], failed=[cell(2)], clone="b")
    merged(*(f"{name}.zip" for name in order))
    found = {row["seed"]: (row["state"], row["reason"]) for row in rows()}
    assert found == {"1": ("done", ""), "2": ("failed", REASON), "3": ("done", "")}
    verified()


def test_values_that_only_the_machine_needed_do_not_part_cells(archive_of):
    first = archive_of("grid", {"bert": {}}, seeds=[1], threads=2, save_model="last", clone="a")
    second = archive_of("grid", {"bert": {}}, seeds=[2], threads=8, per_device_eval_batch_size=64, clone="b")
    merged(first, second)
    assert [row["seed"] for row in rows()] == ["1", "2"] * 2


def test_the_same_files_from_other_places_are_the_same(archive_of):
    bert = {"source": "org/copy-of-bert", "revision": "main"}
    data = {"source": "lab/copy", "revision": "v2", "folder": "data"}
    first = archive_of("grid", {"bert": {}}, ["pair"], seeds=[1], clone="a")
    second = archive_of("grid", {"bert": bert}, ["pair"], seeds=[2], pair=data, clone="b")
    merged(first, second)
    assert cells() == ["bert/pair/base/seed-1", "bert/pair/base/seed-2"]
    verified()


UNLIKE = {
    "value": (BERT, {"learning_rate": 3e-5}, "bert/pair/base: learning_rate is 3e-05 and 2e-05, in b.zip and a.zip"),
    "option": (BERT, {"lora": {}}, "bert/pair/base: lora is {"),
    "data": (BERT, {"files": {"pair": "other"}}, "the task pair: its files are others, in b.zip and a.zip"),
    "model": (BERT, {"files": {"bert": "other"}}, "the model bert: its files are others, in b.zip and a.zip"),
    "labels": (BERT, {"pair": {"labels": ["yes", "no"]}}, "the task pair: labels is ['yes', 'no'] and ['no', 'yes'],"),
    "metrics": (BERT, {"pair": {"metrics": ["accuracy"]}}, "the task pair: metrics is ['accuracy'] and"),
    "code": ({"bert": {"trust_remote_code": True}}, {}, "the model bert: trust_remote_code is true and not given,"),
}


@pytest.mark.parametrize(("models", "values", "problem"), UNLIKE.values(), ids=UNLIKE)
def test_what_is_not_alike_is_not_put_together(archive_of, models, values, problem):
    files = [
        archive_of("grid", BERT, ["pair"], seeds=[1, 2], clone="a"),
        archive_of("grid", models, ["pair"], clone="b", **({"seeds": [3]} | values)),
    ]
    message = refusal(*files)
    assert message.startswith(problem)
    assert len(message.splitlines()) == 2
    assert message.splitlines()[-1].startswith("to keep both, put a label before one: ")
    labelled = merged(files[0], f"lab={files[1]}")
    assert "  b.zip: 1 of 1, its models labelled lab" in labelled
    task = "lab.pair" if problem.startswith("the task") else "pair"
    assert cells() == ["bert/pair/base/seed-1", "bert/pair/base/seed-2", f"lab.bert/{task}/base/seed-3"]
    verified()


def test_models_without_a_result_are_told_apart_by_their_source(archive_of):
    failed = "bert/pair/base/seed-1"
    first = archive_of("grid", {"bert": {}, "other": {}}, ["pair"], seeds=[1], failed=[failed], clone="a")
    second = archive_of("grid", {"bert": {"revision": "v2"}}, ["pair"], seeds=[1], clone="b")
    assert refusal(first, second).startswith("the model bert: revision is 'v2' and 'v1', in b.zip and a.zip")


def test_other_results_of_the_same_cell_are_not_chosen_from(archive_of):
    first = archive_of("grid", BERT, ["pair"], seeds=[1, 2], clone="a")
    second = archive_of("grid", BERT, ["pair"], seeds=[2, 3], luck=1, clone="b")
    message = refusal(first, second)
    assert message.startswith("bert/pair/base/seed-2: its predictions are others, in b.zip and a.zip\n")
    merged(f"one={first}", f"two={second}")
    assert [row["model"] for row in rows()] == ["one.bert"] * 2 + ["two.bert"] * 2
    verified()


def test_of_many_differences_a_few_are_told(archive_of):
    first = archive_of("grid", BERT, ["pair"], seeds=[*range(1, 10)], clone="a")
    second = archive_of("grid", BERT, ["pair"], seeds=[*range(1, 10)], luck=1, clone="b")
    assert refusal(first, second).splitlines()[5] == "and 4 more such differences"


def test_tasks_of_other_data_have_columns_of_their_own_and_models_their_tokenizers(archive_of):
    models = {"bert": {}, "small": {"tokenizer": "bert"}}
    first = archive_of("grid", models, seeds=[1], clone="a")
    second = archive_of("grid", models, seeds=[1], files={"pair": "other"}, clone="b")
    merged(first, f"lab={second}")
    experiment = newest_plan(MERGED)
    assert list(experiment.tasks) == ["pair", "number", "lab.pair"]
    assert experiment.tasks["lab.pair"]["display_name"] == "lab.Pair"
    assert experiment.models["lab.small"]["tokenizer"] == "lab.bert"
    verified()


def test_what_a_cell_started_from_is_found_under_another_name(archive_of):
    values = {"number": {"init_from": "pair"}, "seeds": [1]}
    first = archive_of("grid", BERT, clone="a", **values)
    second = archive_of("grid", BERT, files={"pair": "other", "number": "another"}, clone="b", **values)
    merged(first, f"lab={second}")
    experiment = newest_plan(MERGED)
    started = experiment.cell("lab.bert", "lab.number", "base", "1")
    assert experiment.start_of_cell(started).name == "lab.bert/lab.pair/base/seed-1"
    assert experiment.start_of_cell(experiment.cell("bert", "number", "base", "1")).name == "bert/pair/base/seed-1"
    verified()


def test_references_of_all_archives_count(archive_of, tmp_path):
    row = {"model": "org/bert", "task": "pair", "metric": "accuracy", "value": 70, "decimals": 1, "split": "validation"}
    row |= {"statistic": "single run", "source": {"text": "x"}}
    for name in ("ours", "theirs"):
        content = {"label": name, "rows": [row]}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")
    first = archive_of("grid", BERT, seeds=[1], references=["../ours.yaml"], clone="a")
    second = archive_of("grid", BERT, seeds=[2], references=["../ours.yaml", "../theirs.yaml"], clone="b")
    merged(first, second)
    assert [each["label"] for each in newest_plan(MERGED).config["references"]] == ["ours", "theirs"]
    found = read_outcomes(newest_plan(MERGED))
    verdicts = parity_content(newest_plan(MERGED), groups(newest_plan(MERGED), found))["verdicts"]
    assert [each["reference"]["label"] for each in verdicts] == ["ours", "theirs"]
    verified()


def test_an_import_can_be_exported_and_imported_again(archive_of):
    first = archive_of("grid", BERT, seeds=[1, 2], failed=["bert/pair/base/seed-2"], clone="a")
    second = archive_of("grid", BERT, seeds=[1], files={"pair": "other"}, clone="b")
    merged(first, f"lab={second}")
    list(export_experiment(RESULTS, "merged", Path("again.zip")))
    before = {name: (MERGED / name).read_bytes() for name in TABLES}
    shutil.rmtree(RESULTS)
    merged("again.zip")
    assert {name: (MERGED / name).read_bytes() for name in TABLES} == before
    assert (MERGED / "imported/1-merged/imported/2-grid/config.json").exists()
    verified()


# Where it goes.


def test_what_was_run_here_is_never_overwritten(archive_of):
    archive = archive_of("grid", BERT)
    write_experiment("merged", BERT, ["pair"])
    message = refusal(archive)
    assert (
        message == "results/merged: was run in this clone and is not replaced; give the import another EXPERIMENT=..."
    )


def test_snakemake_does_not_run_an_experiment_of_the_name_of_an_import(archive_of):
    merged(archive_of("grid", BERT))
    config = {"experiment": "merged", "models": {"bert": {"source": "org/bert"}}, "tasks": ["rte"]}
    Path("config.yaml").write_text(json.dumps(config), encoding="utf-8")
    settings = SimpleNamespace(configfiles=[], config={})
    with pytest.raises(SystemExit) as ended:
        experiment_of_workflow(SimpleNamespace(is_main_process=True, config_settings=settings, basedir="."))
    assert str(ended.value) == "results/merged: is an import (docs/sharing.md); rename this experiment"
    settings.config = {"experiment": "mine"}
    assert (
        experiment_of_workflow(SimpleNamespace(is_main_process=True, config_settings=settings, basedir=".")).name
        == "mine"
    )


def test_a_folder_with_anything_else_in_it_is_not_overwritten_either(archive_of):
    archive = archive_of("grid", BERT)
    MERGED.mkdir(parents=True)
    (MERGED / "notes.txt").write_text("mine", encoding="utf-8")
    assert refusal(archive).startswith("results/merged: was run in this clone")


def test_an_import_takes_the_place_of_the_one_before_as_a_whole(archive_of):
    first, second = archive_of("grid", {"bert": {}, "roberta": {}}), archive_of("other", {"electra": {}}, ["pair"])
    merged(first)
    merged(second)
    assert cells() == ["electra/pair/base/seed-42"]
    assert [path.name for path in (MERGED / "runs").iterdir()] == ["electra"]
    assert len(list((MERGED / "heads").iterdir())) == 1
    assert sorted(path.name for path in RESULTS.iterdir()) == ["merged"]


@pytest.mark.parametrize("slow", ["archive.ArchiveFile.unpack", "importing.write_plan", "importing.write_tables"])
def test_an_import_that_is_killed_leaves_nothing_and_the_next_one_cleans_up(archive_of, slow):
    first, second = archive_of("grid", {"bert": {}}), archive_of("other", {"electra": {}}, ["pair"])
    after = 3 if "unpack" in slow else 1

    def killed(file: str) -> None:
        killed_in_between(
            "importing", slow, f"list(importing.import_archives(Path('results'), 'merged', ['{file}']))", after
        )

    killed(first)
    assert not MERGED.exists()
    assert not any(RESULTS.glob("*/heads")) and any(RESULTS.glob(".merged.*"))
    merged(first)
    before = files_of(MERGED)
    killed(second)
    assert files_of(MERGED) == before
    merged(second)
    assert cells() == ["electra/pair/base/seed-42"]
    assert sorted(path.name for path in RESULTS.iterdir()) == ["merged"]


@pytest.mark.parametrize("arguments", [[], [""], ["merged"]])
def test_without_an_archive_it_says_how_one_is_named(archive_of, arguments):
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    done = subprocess.run(
        [sys.executable, scripts / "commands.py", "import", *arguments], capture_output=True, text=True
    )
    said = 'gluegrid: name the files and the new experiment: make import EXPERIMENT=merged FILES="a.zip'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f'{said} b.zip"\n')


def test_two_imports_at_once_do_not_disturb_each_other(archive_of):
    archive = archive_of("grid", {"bert": {}})
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    command = [sys.executable, scripts / "commands.py", "import"]
    started = [subprocess.Popen([*command, name, archive]) for name in ("one", "one", "one.2", "one")]
    assert [process.wait(HANG) for process in started] == [0] * 4
    for name in ("one", "one.2"):
        verified(RESULTS / name)
    assert sorted(path.name for path in RESULTS.iterdir()) == ["one", "one.2"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", ".hidden", "x" * 65, "a b"])
def test_names_are_those_that_an_experiment_may_have(archive_of, name):
    archive = archive_of("grid", {"bert": {}})
    with pytest.raises(GluegridError, match=r"EXPERIMENT .*: must be letters a-z"):
        merged(archive, name=name)
    with pytest.raises(GluegridError, match=r"FILES: the label|cannot be read"):
        merged(f"{name or '-'}={archive}")
    assert not RESULTS.exists()


def test_a_label_that_makes_too_long_a_name_is_refused(archive_of):
    archive = archive_of("grid", {"bert": {}})
    assert "the label makes a name of 'xxx" in refusal(f"{'x' * 62}={archive}")


def test_a_file_with_a_sign_of_equality_in_its_name_is_a_file(archive_of):
    Path(archive_of("grid", {"bert": {}})).rename("a=b.zip")
    merged("a=b.zip")
    assert {row["model"] for row in rows()} == {"bert"}
    merged("lab=a=b.zip")
    assert {row["model"] for row in rows()} == {"lab.bert"}


# For real.


@pytest.mark.long
def test_the_demo_is_exported_and_imported_by_make_and_verified_in_another_clone(demo, tmp_path):
    here, there = copy_of(demo, tmp_path / "here"), copy_of(demo, tmp_path / "there")

    def make(clone, *arguments: str) -> str:
        command = ["make", "--old-file=.venv/installed", *arguments]
        done = subprocess.run(command, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert make(here, "export", "EXPERIMENT=demo").startswith("demo.zip: 18 of 18 cells with a result, ")
    with zipfile.ZipFile(here.root / "demo.zip") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    assert not any(private.encode() in content for content in contents for private in (str(here.root), str(demo.root)))
    for folder in ("results", "resources", "demo/generated"):
        shutil.rmtree(there.root / folder)
    shutil.copy(here.root / "demo.zip", there.root / "the demo.zip")
    with pytest.raises(AssertionError, match="cannot be read"):
        make(there, "import", "FILES=demo.zip", "EXPERIMENT=theirs")
    (there.root / "the demo.zip").rename(there.root / "demo.zip")
    assert make(there, "import", "FILES=demo.zip other=demo.zip", "EXPERIMENT=theirs").startswith(
        "results/theirs: 36 of 36"
    )
    verified = make(there, "verify", "EXPERIMENT=theirs")
    assert "cells with a result: 36 of 36" in verified and verified.endswith("verified: everything fits\n")
    assert "theirs: 4 models x 9 tasks, 36 cells" in make(there, "status", "EXPERIMENT=theirs")
    assert "theirs " in make(there, "disk")
    make(there, "clean-state", "YES=1")
    make(there, "verify")
    assert json.loads((there.root / "results/theirs/results.json").read_text())["experiment"] == "theirs"
