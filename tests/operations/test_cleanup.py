"""`make clean-state`: what it deletes, what it never does. SLURM's programs are played."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import builders
import pytest
from clones import Clone, copy_of
from fake_slurm import FakeSlurm, squeue_line

from gluegrid.common.errors import TransientError
from gluegrid.common.files import write_json, write_text
from gluegrid.common.manifests import file_identity
from gluegrid.execution import attempts, invocation
from gluegrid.execution.cell_state import CellFiles
from gluegrid.execution.controller import note_submission
from gluegrid.execution.locks import lock
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.experiment.experiment_index import newest_plan
from gluegrid.operations.cleanup import delete, find_leftovers

RESULTS = Path("results")
LOG = Path(".snakemake/slurm_logs/rule_train/cell/17.log")


def make(clone: Clone, *arguments: str) -> str:
    """Call make, which takes the environment that runs the tests for installed."""
    command = ["make", "--no-print-directory", "--old-file=.venv/installed", *arguments]
    done = subprocess.run(command, cwd=clone.root, env=clone.full_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(path: Path, days_old: float = 0) -> Path:
    """Write a file of some bytes, and let it be so old."""
    write_text(path, "x" * 10_000)
    then = time.time() - days_old * 86400
    os.utime(path, (then, then))
    return path


def everything() -> set[Path]:
    """Return all files here."""
    return {path for path in Path().rglob("*") if path.is_file()}


def cleaned() -> tuple[set[Path], str]:
    """Delete what may be deleted; return the files that are gone, and what was told of it."""
    before, found = everything(), find_leftovers(RESULTS)
    assert everything() == before
    assert delete(found) == []
    return before - everything(), "\n".join(line for place in found for line in place.report())


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    """An empty project, and a SLURM with an empty queue."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv(invocation.VARIABLE, "none yet")
    slurm = FakeSlurm(tmp_path / "slurm")
    slurm.put_on_path(monkeypatch)
    return slurm


@pytest.fixture
def cell(slurm, monkeypatch) -> CellFiles:
    """A cell that was begun: it has a run.json, an attempt that failed as SLURM job 17, its log and a checkpoint."""
    experiment = builders.experiment(Path(), experiment="grid")
    invocation.freeze(experiment.config, Path(experiment.paths.heads))
    planned = next(iter(experiment.cells.values()))
    cell = CellFiles(Path(experiment.paths.run.format(**planned.wildcards)))
    write_json(cell.run, planned.run)
    with monkeypatch.context() as job:
        job.setenv("SLURM_JOB_ID", "17")
        attempts.start(cell.state, "hash")
    attempts.end(cell.state, Reason(Cause.FAILED, "loss is NaN"))
    write_json(cell.state / "slurm_job.json", {"slurm_job_id": "17"})
    write(cell.checkpoints / "step-00000001/state.pt")
    return cell


@pytest.fixture
def no_head_lives(monkeypatch, cell) -> None:
    """Let the head that planned the cell, which is this process, be over."""
    path = Path(os.environ[invocation.VARIABLE])
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))


def test_a_finished_experiment_is_still_finished_and_verified(demo, tmp_path):
    clone = copy_of(demo, tmp_path / "clone")
    folder = clone.root / "results/demo"
    cell = "bert-demo-tiny/rte/base/seed-42"
    kept = {path for path in (folder / "runs").rglob("*") if path.is_file()} | set(folder.rglob("last_good_result/*"))
    leftovers = [
        write(folder / f"state/{cell}/checkpoints/step-00000009/state.pt"),
        write(folder / f"state/{cell}/progress.json"),
        write(folder / f"runs/{cell}/.model.abc/old/model.safetensors"),
        write(folder / "heads/2020-01-01T000000+0000-abcdef.json", days_old=8),
        next(folder.glob("heads/code-*/Snakefile")),
        write(clone.root / "resources/models/other@main.partial/model.safetensors.incomplete"),
    ]
    scraps = leftovers[2].parents[1]
    os.utime(scraps, (0, 0))
    told = make(clone, "clean-state")
    assert told.splitlines()[-1].startswith("Nothing was deleted. Add YES=1 to delete ")
    assert all(path.exists() for path in leftovers)
    assert "Deleted: " in make(clone, "clean-state", "YES=1")
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in kept)
    assert clone.planned("--profile", "profiles/local", "--configfile", "demo/config.yaml", "--cores", "1") == {}
    assert make(clone, "verify").endswith("verified: everything fits\n")
    assert "results/demo:\n  nothing to delete" in make(clone, "clean-state")


def test_a_cell_that_is_not_done_keeps_its_checkpoints_and_the_log_that_says_why(cell, no_head_lives):
    write(LOG)
    ended = write(LOG.with_name("16.log"))
    gone, told = cleaned()
    assert gone == {ended}
    assert "kept: checkpoints of 1 unfinished cells, " in told


def test_a_result_that_is_not_whole_or_of_another_run_is_not_done(cell, no_head_lives):
    attempts.start(cell.state, "hash")
    attempts.end(cell.state, Reason(Cause.DONE))
    for name in ("all_results.json", "run_record.json"):
        write_json(cell.run.with_name(name), {"run_sha256": "another", "predictions_sha256": {}})
    assert cleaned()[0] == set()


def test_what_a_job_in_the_queue_may_need_stays(cell, no_head_lives, slurm):
    old, code = write(Path("results/grid/heads/2020.json"), 8), write(Path("results/grid/heads/code-1/Snakefile"))
    log, scrap = write(LOG), write(cell.state / ".attempts.jsonl.x", days_old=2)
    write(cell.state / ".attempts.jsonl.y")  # may still be written
    slurm.answers("squeue", (0, squeue_line("17", "PENDING"), ""))
    gone, told = cleaned()
    assert gone == set()
    assert "kept: everything of 1 cells that are queued or being trained" in told
    slurm.answers("squeue", (0, squeue_line("17", "COMPLETED"), ""))
    assert cleaned()[0] == {old, code, scrap}
    assert log.exists()


def test_the_log_of_a_job_that_runs_in_another_cluster_is_kept(slurm, cell):
    write(LOG.with_name("18.log"))
    write(LOG.with_name("19.log"))
    write_json(cell.state / "slurm_job.json", {"slurm_job_id": "18;blue"})
    slurm.answers("squeue", (0, "", ""), (0, f"CLUSTER: blue\n{squeue_line('18', 'RUNNING')}", ""))
    gone, _ = cleaned()
    assert LOG.with_name("19.log") in gone and LOG.with_name("18.log") not in gone
    assert not any(path.is_relative_to(cell.state) for path in gone)


def test_what_a_living_call_of_snakemake_may_need_stays(cell):
    old, code = write(Path("results/grid/heads/2020.json")), write(Path("results/grid/heads/code-1/Snakefile"))
    write(Path(os.environ[invocation.VARIABLE]).with_suffix(".expected.json"))
    gone, told = cleaned()
    assert gone == set()
    assert "is running, or may be on another host" in told
    living = Path(os.environ[invocation.VARIABLE])
    write_text(living, living.read_text().replace('"host": "', '"host": "other-'))
    assert cleaned()[0] == set()
    long_ago = time.time() - 8 * 86400
    for path in (living, old):
        os.utime(path, (long_ago, long_ago))
    assert cleaned()[0] == {old, code}


def test_a_call_of_snakemake_that_begins_meanwhile_gets_its_copy_of_the_code_back(cell, no_head_lives):
    code = write(Path("results/grid/heads/code-1/Snakefile"))
    found = find_leftovers(RESULTS)
    invocation.freeze({"experiment": "grid"}, Path("results/grid/heads"))
    assert delete(found) == ["not deleted: files of old snakemake calls (a call of snakemake has just started)"]
    assert code.exists()
    assert not list(Path("results/grid/heads").glob(".removed*"))


def test_what_a_controller_in_the_queue_is_to_read_stays(cell, no_head_lives, slurm):
    code = write(RESULTS / "grid/heads/code-1/Snakefile")
    note_submission(RESULTS / "grid", "12", "gluegrid-grid-1", RESULTS / "grid/heads/plan.json")
    slurm.answers("squeue", (0, squeue_line("12", "PENDING", name="gluegrid-grid-1"), ""))
    gone, told = cleaned()
    assert code not in gone
    assert "kept: results/grid/heads, since its jobs are queued or running" in told
    # Another's job has its number by now.
    slurm.answers("squeue", (0, squeue_line("12", "PENDING", name="another"), ""))
    assert code in cleaned()[0]


def test_what_somebody_holds_a_lock_of_stays(cell, no_head_lives):
    scrap = write(cell.state / ".attempts.jsonl.x", days_old=2)
    partial = write(Path("resources/models/other@main.partial/x"))
    found = find_leftovers(RESULTS)
    with lock(cell.lock, print), lock(Path("resources/models/other@main.lock"), print):
        assert cleaned()[0] == set()
        assert [line.partition(" (")[0] for line in delete(found)] == [
            "not deleted: state of finished cells, and partial files",
            "not deleted: partial files of interrupted fetches",
        ]
    assert cleaned()[0] == {scrap, partial}


def test_nothing_is_deleted_while_slurm_does_not_answer(cell, no_head_lives, slurm):
    slurm.answers("squeue", (1, "", "slurm_load_jobs error:\nUnable to contact slurm controller"))
    with pytest.raises(
        TransientError, match=r"nothing was deleted, since SLURM does not say .*slurm_load_jobs error: Un"
    ):
        find_leftovers(RESULTS)


def test_a_resource_that_no_experiment_uses_is_told_and_stays(cell, no_head_lives):
    used = next(iter(find_leftovers(RESULTS)[-1].notes), None)
    assert used is None
    write(Path("resources/models/other@main/manifest.json"))
    gone, told = cleaned()
    assert gone == set()
    assert "kept: resources/models/other@main, 1" in told


def test_what_was_compiled_for_gpus_is_deleted_and_the_next_cell_compiles_it_again(cell, no_head_lives):
    kernel = write(Path("resources/kernels/torch-2-1234/triton/kernel"))
    assert cleaned()[0] == {kernel}


def test_what_was_compiled_for_gpus_stays_while_a_call_of_snakemake_lives(cell):
    write(Path("resources/kernels/torch-2-1234/triton/kernel"))
    assert cleaned()[0] == set()


def test_tokens_that_lie_elsewhere_too_are_offered(cell, no_head_lives):
    experiment = newest_plan(RESULTS / "grid")
    used = Path(experiment.tokens_manifest(next(iter(experiment.cells.values())))).parent
    for folder, content in {"pair-128": b"tokens", "other-128": b"other", used.name: b"tokens"}.items():
        path = write(used.with_name(folder) / "train.arrow")
        path.write_bytes(content)
        write_json(path.with_name("manifest.json"), {"files": {path.name: file_identity(path)}})
    gone, told = cleaned()
    assert gone == {used.with_name("pair-128") / name for name in ("train.arrow", "manifest.json")}
    assert f"kept: {used.with_name('other-128')}, " in told


def test_tokens_that_lie_elsewhere_too_stay_while_a_call_of_snakemake_lives(cell):
    experiment = newest_plan(RESULTS / "grid")
    used = Path(experiment.tokens_manifest(next(iter(experiment.cells.values())))).parent
    for folder in ("pair-128", used.name):
        write_json(used.with_name(folder) / "manifest.json", {"files": {}})
    gone, told = cleaned()
    assert gone == set()
    assert f"kept: {used.with_name('pair-128')}, " in told


def test_what_was_to_be_deleted_is_deleted_though_nobody_reads_what_is_told(cell, no_head_lives):
    scrap = write(cell.state / ".attempts.jsonl.x", days_old=2)
    done = builders.run_without_reader("clean-state", "--yes", unbuffered="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert not scrap.exists()


def test_only_the_experiment_that_is_named_is_cleaned(cell, no_head_lives, project):
    shutil.copytree("results/grid", "results/other")
    codes = [write(Path(f"results/{name}/heads/code-1/Snakefile")) for name in ("grid", "other")]
    command = [sys.executable, str(project / "scripts/commands.py"), "clean-state", "--yes"]
    assert subprocess.run([*command, "grid"], capture_output=True).returncode == 0
    assert [code.exists() for code in codes] == [False, True]
    wrong = subprocess.run([*command, "gird"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "gluegrid: results/gird is not an experiment; there are: grid, other (did you mean 'grid'?)\n",
    )
