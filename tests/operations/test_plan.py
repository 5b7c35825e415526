"""What `make plan` says: the cells that `snakemake -n` plans, each with its reason, and what they cost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import builders
import pytest
import yaml
from clones import Clone, clone_into, copy_of

from gluegrid.experiment.experiment import Experiment
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.estimates import Estimates
from gluegrid.operations.makespan import makespan
from gluegrid.operations.plan import SECONDS_OF_A_CALL, SECONDS_OF_A_JOB, plan, why
from gluegrid.operations.plan_text import plan_text, warnings_of_cards

DEMO = ("--profile", "profiles/local", "--configfile", "demo/config.yaml")
TRAINED = re.compile(r"Training (\S+) on (\S+), (\S+), seed (\d+)")


def planned_by_snakemake(clone: Clone) -> set[str]:
    done = clone.snakemake("--dry-run", *DEMO)
    assert done.returncode == 0, done.stdout
    return {f"{model}/{task}/{variant}/seed-{seed}" for model, task, variant, seed in TRAINED.findall(done.stdout)}


def reasons(clone: Clone, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(clone.root)
    experiment = load_experiment(Path("demo/config.yaml"))
    found = plan(experiment, Estimates(experiment, []))
    return {planned.cell.name: planned.why for planned in found.cells}


def test_the_cells_are_those_that_snakemake_plans_each_with_its_reason(demo, tmp_path, monkeypatch):
    clone = copy_of(demo, tmp_path / "clone")
    assert reasons(clone, monkeypatch) == {}
    assert planned_by_snakemake(clone) == set()
    runs = clone.root / "results/demo/runs"
    (runs / "bert-demo-tiny/rte/base/seed-42/all_results.json").unlink()
    (runs / "bert-demo-tiny/sst2/base/seed-42/run.json").write_text("{")
    (runs / "bert-demo-tiny/sst2/base/seed-42/all_results.json").unlink()
    # Its result is of the run that is wanted, whatever stands in run.json meanwhile, as after a value was taken back.
    (runs / "bert-demo-tiny/mrpc/base/seed-42/run.json").write_text("{}")
    (runs / "bert-demo-small/cola/base/seed-42/run.json").unlink()
    clone.replace("demo/config.yaml", "wnli:", "wnli: {learning_rate: 0.5, lora: {r: 4}, seeds: [42, 7]}")
    found = reasons(clone, monkeypatch)
    assert set(found) == planned_by_snakemake(clone)
    changed = "learning_rate: 0.001 -> 0.5, lora: None -> "
    assert {name: reason for name, reason in found.items() if "wnli" not in name} == {
        "bert-demo-tiny/rte/base/seed-42": (
            "was trained, but its result is gone or was not published; run snakemake again"
        ),
        "bert-demo-tiny/sst2/base/seed-42": "its run.json is broken",
        "bert-demo-small/cola/base/seed-42": "new",
    }
    for model in ("bert-demo-tiny", "bert-demo-small"):
        assert found[f"{model}/wnli/base/seed-42"].startswith(changed)
        assert found[f"{model}/wnli/base/seed-7"] == "new"


@pytest.fixture
def shipped(project, tmp_path, monkeypatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    return load_experiment(project / "config.yaml")


@pytest.mark.long
def test_snakemake_begins_with_the_longest(shipped, tmp_path, monkeypatch):
    expected = [planned.cell.name for planned in plan(shipped, Estimates(shipped, [])).cells]
    done = clone_into(tmp_path / "clone").snakemake("--dry-run")
    trained = [f"{model}/{task}/{variant}/seed-{seed}" for model, task, variant, seed in TRAINED.findall(done.stdout)]
    assert trained == expected


def text_of(experiment: Experiment, **options) -> str:
    return plan_text(plan(experiment, Estimates(experiment, [])), **options)


def test_the_plan_of_config_yaml_before_anything_is_fetched(shipped):
    text = text_of(shipped)
    assert text.startswith("bert-glue: 0 of 18 cells are done.")
    rows = [line for line in text.splitlines() if line.startswith("| bert-")]
    assert len(rows) == 18
    assert re.sub(" +", " ", rows[0]) == "| bert-large-uncased | mnli | 1 | 1 h 59 min | 1.99 | new |"
    assert rows[-1].split()[1:4] == ["bert-base-uncased", "|", "wnli"]
    assert "To train: 18 cells, 6.39 GPU-hours." in text
    assert "Packed into shared jobs (pack_minutes: 15): 10 of them." in text
    assert "Longest cell: bert-large-uncased/mnli/base/seed-42, 1 h 59 min." in text
    until = "Total time: 6 h 21 min on 1 GPU, 3 h 12 min on 2 GPUs, 2 h 01 min on 4 GPUs"
    assert f"{until}, not counting downloads." in text
    assert "To fetch: model: bert-base-uncased, bert-large-uncased; data: cola, sst2," in text
    assert "Sizes are estimated until staged: bert-large-uncased (from its name)" in text
    assert "on 3 GPUs" in text_of(shipped, gpus=3)
    assert "These cells need a GPU; set device: cpu to train" in text_of(shipped, gpus=0)


def warned(device: str = "", gpu_model=lambda cell: "", **values) -> list[str]:
    """Return what is said of the cards of an experiment of BERT large on cola and rte."""
    models = {"large": {"source": "google-bert/bert-large-uncased", "revision": "v1"}}
    content = {"experiment": "small", "models": models, "tasks": {"cola": None, "rte": None}} | values
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    experiment = load_experiment(Path("config.yaml"))
    return list(warnings_of_cards(plan(experiment, Estimates(experiment, [], device, gpu_model))))


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder")
def test_cells_that_a_card_does_not_hold_are_told_a_line_for_all_of_a_model_that_lack_the_same():
    assert warned() == warned("h100") == warned("a100_80gb", precision="bf16") == []
    (line,) = warned("2080ti", seeds=[1, 2, 3])
    assert line == (
        "large on rte: batches of 32 need about 12.3 GB of GPU memory and the RTX 2080 Ti 11GB has 11; they will be"
        " split into micro-batches of 16 (automatic, same updates, slower). What would fit: gradient_checkpointing:"
        " true; or gpus: 2 with per_device_train_batch_size: 16; or a GPU with 16 GB"
    )
    assert warned(gpu_model=lambda cell: "2080ti" if cell.task == "rte" else "a100") == [line]
    assert "gpus: 4;" in warned("2080ti", gpus=2, global_batch_size=64)[0]
    assert "gradient_checkpointing" not in warned("2080ti", gradient_checkpointing=True, max_seq_length=512)


@pytest.mark.usefixtures("in_a_folder")
def test_a_model_of_which_no_example_fits_is_told_and_what_helps_then():
    (line,) = warned("a100_1g.5gb")
    assert line.startswith("large on rte, cola: cannot be trained there, since even a single example needs about ")
    assert line.endswith(" has 5. What would fit: a GPU with 10 GB")
    assert "micro-batches" not in line


@pytest.mark.usefixtures("in_a_folder")
def test_bf16_on_a_card_without_it_is_told_before_it_fails():
    assert warned("t4", precision="bf16") == [
        "large on rte, cola: the T4 16GB has no bf16; set precision: auto or fp16"
    ]
    assert warned("t4", precision="auto") == warned("t4", precision="fp16") == []


def called(project: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        project / "scripts/commands.py",
        "plan",
        "--configfile",
        project / "config.yaml",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


SHIPPED = [
    *("config.yaml", "demo/config.yaml", "examples/own_task/config.yaml"),
    *("experiments/minilm-glue.yaml", "experiments/minilm-seeds.yaml"),
]


def test_all_experiments_that_are_shipped_are_planned_in_a_clone_with_the_demos_inputs(demo, monkeypatch):
    files = [path for path in demo.root.rglob("*.yaml") if not {"results", ".snakemake", "generated"} & {*path.parts}]
    experiments = {
        str(path.relative_to(demo.root)) for path in files if re.search(r"^experiment:", path.read_text(), re.M)
    }
    assert experiments == {*SHIPPED}
    monkeypatch.chdir(demo.root)
    for name in SHIPPED:
        experiment = load_experiment(Path(name))
        assert text_of(experiment).startswith(f"{experiment.name}: ")
        assert not [warning for warning in experiment.warnings if "reference" not in warning]


@pytest.mark.parametrize("name", SHIPPED)
def test_in_a_fresh_clone_an_experiment_is_planned_or_says_what_makes_what_it_lacks(tmp_path, name):
    clone = clone_into(tmp_path / "clone")
    command = [sys.executable, "scripts/commands.py", "plan", "--configfile", name]
    done = subprocess.run(command, cwd=clone.root, capture_output=True, text=True)
    if "demo/generated" in (clone.root / name).read_text(encoding="utf-8"):
        lines = done.stderr.splitlines()
        assert lines and all(line.endswith("; create it with python demo/generate.py") for line in lines)
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("in_a_folder")
def test_the_plan_for_a_device_and_for_the_profiles(project):
    hours = {}
    for device in ("A100", "h100", "Tesla T4", ""):
        done = called(project, "--device", device)
        assert (done.returncode, done.stderr) == (0, "")
        (hours[device],) = re.findall(r"18 cells, ([\d.]+) GPU-hours", done.stdout)
    assert len({*hours.values()}) == 4
    assert float(hours["h100"]) < float(hours["A100"]) < float(hours["Tesla T4"])
    Path("profiles/slurm").mkdir(parents=True)
    Path("profiles/slurm/config.yaml").write_text("default-resources: [gpu_model=rtx_2080_ti]\n")
    done = called(project)
    assert "warning: bert-large-uncased on qnli, mrpc, rte: batches of 32 need about" in done.stdout
    assert "Speed from: the data sheet of RTX 2080 Ti 11GB (fp32); finished cells will improve it" in done.stdout
    assert "GPU memory: about 12.3 GB at most (bert-large-uncased/rte/base/seed-42; up to" in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 120


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize("gpus", ["-1", "x", "", "1.5", "99999999"])
def test_what_is_no_number_of_gpus_is_one_line(project, gpus):
    done = called(project, f"--gpus={gpus}")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"gluegrid: GPUS={gpus}: must be a whole number of GPUs, such as 8; 0 for .*\n", done.stderr)


@pytest.fixture
def with_reviews(in_a_folder, shared) -> Path:
    """Return an experiment file of MiniLM on 400 rows of a CSV file, whose experiment is called own."""
    Path("reviews.csv").write_text("text,label\n" + "the film was not as good as the book,bad\n" * 400)
    task = {"source": "./reviews.csv", "text_columns": ["text"], "labels": ["bad", "good"], "metrics": ["accuracy"]}
    content = {
        "experiment": "own",
        "device": "cpu",
        "models": {"minilm": {"source": str(shared / "models/minilm-l6-h384")}},
        "tasks": {"reviews": task | {"cut_from_train": {"validation": 0.2}}},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return Path("config.yaml")


def plan_of(project: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", project / "scripts/commands.py", "plan", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_own_data_are_counted_before_anything_runs_and_then_nothing_heavy_is_loaded(project, with_reviews):
    done = plan_of(project)
    assert done.returncode == 0, done.stderr
    (seconds,) = re.findall(r"Total time: (\d+) s on 1 process", done.stdout)
    assert 15 < int(seconds) < 120
    assert "guessed as" not in done.stdout
    assert "| pyarrow" in re.sub(" +", " ", done.stderr)
    experiment = load_experiment(with_reviews)
    manifest = Path(experiment.task_manifest("reviews"))
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"rows": {"train": 320, "validation": 80}}))
    done = plan_of(project)
    assert "To fetch: model: minilm." in done.stdout
    assert "| pyarrow" not in re.sub(" +", " ", done.stderr)


def test_rows_that_nobody_knows_are_said_to_be_guessed(with_reviews):
    content = yaml.safe_load(with_reviews.read_text())
    content["tasks"]["reviews"] |= {"source": "org/reviews", "revision": "1", "files": {"train": "a.csv"}}
    with_reviews.write_text(yaml.safe_dump(content), encoding="utf-8")
    said = "Rows are taken as 100,000 until fetched (set train_rows:): reviews."
    assert said in text_of(load_experiment(with_reviews))


def test_a_name_alone_is_that_of_an_experiment_and_beside_a_file_the_name_it_gets(project, with_reviews):
    assert plan_of(project, "--experiment=own").stdout.startswith("own: 0 of 1 cells")
    assert plan_of(project, "--experiment=more", "--configfile=config.yaml").stdout.startswith("more: 0 of 1 cells")
    done = plan_of(project, "--experiment=earlier")
    assert done.returncode == 1
    assert "gluegrid: results/earlier is not an experiment; there are: none; for a file under this name:" in done.stderr
    earlier = load_experiment(with_reviews, "earlier")
    heads = Path("results/earlier/heads")
    heads.mkdir(parents=True)
    (heads / "2026-01-01T00-00-00-1.json").write_text(json.dumps({"config": earlier.config}))
    with_reviews.unlink()
    done = plan_of(project, "--experiment=earlier")
    assert done.stdout.startswith("earlier: 0 of 1 cells"), done.stderr


@pytest.mark.usefixtures("in_a_folder")
def test_an_unknown_device_is_one_line(project):
    done = called(project, "--device", "banana")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"gluegrid: DEVICE=banana: unknown device. Similar names: .*\n", done.stderr)
    assert called(project, "--profile", "nowhere").stderr.startswith("gluegrid: PROFILE=nowhere: no such profile")


def test_time_on_several_gpus_is_that_of_the_longest_first(shipped):
    found = plan(shipped, Estimates(shipped, []), pack_minutes=0)
    seconds = [planned.estimate.seconds for planned in found.cells]
    assert seconds == sorted(seconds, reverse=True)
    before = SECONDS_OF_A_CALL + found.seconds_of_staging
    jobs = [SECONDS_OF_A_JOB + each for each in seconds]
    assert found.seconds_on(3) == pytest.approx(before + makespan(jobs, 3))
    assert found.seconds_on(1) == pytest.approx(before + 18 * SECONDS_OF_A_JOB + found.gpu_hours * 3600)


def test_packs_save_starts_and_leave_no_gpu_idle(shipped):
    alone, packed = (plan(shipped, Estimates(shipped, []), pack_minutes=minutes) for minutes in (0, 15))
    assert [len(job) for job in alone.jobs_on(8)] == [1] * 18
    assert len(packed.jobs_on(8)) == 16  # 10 small cells on 8 GPUs, 4 of each model's packs; the 8 others alone
    assert sorted(map(len, packed.jobs_on(2)))[-2:] == [5, 5]
    assert packed.seconds_on(1) < alone.seconds_on(1)


def test_seeds_share_a_line_and_long_plans_are_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path, seeds=[1, 2, 3])
    text = text_of(experiment, most_lines=1)
    assert "| tiny    | pair   | 3 " in text or "| tiny    | number | 3 " in text
    assert "... and 1 more rows of shorter cells (ALL=1 shows them)" in text
    assert "more lines" not in text_of(experiment, most_lines=None)
    assert "hours on the CPU." in text
    cores = len(os.sched_getaffinity(0))
    assert re.search(rf"Total time: [\w ]+ on this machine's {cores} cores?\.", text_of(experiment, gpus=0))


def test_a_finished_experiment_has_nothing_to_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path)
    scores = {"eval_accuracy": 1, "eval_f1": 1, "eval_pearson": 1, "eval_spearmanr": 1, "eval_samples": 1}
    for cell in experiment.cells.values():
        builders.write_result(experiment, cell, scores)
        assert why(experiment, cell) is None
    assert text_of(experiment) == "small: 2 of 2 cells are done.\nNothing to train."


def test_disk_needed_is_for_what_is_missing(shipped):
    needed = plan(shipped, Estimates(shipped, [])).disk_needed()
    assert needed.to_stage > 4 * (110e6 + 335e6)
    assert needed.each_training == 4 * 3 * 2 * 335_000_000
    keeping = Experiment(shipped.config | {"save_model": "last"})
    kept = plan(keeping, Estimates(keeping, [])).disk_needed()
    assert kept.results - needed.results == 4 * 9 * (110_000_000 + 335_000_000)


def test_a_mistake_in_the_file_is_one_line_and_slow_libraries_are_not_loaded(project, tmp_path):
    (tmp_path / "config.yaml").write_text("experiment: x\nmodels: {}\ntasks: [rte]\n", encoding="utf-8")
    command = [sys.executable, "-X", "importtime", project / "scripts/commands.py", "plan"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1
    assert "config.yaml:2: models" in lines[0]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "pandas", "numpy", "snakemake", "pyarrow"}


def test_what_json_cannot_say_does_not_change_a_run(tmp_path, monkeypatch):
    """A run.json that was written by hand with other spaces is written again, and is no reason by itself."""
    monkeypatch.chdir(tmp_path)
    experiment = builders.experiment(tmp_path)
    (cell, _) = experiment.cells.values()
    run = Path(experiment.paths.run.format(**cell.wildcards))
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps(cell.run))
    assert why(experiment, cell) == "has no result yet"
