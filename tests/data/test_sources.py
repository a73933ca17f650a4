"""`data.source` in all its forms."""

import json
import sys
from types import ModuleType

import pytest
from PIL import Image
from shard_folder import make_shards

from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """Flickr8k and a Karpathy file around the same one picture."""
    folder = tmp_path / "pictures: all" / "Images"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 32)).save(folder / "a.jpg")
    (folder.parent / "captions.txt").write_text("image,caption\na.jpg,A dog\n")
    (folder.parent / "Flickr_8k.devImages.txt").write_text("a.jpg\n")
    entry = {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "A dog"}]}
    (folder.parent / "dataset_flickr30k.json").write_text(json.dumps({"images": [entry]}))
    return folder.parent


def test_photos_are_decoded_near_the_resolution_they_are_used_at(photos):
    pairs = open_pairs(f"flickr8k:{photos}", "val", resolution=8)
    assert pairs.name == "flickr8k/val" and pairs[0].image.shape == (3, 16, 32)


def test_karpathy_names_may_hold_colons(photos):
    pairs = open_pairs(f"karpathy:{photos}/dataset_flickr30k.json:{photos}/Images", "val", resolution=64)
    assert pairs.name == "flickr30k/val" and pairs.captions(0) == ("A dog",) and pairs[0].image.shape == (3, 32, 64)


def test_shards_are_pairs_like_others(tmp_path):
    shards = make_shards(tmp_path, "coco", val=3)
    pairs = open_pairs(f"shards:{shards}", "val", resolution=8)
    assert pairs.name == "coco/val" and len(pairs) == 3 and pairs[0].image.shape == (3, 16, 18)
    with pytest.raises(UserError, match=r"has no split 'train', only val"):
        open_pairs(f"shards:{shards}", "train", resolution=8)


def test_the_bad_share_reaches_the_reader(photos):
    (photos / "Flickr_8k.devImages.txt").write_text("a.jpg\nb.jpg\n")
    assert len(open_pairs(f"flickr8k:{photos}", "val", resolution=8, max_bad_share=0.5)) == 1
    with pytest.raises(UserError, match=r"data.max_bad_share=0.01"):
        open_pairs(f"flickr8k:{photos}", "val", resolution=8)


@pytest.mark.parametrize("split, size, expected", [("train", None, 20_000), ("val", None, 1_000), ("train", 7, 7)])
def test_scenes_get_their_size_and_seed(monkeypatch, split, size, expected):
    class SceneDataset:
        name = "stand-in"

        def __init__(self, split, **options):
            self.got = (split, options)

        def __len__(self): ...
        def __getitem__(self, index): ...
        def captions(self, index): ...

    stand_in = ModuleType("scenes")
    stand_in.SceneDataset = SceneDataset
    monkeypatch.setitem(sys.modules, "semmim_mini.data.scenes", stand_in)
    pairs = open_pairs("scenes", split, resolution=64, seed=3, size=size)
    assert pairs.got == (split, {"size": expected, "seed": 3, "resolution": 64})


@pytest.mark.parametrize("spec", ["", "coco", "flickr8k", "flickr8k:", "karpathy:x.json", "karpathy:x:y", "scenes:3", "shards:", "mix:"])
def test_unknown_sources_list_the_forms(spec):
    with pytest.raises(UserError, match=r"scenes, flickr8k:DIR, karpathy:FILE.json:IMAGES_DIR, shards:DIR, mix:2\*SOURCE\+1\*SOURCE"):
        open_pairs(spec, "train", resolution=64)


@pytest.mark.parametrize(
    ("path", "message"), [("~nobody-of-that-name/x", "a home that is not known here"), ("x" * 5_000, "File name too long")]
)
@pytest.mark.parametrize("form", ["flickr8k:{}", "shards:{}", "karpathy:a.json:{}", "mix:1*shards:{}+1*scenes"])
def test_paths_that_no_system_takes_are_refused(form, path, message):
    with pytest.raises(UserError, match=message) as caught:
        open_pairs(form.format(path), "val", resolution=8)
    assert len(str(caught.value)) < 500
