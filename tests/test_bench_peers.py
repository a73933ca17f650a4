"""Both of a pair do the same thing, or their ratio would mean nothing; how fast they are is for no test to say."""

import json
import sys

import pytest
import torch

from semmim_mini.bench import peers
from semmim_mini.errors import UserError

CPU = torch.device("cpu")
pytest.importorskip("timm")
pytest.importorskip("lightly.loss")


@pytest.fixture
def pairs(tiny):
    return peers.pairs_of(tiny("data.batch_size=3", "space.prototypes=12"), CPU)


def test_losses_of_a_pair_are_equal(pairs):
    for pair in pairs[1:]:
        torch.testing.assert_close(pair.ours(), pair.theirs(), rtol=1e-4, atol=1e-5, msg=lambda text, name=pair.name: f"{name}: {text}")


def test_encoders_of_a_pair_have_the_same_size(tiny):
    pair = peers._encoders(tiny("image.width=32", "image.depth=3"), CPU)
    sizes = {}
    for name, call in (("ours", pair.ours), ("theirs", pair.theirs)):
        model = next(c.cell_contents for c in call.__closure__ if isinstance(c.cell_contents, torch.nn.Module))
        call()
        sizes[name] = sum(p.numel() for p in model.parameters() if p.grad is not None)
    assert sizes["ours"] == sizes["theirs"]


def test_every_pair_has_both_ratios(tiny):
    found = peers.compare(tiny("data.batch_size=3", "space.prototypes=12"), CPU, repeats=1)
    assert len(found) == 4
    for one in found:
        assert one["time"] == one["seconds"]["ours"] / one["seconds"]["theirs"] > 0
        assert one["memory"] == one["peak_bytes"]["ours"] / one["peak_bytes"]["theirs"] > 0
    text = peers.as_table(found)
    assert all(library in text for library in ("timm", "DINOLoss", "IBOTPatchLoss"))


def test_chunks_need_less_memory_than_all_logits(tiny):
    # Bytes are counted, not timed, so they may be asserted: 2,000 patches over 4,096 prototypes are 8 Mi logits, twice a chunk.
    config = tiny("data.batch_size=1000", "masking.ratio=0.5", "space.prototypes=4096", "losses.queue=0")
    lightly, whole = peers._mim(config, CPU)
    chunks, *others = (peers.peak_bytes(call, CPU) for call in (whole.ours, lightly.theirs, whole.theirs))
    assert chunks < 0.8 * min(others)


def test_as_a_command(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.setattr(peers, "preset", lambda name: tiny())
    out = tmp_path / "peers.json"
    assert peers.main(["--repeats", "1", "--set", "data.batch_size=2", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["pairs"]) == 4
    assert "below 1 is faster" in capsys.readouterr().out


def test_without_the_library_it_says_what_to_install(monkeypatch, tiny):
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(UserError, match=r"timm is not installed.*pip install"):
        peers.pairs_of(tiny(), CPU)
