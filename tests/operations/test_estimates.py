"""How long cells are thought to take: against the document's 18 times, what moves an estimate, and what runs teach."""

import json
from dataclasses import replace
from pathlib import Path

import builders
import pytest
import yaml

from gluegrid.common.errors import DataError, GluegridError
from gluegrid.common.formatting import duration
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
    SECONDS_OF_THE_START,
    START_MINUTES,
    Estimates,
    estimates_of,
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


def on(device: str, of: Experiment | None = None, measured: tuple[Measured, ...] = (), task: str = "mnli", **values):
    """Return the estimate of BERT base on a task for a device."""
    of = of or experiment(**values)
    return Estimates(of, measured, device).of(next(iter(of.cells_of(next(iter(of.models)), task).values())))


def test_a_device_of_the_table_has_a_speed_before_anything_ran_on_it():
    times = [on(name, precision="bf16").train_seconds for name in ("a16", "l4", "3090", "a100", "h100_sxm")]
    assert times == sorted(times, reverse=True)
    assert times[0] > 5 * times[-1]
    made = on("A100")
    assert (made.known_from, made.device) == ("its data sheet", None)
    assert MARGINS[made.known_from] == MARGINS[on("").known_from]


def test_precision_is_the_devices():
    a100 = {precision: on("a100", precision=precision).train_seconds for precision in ("fp32", "bf16", "fp16", "auto")}
    assert a100["bf16"] < a100["fp32"] / 3
    assert a100["auto"] == a100["bf16"] == a100["fp16"]
    assert on("t4", precision="auto") == on("t4")
    assert on("t4", precision="fp16").train_seconds < on("t4").train_seconds / 2


def test_tf32_is_between_fp32_and_bf16_where_the_device_has_it():
    of = experiment()
    cell = of.cell("base", "mnli", "base", "42")
    tf32 = replace(cell, run=cell.run | {"precision": "tf32"})
    made = Estimates(of, [], "a100").of(tf32)
    assert on("a100", precision="bf16").train_seconds < made.train_seconds < on("a100").train_seconds
    assert Estimates(of, [], "t4").of(tf32) == on("t4")


def test_no_device_is_as_it_was_whatever_the_precision():
    assert on("", precision="bf16") == on("", precision="auto") == on("")


def test_updates_take_no_less_than_their_launches_and_adamw():
    usual, small = (on("h100_sxm", precision="bf16", per_device_train_batch_size=size) for size in (32, 2))
    assert small.train_seconds > 8 * usual.train_seconds
    by_two = on("h100_sxm", precision="bf16", per_device_train_batch_size=16, gradient_accumulation_steps=2)
    assert by_two.train_seconds > 1.5 * usual.train_seconds
    # AdamW moves the embeddings' parameters too, which no token passes; adapters are few.
    full, adapters = (on("t4", precision="fp16", lora=lora).train_seconds for lora in (None, {}))
    assert adapters < 0.6 * full


@pytest.mark.parametrize("device", ["a100", "nvidia_a100_80gb_pcie", "NVIDIA A100 80GB PCIe"])
def test_measured_speeds_win_over_the_table(device):
    of_it, of_another = (measured(device=name, task="mnli", speed=1e11) for name in ("NVIDIA A100 80GB PCIe", V100))
    made = on(device, measured=(of_another, of_it))
    assert (made.device, made.known_from) == ("NVIDIA A100 80GB PCIe", "this cell's kind")
    assert made.train_seconds > 50 * on(device).train_seconds
    assert on(device, measured=(of_another,)) == on(device)


def test_a_device_is_not_another_whose_name_begins_like_its():
    speeds = (measured(device="NVIDIA A100-SXM4-40GB MIG 1g.5gb", speed=1e9), measured(device=A100, speed=2e13))
    assert on("a10", measured=speeds).device is None
    assert on("a100", measured=speeds).device == A100
    assert on("a100_1g.5gb", measured=speeds).device == speeds[0].device


def test_another_precision_of_a_known_device_is_scaled_by_its_data_sheet():
    seen = measured(task="mnli")
    fp32, bf16 = (on("", measured=(seen,), precision=precision) for precision in ("fp32", "bf16"))
    sheet = [on("a100", precision=precision) for precision in ("fp32", "bf16")]
    assert bf16.known_from == "another precision"
    assert MARGINS[fp32.known_from] < MARGINS[bf16.known_from] < MARGINS[sheet[0].known_from]
    assert fp32.train_seconds / bf16.train_seconds == pytest.approx(6, rel=0.3)
    exact = measured(task="mnli", precision="bf16", speed=1e12)
    assert on("", measured=(seen, exact), precision="bf16").train_seconds > fp32.train_seconds


def test_the_profiles_kind_of_gpu_counts_where_no_device_is_named():
    of = experiment()
    (cell, _) = of.cells.values()

    def seconds(gpu_model: str, device: str = "", speeds: tuple[Measured, ...] = ()) -> float:
        return Estimates(of, speeds, device, lambda cell: gpu_model).of(cell).seconds

    assert seconds("v100") > seconds("") > seconds("h100")
    assert seconds("v100", "h100") == seconds("h100")
    # A site's own word for its GPUs says nothing, neither of the table nor of what was measured.
    assert seconds("our_gpus") == seconds("")
    assert seconds("our_gpus", speeds=(measured(speed=1e9),)) == seconds("", speeds=(measured(speed=1e9),))
    assert seconds("v100", speeds=(measured(speed=1e9),)) == seconds("v100")


def test_a_name_that_neither_table_nor_measured_speeds_know_is_an_error_in_one_line():
    of = experiment()
    with pytest.raises(GluegridError, match=r"^DEVICE=banana: .* Similar names: \w+.*$") as caught:
        estimates_of(of, "banana")
    assert "\n" not in str(caught.value)
    with pytest.raises(GluegridError, match="names: H100"):
        estimates_of(of, "h101")
    add_speeds([measured(device="Banana GPU 3000")])
    assert estimates_of(of, "banana")[0].of(next(iter(of.cells.values()))).device == "Banana GPU 3000"
    with pytest.raises(GluegridError, match="names: Banana GPU 3000"):
        estimates_of(of, "banana gpu 4000")


def test_a_table_of_speeds_that_an_older_release_wrote_is_read():
    entry = {"device": A100, "precision": "fp32", "model": "google-bert/bert-base-uncased", "task": "mnli"}
    entry |= {"passed_parameters": 86_000_000, "operations_per_second": [1e12]}
    PATH.parent.mkdir()
    PATH.write_text(json.dumps({"speeds": [entry]}))
    estimates, problem = estimates_of(experiment(), "a100")
    assert problem is None
    assert estimates.of(list(estimates.experiment.cells.values())[1]).device == A100


def test_a_device_of_which_a_broken_table_may_tell_is_not_refused_for_what_the_table_of_devices_knows():
    PATH.parent.mkdir()
    PATH.write_text("{")
    estimates, problem = estimates_of(experiment(), "a100")
    assert "measured_speeds.json" in problem
    assert estimates.of(next(iter(estimates.experiment.cells.values()))).known_from == "its data sheet"


# Rows, tokens of a row, rows of a batch, epochs, and the seconds of CPU that their training took with one thread, on a
# server that other work kept busy.
TINY = {"parameters": 95_488, "embeddings": 313}, {"hidden_size": 64}
MINILM = {"parameters": 22_713_216, "embeddings": 30_522}, {"hidden_size": 384}
TRAININGS = [
    (TINY, 4000, 40.3, 16, 3, 9.7),
    (TINY, 1600, 40.1, 8, 3, 5.1),
    (TINY, 320, 64.0, 16, 3, 1.0),
    (MINILM, 320, 12.9, 16, 3, 17.2),
    (MINILM, 1600, 12.8, 8, 1, 33.5),
    (MINILM, 40, 126.5, 16, 3, 16.3),
    (MINILM, 40, 13.4, 16, 3, 2.3),
]


def small(model: tuple[dict, dict], rows: int, tokens: float, batch: int, epochs: int, **values) -> Experiment:
    """Return an experiment on a CPU of a staged model on tokens that are made."""
    values = {"per_device_train_batch_size": batch, "num_train_epochs": epochs, "device": "cpu", **values}
    of = experiment(tasks={"rte": None}, threads=1, **values)
    manifest = Path(of.model_manifest("base"))
    made = Path(of.tokens_manifest(next(iter(of.cells.values()))))
    for path in (manifest, made):
        path.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(model[0]))
    (manifest.parent / "config.json").write_text(json.dumps(model[1]))
    splits = {name: {"rows": rows, "tokens": round(rows * tokens)} for name in ("train", "validation", "test")}
    made.write_text(json.dumps({"splits": splits}))
    return of


@pytest.mark.parametrize(("model", "rows", "tokens", "batch", "epochs", "seconds"), TRAININGS)
def test_small_models_on_a_cpu_take_what_they_were_seen_to_take(model, rows, tokens, batch, epochs, seconds):
    made = estimate(small(model, rows, tokens, batch, epochs))
    assert 0.85 < made.train_seconds / seconds < 1.2


def test_threads_help_as_far_as_this_machine_has_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seconds = [estimate(experiment(device="cpu", threads=threads)).train_seconds for threads in (1, 2, 8)]
    assert seconds[0] > 1.8 * seconds[1]
    assert seconds[1] == seconds[2]


def test_a_run_on_a_cpu_teaches_what_another_takes():
    """Also where updates take long beside their operations: of more rows, and of larger batches."""
    of = small(TINY, 320, 13, 8, 3)
    expected = estimate(of).train_seconds
    finished(of, 2 * expected)
    (entry,) = learn(of, run_end.finished_now(read_outcomes(of)))
    entry = replace(entry, device=CPU)
    assert estimate(of, measured=(entry,)).train_seconds == pytest.approx(2 * expected, rel=1e-3)
    more = small(TINY, 5000, 60, 32, 1)
    assert estimate(more, measured=(entry,)).train_seconds == pytest.approx(2 * estimate(more).train_seconds, rel=1e-3)


def test_cells_on_a_cpu_are_for_no_card():
    of = experiment(device="cpu")
    estimates = Estimates(of, [], "a100")
    cell = of.cell("base", "rte", "base", "42")
    assert estimates.card_of(cell) is None
    assert estimates.of(cell) == estimate(of)


@pytest.mark.parametrize(
    "config", [{"hidden_size": 0}, {"hidden_size": 10**400}, {"num_hidden_groups": 1, "num_hidden_layers": 10**400}]
)
def test_a_config_with_odd_numbers_is_anothers_business(config):
    of = experiment()
    manifest = Path(of.model_manifest("base"))
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"parameters": 11_000, "embeddings": 100}))
    (manifest.parent / "config.json").write_text(json.dumps({"hidden_size": 10} | config))
    assert on("a100", of).seconds == pytest.approx(on("a100").seconds)


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


def finished(of: Experiment, seconds: float, **more_of_record: object) -> None:
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
        builders.write_result(of, cell, metrics | samples | {"train_runtime": seconds}, **record, **more_of_record)


def test_a_cell_of_a_pack_teaches_what_one_alone_takes_with_its_start():
    of = experiment(tasks={"rte": None}, seeds=[1, 2])
    finished(of, 20, job={"pack": "a pack"})
    learned = [*learn(of, run_end.finished_now(read_outcomes(of)))]
    assert [entry.seconds_beside_training for entry in learned] == [[5 + SECONDS_OF_THE_START["cuda"]]] * 2
    expected = estimate(of).seconds - SECONDS_OF_THE_START["cuda"]
    line = run_end.comparison(of, read_outcomes(of))
    assert line.startswith(f"Finished now: 2 cells in 50 s, estimated {duration(2 * expected)} (")


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
    assert line.startswith(f"Finished now: 2 cells in 50 s, estimated {duration(2 * expected)} (")
    assert f"(median {25 / expected:.1f}x; " in line


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
