"""A run that was stopped, killed or cut off in the middle of saving ends in the same bits as one that was left alone."""

import os
import signal

import pytest
from small_runs import changed, metrics, pretrain, require_equal, start, train, wait_for_steps

from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint

# Kills itself while step 4 is half saved: the optimiser's file is the second of a checkpoint.
KILLED = """
import os, signal, sys
from pathlib import Path
from semmim_mini.config import from_yaml
from semmim_mini.training import checkpoint
from semmim_mini.training.loop import Training

save = checkpoint.save_file
def save_file(tensors, path):
    if "step-000004" in path and "optimizer" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    save(tensors, path)

checkpoint.save_file = save_file
Training(from_yaml(Path(sys.argv[1]).read_text()), Path(sys.argv[2])).run()
"""


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    train(small, folder)
    return folder


def test_stopped_half_way(small, whole, tmp_path):
    assert train(small, tmp_path, until=3).steps == 3
    assert train(small, tmp_path, resume=True).steps == 6
    require_equal(tmp_path, whole)


def test_stopped_after_every_step(small, whole, tmp_path):
    for step in range(1, 7):
        train(small, tmp_path, until=step, resume=step > 1)
    require_equal(tmp_path, whole)


def test_killed_while_saving(small, whole, tmp_path):
    from semmim_mini.config import to_yaml

    (tmp_path / "config.yaml").write_text(to_yaml(small), encoding="utf-8")
    run = tmp_path / "run"
    process = start("-c", KILLED, str(tmp_path / "config.yaml"), str(run))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert [record["step"] for record in metrics(run)] == [0, 1, 2, 3]
    assert checkpoint.read_pointer(run, "last") == "step-000003"  # step 3 was the best so far, and saved for it
    train(small, run, resume=True)
    require_equal(run, whole)
    assert not list(run.rglob("*.tmp"))


def test_killed_before_the_first_checkpoint(small, whole, tmp_path, monkeypatch):
    def killed(*arguments):
        raise SystemExit("as if killed")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(SystemExit):
            train(small, tmp_path)
    train(small, tmp_path, resume=True)
    require_equal(tmp_path, whole)


def test_half_a_line_of_metrics_is_mended(small, whole, tmp_path):
    train(small, tmp_path, until=3)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 3, "loss": {"itc"')
    train(small, tmp_path, resume=True)
    require_equal(tmp_path, whole)


def test_workers_change_nothing(small, whole, tmp_path):
    train(changed(small, "data.workers=1"), tmp_path, until=3)
    train(small, tmp_path, resume=True)
    require_equal(tmp_path, whole)


@pytest.mark.parametrize("setting", ["run.accumulate=2", "text.dropout=0.2", "teacher.balance=center", "space.shared=false"])
def test_other_state_is_carried_over_too(setting, small, tmp_path):
    config = changed(small, setting, "run.steps=4")
    train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", until=3)
    train(config, tmp_path / "parts", resume=True)
    require_equal(tmp_path / "parts", tmp_path / "whole")


def test_another_seed_is_another_run(small, whole, tmp_path):
    # Else all of the above would hold for a run that learns nothing from its data.
    train(changed(small, "run.seed=1"), tmp_path)
    assert metrics(tmp_path)[0]["loss"] != metrics(whole)[0]["loss"]


def test_a_damaged_checkpoint_is_refused_by_name(small, tmp_path):
    train(small, tmp_path, until=2)
    file = checkpoint.find(tmp_path) / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"optimizer\.safetensors is damaged or missing"):
        train(small, tmp_path, resume=True)


def test_ctrl_c_saves_and_says_how_to_go_on(small, photos, tmp_path):
    # As a terminal does it: the signal goes to all processes of the group, workers included.
    config = changed(small, "run.steps=5000", "run.save_every=5000", "run.eval_every=5000", "data.workers=1")
    run = tmp_path / "run"
    changes = {"data.source": f"flickr8k:{photos}", "run.steps": 5000, "run.save_every": 5000, "run.eval_every": 5000, "data.workers": 1}
    process = pretrain(run, changes, start_new_session=True)
    wait_for_steps(process, run, 2)
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"Go on with: semmim-mini pretrain --out {run} --resume" in said
    assert "Traceback" not in errors
    done = len(metrics(run))
    assert checkpoint.read_state(checkpoint.find(run))["step"] == done
    train(config, run, until=done + 1, resume=True)
    train(config, tmp_path / "whole", until=done + 1)
    require_equal(run, tmp_path / "whole")
