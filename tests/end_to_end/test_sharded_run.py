"""A run on a mixture of shards and loose photos: stopped in the middle of an epoch, it ends in the same bits."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_runs import changed, metrics, train

from semmim_mini.errors import UserError
from semmim_mini.prepare.job import Settings, prepare
from semmim_mini.prepare.layouts import list_entries
from semmim_mini.training import checkpoint


@pytest.fixture(scope="module")
def shards(photos, tmp_path_factory) -> Path:
    """The photos in shards of seven, enlarged beyond the smallest size that `prepare` takes."""
    folder = tmp_path_factory.mktemp("sharded")
    larger = Path(shutil.copytree(photos, folder / "larger"))
    for path in (larger / "Images").iterdir():
        Image.open(path).resize((96, 96)).save(path)
    prepare("flickr8k", list_entries("flickr8k", larger), folder / "shards", Settings(64, shard_size=7))
    return folder / "shards"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.find(folder) / "model.safetensors")


def test_stopped_in_the_middle_of_an_epoch(small, photos, shards, tmp_path):
    config = changed(small, f"data.source=mix:2*shards:{shards}+1*flickr8k:{photos}")
    train(config, tmp_path / "whole")
    for until in (1, 4, None):  # 32 pairs of each source: six steps of eight are one epoch of the first and half of one of the second
        train(changed(config, "data.workers=1") if until == 4 else config, tmp_path / "parts", until=until, resume=until != 1)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole) and metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_a_shard_that_is_damaged_is_counted_and_stops_the_run_where_it_is_too_much(small, shards, tmp_path):
    damaged = Path(shutil.copytree(shards, tmp_path / "shards"))
    with open(damaged / "train-000001.tar", "r+b") as file:
        file.seek(700)
        file.write(b"\0" * 9)  # in the first picture of the shard
    config = changed(small, f"data.source=shards:{damaged}")
    with pytest.raises(UserError, match=r"1 of 32 pictures cannot be used, above data.max_bad_share=0.01: 'train-000001.tar, sample 0'"):
        train(config, tmp_path / "strict")
    train(changed(config, "data.max_bad_share=0.1"), tmp_path / "lenient")
    assert len(metrics(tmp_path / "lenient")) == 6
