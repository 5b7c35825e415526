"""How long cells are thought to take: against the document's 18 times, what moves an estimate, and what runs teach."""

import json
from pathlib import Path

import builders
import pytest
import yaml

from gluegrid.common.errors import DataError
from gluegrid.common.paths import state_folder
from gluegrid.execution import invocation
from gluegrid.execution.invocation import freeze
from gluegrid.experiment.config import load_registry
from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.experiment.options import RECIPE, RECIPES
from gluegrid.experiment.references import by_model_and_task, document
from gluegrid.operations.cost_model import (
    BACKWARDS,
    FOLDER,
    FORWARDS,
    NAME,
    SIZES_BY_WORD,
    STAGED,
    UNKNOWN,
    memory_in_mb,
    model_size,
    task_size,
)
from gluegrid.operations.estimates import (
    MARGINS,
    OPERATIONS_PER_SECOND,
    START_MINUTES,
    Estimates,
    learn,
    limit_of_attempt,
)
from gluegrid.operations.measured_speeds import PATH, Measured, add_speeds, read_speeds
from gluegrid.results.outcomes import read_outcomes
from gluegrid.workflow import run_end

A100, V100, CPU = "NVIDIA A100-SXM4-80GB", "Tesla V100", "CPU (any)"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Let each test work in an empty folder, where no head has begun yet."""
    monkeypatch.chdir(tmp_path)
    # Set first, so that what a head sets is undone after the test.
    monkeypatch.setenv(invocation.VARIABLE, "none yet")
    monkeypatch.delenv(invocation.VARIABLE)


def experiment(**values) -> Experiment:
    """Return an experiment of BERT base on rte and mnli, unless told otherwise."""
    models = {"base": {"source": "google-bert/bert-base-uncased", "revision": "v1"}}
    content = {"experiment": "small", "models": models, "tasks": {"rte": None, "mnli": None}} | values
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_experiment(Path("config.yaml"))


def estimate(of: Experiment, task: str = "rte", measured: tuple[Measured, ...] = ()):
    """Return the estimate of the first model's first cell on a task."""
    return Estimates(of, measured).of(next(iter(of.cells_of(next(iter(of.models)), task).values())))


def measured(device=A100, task="rte", speed=2e13, **values) -> Measured:
    """Return what runs of BERT base have shown."""
    kept = {"precision": "fp32", "model": "google-bert/bert-base-uncased", "passed_parameters": 86_000_000}
    return Measured(device=device, task=task, operations_per_second=[speed], **(kept | values))


def test_the_documents_times_follow_from_one_speed():
    """It pads all examples to 128 tokens."""
    ratios = {}
    for source, times in by_model_and_task(document()).items():
        size = SIZES_BY_WORD["large" if "large" in source else "base"]
        for task, run in times.items():
            tokens = load_registry()[task]["official"]["train"]["rows"] * 128 * run["epoch"]
            seconds = size.passed * tokens * (FORWARDS + BACKWARDS) / OPERATIONS_PER_SECOND["cuda"]
            ratios[source.partition("-bert/")[2], task] = run["train_runtime"] / seconds
    assert len(ratios) == 18
    outliers = {cell for cell, ratio in ratios.items() if not 0.5 <= ratio <= 2}
    assert outliers == {("bert-base-uncased", "qqp"), ("bert-base-uncased", "qnli")}


@pytest.mark.parametrize(
    ("values", "times"),
    [
        ({"num_train_epochs": 6}, 2),
        ({"max_train_samples": 1245}, 0.5),
        ({"max_train_samples": 1_000_000}, 1),
        ({"lora": {}}, 4 / 6),
        ({"gradient_checkpointing": True}, 8 / 6),
        ({"gpus": 2}, 1 / 1.7),
        ({"gpus": 2, "nodes": 2}, 1 / 3.4),
        ({"max_seq_length": 33}, 33 / 66.6),
        ({"models": {"m": {"source": "google-bert/bert-large-uncased"}}}, 303 / 86),
        ({"seeds": [1, 2, 3]}, 1),
        ({"learning_rate": 0.1}, 1),
    ],
    ids=str,
)
def test_what_moves_the_time_of_training(values, times):
    assert estimate(experiment(**values)).train_seconds == pytest.approx(
        times * estimate(experiment()).train_seconds, rel=1e-3
    )


def test_scores_take_time_each_epochs_too_and_fewer_examples_less():
    seconds = [
        estimate(experiment(**values), "mnli").seconds
        for values in ({"eval_strategy": "epoch"}, {}, {"max_eval_samples": 1000})
    ]
    assert seconds == sorted(set(seconds), reverse=True)


def test_more_examples_take_longer_and_gpu_hours_count_all_gpus():
    of = experiment(gpus=2)
    assert estimate(of, "mnli").seconds > 50 * estimate(of, "rte").train_seconds
    assert estimate(of).gpu_hours == pytest.approx(2 * estimate(of).seconds / 3600)


def test_a_limit_leaves_room_and_each_attempt_gets_as_much_more():
    made = estimate(experiment(), "mnli")
    assert made.limit_in_minutes > START_MINUTES + 4 * made.seconds / 60
    assert limit_of_attempt(made, 3) == 3 * made.limit_in_minutes


def test_no_limit_is_larger_than_slurm_can_say():
    endless = estimate(experiment(num_train_epochs=10_000, models={"m": {"source": "org/xxlarge"}}), "mnli")
    assert limit_of_attempt(endless, 3) == endless.limit_in_minutes == 365 * 24 * 60


def test_the_nearest_runs_tell_the_speed():
    of = experiment()
    other_model = measured(model="org/other", passed_parameters=90_000_000, speed=1e12)
    far_model = measured(model="org/far", passed_parameters=300_000_000, speed=1e9)
    same_model, same_task = measured(task="mnli", speed=1e13), measured(task="rte", speed=5e13)
    seen = [estimate(of, measured=(far_model, other_model))]
    seen.append(estimate(of, measured=(far_model, other_model, same_model)))
    seen.append(estimate(of, measured=(far_model, other_model, same_model, same_task)))
    assert [made.known_from for made in seen] == ["other models", "this model", "this cell's kind"]
    training = [made.train_seconds for made in seen]
    assert training[0] == pytest.approx(10 * training[1]) == pytest.approx(50 * training[2])
    margins = [MARGINS[made.known_from] for made in (estimate(of), *seen)]
    assert margins == sorted(margins, reverse=True)


def test_of_several_devices_the_slowest_counts_unless_one_is_named():
    of, speeds = experiment(), (measured(speed=4e13), measured(device=V100, speed=1e13))
    (cell, _) = of.cells.values()
    assert Estimates(of, speeds).of(cell).device == V100
    assert Estimates(of, speeds, "a100").of(cell).device == A100
    assert Estimates(of, speeds, "h100").of(cell).device is None


@pytest.mark.parametrize(
    "other",
    [measured(device=CPU), measured(device="Some GPU", precision="bf16")],
    ids=["another kind of device", "another precision of a device that is not known"],
)
def test_runs_of_another_kind_tell_nothing(other):
    assert estimate(experiment(), measured=(other,)) == estimate(experiment())


def test_automatic_precision_is_told_by_runs_of_any():
    assert estimate(experiment(precision="auto"), measured=(measured(precision="bf16"),)).device == A100


def test_memory_grows_with_the_model_and_is_what_was_seen_with_room():
    memory = [estimate(experiment(models={"m": {"source": f"org/{word}"}})).memory_in_mb for word in SIZES_BY_WORD]
    assert memory == sorted(memory, reverse=True)
    assert memory[0] > memory[-1]
    assert estimate(experiment(gpus=2)).memory_in_mb == pytest.approx(2 * estimate(experiment()).memory_in_mb, rel=0.1)
    seen = estimate(experiment(), measured=(measured(host_memory_bytes=4_000_000_000),))
    assert seen.memory_in_mb == 6500


def test_memory_on_a_cpu_holds_what_is_trained():
    run = RECIPES[RECIPE] | {"device": "cpu", "max_seq_length": 512}
    large = SIZES_BY_WORD["large"]
    assert memory_in_mb(run, large) * 1e6 > 16 * large.parameters
    assert memory_in_mb(run | {"per_device_train_batch_size": 64}, large) > memory_in_mb(run, large)


def test_a_model_is_as_large_as_what_is_staged_else_its_folder_else_its_name(shared):
    minilm = shared / "models/minilm-l6-h384"
    of = experiment(models={"ours": {"source": str(minilm), "revision": "1"}})
    guessed = model_size(of, "ours")
    builders.stage_model(Path(of.model_manifest("ours")).parent, minilm)
    exact = model_size(of, "ours")
    assert (guessed.known_from, exact.known_from) == (FOLDER, STAGED)
    assert exact.parameters == 22_713_216
    assert exact.passed == 22_713_216 - 30_522 * 384
    assert guessed.passed == pytest.approx(exact.passed, rel=0.05)
    named = experiment(models={"m": {"source": "org/roberta-large"}, "n": {"source": "org/enlarge"}})
    assert (model_size(named, "m").known_from, model_size(named, "n").known_from) == (NAME, UNKNOWN)


def test_layers_that_share_their_weights_count_as_often_as_they_are_used():
    config = {"hidden_size": 100, "embedding_size": 10, "num_hidden_layers": 12, "num_hidden_groups": 1}
    of = experiment(models={"albert": {"source": "org/albert", "revision": "v1"}})
    manifest = Path(of.model_manifest("albert"))
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"parameters": 11_000, "embeddings": 100}))
    (manifest.parent / "config.json").write_text(json.dumps(config))
    assert model_size(of, "albert").passed == 12 * 10_000


def test_tokens_are_counted_once_they_are_made():
    of = experiment()
    assert task_size(of, of.cell("base", "rte", "base", "42")).train.tokens == round(2490 * 66.6)
    manifest = Path(of.tokens_manifest(of.cell("base", "rte", "base", "42")))
    manifest.parent.mkdir(parents=True)
    splits = {name: {"rows": 10, "tokens": 100} for name in ("train", "validation", "test")}
    estimates = Estimates(of, [])
    cell = of.cell("base", "rte", "base", "42")
    before = estimates.of(cell)
    manifest.write_text(json.dumps({"splits": splits}))
    assert task_size(of, of.cell("base", "rte", "base", "42")).tokens == 300
    staged = Path(of.model_manifest("base"))
    staged.parent.mkdir(parents=True)
    staged.write_text(json.dumps({"parameters": 110_000_000, "embeddings": 30_522}))
    (staged.parent / "config.json").write_text(json.dumps({"hidden_size": 768}))
    after = estimates.of(cell)
    assert (before.is_staged, after.is_staged) == (False, True)
    assert after.train_seconds < before.train_seconds / 1000


def test_a_broken_manifest_is_anothers_business():
    of = experiment()
    for manifest in (of.model_manifest("base"), of.tokens_manifest(of.cell("base", "rte", "base", "42"))):
        Path(manifest).parent.mkdir(parents=True)
        Path(manifest).write_text("{")
    assert estimate(of).seconds == pytest.approx(estimate(experiment()).seconds)


def finished(of: Experiment, seconds: float) -> None:
    """Let a head begin, and then every cell have a result of so many seconds of training, and 5 beside it."""
    freeze(of.config, Path(of.paths.heads))
    run_end.note_expectations(of, Estimates(of, []))
    for cell in of.cells.values():
        state = state_folder(Path(of.paths.run.format(**cell.wildcards)))
        state.mkdir(parents=True)
        attempt = {
            **dict.fromkeys(("host", "pid", "slurm_job_id", "slurm_node")),
            "start": "2026-01-01T00:00:00+00:00",
            "end": f"2026-01-01T00:00:{round(seconds) + 5:02}+00:00",
            "reason": "done",
        }
        (state / "attempts.jsonl").write_text(json.dumps(attempt) + "\n")
        suffixes = of.tasks[cell.task]["validation"].values()
        metrics = {f"eval_{name}{suffix}": 0.5 for name in of.tasks[cell.task]["metrics"] for suffix in suffixes}
        samples = {f"eval_samples{suffix}": 9 for suffix in suffixes}
        record = {"finished": "2000-01-01T00:00:00+00:00", "attempts": 1, "device": A100}
        record["peak_memory_bytes"] = {"host": 3_000_000_000, "gpu": 1}
        builders.write_result(of, cell, metrics | samples | {"train_runtime": seconds}, **record)


def test_finished_runs_teach_and_the_next_estimate_is_what_they_took(monkeypatch):
    of = experiment(tasks={"rte": None}, seeds=[1, 2, 3])
    finished(of, 20)
    add_speeds(learn(of, run_end.finished_now(read_outcomes(of))))
    (entry,) = read_speeds()
    assert (entry.device, entry.model, entry.task) == (A100, "google-bert/bert-base-uncased", "rte")
    assert entry.seconds_beside_training == [5, 5, 5]
    made = estimate(of, measured=tuple(read_speeds()))
    assert (made.train_seconds, made.seconds) == (pytest.approx(20), pytest.approx(25))
    freeze(of.config, Path(of.paths.heads))
    run_end.note_expectations(of, Estimates(of, []))
    assert run_end.finished_now(read_outcomes(of)) == []


def test_the_end_of_a_run_says_what_was_expected_of_it():
    of = experiment(tasks={"rte": None}, seeds=[1, 2])
    expected = estimate(of).seconds
    finished(of, 20)
    line = run_end.comparison(of, read_outcomes(of))
    assert f"of the 2 cells finished now: 0.01 hours, estimated {2 * expected / 3600:.2f}" in line
    assert f"took {25 / expected:.2f} times" in line


def test_only_the_last_runs_are_kept_and_their_median_counts():
    for speed in (1, 2, 3, 4, 50, 6, 7):
        add_speeds([measured(speed=speed)])
    (entry,) = read_speeds()
    assert entry.operations_per_second == [3, 4, 50, 6, 7]
    assert entry.speed == 6


@pytest.mark.parametrize("text", ["{", "{}", '{"speeds": [{"device": "x"}]}', '{"speeds": 1}'])
def test_a_broken_table_of_speeds_is_named(text):
    PATH.parent.mkdir()
    PATH.write_text(text)
    with pytest.raises(DataError, match=r"measured_speeds\.json"):
        read_speeds()
