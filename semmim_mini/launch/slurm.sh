#!/bin/bash
# A run on two nodes of eight GPUs under Slurm, from its first step or from its last checkpoint:
#
#     sbatch semmim_mini/launch/slurm.sh runs/base --preset base --set run.parallel=fsdp
#
# The first argument is the run's folder on a file system that all nodes share, the others are those of `semmim-mini pretrain`.
# Five minutes before its time is up the run is asked to stop. It saves within the 30 seconds that accelerate's launcher leaves its
# processes, goes back into the queue, and later goes on where it was. After an error it does not.
#SBATCH --job-name=semmim-mini
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1 # one launcher a node, which starts a process for each of its GPUs
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=104 # for each GPU its process and data.workers=12
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

out=${1:?give the folder of the run}
shift
resume=()
if [ -f "$out/config.yaml" ]; then
    resume=(--resume)
fi
launch=$(python -c 'import semmim_mini.launch as launch; print(launch.__path__[0])')
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${first%%$'\n'*}
export launch first

asked=no
trap 'asked=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM # to the processes of srun

srun --kill-on-bad-exit=1 bash -c '
    accelerate launch --config_file "$launch/gpus_2x8.yaml" --machine_rank "$SLURM_NODEID" --main_process_ip "$first" \
        -m semmim_mini.cli pretrain "$@"
' launcher --out "$out" "$@" "${resume[@]}" &
status=0
wait $! || status=$?
if [ "$asked" = yes ]; then # the signal ended the waiting, not the run
    wait $! || status=$?
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
