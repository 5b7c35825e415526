#!/usr/bin/env bash
# Start a script once in each of the processes that train a cell together: the one launch of the cell's job.
#
#     launch.sh NODES PROCESSES SCRIPT [ARGUMENT...]
#
# PROCESSES is the number on all NODES together, one for each GPU (with `device: cpu`, the script itself stays off them).
# 0 is one too: a profile may ask for no GPU, for cells with `device: cpu`.
# Nothing that the user or a caller has set changes how the script is started: neither ACCELERATE_* and PET_* (PET_<OPTION>
# is torch's own way to give an option to the launcher inside of accelerate's), nor PYTHON*, of which the launcher itself
# knows nothing (-E). What of all variables reaches the script is said by gluegrid/execution/environment.py.
#
# One process: accelerate starts it, and passes no signal on (gluegrid/execution/preemption.py).
# Several on one node: the launcher opens its store at a port that the system gives it, so that two launches on a host
# never meet. It passes signals on, since its children are in sessions of their own; gives them as long to leave as
# gluegrid/execution/cell_state.py does; starts none again; and ends the others when one has failed.
# Several nodes: srun starts this file again on each of them, and the launchers meet on the first node, at a port
# derived from the job's number.
#
# Outside of SLURM's jobs, the launcher leases the cell's GPUs first (gluegrid/execution/cell_gpus.py).
set -euo pipefail

nodes=$1 processes=$(($2 > 0 ? $2 : 1))
scripts=${BASH_SOURCE[0]%/*}
launch=(python -E "$scripts/accelerate_launch.py" --config_file "$scripts/accelerate.yaml")

unset "${!ACCELERATE_@}" "${!PET_@}"

if ((processes == 1)); then
    exec "${launch[@]}" "${@:3}"
fi

export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGUSR1 PET_SHUTDOWN_TIMEOUT=300
launch+=(--multi_gpu --num_processes "$processes" --max_restarts 0 --log_dir /dev/null)

if ((nodes == 1)); then
    export PET_STANDALONE=1 PET_LOCAL_ADDR=localhost
    # The port is not used; without it, accelerate warns where another launch has its own default one.
    exec "${launch[@]}" --main_process_port 0 "${@:3}"
fi

if [[ -z ${SLURM_JOB_ID-} ]]; then
    echo "gluegrid: nodes: $nodes is for a job on SLURM; set nodes: 1 in the experiment file, or use --profile slurm" >&2
    exit 1
fi

if ((${SLURM_STEP_NUM_NODES:-1} != nodes)); then
    exec srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1 \
        bash "${BASH_SOURCE[0]}" "$@"
fi

hosts=$(scontrol show hostnames "$SLURM_STEP_NODELIST")
# SLURM's own address of it: the names of nodes need not be known to the network.
addresses=$(sinfo --noheader --nodes="${hosts%%$'\n'*}" --format=%o)
exec "${launch[@]}" --num_machines "$nodes" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "${addresses%%$'\n'*}" --main_process_port $((20000 + SLURM_JOB_ID % 12000)) "${@:3}"
