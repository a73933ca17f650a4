"""Faults of the machine around a run, real ones where a test can have them: nothing saved is lost, and the message says what to do."""

import os
import signal
from pathlib import Path

import pytest
from small_runs import TORCHRUN, changed, metrics, pretrain, require_equal, start, tensors, train, wait_for_steps

from semmim_mini.config import to_yaml
from semmim_mini.training import checkpoint

resource = pytest.importorskip("resource")  # limits that the operating system keeps

# From the first checkpoint on no file may grow beyond some bytes: writing fails in the kernel, as on a full disk, and not in a stand-in.
LIMITED = """
import resource, sys
from semmim_mini import cli
from semmim_mini.training import checkpoint

real = checkpoint.save
def save(*given):
    folder = real(*given)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
    return folder

checkpoint.save = save
sys.exit(cli.main(sys.argv[2:]))
"""


def run_limited(config, folder: Path, largest: int, *more: str) -> tuple[int, str]:
    """`pretrain` as a user types it, with files of at most `largest` bytes after its first checkpoint; exit code and complaint."""
    file = folder.with_suffix(".yaml")
    file.write_text(to_yaml(config), encoding="utf-8")
    process = start("-c", LIMITED, str(largest), "pretrain", "--config", str(file), "--out", str(folder), *more)
    _, errors = process.communicate(timeout=240)
    return process.returncode, errors


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(small, folder)
    return folder


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_disk_without_room_for_the_next_checkpoint(file, small, whole, tmp_path):
    largest = max((checkpoint.find(whole) / name).stat().st_size for name in ("model.safetensors", "optimizer.safetensors"))
    size = (checkpoint.find(whole) / file).stat().st_size
    run = tmp_path / "run"
    code, errors = run_limited(small, run, size - 1 if size == largest else largest - 1)
    assert code == 2 and "Traceback" not in errors
    assert f"cannot save step 3 under {run / 'checkpoints'}" in errors
    assert "the last good checkpoint is step-000002; free space and --resume" in errors
    assert checkpoint.read_pointer(run, "last") == "step-000002" and not list(run.rglob("*.tmp"))
    assert train(small, run, resume=True).steps == 6
    require_equal(run, whole)


def test_a_disk_without_room_for_the_log(small, whole, tmp_path):
    run = tmp_path / "run"
    first, second, third, *_ = (whole / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    code, errors = run_limited(changed(small, "run.eval_every=6"), run, len(first + second) + len(third) // 2)
    assert code == 2 and "Traceback" not in errors
    assert f"cannot write to {run / 'metrics.jsonl'}: File too large; free space, then go on with --resume" in errors
    assert train(small, run, resume=True).steps == 6
    require_equal(run, whole)


def test_no_room_for_what_comes_after_training(tmp_path, monkeypatch, capsys):
    from semmim_mini import cli, demo

    def full(*given, **more):
        raise OSError(28, "No space left on device", str(tmp_path / "report.json"))

    monkeypatch.setattr(demo, "run_demo", full)
    assert cli.main(["demo", "--out", str(tmp_path / "run")]) == 2
    assert f"{tmp_path / 'report.json'} cannot be written: No space left on device; free space" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write to, not even root")
def test_a_folder_that_cannot_be_written(small, photos, tmp_path):
    process = pretrain("/proc/self/run", {"data.source": f"flickr8k:{photos}"})
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 2 and "Traceback" not in errors
    assert "cannot write to /proc/self/run" in errors and "choose another --out" in errors
    assert "step 1/" not in said  # found out before any work was done


def children(pid: int) -> list[int]:
    psutil = pytest.importorskip("psutil")
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


LONG = {"run.steps": 5_000, "run.save_every": 2, "run.eval_every": 5_000}


def test_a_killed_worker_is_told_and_the_run_can_go_on(small, photos, tmp_path):
    run = tmp_path / "run"
    process = pretrain(run, {"data.source": f"flickr8k:{photos}", **LONG, "data.workers": 1})
    wait_for_steps(process, run, 3, seconds=240)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2 and "Traceback" not in errors, errors
    assert "a process that prepares batches was killed, most often because memory ran out" in errors
    assert "lower data.workers=1" in errors and f"semmim-mini pretrain --out {run} --resume" in errors
    reached = checkpoint.read_state(checkpoint.find(run))["step"]
    assert len(metrics(run)) - reached in (0, 1, 2)
    config = changed(small, *(f"{name}={value}" for name, value in LONG.items()))
    train(config, run, until=reached + 2, resume=True)
    train(config, tmp_path / "whole", until=reached + 2)
    require_equal(run, tmp_path / "whole")


def test_one_of_two_processes_dies(small, photos, tmp_path):
    run = tmp_path / "run"
    process = pretrain(run, {"data.source": f"flickr8k:{photos}", **LONG}, *TORCHRUN)
    wait_for_steps(process, run, 3, seconds=240)
    os.kill(max(children(process.pid)), signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode != 0 and "SIGKILL" in errors  # the launcher ends the other one, and says who was first
    reached = checkpoint.read_state(checkpoint.find(run))["step"]
    assert reached >= 2 and tensors(run)
    config = changed(small, *(f"{name}={value}" for name, value in LONG.items()))
    assert train(config, run, until=reached + 1, resume=True).steps == reached + 1  # by one process, from where two were
    assert [record["step"] for record in metrics(run)] == list(range(reached + 1))
