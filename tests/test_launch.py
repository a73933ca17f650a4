"""The files that start runs on GPUs: accelerate reads them as we mean them, and the Slurm script says what it should."""

import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

import semmim_mini.launch
from semmim_mini.cli import build_parser

FOLDER = Path(semmim_mini.launch.__path__[0])
SHAPES = {"gpus_1": (1, 1, "NO"), "gpus_8": (1, 8, "MULTI_GPU"), "gpus_2x8": (2, 16, "MULTI_GPU")}


def test_every_file_is_known():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_accelerate_reads_them(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.num_machines, config.num_processes, config.distributed_type.value) == SHAPES[name]
    assert config.mixed_precision == "no" and not config.use_cpu


@pytest.mark.parametrize("name", SHAPES)
def test_the_command_in_a_file_can_be_typed(name):
    comment = "".join(line[2:] for line in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    command = comment.partition("accelerate launch ")[2].replace("\\", " ").split(" # ")[0]
    words = shlex.split(command.partition("pretrain")[0])
    launched = launch_command_parser().parse_args([*words, "pretrain"])
    assert Path(launched.config_file).name == f"{name}.yaml" and launched.module and launched.training_script == "semmim_mini.cli"
    run = shlex.split("pretrain" + command.partition("pretrain")[2])
    parsed = build_parser().parse_args(run[: run.index("--out") + 2])
    assert parsed.preset in ("small", "base")


@pytest.fixture
def slurm(tmp_path):
    """`slurm(out)`: the Slurm script on stand-ins for Slurm and accelerate that write down how they were called."""
    stand_ins = {
        "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; else echo "scontrol $*" >> "$CALLS"; fi',
        "scancel": 'echo "scancel $*" >> "$CALLS"; kill -TERM "$(cat "$CALLS.srun")"',
        "srun": 'echo $$ > "$CALLS.srun"; shift; SLURM_NODEID=1 exec "$@"',
        "accelerate": 'echo "accelerate $*" >> "$CALLS"; trap "exit 130" TERM; while [ $BUSY = 1 ]; do sleep 0.05; done; exit $ENDS',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(stat.S_IRWXU)

    def start(*words: str, **environment: str) -> subprocess.Popen:
        known = {"CALLS": str(tmp_path / "calls"), "BUSY": "0", "ENDS": "0", "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "node[7-8]"}
        path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = subprocess.Popen(["bash", str(FOLDER / "slurm.sh"), *words], env=os.environ | known | {"PATH": path} | environment)
        process.calls = tmp_path / "calls"
        return process

    return start


def test_slurm_starts_a_launcher_on_each_node(slurm, tmp_path):
    process = slurm(str(tmp_path / "run"), "--preset", "base", "--set", "run.parallel=fsdp")
    assert process.wait(timeout=60) == 0
    (call,) = process.calls.read_text().splitlines()
    assert call.startswith("accelerate launch ")
    launched = launch_command_parser().parse_args(shlex.split(call)[2:])
    assert (launched.machine_rank, launched.main_process_ip) == (1, "node7")
    assert Path(launched.config_file) == FOLDER / "gpus_2x8.yaml"
    run = build_parser().parse_args(launched.training_script_args)
    assert (run.out, run.preset, run.settings, run.resume) == (tmp_path / "run", "base", ["run.parallel=fsdp"], False)


def test_slurm_goes_on_with_a_run_that_is_there(slurm, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    process = slurm(str(tmp_path / "run"), "--preset", "base")
    assert process.wait(timeout=60) == 0
    assert process.calls.read_text().split()[-1] == "--resume"


def test_slurm_asks_the_run_to_stop_and_puts_itself_back_into_the_queue(slurm, tmp_path):
    process = slurm(str(tmp_path / "run"), BUSY="1")
    deadline = time.monotonic() + 60
    while not process.calls.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 130  # the run's own answer
    assert process.calls.read_text().splitlines()[1:] == ["scancel --signal=TERM 42", "scontrol requeue 42"]


def test_after_an_error_nothing_starts_again(slurm, tmp_path):
    process = slurm(str(tmp_path / "run"), ENDS="2")
    assert process.wait(timeout=60) == 2
    assert "requeue" not in process.calls.read_text()


def test_slurm_needs_a_folder(slurm):
    assert slurm().wait(timeout=60) != 0
