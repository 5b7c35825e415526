"""`make verify` of what is made from runs beside the tables: parity, comparisons, report and submissions."""

import contextlib
import json
import shutil
import zipfile
from pathlib import Path

import glue_cells
import pytest
import verifiable

from gluegrid.analysis.comparison_report import write_comparisons
from gluegrid.analysis.comparisons import compare
from gluegrid.analysis.glue_submission import write_submission
from gluegrid.common.files import read_json
from gluegrid.experiment.experiment import Experiment
from gluegrid.report.write import write_report
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.parity_report import write_parity
from gluegrid.results.results_md import write_tables
from gluegrid.verification.findings import Findings, Hashes
from gluegrid.verification.regenerated import compare_made_again
from gluegrid.verification.verify import summary, verify_experiment

FOLDER = Path("results/small")
MADE = ("parity.md", "parity.json", "comparisons.md", "comparisons.json", "report.html", "table.tex")
ZIP = FOLDER / "submissions/tiny/submission.zip"
CONFIG = {
    "experiment": "small",
    "models": {
        "tiny": {"source": "./model"},
        "bert": {"source": "google-bert/bert-base-uncased", "revision": "1", "tokenizer": "tiny"},
    },
    "task_defaults": {"source": "./data", "revision": "1"},
    "tasks": {"mrpc": {"max_train_samples": 24}, "stsb": {}},
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "seeds": [1, 2],
    "device": "cpu",
}
FAILED = "bert/stsb/base/seed-2"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with contextlib.chdir(folder):
        experiment = verifiable.write_experiment(CONFIG, FAILED, "", [])
        found = read_outcomes(experiment)
        write_parity(experiment, found)
        write_comparisons(experiment, compare(experiment, found))
        write_report(experiment, found)
    return folder


@pytest.fixture
def made(original, tmp_path, monkeypatch) -> Path:
    shutil.copytree(original, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return FOLDER


@pytest.fixture(scope="module")
def original_submission(tmp_path_factory) -> tuple[Path, Experiment]:
    folder = tmp_path_factory.mktemp("submission")
    with contextlib.chdir(folder):
        experiment = glue_cells.experiment(folder)
        for cell in experiment.cells.values():
            glue_cells.write_cell(experiment, cell, 0.5 + 0.1 * cell.seed)
        write_submission(experiment, "tiny")
    return folder, experiment


@pytest.fixture
def submitted(original_submission, tmp_path, monkeypatch) -> Experiment:
    folder, experiment = original_submission
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return experiment


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def problems() -> list[str]:
    return verify_experiment(FOLDER, Hashes()).problems


def problems_of_submission(experiment: Experiment) -> list[str]:
    findings = Findings(Hashes())
    compare_made_again(experiment, findings)
    return findings.problems


def test_untouched_files_fit_and_are_named(made):
    findings = verify_experiment(made, Hashes())
    assert findings.problems == []
    assert f"  made again and compared: {', '.join(str(made / name) for name in MADE)}" in list(summary(findings))


def test_what_is_not_there_is_not_looked_for(made):
    for name in MADE:
        (made / name).unlink()
    findings = verify_experiment(made, Hashes())
    assert (findings.problems, findings.made_again, findings.not_made_again) == ([], [], [])


def test_an_interval_is_that_of_the_runs(made):
    path = made / "comparisons.json"
    content = read_json(path)
    low = content["tasks"][0]["difference"]["low"]
    replace(path, f'"low": {json.dumps(low)}', '"low": 0.125')
    findings = verify_experiment(made, Hashes())
    (problem,) = findings.problems
    assert problem.startswith(f"{path}: line ")
    assert '"low": 0.125' in problem
    assert json.dumps(low) in problem
    # The report shows what comparisons.json says.
    assert findings.not_made_again == [made / "report.html", made / "table.tex"]


def test_comparisons_of_more_resamples_fit_too(made):
    experiment = Experiment(read_json(next(made.glob("heads/*.json")))["config"])
    write_comparisons(experiment, compare(experiment, read_outcomes(experiment), 12_000))
    write_report(experiment, read_outcomes(experiment))
    assert problems() == []
    replace(made / "comparisons.json", '"resamples": 12000', '"resamples": 100000000000')
    assert len(problems()) == 2  # comparisons.md too, since 100,000,000,000 are not tried


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("comparisons.md", "| tiny", "| tiny2"),
        ("parity.json", '"tolerance": ', '"tolerance": 1'),
        ("parity.md", "±", "+"),
        ("report.html", "</svg>", "</svg>!"),
        ("report.html", "MRPC", "MRPD"),
        ("table.tex", "&", "& 9"),
        ("table.tex", "\n", "\r\n"),
    ],
)
def test_every_byte_is_compared(made, name, old, new):
    replace(made / name, old, new)
    (problem,) = problems()
    assert problem.startswith(f"{made / name}: line ")
    assert "the runs give" in problem


def test_lines_at_the_end_are_compared_too(made):
    with (made / "comparisons.md").open("a", encoding="utf-8") as stream:
        stream.write("| tiny | better |\n")
    (problem,) = problems()
    assert "'| tiny | better |', the runs give ''" in problem


def test_files_that_are_older_than_the_runs_are_told(made):
    experiment = Experiment(read_json(next(made.glob("heads/*.json")))["config"])
    (made / "runs/tiny/mrpc/base/seed-2/all_results.json").unlink()
    write_tables(experiment, read_outcomes(experiment))
    found = {Path(problem.partition(":")[0]).name for problem in problems()}
    assert {"comparisons.json", "comparisons.md"} <= found
    assert not {"results.md", "results.csv", "results.json"} & found


def test_a_report_that_is_older_than_the_runs_is_told(made):
    experiment = Experiment(read_json(next(made.glob("heads/*.json")))["config"])
    for name in ("comparisons.json", "comparisons.md", "runs/tiny/mrpc/base/seed-2/all_results.json"):
        (made / name).unlink()
    write_tables(experiment, read_outcomes(experiment))
    assert {Path(problem.partition(":")[0]).name for problem in problems()} == {"report.html", "table.tex"}


def test_runs_that_do_not_fit_are_told_alone(made):
    replace(made / "runs/tiny/mrpc/base/seed-2/all_results.json", '"eval_accuracy": 0', '"eval_accuracy": 1')
    findings = verify_experiment(made, Hashes())
    assert findings.made_again == []
    assert [path.name for path in findings.not_made_again] == [*MADE]
    assert any(
        line.startswith("  not compared, since what they are made from does not fit") for line in summary(findings)
    )


def test_an_experiment_that_lies_elsewhere_is_not_expected_to_say_so(made):
    shutil.move(made, "archive/small")
    findings = verify_experiment(Path("archive/small"), Hashes())
    assert findings.problems == []
    assert findings.not_made_again == [Path("archive/small", name) for name in MADE]


def test_an_absolute_path_is_no_other_place(made):
    assert len(verify_experiment(made.resolve(), Hashes()).made_again) == len(MADE)


def test_what_is_no_json_is_told(made):
    (made / "comparisons.json").write_text("[1", encoding="utf-8")
    (problem,) = problems()
    assert "comparisons.json: cannot be read as JSON" in problem


def test_comparisons_of_fewer_models_than_two_are_told(made):
    for path in made.glob("runs/tiny/*/*/*/all_results.json"):
        path.unlink()
    (made / "report.html").unlink()
    (made / "table.tex").unlink()
    assert any("comparisons.md: could not be made of the runs there are: small: 1 of 2" in line for line in problems())


def test_an_untouched_submission_fits(submitted):
    findings = Findings(Hashes())
    compare_made_again(submitted, findings)
    assert findings.problems == []
    assert findings.made_again == [ZIP]


def rewritten(**changed: str | None) -> None:
    """Replace the contents of files of the zip, or leave them out."""
    with zipfile.ZipFile(ZIP) as archive:
        contents = {name: archive.read(name).decode() for name in archive.namelist()}
    contents |= {f"{name}.tsv": text for name, text in changed.items()}
    with zipfile.ZipFile(ZIP, "w") as archive:
        for name, text in contents.items():
            if text is not None:
                archive.writestr(name, text)


def test_a_label_of_the_zip_is_that_of_the_predictions(submitted):
    with zipfile.ZipFile(ZIP) as archive:
        lines = archive.read("RTE.tsv").decode().split("\n")
    index, label = lines[7].split("\t")
    lines[7] = f"{index}\t{'entailment' if label == 'not_entailment' else 'not_entailment'}"
    rewritten(RTE="\n".join(lines))
    of_file, of_zip = problems_of_submission(submitted)
    assert of_file.startswith(f"{ZIP}/RTE.tsv: line 8 has ")
    assert "zip_sha256" in of_zip


def test_a_file_that_the_zip_lacks_is_told(submitted):
    rewritten(AX=None)
    (problem,) = problems_of_submission(submitted)
    assert problem.startswith(f"{ZIP}: holds CoLA.tsv, ")
    assert "it should hold AX.tsv, " in problem


def test_where_a_prediction_comes_from_is_compared(submitted):
    replace(ZIP.with_suffix(".json"), '"seed": 2', '"seed": 1')
    (problem,) = problems_of_submission(submitted)
    assert problem.startswith(f"{ZIP.with_suffix('.json')}: line ")


@pytest.mark.parametrize(
    ("place", "content", "problem"),
    [
        (0, b"no zip", "Bad magic number for file header"),
        (60, b"\xff" * 40, "Error -3 while decompressing data"),
        (-22, b"no end", "File is not a zip file"),
    ],
)
def test_what_is_no_zip_is_told(submitted, place, content, problem):
    damaged = bytearray(ZIP.read_bytes())
    damaged[place : place + len(content)] = content
    ZIP.write_bytes(damaged)
    (told,) = problems_of_submission(submitted)
    assert told.startswith(f"{ZIP}: cannot be read: {problem}")


def test_an_encrypted_zip_is_told(submitted):
    content = bytearray(ZIP.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first entry
    content[6] |= 1
    ZIP.write_bytes(content)
    (problem,) = problems_of_submission(submitted)
    assert problem.startswith(f"{ZIP}: cannot be read: File 'CoLA.tsv' is encrypted")


def test_bytes_that_are_no_text_are_told(made):
    (made / "table.tex").write_bytes(b"\xff" + (made / "table.tex").read_bytes())
    (problem,) = problems()
    assert problem.startswith(f"{made / 'table.tex'}: line 1 has ")


def test_a_submission_of_runs_that_have_gone_is_told(submitted):
    Path("results/small/runs/tiny/rte/base/seed-2/all_results.json").unlink()
    (problem,) = problems_of_submission(submitted)
    assert problem.startswith(f"{ZIP}: could not be made of the runs there are: tiny: cells that a submission")
