"""Environment variables of a cell and of a call of snakemake: chosen, not inherited from the caller.

People call snakemake inside `salloc` or an `sbatch` job, from a notebook, under torchrun or mpirun. Such callers set
ranks and world sizes, the layout of their job, and what Python runs first. None of it is meant for a cell, which would
wait for other ranks forever, or fail.
"""

import os
import time
from collections.abc import Callable

# Everything that reaches a cell, with the reason; a name that ends in * is a prefix. Tokens, keys and proxies are only
# for staging. The experiment file alone determines what a run computes, so NVIDIA_TF32_OVERRIDE and
# TORCH_ALLOW_TF32_CUBLAS_OVERRIDE must not change its precision.
KEPT = {
    "where programs, the user's files and temporary ones are": "PATH HOME USER LOGNAME SHELL TMPDIR TMP TEMP TEMPDIR",
    "text and times as the user writes them": "LANG LANGUAGE LC_* TZ PYTHONUTF8",
    "rights on a file system": "KRB5CCNAME",
    "shared libraries of a site's modules, and the C library's memory": (
        "LD_LIBRARY_PATH LD_PRELOAD NIX_LD* MALLOC_* GLIBC_TUNABLES"
    ),
    "what Python writes, and where; whether to use packages in the user's home": (
        "PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONNOUSERSITE PYTHONUNBUFFERED PYTHONFAULTHANDLER"
    ),
    "which GPUs it has, and their driver": (
        "CUDA_* CUBLAS_* NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF"
        " GPU_DEVICE_ORDINAL HIP_* HSA_* MIOPEN_* ROCM_* ROCR_*"
    ),
    "the network between the processes of one cell": (
        "NCCL_* TORCH_NCCL_* TORCH_DISTRIBUTED_DEBUG TORCH_CPP_LOG_LEVEL GLOO_* UCX_* FI_* OFI_*"
    ),
    "threads, and what a processor needs to compute correctly": (
        "OMP_NUM_THREADS KMP_DUPLICATE_LIB_OK MKL_* GOTO_* OPENBLAS_* BLIS_* NVPL_* ARMPL_* NUMEXPR_* VECLIB_*"
        " ONEDNN_* DNNL_* ATEN_CPU_CAPABILITY"
    ),
    "its own SLURM job, and how SLURM is asked about it": (
        "SLURM_JOB_ID SLURM_JOBID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_JOB_END_TIME SLURM_RESTART_COUNT"
        " SLURM_CONF SLURM_CLUSTER_NAME SLURMD_NODENAME"
    ),
    "what gluegrid sets: the call of snakemake, rules/train.smk and scripts/launch.sh": (
        "GLUEGRID_* PET_* HF_HUB_OFFLINE HF_DATASETS_OFFLINE HF_EVALUATE_OFFLINE HF_HUB_DISABLE_TELEMETRY"
    ),
}

# What a caller sets for its own programs, but a job's programs would heed: files that a shell runs first, the plots of
# a notebook, and a user's formats for SLURM's lists, which are parsed here.
OF_THE_CALLER = "BASH_ENV MPLBACKEND SLURM_TIME_FORMAT SACCT_* SCANCEL_* SINFO_* SQUEUE_*"

# Whatever the locale, since names may have any letter.
OF_LOGS = {"PYTHONIOENCODING": "utf-8:backslashreplace"}

# What SLURM tells a job about itself, and a job's GPUs. Other SBATCH_* are settings of the user.
OF_A_SLURM_JOB = "SLURM* SRUN_* SBATCH_CPU_BIND* SBATCH_MEM_BIND* SBATCH_WAIT SBATCH_ARRAY_INX"
GPUS_OF_A_SLURM_JOB = "CUDA_VISIBLE_DEVICES GPU_DEVICE_ORDINAL HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES"
# How to reach SLURM, inside and outside of a job.
TO_REACH_SLURM = "SLURM_CONF* SLURM_CLUSTERS SLURM_JWT"
# What cells need to know about the job of the call of snakemake in which they run, and with which they end.
TO_LIVE_IN_A_SLURM_JOB = "SLURM_JOB_ID SLURM_JOBID SLURM_JOB_END_TIME SLURM_CLUSTER_NAME SLURMD_NODENAME"


def make_environment_of_cell() -> None:
    """Drop all variables but those kept for a cell, for this process and its children."""
    kept = _named(*KEPT.values())
    _drop(lambda name: not kept(name))
    os.environ.update(OF_LOGS)


def leave_caller() -> None:
    """Drop what is meant for the caller's own programs and would change how the jobs of this call of snakemake run."""
    kept, of_caller = _named(*KEPT.values()), _named(OF_THE_CALLER)
    _drop(lambda name: of_caller(name) or (name.startswith("PYTHON") and not kept(name)))
    os.environ.update(OF_LOGS)


def leave_job_of_caller(executor: str) -> None:
    """Drop what SLURM says about the job in which snakemake was called, since the jobs of this call are different ones.

    Jobs of Snakemake's local executor do run inside it. A shell may still have these variables after the job has ended.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return
    is_inside = executor == "local" and float(os.environ.get("SLURM_JOB_END_TIME") or "inf") > time.time()
    kept = _named(TO_REACH_SLURM, *([TO_LIVE_IN_A_SLURM_JOB] if is_inside else []))
    of_job = _named(OF_A_SLURM_JOB, *([] if executor == "local" else [GPUS_OF_A_SLURM_JOB]))
    _drop(lambda name: of_job(name) and not kept(name))


def _named(*lists: str) -> Callable[[str], bool]:
    """Return a function that tells whether a name is in one of these lists."""
    names = " ".join(lists).split()
    whole, beginnings = {*names}, tuple(name[:-1] for name in names if name.endswith("*"))
    return lambda name: name in whole or name.startswith(beginnings)


def _drop(is_dropped: Callable[[str], bool]) -> None:
    for name in [*os.environ]:
        if is_dropped(name):
            del os.environ[name]
