#!/usr/bin/env bash
# Start a script in each of the processes that train a cell together.
#
#     launch.sh NODES PROCESSES SCRIPT [ARGUMENT...]
#
# PROCESSES is the total number on all NODES, one per GPU (with `device: cpu`, the script does not use the GPUs). 0 also
# means one, since a profile may request no GPU for cells with `device: cpu`.
# Variables of the user or a caller do not change how the script is started: neither ACCELERATE_* and PET_*
# (PET_<OPTION> sets an option of torch's launcher inside accelerate's), nor PYTHON*, which the launcher ignores (-E).
# gluegrid/execution/environment.py lists the variables that reach the script.
#
# One process: accelerate starts it, and does not forward signals (gluegrid/execution/preemption.py).
# Several on one node: the launcher opens its store at a free port chosen by the system, so that two launches on a host
# do not collide. It forwards signals, since its children are in separate sessions; gives them as long to leave as
# gluegrid/execution/cell_lock.py does; restarts none; and ends the others when one has failed.
# Several nodes: srun starts this file again on each node, and the launchers meet on the first node, at a port derived
# from the job's number.
#
# Outside SLURM jobs, the launcher first leases the cell's GPUs (gluegrid/execution/cell_gpus.py).
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
    # The port is not used; without it, accelerate warns if another launch uses its default port.
    exec "${launch[@]}" --main_process_port 0 "${@:3}"
fi

if [[ -z ${SLURM_JOB_ID-} ]]; then
    echo "gluegrid: nodes: $nodes needs SLURM; set nodes: 1 in the experiment file, or use a SLURM profile" >&2
    exit 1
fi

if ((${SLURM_STEP_NUM_NODES:-1} != nodes)); then
    exec srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1 \
        bash "${BASH_SOURCE[0]}" "$@"
fi

hosts=$(scontrol show hostnames "$SLURM_STEP_NODELIST")
# The address known to SLURM, since node names may not resolve in the network.
addresses=$(sinfo --noheader --nodes="${hosts%%$'\n'*}" --format=%o)
exec "${launch[@]}" --num_machines "$nodes" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "${addresses%%$'\n'*}" --main_process_port $((20000 + SLURM_JOB_ID % 12000)) "${@:3}"
