"""Environment variables of a cell and of a call of snakemake: made, not inherited from whoever calls.

People call snakemake inside of `salloc` or an `sbatch` job, from a notebook, under torchrun or mpirun. Such callers
tell their children which rank they are of how many, how their job is cut, and what Python runs first; none of it is
meant for a cell, which would wait for other ranks for ever, or fail.
"""

import os
import time
from collections.abc import Callable

# All that reaches a cell, with the reason for it; a name that ends in * stands for all that begin so. Tokens, keys and
# proxies are for fetching. What a run computes is said by the experiment file alone: neither NVIDIA_TF32_OVERRIDE nor
# TORCH_ALLOW_TF32_CUBLAS_OVERRIDE may change its precision.
KEPT = {
    "where programs, the user's files and temporary ones are": "PATH HOME USER LOGNAME SHELL TMPDIR TMP TEMP TEMPDIR",
    "text and times as the user writes them": "LANG LANGUAGE LC_* TZ PYTHONUTF8",
    "rights on a file system": "KRB5CCNAME",
    "shared libraries of a site's modules, and the C library's memory": (
        "LD_LIBRARY_PATH LD_PRELOAD NIX_LD* MALLOC_* GLIBC_TUNABLES"
    ),
    "what Python writes, and where; whether packages in the user's home count": (
        "PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONNOUSERSITE PYTHONUNBUFFERED PYTHONFAULTHANDLER"
    ),
    "which GPUs it has, and their driver": (
        "CUDA_* CUBLAS_* NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF"
        " GPU_DEVICE_ORDINAL HIP_* HSA_* MIOPEN_* ROCM_* ROCR_*"
    ),
    "the network between the processes of one cell": (
        "NCCL_* TORCH_NCCL_* TORCH_DISTRIBUTED_DEBUG TORCH_CPP_LOG_LEVEL GLOO_* UCX_* FI_* OFI_*"
    ),
    "threads, and what a processor needs to compute right": (
        "OMP_NUM_THREADS KMP_DUPLICATE_LIB_OK MKL_* GOTO_* OPENBLAS_* BLIS_* NVPL_* ARMPL_* NUMEXPR_* VECLIB_*"
        " ONEDNN_* DNNL_* ATEN_CPU_CAPABILITY"
    ),
    "its own SLURM job, and how SLURM is asked about it": (
        "SLURM_JOB_ID SLURM_JOBID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_JOB_END_TIME SLURM_RESTART_COUNT"
        " SLURM_CONF SLURM_CLUSTER_NAME SLURMD_NODENAME"
    ),
    "what gluegrid says: its head, rules/train.smk and scripts/launch.sh": (
        "GLUEGRID_* PET_* HF_HUB_OFFLINE HF_DATASETS_OFFLINE HF_EVALUATE_OFFLINE HF_HUB_DISABLE_TELEMETRY"
    ),
}

# What a caller has set for its own programs, and those of a job would heed: files that a shell runs first, and
# the notebook that is to show plots. And what a user has chosen to see of SLURM's lists, which are read here.
OF_THE_CALLER = "BASH_ENV MPLBACKEND SLURM_TIME_FORMAT SACCT_* SCANCEL_* SINFO_* SQUEUE_*"

# What SLURM says to a job of the job, and whom jobs have as their GPUs. Other SBATCH_* are a user's wishes.
OF_A_SLURM_JOB = "SLURM* SRUN_* SBATCH_CPU_BIND* SBATCH_MEM_BIND* SBATCH_WAIT SBATCH_ARRAY_INX"
GPUS_OF_A_SLURM_JOB = "CUDA_VISIBLE_DEVICES GPU_DEVICE_ORDINAL HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES"
# How SLURM itself is reached, in a job and outside.
TO_REACH_SLURM = "SLURM_CONF* SLURM_CLUSTERS SLURM_JWT"
# What the job of a call of snakemake is to cells that run inside it, and end with it.
TO_LIVE_IN_A_SLURM_JOB = "SLURM_JOB_ID SLURM_JOBID SLURM_JOB_END_TIME SLURM_CLUSTER_NAME SLURMD_NODENAME"


def make_environment_of_cell() -> None:
    """Leave to this process, and to all that it starts, only what is kept for a cell."""
    kept = _named(*KEPT.values())
    _drop(lambda name: not kept(name))


def leave_caller() -> None:
    """Drop what would change how the jobs of this call of snakemake run, and belongs to its caller's own programs."""
    kept, of_caller = _named(*KEPT.values()), _named(OF_THE_CALLER)
    _drop(lambda name: of_caller(name) or (name.startswith("PYTHON") and not kept(name)))


def leave_job_of_caller(executor: str) -> None:
    """Drop what SLURM says of the job in which snakemake was called: the jobs of this call are others.

    Those of Snakemake's local executor run inside it. A shell may still say so when the job is long over.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return
    is_inside = executor == "local" and float(os.environ.get("SLURM_JOB_END_TIME") or "inf") > time.time()
    kept = _named(TO_REACH_SLURM, *([TO_LIVE_IN_A_SLURM_JOB] if is_inside else []))
    of_job = _named(OF_A_SLURM_JOB, *([] if executor == "local" else [GPUS_OF_A_SLURM_JOB]))
    _drop(lambda name: of_job(name) and not kept(name))


def _named(*lists: str) -> Callable[[str], bool]:
    """Return what tells whether a name stands in one of some lists."""
    names = " ".join(lists).split()
    whole, beginnings = {*names}, tuple(name[:-1] for name in names if name.endswith("*"))
    return lambda name: name in whole or name.startswith(beginnings)


def _drop(is_dropped: Callable[[str], bool]) -> None:
    for name in [*os.environ]:
        if is_dropped(name):
            del os.environ[name]
