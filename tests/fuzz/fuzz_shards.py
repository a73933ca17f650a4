r"""Shards: the index, the places, the tar, the text of a sample; what img2dataset leaves; what `prepare` finds of its own earlier work.

A folder of two samples is made by `prepare`. Of it one file is broken, and where the others would give that away, by a size or a check
sum, they are made to agree: whoever makes a hostile folder can do so, too.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from fuzz_annotations import printable, use_entries
from fuzz_engine import Target, write
from fuzz_files import npy_header, picture, tar, tar_headers
from fuzz_mutations import blind, json_values, mixed

from semmim_mini.data.shard_index import PLACE
from semmim_mini.data.shards import ShardPairs
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.job import Settings, _receipts, _report, prepare
from semmim_mini.prepare.layouts import list_entries
from semmim_mini.prepare.progress import Progress
from semmim_mini.prepare.shard_writer import read_receipt
from semmim_mini.prepare.shards_folder import claim, write_report

JSON = json_values(
    ('"train-000000.tar"', '"../train-000000.tar"', '"/etc/train-000000.tar"', '"train-0000001.tar"', '["a"]', "9007199254740993")
)


def _entries(folder: Path) -> list[Entry]:
    return [
        Entry((f"things/{i}",), f"{i}.jpg", Bytes(str(write(folder / f"{i}.jpg", picture()))), (f"picture {i}", "a döt")) for i in range(2)
    ]


def _use(folder: Path) -> None:
    """Everything that training reads."""
    pairs = ShardPairs(folder, "train", max_bad_share=0.9, max_pixels=1_000_000)
    for i in range(min(len(pairs), 3)):
        printable([*pairs.captions(i), pairs[i].name])
        torch.tensor([pairs[i].image_id])  # as in a batch


class Folder:
    """Two good samples in a shard, of which one file can be put in another's place."""

    def __init__(self, folder: Path):
        prepare("things", {"train": _entries(folder / "pictures")}, folder / "shards", Settings(size=64))
        self.home = folder / "shards"
        self.good = {path.name: path.read_bytes() for path in self.home.iterdir()}
        self.index = json.loads(self.good["index.json"])

    def index_file(self, data: bytes) -> None:
        write(self.home / "index.json", data)
        _use(self.home)

    def places(self, data: bytes) -> None:
        self._described({"train.npy": data})
        _use(self.home)

    def tar(self, data: bytes) -> None:
        self._described({"train-000000.tar": data})
        _use(self.home)

    def sample(self, text: bytes) -> None:
        """A text of a sample with a check sum that is right."""
        jpeg = picture()
        data = tar({"000000000.jpg": jpeg, "000000000.json": text})
        begin, end = 512, 512 + -(-len(jpeg) // 512) * 512 + 512 + len(text)
        places = np.array([(begin, len(jpeg), len(text), zlib.crc32(data[begin:end]))] * 2, PLACE)
        np.save(self.home / "train.npy", places)
        self._described({"train-000000.tar": data, "train.npy": (self.home / "train.npy").read_bytes()})
        _use(self.home)

    def _described(self, files: dict[str, bytes]) -> None:
        """These files in place of the good ones, and an index that agrees."""
        for name, data in (self.good | files).items():
            if name != "index.json":
                write(self.home / name, data)
        train = self.index["splits"]["train"]
        shard = train["shards"][0] | {"bytes": (self.home / "train-000000.tar").stat().st_size}
        digest = hashlib.sha256((self.home / "train.npy").read_bytes()).hexdigest()
        splits = {"train": train | {"shards": [shard], "places_sha256": digest}}
        write(self.home / "index.json", json.dumps(self.index | {"splits": splits}))


def shards(folder: Path) -> list[Target]:
    made = Folder(folder)
    text = json.dumps({"captions": ["a dog", "a döt"], "image_id": 7, "name": "7.jpg"}).encode()
    return [
        Target("index", (made.good["index.json"],), mixed(blind, JSON, JSON), made.index_file),
        Target("places", (made.good["train.npy"],), mixed(blind, npy_header), made.places),
        Target("tar", (made.good["train-000000.tar"],), mixed(blind, tar_headers), made.tar),
        Target("sample", (text,), mixed(blind, JSON, JSON), made.sample),
    ]


def img2dataset(folder: Path) -> list[Target]:
    """A tar, and the text beside a picture of a folder."""
    members = {"000000001.jpg": picture(), "000000001.json": b"{}", "000000001.txt": b"a dog", "000000002.png": picture("PNG")}
    members["000000002.txt"] = "a döt".encode()
    home = folder / "files" / "00000"
    write(home / "000000001.jpg", picture())

    def archive(data: bytes) -> None:
        use_entries(list_entries("cc3m", write(folder / "00000.tar", data))["train"])

    def text(data: bytes) -> None:
        write(home / "000000001.txt", data)
        use_entries(list_entries("cc3m", folder / "files")["train"])

    return [
        Target("tar", (tar(members), tar(members, form=1), tar(members, form=2)), mixed(blind, tar_headers, tar_headers), archive),
        Target("text", (b"a dog\n", "a döt".encode()), blind, text),
    ]


def earlier_work(folder: Path) -> list[Target]:
    """What `prepare` wrote in an earlier run, and reads again."""
    made, like = Folder(folder), {"collection": "things", "size": 64, "shard_size": 1_000}
    both = mixed(blind, JSON, JSON)

    def receipt(data: bytes) -> None:
        found = read_receipt(write(made.home / "train-000000.json", data))
        if found:
            receipts, places = _receipts([found], Progress("things", 2))
            (len(places), _report(receipts), found.shard("train-000000"))

    def claimed(data: bytes) -> None:
        write(made.home / "train.shards.json", data)
        claim(made.home, "train", like)

    def reported(data: bytes) -> None:
        write(made.home / "report.json", data)
        write_report(made.home, "train", {"written": 2})
        assert json.loads((made.home / "report.json").read_text())["train"] == {"written": 2}

    return [
        Target("receipt", (made.good["train-000000.json"],), both, receipt),
        Target("claim", (made.good["train.shards.json"],), both, claimed),
        Target("report", (made.good["report.json"],), both, reported),
    ]


GROUPS = (shards, img2dataset, earlier_work)
