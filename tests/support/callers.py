"""Environments in which people call snakemake: under launchers, in SLURM jobs, in notebooks."""

from pathlib import Path

TORCHRUN = {
    **{"WORLD_SIZE": "4", "RANK": "3", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "GROUP_RANK": "1", "NODE_RANK": "1"},
    **{"ROLE_NAME": "default", "ROLE_RANK": "3", "ROLE_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"},
    **{"MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "theirs"},
    **{"TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"},
    **{"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true", "PET_NPROC_PER_NODE": "3"},
    **{"PET_NNODES": "4", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "FORK_LAUNCHED": "1"},
}
MPIRUN = {
    **{"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    **{"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_UNIVERSE_SIZE": "4", "PMIX_RANK": "3", "PMIX_NAMESPACE": "theirs"},
    **{"PMIX_SERVER_URI41": "theirs;tcp4://192.0.2.1:1", "PMI_RANK": "3", "PMI_SIZE": "4", "PMI_FD": "7"},
    **{"MV2_COMM_WORLD_RANK": "3", "MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_LOCAL_RANK": "1"},
    **{"MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
}
# What SLURM sets in a job, except for the job's number, by which launch.sh knows that it is in the cell's own job.
STEP = {
    **{"SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
    **{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "7"},
    **{"SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "1", "SLURM_EXPORT_ENV": "NONE", "SLURM_GPUS": "8"},
    **{"SRUN_CPUS_PER_TASK": "7", "SBATCH_MEM_BIND": "none", "SLURM_TIME_FORMAT": "relative"},
}
JOB = STEP | {"SLURM_JOB_ID": "1", "SLURM_JOBID": "1", "SLURM_JOB_END_TIME": "1700000000", "SLURM_JOB_NUM_NODES": "2"}
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "JPY_PARENT_PID": "1", "JPY_SESSION_NAME": "x"}


def python_variables(folder: Path) -> dict[str, str]:
    """Return variables that make Python run other files first, or none of ours; these files are made in `folder`."""
    folder.mkdir()
    for name in ("torch", "transformers", "accelerate", "gluegrid", "startup"):
        (folder / f"{name}.py").write_text('raise SystemExit("a file of the caller is run")\n', encoding="utf-8")
    return {
        "PYTHONPATH": str(folder),
        "PYTHONSTARTUP": str(folder / "startup.py"),
        "PYTHONSAFEPATH": "1",
        "PYTHONINSPECT": "1",
        "PYTHONIOENCODING": "ascii:strict",
        "PYTHONHASHSEED": "0",
    }
