"""Verdicts on references: above, within, below, or not compared and why; and the exit code of `snakemake parity`."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import builders
import pytest
import yaml
from clones import Clone, clone_into
from groups import outcome
from rendering import rows_of

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.references import Reference, SeedSpread
from gluegrid.results import parity
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.parity import BELOW, NOT_COMPARED, WITHIN, parity_content, verdicts
from gluegrid.results.parity_report import below, parity_in_terminal, parity_markdown, reference_sections, write_parity
from gluegrid.results.results_md import results_markdown
from gluegrid.results.selection import chosen
from gluegrid.results.summary import Group, groups
from gluegrid.verification.findings import Findings, Hashes
from gluegrid.verification.markdown import read_sections
from gluegrid.verification.runs import VerifiedRun
from gluegrid.verification.verdicts import references_by_cell, verify_verdicts

BERT = "google-bert/bert-base-uncased"
STATED = {"num_train_epochs": 3, "learning_rate": 2e-5, "train_batch_size": 32}
HOSTILE = "a|b*<i>_\u202e"


@pytest.fixture
def one_reference(monkeypatch):
    """Let there be one reference, and one spread over seeds, 1.0 of 20 runs."""

    def let(**values) -> Reference:
        known = {"label": "theirs", "model": BERT, "task": "rte", "metric": "accuracy", "value": 70.0, "decimals": 1}
        known |= {"split": "validation", "statistic": "single run", "n": 1, "source": {"text": "a paper"}}
        only = Reference(**(known | {"training": STATED} | values))
        monkeypatch.setattr(parity, "references_of", lambda config: [only])
        spreads = {("rte", "accuracy"): SeedSpread("rte", "accuracy", 1.0, 20, "bert", {"text": "measured"})}
        monkeypatch.setattr(parity.references, "seed_spreads", lambda: spreads)
        return only

    return let


def group(*accuracies, variant="base", run=None, data="", task="rte", **of_task) -> Group:
    """Return a group with a seed for each accuracy in percent; None is one without a result, a text one that failed."""
    made = [
        outcome(
            task,
            seed,
            results=None if value is None or isinstance(value, str) else {"eval_accuracy": value / 100},
            reason=value if isinstance(value, str) else None,
            data=data,
            run=run,
            variant=variant,
        )
        for seed, value in enumerate(accuracies)
    ]
    return Group("bert", builders.task(name=task, **of_task), variant, task.upper(), "Accuracy", made)


def experiment_of(**model) -> Experiment:
    entry = {"source": BERT, "revision": "1"} | model
    return Experiment({"experiment": "test", "models": {"bert": entry}, "tasks": {"rte": {}}})


def verdict(*groups, **model) -> parity.Verdict:
    (only,) = verdicts(experiment_of(**model), groups)
    return only


@pytest.mark.parametrize(
    ("ours", "word"), [(66.9, "below"), (67.1, "within"), (70, "within"), (72.9, "within"), (73.1, "above")]
)
def test_a_verdict_is_above_within_or_below(one_reference, ours, word):
    one_reference()
    found = verdict(group(ours))
    assert found.word == word
    assert found.tolerance == pytest.approx(2.093 * math.sqrt(2) + 0.05, abs=0.001)
    assert found.ours.mean == pytest.approx(ours)


def test_a_reference_of_fewer_decimals_has_a_wider_tolerance(one_reference):
    one_reference(decimals=2)
    narrow = verdict(group(70))
    one_reference(decimals=0)
    assert verdict(group(70)).tolerance - narrow.tolerance == pytest.approx(0.495)


def test_more_seeds_than_one_have_their_own_spread(one_reference):
    one_reference(statistic="mean", n=20, spread=1.0)
    found = verdict(group(69, 70, 71, 70))
    assert (found.ours.count, found.ours.mean) == (4, pytest.approx(70))
    assert found.ours.sd == pytest.approx(math.sqrt(2 / 3))
    assert found.spreads == ("our seeds", "theirs")


def test_a_test_split_is_never_compared_and_its_number_never_shown(one_reference):
    one_reference(split="test", value=12.34)
    found = verdict(group(1.0))
    assert (found.word, found.reason) == (NOT_COMPARED, "the reference is of the test split")
    content = parity_content(experiment_of(), [group(1.0)])
    assert below(content) == []
    texts = [parity_markdown(content), parity_in_terminal(content), *reference_sections(content)]
    assert not any("12.34" in text for text in texts)
    assert "the reference is of the test split" in texts[0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"statistic": "best", "n": 5}, "the reference is the best of its runs, not their mean"),
        ({"statistic": "not stated"}, "the reference does not say which statistic over its runs it is"),
        ({"training": None}, "the reference does not say how it was trained"),
        ({"metric": "f1"}, "f1 is not scored here"),
    ],
)
def test_what_a_reference_is_not_fit_for(one_reference, values, reason):
    one_reference(**values)
    found = verdict(group(1.0))
    assert (found.word, found.reason, found.ours, found.tolerance) == (NOT_COMPARED, reason, None, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": "train 24 of 2,490"}, "ours: train 24 of 2,490"),
        ({"run": {"max_train_samples": 24}}, "ours: a subset (max_train_samples 24)"),
        ({"run": {"max_eval_samples": 24}}, "ours: a subset (max_eval_samples 24)"),
        ({"run": {"selection": "holdout"}}, "ours: a part of train is held out"),
        ({"run": {"lora": {"r": 8}}}, "ours: lora"),
        ({"run": {"train_sampling_strategy": "group_by_length"}}, "ours: group_by_length"),
        ({"run": {"init_from": {"task": "mnli"}}}, "ours: from mnli"),
        ({"run": {"num_train_epochs": 5}}, "num_train_epochs 5, theirs 3"),
        ({"run": {"learning_rate": 3e-5}}, "learning_rate 3e-05, theirs 2e-05"),
        ({"run": {"gpus": 2}}, "train_batch_size 64, theirs 32"),
        (
            {"run": {"global_batch_size": 16, "num_train_epochs": 1}},
            "num_train_epochs 1, theirs 3; train_batch_size 16, theirs 32",
        ),
    ],
)
def test_what_differs_is_said_and_never_below(one_reference, changes, reason):
    one_reference()
    found = verdict(group(1.0, **changes))
    assert (found.word, found.reason) == (NOT_COMPARED, reason)
    assert below(parity_content(experiment_of(), [group(1.0, **changes)])) == []


def test_a_checkpoint_that_is_only_evaluated_is_not_compared(one_reference):
    one_reference()
    assert "ours: not trained here" in verdict(group(1.0, run={"do_train": False})).reason


def test_the_same_batch_in_parts_and_values_that_are_not_stated_do_not_matter(one_reference):
    one_reference()
    run = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "gpus": 2, "precision": "bf16"}
    run |= {"weight_decay": 0.01, "max_seq_length": 256}
    assert verdict(group(70, run=run)).word == WITHIN


def test_a_training_that_begins_from_another_task_suits_a_reference_that_does_too(one_reference):
    one_reference(training=STATED | {"init_from": "mnli"})
    assert verdict(group(70, run={"init_from": {"task": "mnli"}})).word == WITHIN
    assert verdict(group(70)).reason == "theirs: from mnli"


def in_precision(of_group: Group, *precisions: str) -> Group:
    """Return a group with records that say these precisions, seed by seed."""
    pairs = zip(of_group.outcomes, precisions, strict=True)
    return replace(of_group, outcomes=[replace(each, record={"precision": said}) for each, said in pairs])


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ("fp32", ["fp32"], "70.00 (1 seed)"),
        ("fp32", ["bf16"], "70.00 (1 seed; bf16, theirs fp32)"),
        (None, ["bf16"], "70.00 (1 seed)"),
        ("fp16", ["bf16", "tf32"], "70.00 ± 0.00 (2 seeds; bf16 and tf32, theirs fp16)"),
    ],
)
def test_another_precision_than_the_references_is_said_and_decides_nothing(one_reference, theirs, ours, said):
    one_reference(precision=theirs)
    content = parity_content(experiment_of(), [in_precision(group(*[70] * len(ours)), *ours)])
    (record,) = content["verdicts"]
    assert (record["verdict"], record["precision"]) == (WITHIN, " and ".join(ours))
    text = parity_markdown(content)
    assert f"| {said} |" in text
    assert f"\nPrecision of ours: {' and '.join(ours)}.\n" in text
    assert f"Precision of ours: {' and '.join(ours)}." in parity_in_terminal(content)
    assert f"| {said} |" in reference_sections(content)[2]


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([None], "ours was not run yet"),
        (["killed"], "ours failed"),
        ([None, "killed"], "ours failed"),
    ],
)
def test_what_has_no_result_has_no_verdict(one_reference, results, reason):
    one_reference()
    assert verdict(group(*results)).reason == reason


def test_an_undefined_metric_has_no_verdict(one_reference):
    one_reference()
    undefined = replace(group(70), outcomes=[outcome("rte", results={"eval_accuracy": None})])
    assert verdict(undefined).reason == "ours is undefined"


def test_seeds_that_failed_are_left_out(one_reference):
    one_reference()
    found = verdict(group(70, "killed", None))
    assert (found.word, found.ours.count) == (WITHIN, 1)


def test_where_nothing_says_how_much_seeds_vary_two_seeds_do(one_reference, monkeypatch):
    one_reference()
    monkeypatch.setattr(parity.references, "seed_spreads", lambda: {})
    assert verdict(group(1.0)).reason == "nothing says how much seeds vary; two seeds or more would"
    assert verdict(group(1.0, 2.0)).word == BELOW


def test_of_a_sweep_the_variant_with_the_references_values_is_compared(one_reference):
    one_reference()
    base = group(80, run={"learning_rate": 3e-5})
    same = group(70, variant="learning_rate-2e-05")
    found = verdict(base, same)
    assert (found.group.variant, found.word, found.ours.mean) == ("learning_rate-2e-05", WITHIN, pytest.approx(70))
    assert chosen([base, same])[0].variant == "base"
    assert "70.00 (1 seed; learning_rate-2e-05)" in parity_markdown(parity_content(experiment_of(), [base, same]))


def test_of_several_such_variants_the_best_is_and_that_is_said(one_reference):
    one_reference()
    several = [group(69), group(71, variant="warmup_ratio-0.1", run={"warmup_ratio": 0.1})]
    assert verdict(*several).ours.mean == pytest.approx(71)
    terminal = parity_in_terminal(parity_content(experiment_of(), several))
    assert "71.00 (1 seed; warmup_ratio-0.1; best of 2 variants)" in terminal


def test_a_model_is_compared_by_its_id_in_its_own_case_or_as_it_says(one_reference):
    one_reference()
    assert verdicts(experiment_of(source="google-bert/BERT-base-uncased"), [group(70)]) == []
    assert verdict(group(70), source="./bert", reference=BERT).word == WITHIN


def table_in(text: str) -> str:
    """Return the first table of a text."""
    return "\n".join(line for line in text.split("## ")[0].splitlines() if line.startswith("|")) + "\n"


def test_the_tables_say_what_was_compared_with_what(one_reference):
    one_reference(label="Hugging Face's README", value=84.07, decimals=2)
    content = parity_content(experiment_of(), [group(60.0)])
    section = "\n".join(reference_sections(content))
    assert "below 84.07 ± 2.96 (Hugging Face's README, one run)" in section
    assert "were not compared" not in section
    assert rows_of(table_in(parity_markdown(content)))[1] == [
        *("bert", "RTE", "accuracy", "60.00 (1 seed)", "84.07 (Hugging Face's README, one run)"),
        *("-24.07", "± 2.96", "below"),
    ]
    assert below(content) == [
        "bert/rte accuracy: 60.00 (1 seed) is below 84.07 ± 2.96 (Hugging Face's README, one run)"
    ]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"statistic": "median", "n": 5}, "70.00 (theirs, median of 5)"),
        ({"statistic": "mean", "n": None}, "70.00 (theirs, mean)"),
    ],
)
def test_the_tables_say_which_statistic_a_reference_is(one_reference, values, text):
    one_reference(**values)
    assert text in parity_markdown(parity_content(experiment_of(), [group(70)]))


def test_names_from_outside_cannot_become_markup(one_reference):
    one_reference(label=HOSTILE, source={"text": HOSTILE}, note=HOSTILE)
    named = replace(group(70), display_name=HOSTILE)
    content = parity_content(experiment_of(), [named])
    for text in (parity_markdown(content), "\n".join(reference_sections(content))):
        assert "<i>" not in text.replace("\\<i\\>", "")
        assert "\u202e" not in text
    assert len(rows_of(table_in(parity_markdown(content)))[1]) == 8
    assert "\u202e" not in parity_in_terminal(content)


@pytest.mark.parametrize(
    ("source", "task", "is_in_it"),
    [(BERT, "rte", True), (BERT, "reviews", False), ("org/bert", "rte", False), ("org/bert", "reviews", False)],
)
def test_only_who_has_its_models_and_tasks_reads_of_the_document(tmp_path, monkeypatch, source, task, is_in_it):
    monkeypatch.chdir(tmp_path)
    reviews = {"source": "org/reviews", "text_columns": ["text"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
    tasks = {task: {**(reviews if task == "reviews" else {}), "revision": "1"}}
    write_experiment(tmp_path, models={"bert": {"source": source, "revision": "1"}}, tasks=tasks)
    experiment = load_experiment(Path("mine.yaml"))
    outcomes = read_outcomes(experiment)
    content = parity_content(experiment, groups(experiment, outcomes))
    page, table, terminal = (
        results_markdown(experiment, outcomes),
        parity_markdown(content),
        parity_in_terminal(content),
    )
    assert ("## Beside the document" in page, "## References" in page) == (is_in_it, is_in_it)
    assert ("No published number" in table, "No published number" in terminal) == (not is_in_it, not is_in_it)
    assert is_in_it or "document" not in page + table + terminal


def results_of(experiment: Experiment, accuracy: float) -> None:
    """Write official results of RTE for each cell of the experiment."""
    official = experiment.tasks["rte"]["official"]
    files = {f"{split}-00000-of-00001.parquet": of["sha256"] for split, of in official.items()}
    counts = {"eval_samples": official["validation"]["rows"], "train_samples": official["train"]["rows"]}
    for cell in experiment.cells.values():
        builders.write_result(experiment, cell, {"eval_accuracy": accuracy} | counts, train_rows=2490, task_files=files)


def write_experiment(folder: Path, **values) -> None:
    model = {"source": BERT, "revision": "86b5e0934494bd15c9632b12f734a8a67f723594"}
    config = {"experiment": "mine", "num_train_epochs": 5, "device": "cpu", "models": {"bert": model}, "tasks": ["rte"]}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config | values), encoding="utf-8")


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Experiment:
    """The document's run of BERT on RTE, which had 64.98, with the results 65.70."""
    monkeypatch.chdir(tmp_path)
    write_experiment(tmp_path)
    experiment = load_experiment(Path("mine.yaml"))
    results_of(experiment, 0.657)
    return experiment


def test_the_files_have_all_of_a_verdict(mine):
    write_parity(mine, read_outcomes(mine))
    content = json.loads(Path(mine.paths.parity_json).read_text(encoding="utf-8"))
    of_document, of_2019 = sorted(
        content["verdicts"], key=lambda record: record["reference"]["label"] != "the document"
    )
    assert (of_document["verdict"], of_2019["verdict"]) == ("within", "not compared")
    assert of_document["ours"]["mean"] == pytest.approx(65.7)
    assert (of_document["ours"]["count"], of_document["ours"]["sd"]) == (1, None)
    assert of_document["reference"]["value"] == 64.98
    assert "the document" in of_document["reference"]["source"]["text"]
    assert of_document["difference"] == pytest.approx(0.72)
    assert of_document["tolerance"] == pytest.approx(2.093024 * 2.04 * math.sqrt(2) + 0.005, abs=1e-4)
    assert [origin.split(" (")[0] for origin in of_document["spreads"]] == [f"20 runs of {BERT}"] * 2
    assert of_2019["reason"] == "train_batch_size 32, theirs 24"
    text = Path(mine.paths.parity_md).read_text(encoding="utf-8")
    assert "compare its scores, within what a seed changes, and not its times" in text


def test_results_md_has_the_verdicts_and_the_document(mine):
    text = results_markdown(mine, read_outcomes(mine))
    assert "| 65.70    | 64.98 " in text
    assert "within 64.98 ± 6.04 (the document, one run)" in text
    assert "1 of 2 references were not compared" in text


def test_models_without_references_have_no_section(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path)
    assert "## References" not in results_markdown(experiment, read_outcomes(experiment))


def verified(mine: Experiment, change=lambda text: text, accuracy=0.657, record=None) -> list[str]:
    """Return what verification finds in results.md after a change of it, with this recomputed accuracy, and record."""
    path = Path("results.md")
    path.write_text(change(results_markdown(mine, read_outcomes(mine))), encoding="utf-8")
    section = next(section for section in read_sections(path) if section.title == "References")
    task = group(1.0).task
    values = {"eval_accuracy": accuracy}
    runs = [VerifiedRun(cell, task, "done", record=record or {}, values=values) for cell in mine.cells.values()]
    findings = Findings(Hashes())
    verify_verdicts(path, section, references_by_cell(mine), runs, findings)
    return findings.problems


def test_verification_agrees_with_the_verdicts(mine):
    assert verified(mine) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("65.70 (1 seed)", "65.71 (1 seed)", "is '65.71 (1 seed)', its runs give 65.70 of 1"),
        ("65.70 (1 seed)", "65.70 (2 seeds)", "its runs give 65.70 of 1"),
        ("65.70 (1 seed)", "65.70 ± 0.10 (1 seed)", "its runs give 65.70 of 1"),
        ("within 64.98", "below 64.98", "says below, the numbers say within"),
        ("within 64.98 ± 6.04", "within 64.98 ± 0.10", "says within, the numbers say above"),
        ("within 64.98", "within 66.98", "'the document' has no such reference as 66.98"),
        ("(the document, one run)", "(the paper, one run)", "'the paper' has no such reference as 64.98"),
        ("within 64.98", "near 64.98", "are not a result and a verdict"),
        ("1 of 2 references", "0 of 1 references", "references without a verdict: 0 of 1, it should be 1 of 2"),
    ],
)
def test_verification_finds_what_does_not_fit(mine, old, new, problem):
    def change(text: str) -> str:
        before, heading, section = text.partition("## References")
        assert old in section
        return before + heading + section.replace(old, new)

    (only,) = verified(mine, change)
    assert problem in only


def test_a_precision_that_is_not_the_documents_is_said_beside_it_and_verified(mine):
    (cell,) = mine.cells.values()
    path = Path(mine.paths.run_record.format(**cell.wildcards))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "bf16", "compute_paths": ["packed"]}))
    text = results_markdown(mine, read_outcomes(mine))
    assert "\nOurs in bf16, the document in fp32: RTE.\n" in text
    assert "| 65.70 (1 seed; bf16, theirs fp32) |" in text
    for precision, problem in (("fp32", "it should say none"), ("tf32", "it should say tf32, theirs fp32")):
        of_run = {"precision": precision, "compute_paths": ["packed"]}
        (only,) = verified(mine, record=of_run)
        assert only.endswith(f"is '65.70 (1 seed; bf16, theirs fp32)', {problem}")
    of_run["precision"] = "bf16"
    assert verified(mine, record=of_run) == []
    silent = [lambda text: text.replace("; bf16, theirs fp32", "")]
    assert len(verified(mine, *silent, record=of_run)) == 1
    assert verified(mine, *silent, record={"precision": "bf16"}) == []  # as tables of an older release


def test_verification_finds_a_verdict_of_another_result(mine):
    (only,) = verified(mine, accuracy=0.66)
    assert "its runs give 66.00 of 1" in only


def asked_for_parity(clone: Clone) -> tuple[int, str]:
    done = clone.snakemake("parity", "--cores", "1", "--configfile", "mine.yaml")
    return done.returncode, done.stdout


@pytest.mark.long
def test_snakemake_parity_fails_each_time_while_a_result_is_below_and_keeps_its_files(tmp_path, monkeypatch):
    clone = clone_into(tmp_path / "clone")
    write_experiment(clone.root)
    monkeypatch.chdir(clone.root)
    experiment = load_experiment(Path("mine.yaml"))
    results_of(experiment, 0.5)
    files = [Path(experiment.paths.parity_md), Path(experiment.paths.parity_json)]
    for _ in range(2):
        code, output = asked_for_parity(clone)
        assert code == 1
        assert "bert/rte accuracy: 50.00 (1 seed) is below 64.98 ± 6.04 (the document, one run)" in output
        assert all(path.exists() for path in files)
    results_of(experiment, 0.657)
    code, output = asked_for_parity(clone)
    assert code == 0, output
    assert re.search(r"65\.70 \(1 seed\) +64\.98 \(the document, one run\) +within", output)
    write_experiment(clone.root, references=["./ours.yaml"])
    row = {"model": BERT, "task": "rte", "metric": "accuracy", "value": 80.0, "decimals": 1, "split": "validation"}
    row |= {"statistic": "mean", "n": 10, "spread": 0.5, "source": {"text": "last year"}, "training": STATED}
    (clone.root / "ours.yaml").write_text(
        yaml.safe_dump({"label": "last year", "rows": [row | {"training": {"num_train_epochs": 5}}]}), encoding="utf-8"
    )
    code, output = asked_for_parity(clone)
    assert code == 1
    assert "65.70 (1 seed) is below 80.00" in output
    assert "(last year, mean of 10)" in output
