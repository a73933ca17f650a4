"""The cost of reading: counted, not guessed; no test here asks how fast this machine is."""

import math
import time

import pytest
from PIL import Image

from semmim_mini.bench import reading
from semmim_mini.bench.reading import Cost, main, reading_costs
from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError
from semmim_mini.prepare.job import Settings, prepare
from semmim_mini.prepare.layouts import list_entries


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> list[str]:
    """One collection, loose and in shards."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "loose/Images").mkdir(parents=True)
    names = [f"{100000 + i}_693b08cb0e.jpg" for i in range(24)]
    for name in names:
        Image.new("RGB", (96, 80), "red").save(folder / "loose/Images" / name)
    (folder / "loose/captions.txt").write_text("image,caption\n" + "".join(f"{name},red\n" for name in names))
    (folder / "loose/Flickr_8k.trainImages.txt").write_text("\n".join(names))
    prepare("flickr8k", list_entries("flickr8k", folder / "loose"), folder / "shards", Settings(64, 8))
    return [f"flickr8k:{folder / 'loose'}", f"shards:{folder / 'shards'}"]


def test_rates_by_hand():
    cost = Cost(images=50, core_seconds=0.25, waits=100)
    assert cost.images_per_core_second == 200 and cost.waits_per_image == 2


def test_every_source_reads_as_many_in_the_order_of_training(specs, monkeypatch):
    sources, read = {spec: open_pairs(spec, "train", resolution=32) for spec in specs}, []
    monkeypatch.setattr(reading, "read_pair", lambda pairs, index: read.append((pairs.name, type(pairs).__name__, index)))
    costs = reading_costs(sources, 20)
    assert [cost.images for cost in costs.values()] == [20, 20]
    assert [kind for _, kind, _ in read[:6]] == ["Flickr8kPairs"] * 2 + ["ShardPairs"] * 2 + ["Flickr8kPairs"] * 2
    assert len({index for _, kind, index in read if kind == "ShardPairs"}) == 20


def test_sleeping_is_waiting():
    before = reading._waits()
    time.sleep(0.01)
    assert reading._waits() > before


def test_without_a_counter_there_is_no_number(monkeypatch):
    monkeypatch.setattr(reading, "resource", None)
    assert math.isnan(reading._waits())


def test_cold_forgets_every_file_of_every_source(specs, monkeypatch):
    forgotten = []
    monkeypatch.setattr(reading, "forget", lambda path: forgotten.append(path.name))
    reading_costs({spec: open_pairs(spec, "train", resolution=32) for spec in specs}, 2, cold=True)
    assert len(forgotten) == 27 and forgotten[24:] == [f"train-{i:06d}.tar" for i in range(3)]


def test_as_it_is_typed(specs, capsys):
    assert main([*specs, "--images", "10", "--resolution", "32", "--cold"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == specs
    assert "images per core-second (1.00×)" in lines[0] and lines[1].endswith("waits for an image")


def test_mistakes_are_named(specs, capsys):
    assert main([specs[1], "--images", "25"]) == 2
    assert "has 24 pairs, fewer than --images 25; read fewer" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"scenes is not made of files; leave out --cold"):
        reading_costs({"scenes": open_pairs("scenes", "train", resolution=16, size=4)}, 2, cold=True)
