"""Which variables of a caller's environment reach jobs and cells; real launches are in test_launch.py."""

import os
import time
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from callers import MPIRUN, NOTEBOOK, STEP, TORCHRUN, python_variables

from gluegrid.common.errors import GluegridError
from gluegrid.common.provenance import job
from gluegrid.execution.environment import leave_caller, leave_job_of_caller, make_environment_of_cell
from gluegrid.workflow.hooks import check_programs, let_jobs_find_programs

WISHES = {
    **{"PATH": "/bin", "HOME": "/home/me", "HF_TOKEN": "secret", "HTTPS_PROXY": "http://proxy", "CONDA_EXE": "/conda"},
    **{
        "PYTHONUNBUFFERED": "1",
        "SBATCH_PARTITION": "gpu",
        "SLURM_CONF": "/etc/slurm.conf",
        "SNAKEMAKE_PROFILE": "mine",
    },
}
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "1"}
CARDS = {"CUDA_VISIBLE_DEVICES": "3", "ROCR_VISIBLE_DEVICES": "3"}


@pytest.fixture
def given() -> Iterator[Callable]:
    """Let these variables be all that there are, until the test ends."""

    def set_variables(*parts: dict[str, str], **more: str) -> None:
        os.environ.clear()
        for part in (*parts, more):
            os.environ.update(part)

    with mock.patch.dict(os.environ):
        yield set_variables


def test_a_cell_gets_what_is_listed_and_nothing_else(given, tmp_path):
    listed = {"LC_ALL": "C", "NCCL_DEBUG": "INFO", "CUDA_VISIBLE_DEVICES": "1", "OPENBLAS_CORETYPE": "Haswell"}
    unlisted = {"NVIDIA_TF32_OVERRIDE": "1", "PATHS": "/bin", "BASH_FUNC_module%%": "() { :; }", "WANDB_API_KEY": "x"}
    given(TORCHRUN, MPIRUN, STEP, NOTEBOOK, python_variables(tmp_path / "python"), unlisted, listed, WISHES)
    make_environment_of_cell()
    left = {name for name in os.environ if not name.startswith("PET_")}  # scripts/launch.sh drops these
    assert left == {*listed, "PATH", "HOME", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "SLURM_CONF"}
    assert os.environ["PYTHONIOENCODING"].startswith("utf-8:")  # not the caller's


def test_jobs_of_a_head_get_all_but_what_its_caller_has_set_for_its_own_programs(given, tmp_path):
    given(
        WISHES,
        NOTEBOOK,
        python_variables(tmp_path / "python"),
        BASH_ENV="/x",
        SQUEUE_STATES="F",
        SLURM_TIME_FORMAT="%s",
    )
    leave_caller()
    assert {*os.environ} == {*WISHES, *NOTEBOOK, "PYTHONIOENCODING"} - {"MPLBACKEND"}
    assert os.environ["PYTHONIOENCODING"].startswith("utf-8:")


def test_jobs_of_slurm_know_nothing_of_the_job_that_their_head_is_in(given):
    given(WISHES, STEP, JOB, CARDS, SLURM_JOB_END_TIME=str(time.time() + 86400))
    leave_job_of_caller("slurm")
    assert dict(os.environ) == WISHES


def test_local_jobs_end_with_the_job_that_their_head_is_in_and_are_none_of_their_own(given):
    end = {"SLURM_JOB_END_TIME": str(time.time() + 86400)}
    given(WISHES, STEP, JOB, CARDS, end, GLUEGRID_EXECUTOR="local")
    leave_job_of_caller("local")
    kept = {"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "GLUEGRID_EXECUTOR": "local"}
    assert dict(os.environ) == WISHES | CARDS | end | kept
    assert job()["slurm_job_id"] is None
    os.environ["GLUEGRID_EXECUTOR"] = "slurm"
    assert job()["slurm_job_id"] == "7"


def test_a_job_that_is_over_leaves_nothing_to_a_shell_that_has_outlived_it(given):
    given(WISHES, STEP, JOB, CARDS, SLURM_JOB_END_TIME="1700000000")
    leave_job_of_caller("local")
    assert dict(os.environ) == WISHES | CARDS


def test_outside_of_jobs_what_a_user_says_to_slurm_stays(given):
    given(WISHES, SLURM_ACCOUNT="mine", SBATCH_QOS="long")
    leave_job_of_caller("slurm")
    assert dict(os.environ) == WISHES | {"SLURM_ACCOUNT": "mine", "SBATCH_QOS": "long"}


def test_missing_programs_are_named_before_anything_starts(given, tmp_path):
    for name in ("bash", "squeue"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    given(PATH=str(tmp_path))
    with pytest.raises(
        GluegridError,
        match=r"^tee: not found in any folder of PATH \(.*\); install it, or load its module$",
    ):
        check_programs("local")
    with pytest.raises(GluegridError, match=r"^tee, sbatch, scancel: not found"):
        check_programs("slurm")


def test_a_job_asks_the_slurm_of_its_own_cluster(given, tmp_path):
    """Its snakemake is told the head's, by which `srun` inside of it would find another cluster's controller."""

    class Job:
        is_main_process = False
        basedir = "/clone"

    given(
        PATH=os.environ["PATH"], GLUEGRID_SRUN="/bin/srun", GLUEGRID_SLURM_CONF="of-the-head", SLURM_CONF="of-the-job"
    )
    let_jobs_find_programs(Job)
    assert os.environ["GLUEGRID_SLURM_CONF"] == "of-the-job"
    assert os.environ["GLUEGRID_SRUN"] == "/bin/srun"


def test_a_head_without_a_path_finds_what_the_system_has(given):
    class Workflow:
        is_main_process = True
        basedir = "/clone"

    given()
    let_jobs_find_programs(Workflow)
    assert os.environ["PATH"].endswith(os.defpath)
    assert os.environ["GLUEGRID_SCRIPTS"] == "/clone/scripts"
