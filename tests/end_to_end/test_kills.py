"""Random kills, few enough for every day; `kills.py` has the command for many."""

import pytest
import torch
from kills import require_readable, survive
from safetensors.torch import save_file
from small_runs import changed, differences, tensors, train

from semmim_mini.training import checkpoint


def test_kills_at_random_moments_change_nothing(small, tmp_path):
    moments = survive(small, tmp_path, kills=6, seed=0, say=lambda text: None)
    assert moments["done"] >= 1 and moments.total() - moments["done"] >= 6


def test_the_comparison_sees_one_bit(small, tmp_path):
    # Else the test above could not fail.
    for name in ("one", "other"):
        train(changed(small, "run.steps=1"), tmp_path / name)
    assert differences(tmp_path / "one", tmp_path / "other") == []
    file = checkpoint.find(tmp_path / "other") / "optimizer.safetensors"
    averages = {
        name.removeprefix("optimizer "): value for name, value in tensors(tmp_path / "other").items() if name.startswith("optimizer")
    }
    name = next(name for name in sorted(averages) if averages[name].numel() > 1)
    averages[name].view(-1)[0] = torch.nextafter(averages[name].view(-1)[0], torch.tensor(1e9))
    save_file(averages, str(file))
    assert differences(tmp_path / "one", tmp_path / "other") == [f"optimizer {name}"]


def test_a_checkpoint_that_cannot_be_read_is_noticed(small, tmp_path):
    train(changed(small, "run.steps=1"), tmp_path)
    require_readable(tmp_path)
    file = checkpoint.find(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Exception, match=r"[Ii]ncomplete|metadata"):
        require_readable(tmp_path)
