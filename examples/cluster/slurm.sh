#!/bin/bash
# Two machines of eight devices: sbatch examples/cluster/slurm.sh
# One torchrun a machine; the machines meet at the first of them. Submitted again, the run goes on.
#SBATCH --job-name=logsnr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

out=${OUT:-runs/vdm} # seen by all machines
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=8

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 3 \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head:29500" \
    -m logsnr train vdm --data "${DATA:-digits}" --out "$out" \
    --batch-size 1024 --precision bf16 --engine fsdp
