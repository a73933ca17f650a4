"""Files that start a run on 1, 8 and 2 × 8 GPUs: configurations for `accelerate launch --config_file`, and a script for Slurm."""
