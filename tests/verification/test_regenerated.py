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
from gluegrid.common.files import read_json, sha256
from gluegrid.common.paths import state_folder
from gluegrid.execution import attempts
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.cell import run_hash, run_text
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


def frozen() -> Experiment:
    return Experiment(read_json(next(FOLDER.glob("heads/*.json")))["config"])


def make_anew(experiment: Experiment) -> None:
    """Do what `make reports` does."""
    found = read_outcomes(experiment)
    write_tables(experiment, found)
    write_parity(experiment, found)
    write_comparisons(experiment, compare(experiment, found))
    write_report(experiment, read_outcomes(experiment))


def noted() -> dict[str, str]:
    """Return the notes of a verification that finds no problem, by the files that they are of."""
    findings = verify_experiment(FOLDER, Hashes())
    assert findings.problems == []
    assert all(f"  note: {note}" in list(summary(findings)) for note in findings.notes)
    return dict(note.split(": outdated, ") for note in findings.notes)


OF_OTHER_RESULTS = "made from other results than the current ones; to rewrite: make reports EXPERIMENT=small"
COMPARISONS = "results/small/comparisons.md, results/small/comparisons.json"
REPORT = "results/small/report.html, results/small/table.tex"
TABLES = "results/small/results.csv, results/small/results.json, results/small/results.md"


@pytest.mark.parametrize("are_tables_anew", [True, False])
def test_what_was_made_before_a_cell_was_trained_is_outdated_and_no_problem(made, are_tables_anew):
    experiment = frozen()
    results = made / "runs/tiny/mrpc/base/seed-2/all_results.json"
    content = results.read_bytes()
    results.unlink()
    make_anew(experiment)
    assert noted() == {}
    results.write_bytes(content)
    if are_tables_anew:
        write_tables(experiment, read_outcomes(experiment))
    expected = [COMPARISONS, REPORT, *([] if are_tables_anew else [TABLES])]
    # Not parity: it has nothing of this model's, and would be the same.
    assert noted() == dict.fromkeys(expected, OF_OTHER_RESULTS)
    make_anew(experiment)
    assert noted() == {}


def test_a_report_that_is_older_than_the_comparisons_is_outdated(made):
    for name in ("comparisons.json", "comparisons.md"):
        (made / name).unlink()
    experiment = frozen()
    write_report(experiment, read_outcomes(experiment))
    assert noted() == {}
    write_comparisons(experiment, compare(experiment, read_outcomes(experiment)))
    assert noted() == {REPORT: OF_OTHER_RESULTS}


def test_what_is_outdated_and_edited_is_a_problem(made):
    replace(made / "table.tex", "&", "& 9")
    (made / "runs/tiny/mrpc/base/seed-2/all_results.json").unlink()
    write_tables(frozen(), read_outcomes(frozen()))
    findings = verify_experiment(made, Hashes())
    assert {Path(problem.partition(":")[0]).name for problem in findings.problems} == {"report.html", "table.tex"}
    assert [note.partition(": outdated")[0] for note in findings.notes] == [COMPARISONS]


def test_a_contradiction_to_what_a_file_says_it_was_made_from_is_a_problem(made):
    """Somebody who edits a number may note the new hash as well: what it was made from is there all the same."""
    path = made / "table.tex"
    noted_before = made / "made_from.jsonl"
    before = sha256(path)
    replace(path, "&", "& 9")
    replace(noted_before, before, sha256(path))
    (problem,) = problems()
    assert problem.startswith(f"{path}: line ")


def test_what_another_version_made_otherwise_is_outdated(made):
    path, lines = made / "comparisons.md", made / "made_from.jsonl"
    before = sha256(path)
    replace(path, "Scores x 100", "Scores times 100")
    entries = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    for entry in entries:
        entry["code"] = "0" * 64
        entry["sha256"] = entry["sha256"].replace(before, sha256(path))
    lines.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    told = "made by another version of gluegrid or of its numerical libraries"
    assert noted() == {COMPARISONS: f"{told}; to rewrite: make reports EXPERIMENT=small"}


def test_what_an_earlier_release_made_otherwise_is_outdated(made):
    replace(made / "report.html", "</svg>", "</svg><!-- as it was drawn then -->")
    (made / "made_from.jsonl").unlink()
    told = "made by an earlier release, which did not record its sources"
    assert noted() == {REPORT: f"{told}; to rewrite: make reports EXPERIMENT=small"}


@pytest.mark.parametrize("line", ["", "{", "[1]", "{}", '{"file": 1, "sha256": 2, "results": 3, "code": 4}'])
def test_a_line_that_notes_nothing_is_left_out(made, line):
    with (made / "made_from.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
    assert noted() == {}


def test_more_seeds_make_tables_outdated_until_they_are_made_anew(made):
    head = next(made.glob("heads/*.json"))
    content = read_json(head)
    content["config"]["seeds"] = [1, 2, 3]
    head.write_text(json.dumps(content), encoding="utf-8")
    assert noted()[TABLES] == OF_OTHER_RESULTS
    make_anew(frozen())
    assert noted() == {}


@pytest.mark.parametrize("is_run_json_written", [True, False])
def test_results_of_an_earlier_plan_are_no_problem_until_they_are_made_anew(made, is_run_json_written):
    """A value was changed, and the call was interrupted before it had trained the cells anew, or trains none."""
    before = frozen()
    for cell in before.cells.values():
        if cell.name != FAILED:
            state = state_folder(Path(before.paths.run.format(**cell.wildcards)))
            attempts.start(state, run_hash(run_text(cell)))
            attempts.end(state, Reason(Cause.DONE))
    head = next(made.glob("heads/*.json"))
    content = read_json(head)
    content["config"]["tasks"]["mrpc"]["learning_rate"] = 3e-5
    head.write_text(json.dumps(content), encoding="utf-8")
    experiment = frozen()
    changed = [cell for cell in experiment.cells.values() if cell.task == "mrpc"]
    for cell in changed if is_run_json_written else []:
        Path(experiment.paths.run.format(**cell.wildcards)).write_text(run_text(cell), encoding="utf-8")
    note = (
        f"results of an earlier plan, which snakemake will retrain: {', '.join(sorted(cell.name for cell in changed))}"
    )
    for make in (lambda: None, lambda: make_anew(experiment)):
        make()
        findings = verify_experiment(FOLDER, Hashes())
        assert findings.problems == []
        assert findings.notes[0] == f"results/small: {note}"
        assert {*findings.without_result} == {FAILED, *(cell.name for cell in changed)}
    assert findings.notes == [f"results/small: {note}"]
    record = Path(experiment.paths.run_record.format(**changed[0].wildcards))
    replace(record, read_json(record)["run_sha256"], "0" * 64)
    assert any(problem.startswith(f"{record}: run_sha256 is 000000000000") for problem in problems())


def test_an_experiment_whose_call_was_killed_before_its_tables_has_none_yet(made):
    for name in (*MADE, "results.md", "results.csv", "results.json"):
        (made / name).unlink()
    findings = verify_experiment(made, Hashes())
    assert findings.problems == []
    assert findings.notes == ["results/small: has no tables yet; to write them: make reports EXPERIMENT=small"]


def test_tables_elsewhere_may_be_outdated_too(made):
    results = made / "runs/tiny/mrpc/base/seed-2/all_results.json"
    content = results.read_bytes()
    results.unlink()
    write_tables(frozen(), read_outcomes(frozen()))
    results.write_bytes(content)
    shutil.move(made, "archive/small")
    findings = verify_experiment(Path("archive/small"), Hashes())
    assert findings.problems == []
    (note,) = findings.notes
    assert note.endswith(OF_OTHER_RESULTS)


def test_runs_that_do_not_fit_are_told_alone(made):
    replace(made / "runs/tiny/mrpc/base/seed-2/all_results.json", '"eval_accuracy": 0', '"eval_accuracy": 1')
    findings = verify_experiment(made, Hashes())
    assert findings.made_again == []
    assert [path.name for path in findings.not_made_again] == [*MADE]
    assert any(line.startswith("  not compared, since their sources do not fit") for line in summary(findings))


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


def test_comparisons_of_models_whose_results_are_gone_are_outdated_and_the_tables_are_not(made):
    for path in made.glob("runs/tiny/*/*/*/all_results.json"):
        path.unlink()
    (made / "report.html").unlink()
    (made / "table.tex").unlink()
    (made / "made_from.jsonl").unlink()
    findings = verify_experiment(made, Hashes())
    assert any(note.startswith(f"{COMPARISONS}: outdated, ") for note in findings.notes)
    assert any("tiny/mrpc/base/seed-1: state is 'done'" in line for line in findings.problems)


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


def test_a_submission_of_other_runs_than_there_are_is_outdated(submitted):
    Path("results/small/runs/tiny/rte/base/seed-2/all_results.json").unlink()
    findings = Findings(Hashes())
    compare_made_again(submitted, findings)
    assert findings.problems == []
    (note,) = findings.notes
    assert note.startswith(
        f"{ZIP}, {ZIP.with_suffix('.json')}: outdated, made from other results than the current ones"
    )
    assert note.endswith("to rewrite: snakemake submission")
    rewritten(AX=None)
    (problem,) = problems_of_submission(submitted)
    assert problem.startswith(f"{ZIP}: cannot be made from these runs: tiny: cells that a submission")
