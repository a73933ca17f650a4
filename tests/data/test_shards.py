"""Shards: the same pairs as the loose files, read by WebDataset, too; and every way in which they can be damaged."""

import json
import logging
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_folder import make_shards

from semmim_mini.data.pairs import Pairs, read_pair
from semmim_mini.data.shard_index import LARGEST, PLACE, open_split, read_index, sha256, text_offset
from semmim_mini.data.shards import OpenFiles, ShardPairs
from semmim_mini.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("made"), train=10, val=3)


@pytest.fixture
def shards(made, tmp_path):
    """Shards of one's own, to be damaged."""
    return shutil.copytree(made, tmp_path / "shards")


def change(path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


# What is read -----------------------------------------------------------------------------------------------------------


def test_where_the_captions_begin_by_hand():
    assert text_offset(512, 1) == text_offset(512, 512) == 512 + 512 + 512  # one block of picture, one of header
    assert text_offset(512, 513) == 512 + 1024 + 512 and PLACE.itemsize == 20


def test_the_pairs_are_the_pictures_in_their_order(made):
    pairs = ShardPairs(made, "train")
    assert isinstance(pairs, Pairs) and pairs.name == "things/train" and len(pairs) == 10
    assert pairs.blocks == [4, 4, 2] and len(ShardPairs(made, "val")) == 3
    for i, pair in enumerate(pairs):
        assert pair.name == f"{i}.jpg" and pair.captions == pairs.captions(i) == (f"picture {i}", f"number {i} of things")
        assert pair.image.shape == (3, 64, 71) and pair.image.dtype == torch.uint8  # 72 × 80, the shorter side at 64
        assert pair.image.float().mean().sub(10 * i).abs() < 2 and pair.truth is None
    assert len({pair.image_id for pair in pairs}) == 10
    assert pairs[-1].name == "9.jpg"
    with pytest.raises(IndexError):
        pairs[10]


def test_webdataset_reads_the_same(made):
    import webdataset

    files = sorted(map(str, made.glob("train-*.tar")))
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("pilrgb").to_tuple("__key__", "jpg", "json"))
    pairs = ShardPairs(made, "train")
    assert [key for key, *_ in samples] == [f"{i:09d}" for i in range(10)]
    for pair, (_, image, text) in zip(pairs, samples, strict=True):
        assert (tuple(text["captions"]), text["image_id"], text["name"]) == (pair.captions, pair.image_id, pair.name)
        assert np.array_equal(np.asarray(image), pair.image.permute(1, 2, 0).numpy())


def test_places_say_where_the_members_of_the_tar_lie(made):
    split, places = open_split(made, "train")
    with tarfile.open(made / split.shards[1].file) as tar:
        members = tar.getmembers()
    assert [(m.offset_data, m.size) for m in members[::2]] == [(p["offset"], p["picture"]) for p in places[4:8]]
    assert [(m.offset_data, m.size) for m in members[1::2]] == [
        (text_offset(int(p["offset"]), int(p["picture"])), p["text"]) for p in places[4:8]
    ]


def test_pictures_are_decoded_near_the_size_asked_for(made):
    assert ShardPairs(made, "train", decode_size=20)[0].image.shape == (3, 20, 22)


def test_captions_do_not_touch_the_picture(made, monkeypatch):
    pairs = ShardPairs(made, "train")
    monkeypatch.setattr("semmim_mini.data.shards.open_rgb", None)
    assert pairs.captions(7) == ("picture 7", "number 7 of things")


def test_pairs_travel_without_their_map_and_their_files(made):
    pairs = ShardPairs(made, "train")
    assert pairs[0].name == "0.jpg"
    assert "places" not in pairs.__getstate__() and pickle.loads(pickle.dumps(pairs))[9].name == "9.jpg"


def test_few_files_stay_open(tmp_path):
    files = OpenFiles(most=2)
    for name in "abcab":
        (tmp_path / name).write_text(name * 3)
        assert files.read(tmp_path / name, 1, 2) == (name * 2).encode()
    assert [path.name for path in files._files] == ["a", "b"] and not any(file.closed for file in files._files.values())


def test_reading_without_pread(made, monkeypatch):
    monkeypatch.delattr("os.pread")  # as on Windows
    assert [pair.name for pair in ShardPairs(made, "val")] == ["0.jpg", "1.jpg", "2.jpg"]


# Damage that is found at opening ----------------------------------------------------------------------------------------


def rewrite(path, **changes) -> None:
    content = json.loads(path.read_text())
    content["splits"]["train"]["shards"][0] |= changes
    path.write_text(json.dumps(content))


def resize(places: np.ndarray, name: str, value: int) -> np.ndarray:
    places[3][name] = value
    return places


def store(folder, places) -> None:
    """Places with a checksum that is right."""
    np.save(folder / "train.npy", places)
    content = json.loads((folder / "index.json").read_text())
    content["splits"]["train"]["places_sha256"] = sha256(folder / "train.npy")
    (folder / "index.json").write_text(json.dumps(content))


MISTAKES = {
    "no index": (lambda f: (f / "index.json").unlink(), r"holds no shards .*semmim-mini prepare"),
    "no json": (lambda f: (f / "index.json").write_text("{"), r"index.json is damaged"),
    "another form": (lambda f: (f / "index.json").write_text("[]"), r"index.json is damaged"),
    "deep": (lambda f: (f / "index.json").write_text("[" * 100_000), r"index.json is damaged"),
    "newer": (lambda f: (f / "index.json").write_text('{"format": 2}'), r"has format 2, not 1"),
    "path out of the folder": (lambda f: rewrite(f / "index.json", file="../train-000000.tar"), "impossible shard"),
    "absolute path": (lambda f: rewrite(f / "index.json", file="/etc/train-000000.tar"), "impossible shard"),
    "other split": (lambda f: rewrite(f / "index.json", file="val-000000.tar"), "impossible shard"),
    "negative": (lambda f: rewrite(f / "index.json", samples=-4), "impossible shard"),
    "text for number": (lambda f: rewrite(f / "index.json", bytes="9"), "impossible shard"),
    "unknown key": (lambda f: rewrite(f / "index.json", colour="red"), "index.json is damaged"),
    "missing shard": (lambda f: (f / "train-000001.tar").unlink(), r"train-000001.tar is missing; copy it again"),
    "cut shard": (lambda f: (f / "train-000001.tar").write_bytes(b"x" * 99), r"train-000001.tar has 99 bytes instead of"),
    "missing places": (lambda f: (f / "train.npy").unlink(), r"train.npy cannot be read"),
    "changed places": (lambda f: change(f / "train.npy", 200, b"\xff"), r"train.npy is not the one that index.json describes"),
    "giant header": (lambda f: store_bytes(f, b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"{" * 200), "train.npy cannot be read"),
    "pickle": (lambda f: store(f, np.array([{}, []], dtype=object)), "train.npy cannot be read"),
    "an archive": (lambda f: store_bytes(f, b"PK\x03\x04" + bytes(40)), "train.npy cannot be read"),
    "nothing": (lambda f: store_bytes(f, b""), "train.npy cannot be read"),
    "too few": (lambda f: store(f, open_split(f, "train")[1][:9]), "train.npy is not the one"),
    "other numbers": (lambda f: store(f, np.zeros(10, np.int64)), r"train.npy cannot be read \(it holds other numbers than places"),
    "numbers of no bytes": (lambda f: store(f, np.zeros(10, "V0")), r"train.npy cannot be read \(it holds other numbers than places"),
    "two dimensions": (lambda f: store(f, np.zeros((5, 2), open_split(f, "train")[1].dtype)), "it holds other numbers than places"),
    "beyond the shard": (lambda f: store(f, resize(np.array(open_split(f, "train")[1]), "offset", 2**40)), "train.npy is not the one"),
    "too long": (lambda f: store(f, resize(np.array(open_split(f, "train")[1]), "text", 2**32 - 1)), "train.npy is not the one"),
}


def store_bytes(folder, data: bytes) -> None:
    (folder / "train.npy").write_bytes(data)
    content = json.loads((folder / "index.json").read_text())
    content["splits"]["train"]["places_sha256"] = sha256(folder / "train.npy")
    (folder / "index.json").write_text(json.dumps(content))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_damage_is_named_at_opening(shards, mistake):
    make, message = MISTAKES[mistake]
    make(shards)
    with pytest.raises(UserError, match=message):
        ShardPairs(shards, "train")


def test_a_sample_larger_than_any_picture_is_refused_though_its_shard_holds_it(shards):
    with open(shards / "train-000000.tar", "r+b") as file:
        file.truncate(LARGEST + 2**20)  # sparse: takes no room
    rewrite(shards / "index.json", bytes=LARGEST + 2**20)
    store(shards, resize(np.array(np.load(shards / "train.npy")), "picture", LARGEST))
    with pytest.raises(UserError, match=r"train.npy is not the one"):
        ShardPairs(shards, "train")


def test_a_split_that_is_not_there_names_the_remedy(shards):
    with pytest.raises(
        UserError, match=r"no split 'test', only train, val; .*data.report_split.* mix:1\*shards:.*/shards\+0\*shards:OTHER"
    ):
        ShardPairs(shards, "test")
    with pytest.raises(UserError, match=r"nowhere holds no shards"):
        ShardPairs(shards / "nowhere", "train")


JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["train", "train-000000.tar", "", "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["format", "splits", "shards", "file", "train"]), inner),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, place=st.sampled_from(["", "splits", "train", "shards", "shard"]))
def test_any_index_is_read_or_refused(shards, made, value, place):
    content = json.loads((made / "index.json").read_text())
    train = content["splits"]["train"]
    match place:
        case "":
            content = value
        case "splits":
            content["splits"] = value
        case "train":
            content["splits"]["train"] = value
        case "shards":
            train["shards"] = value
        case "shard":
            train["shards"][0] = value
    (shards / "index.json").write_text(json.dumps(content))
    try:
        ShardPairs(shards, "train")
    except UserError:
        return
    assert read_index(shards)["train"] == read_index(made)["train"]


# Damage that is found in training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["picture", "captions"])
def test_a_changed_byte_is_found_and_the_next_pair_stands_in(shards, part, caplog):
    place = open_split(shards, "train")[1][5]
    offset = int(place["offset"]) if part == "picture" else text_offset(int(place["offset"]), int(place["picture"]))
    change(shards / "train-000001.tar", offset + 40, b"\x00")
    pairs = ShardPairs(shards, "train", max_bad_share=0.1)
    with caplog.at_level(logging.WARNING):
        pair, passed = pairs.read(5)
    assert pair.name == "6.jpg" and passed == ["train-000001.tar, sample 1"] and pairs.read(5)[1] == passed
    assert pairs.captions(5) == (("picture 5", "number 5 of things") if part == "picture" else pairs.captions(6))
    assert "train-000001.tar, sample 1" in caplog.text and len(caplog.records) == 1


def test_a_shard_cut_off_while_it_is_read_counts_as_bad_pictures(shards):
    lenient, strict = (ShardPairs(shards, "train", max_bad_share=share) for share in (0.5, 0.2))
    with open(shards / "train-000001.tar", "r+b") as file:
        file.truncate(600)
    assert lenient[4].name == "8.jpg" and len(lenient.unreadable) == 4
    with pytest.raises(UserError, match=r"3 of 10 pictures cannot be used, above data.max_bad_share=0.2: 'train-000001.tar, sample 0'"):
        strict[4]


def test_a_shard_that_vanishes_counts_as_bad_pictures(shards):
    pairs = ShardPairs(shards, "train", max_bad_share=0.5)
    (shards / "train-000000.tar").unlink()
    assert pairs[0].name == "4.jpg" and pairs.captions(0) == pairs.captions(4)


def test_what_is_no_json_or_no_captions_counts_as_bad(shards):
    split, places = open_split(shards, "train")
    places = np.array(places)
    for row, text in (
        (0, b"[]"),
        (1, b'{"captions": [], "image_id": 1, "name": "x"}'),
        (2, b'{"captions": [1], "image_id": 1, "name": ""}'),
        (3, b'{"captions": ["\\ud800"], "image_id": 1, "name": ""}'),
        (4, b'{"captions": ["x"], "image_id": 9223372036854775808, "name": ""}'),
        (5, b'{"captions": {"x": 1}, "image_id": 1, "name": ""}'),
    ):
        begin, size = text_offset(int(places[row]["offset"]), int(places[row]["picture"])), int(places[row]["text"])
        change(shards / split.shards[row // 4].file, begin, text.ljust(size))
    pairs = ShardPairs(shards, "train", max_bad_share=0.7)
    assert pairs.captions(0) == pairs.captions(6) == ("picture 6", "number 6 of things")


def test_a_decompression_bomb_in_a_shard_is_refused_by_its_header(made):
    pairs = ShardPairs(made, "train", max_pixels=4_000)
    with pytest.raises(UserError, match=r"train-000000.tar, sample 0 claims 4,544 pixels, more than the 4,000 that are read"):
        read_pair(pairs, 0)


def test_reading_writes_nothing(made):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.iterdir()}
    list(ShardPairs(made, "train"))
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.iterdir()} == before
