"""From entries to shards: what is kept, what is left out and why, and what a run that was stopped finds when it goes on."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import small_collections as small
from PIL import Image

from semmim_mini.cli import main
from semmim_mini.data.pairs import read_pair
from semmim_mini.data.picture_files import picture_id
from semmim_mini.data.shards import ShardPairs
from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError
from semmim_mini.prepare import shard_writer
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.job import Settings, as_lines, prepare
from semmim_mini.prepare.layouts import list_entries
from semmim_mini.prepare.shard_writer import LeftOut, Task, make_sample, write_shard
from semmim_mini.prepare.tar_files import members
from semmim_mini.prepare.workers import Workers

REPOSITORY = Path(shard_writer.__file__).resolve().parents[2]


def entry(path: Path, content: bytes | None, captions=("a cat",), name: str = "") -> Entry:
    picture = Bytes(str(small.put(path, content))) if content is not None else None
    return Entry((f"things/{path.name}",), name or path.name, picture, tuple(captions))


def many(folder: Path, count: int) -> list[Entry]:
    return [entry(folder / f"{i}.jpg", small.jpeg(i), (f"picture {i}",)) for i in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def picture_bytes(image: Image.Image, form: str = "PNG", **options) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


# One picture ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [((640, 480), (512, 384)), ((480, 640), (384, 512)), ((500, 375), (500, 375)), ((385, 385), (384, 384))]
)
def test_the_shorter_side_has_at_most_the_size(tmp_path, before, after):
    jpeg, captions = make_sample(entry(tmp_path / "x.jpg", small.jpeg(size=before)), 384)
    assert Image.open(io.BytesIO(jpeg)).size == after and captions == ("a cat",)


def test_pictures_become_upright_rgb_without_anything_beside_the_pixels(tmp_path):
    sideways = Image.new("CMYK", (100, 80), (0, 255, 255, 0))  # red
    exif = Image.Exif()
    exif[0x0112], exif[0x8825] = 6, {1: "N", 2: (51.0, 2.0, 3.0)}  # turned by a quarter; and where it was taken
    data = picture_bytes(sideways, "JPEG", exif=exif, comment=b"secret", icc_profile=b"profile")
    image = Image.open(io.BytesIO(make_sample(entry(tmp_path / "x.jpg", data), 384)[0]))
    assert image.size == (80, 100) and image.mode == "RGB" and image.format == "JPEG"
    assert not image.getexif() and not {"comment", "icc_profile", "exif"} & set(image.info)
    red, green, blue = np.asarray(image).mean(axis=(0, 1))
    assert red > 200 and green < 60 and blue < 60


LEFT_OUT = {
    "missing": None,
    "unreadable": small.jpeg()[:300],
    "too small": small.jpeg(size=(200, 63)),
    "too many pixels": picture_bytes(Image.new("1", (10_000, 5_001))),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_pictures_that_cannot_be_used(tmp_path, reason):
    with pytest.raises(LeftOut, match=f"^{reason}$"):
        make_sample(entry(tmp_path / "x.jpg", LEFT_OUT[reason]), 384)


def test_more_ways_of_being_unreadable(tmp_path):
    gone = entry(tmp_path / "x.jpg", small.jpeg())
    (tmp_path / "x.jpg").unlink()
    longer_than_jpeg_allows = entry(tmp_path / "y.png", picture_bytes(Image.new("L", (66_000, 64))))
    too_large_a_part = Entry(("x",), "x", Bytes(str(tmp_path / "y.png"), 0, 2**40))
    for bad in (gone, longer_than_jpeg_allows, Entry(("x",), "x", too_large_a_part.picture, ("a cat",))):
        with pytest.raises(LeftOut, match=r"^unreadable$"):
            make_sample(bad, 384)


def test_captions_beside_the_picture(tmp_path):
    def with_text(text: bytes | None) -> Entry:
        file = Bytes(str(small.put(tmp_path / "x.txt", text))) if text is not None else None
        return Entry(("x",), "x", Bytes(str(small.put(tmp_path / "x.jpg", small.jpeg()))), caption_file=file)

    assert make_sample(with_text(b" a  red\nbus \xff"), 384)[1] == ("a red bus",)
    assert make_sample(with_text(b"{a smile}"), 384)[1] == ("{a smile}",)
    gone = with_text(b"x")
    (tmp_path / "x.txt").unlink()
    for nothing in (with_text(None), with_text(b" \n"), gone, entry(tmp_path / "y.jpg", small.jpeg(), ())):
        with pytest.raises(LeftOut, match=r"^no caption$"):
            make_sample(nothing, 384)


# A collection -----------------------------------------------------------------------------------------------------------


def test_a_collection_with_every_kind_of_flaw(tmp_path):
    pictures = tmp_path / "pictures"
    listed = [
        *many(pictures, 3),
        entry(pictures / "0.jpg", small.jpeg(9), ("again",), "0.jpg, again"),
        entry(pictures / "gone.jpg", None),
        entry(pictures / "half.jpg", small.jpeg()[:300]),
        entry(pictures / "mute.jpg", small.jpeg(), ()),
        entry(pictures / "icon.jpg", small.jpeg(size=(20, 20))),
        entry(pictures / "bomb.png", LEFT_OUT["too many pixels"]),
        entry(pictures / "tested.jpg", small.jpeg()),
        Entry(("things/two",), "two", Bytes(str(pictures / "1.jpg")), ("a cat",), left_out="ambiguous"),
        *(entry(pictures / f"gone {i}.jpg", None) for i in range(7)),
    ]
    reports = prepare("things", {"train": listed}, tmp_path / "out", Settings(64, shard_size=4), {"things/tested.jpg"})
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report == reports and report["train"]["listed"] == len(listed) == 18
    left_out = report["train"]["left_out"]
    assert {reason: found["pictures"] for reason, found in left_out.items()} == {
        **{"missing": 8, "unreadable": 1, "too many pixels": 1, "too small": 1},
        **{"no caption": 1, "duplicate": 1, "held out": 1, "ambiguous": 1},
    }
    assert left_out.keys() == shard_writer.REASONS.keys() and left_out["duplicate"]["examples"] == ["0.jpg, again"]
    assert left_out["missing"]["examples"] == ["gone.jpg", "gone 0.jpg", "gone 1.jpg", "gone 2.jpg", "gone 3.jpg"]  # five of the eight
    pairs = ShardPairs(tmp_path / "out", "train")
    assert [pair.name for pair in pairs] == ["0.jpg", "1.jpg", "2.jpg"] and report["train"]["written"] == report["train"]["captions"] == 3
    lines = as_lines(reports)
    assert lines[0].startswith("things/train: 3 of 18 pictures, 3 captions, 0.0 MiB in 1 shard")
    assert "  1 left out, no caption (no words to go with it): 'mute.jpg'" in lines and len(lines) == 9


def test_held_out_pictures_may_be_evaluated_on(tmp_path):
    reports = prepare("things", {"test": many(tmp_path / "p", 2)}, tmp_path / "out", Settings(64), {"things/0.jpg"})
    assert reports["test"]["written"] == 2


def test_a_missing_picture_may_come_again_later_in_the_list(tmp_path):
    later = entry(tmp_path / "p/0.jpg", small.jpeg())
    reports = prepare("things", {"train": [Entry(later.identities, "first", None, ("x",)), later]}, tmp_path / "out", Settings(64))
    assert reports["train"]["written"] == 1 and reports["train"]["left_out"].keys() == {"missing"}


def test_several_processes_give_the_same_bytes_as_one(tmp_path):
    entries = many(tmp_path / "pictures", 9)
    for workers in (0, 2):
        prepare("things", {"train": iter(entries), "val": entries[:1]}, tmp_path / str(workers), Settings(64, 2, workers))
    one, two = (contents(tmp_path / str(workers)) for workers in (0, 2))
    assert one == two and len([name for name in one if name.endswith(".tar")]) == 6
    assert [pair.name for pair in ShardPairs(tmp_path / "2", "train")] == [f"{i}.jpg" for i in range(9)]


COLLECTIONS = {
    "coco": ("coco", small.coco, {"train": 2, "val": 1}),
    "coco 2017": ("coco", lambda folder: small.coco(folder, "2017"), {"train": 2, "val": 1}),
    "coco, Karpathy": ("coco", small.karpathy_coco, {"train": 2, "val": 1, "test": 1}),
    "flickr30k": ("flickr30k", small.karpathy_flickr30k, {"train": 1, "val": 1, "test": 1}),
    "flickr8k": ("flickr8k", small.flickr8k, {"train": 1, "val": 1}),
    "vg": ("vg", small.visual_genome, {"train": 2}),
    "sbu, texts": ("sbu", small.sbu_texts, {"train": 2}),
    "sbu, json": ("sbu", small.sbu_json, {"train": 2}),
    "cc3m, tsv": ("cc3m", small.cc3m_tsv, {"train": 1}),
    "cc3m, tars": ("cc3m", small.img2dataset_tars, {"train": 4}),
    "cc3m, files": ("cc3m", small.img2dataset_files, {"train": 2}),
}


@pytest.mark.parametrize("layout", COLLECTIONS)
def test_every_layout_as_it_is_typed(tmp_path, layout, capsys):
    collection, make, written = COLLECTIONS[layout]
    source, out = make(tmp_path / "source"), tmp_path / "out"
    assert main(["prepare", collection, str(source), "--out", str(out), "--workers", "0", "--size", "72"]) == 0
    said = capsys.readouterr().out
    assert {split: len(ShardPairs(out, split)) for split in written} == written
    for split, count in written.items():
        assert f"{collection}/{split}: {count} of " in said
        for pair in open_pairs(f"shards:{out}", split, resolution=64):
            assert pair.image.shape == (3, 72, 86) and pair.captions
    assert f"pretrain --data shards:{out}" in said


def test_the_pairs_of_shards_are_those_of_the_loose_files(tmp_path):
    source = small.flickr8k(tmp_path / "source")
    prepare("flickr8k", list_entries("flickr8k", source), tmp_path / "out", Settings(384))
    for split in ("train", "val"):
        loose, sharded = (
            open_pairs(f"flickr8k:{source}", split, resolution=96),
            open_pairs(f"shards:{tmp_path / 'out'}", split, resolution=96),
        )
        assert loose.name == sharded.name and [p.captions for p in loose] == [p.captions for p in sharded]
        assert all((a.image.float() - b.image.float()).abs().max() < 3 for a, b in zip(loose, sharded, strict=True))


# Stopped, and run again -------------------------------------------------------------------------------------------------


def run(folder: Path, entries, **settings) -> dict:
    return prepare("things", {"train": entries}, folder, Settings(**({"size": 64, "shard_size": 2} | settings)))


def test_what_is_there_is_kept_and_what_is_damaged_is_made_again(tmp_path, monkeypatch):
    entries, out, made = many(tmp_path / "pictures", 8), tmp_path / "out", []
    run(out, entries)
    before = contents(out)
    monkeypatch.setattr(
        shard_writer, "_write_tar", lambda task, *more, real=shard_writer._write_tar: made.append(task.name) or real(task, *more)
    )
    run(out, entries)
    assert made == [] and contents(out) == before  # nothing to do
    tar = bytearray(before["train-000001.tar"])
    tar[1000] ^= 1
    (out / "train-000001.tar").write_bytes(tar)  # a changed bit
    (out / "train-000002.json").write_text("{")  # half a receipt
    (out / "train-000003.tar").unlink()
    (out / ".train-000000.tar.99.tmp").write_bytes(b"half a shard")
    run(out, entries)
    assert made == ["train-000001", "train-000002", "train-000003"] and contents(out) == before
    receipt = json.loads(before["train-000000.json"])
    changes = [{"places": [["x"]]}, {"places": 3}, {"places": []}, {"left_out": {"missing": "many"}}, {"examples": [1]}, {"samples": -1}]
    for change in changes:  # a receipt that was tampered with
        made.clear()
        (out / "train-000000.json").write_text(json.dumps(receipt | change))
        run(out, entries)
        assert made == ["train-000000"] and contents(out) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_report_of_earlier_splits_does_not_lose_this_one(tmp_path, content):
    entries, out = many(tmp_path / "pictures", 2), tmp_path / "out"
    made = run(out, entries)
    (out / "report.json").write_bytes(content)
    assert run(out, entries) == made == json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("content", [b"{", b"[]", b"[" * 100_000])
def test_a_damaged_note_of_what_a_split_is_made_of_is_named(tmp_path, content):
    entries, out = many(tmp_path / "pictures", 2), tmp_path / "out"
    run(out, entries)
    (out / "train.shards.json").write_bytes(content)
    with pytest.raises(UserError, match=r"--out .*out cannot be used"):
        run(out, entries)


def test_pictures_that_were_fetched_meanwhile_are_taken_up(tmp_path):
    entries, out = many(tmp_path / "pictures", 4), tmp_path / "out"
    run(out, [*entries[:3], Entry(entries[3].identities, entries[3].name, None, entries[3].captions)])
    untouched = (out / "train-000000.tar").stat().st_mtime_ns
    assert run(out, entries)["train"] == json.loads((out / "report.json").read_text())["train"]
    assert len(ShardPairs(out, "train")) == 4 and (out / "train-000000.tar").stat().st_mtime_ns == untouched


def test_a_shorter_list_leaves_no_shards_behind(tmp_path):
    entries, out = many(tmp_path / "pictures", 6), tmp_path / "out"
    prepare("things", {"val": entries}, out, Settings(64, 2))
    run(out, entries)
    run(out, entries[:3])
    assert sorted(path.name for path in out.glob("*.tar")) == [
        *("train-000000.tar", "train-000001.tar", "val-000000.tar", "val-000001.tar", "val-000002.tar"),
    ]
    assert len(ShardPairs(out, "train")) == 3


def test_a_shard_of_which_nothing_is_left_is_not_in_the_index(tmp_path):
    entries = many(tmp_path / "pictures", 6)
    run(tmp_path / "out", [*entries[:2], *(Entry((f"gone/{i}",), "gone", None) for i in range(2)), *entries[4:]])
    pairs = ShardPairs(tmp_path / "out", "train")
    assert pairs.files == ["train-000000.tar", "train-000002.tar"] and [pair.name for pair in pairs] == ["0.jpg", "1.jpg", "4.jpg", "5.jpg"]


KILLED = """
import os, signal, sys
from pathlib import Path
from semmim_mini.prepare import shard_writer
from semmim_mini.prepare.job import Settings, prepare
from semmim_mini.prepare.layouts import list_entries

fsync = os.fsync
def killed(file):
    if len(list(Path(sys.argv[2]).glob("train-*.tar"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)  # while the third is still a temporary file
    fsync(file)

os.fsync = killed
prepare("cc3m", list_entries("cc3m", Path(sys.argv[1])), Path(sys.argv[2]), Settings(64, 1))
"""


def python(*arguments: str, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_killed_half_way_ends_in_the_same_bytes(tmp_path):
    source = small.img2dataset_tars(tmp_path / "source")
    process = python("-c", KILLED, str(source), str(tmp_path / "killed"))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL and list((tmp_path / "killed").glob(".*.tmp"))
    assert not (tmp_path / "killed/index.json").exists()
    for name in ("killed", "whole"):
        prepare("cc3m", list_entries("cc3m", source), tmp_path / name, Settings(64, 1))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_it_leaves_whole_shards_and_no_process(tmp_path, how):
    small.put(tmp_path / "0.jpg", small.jpeg(size=(2000, 2000)))
    source = small.put(tmp_path / "list.tsv", "".join(f"picture {i}\t{'./' * i}0.jpg\n" for i in range(400)))
    process = python(
        *("-m", "semmim_mini.cli", "prepare", "cc3m", str(source), "--out", str(tmp_path / "out"), "--shard-size", "4", "--workers", "1"),
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    )
    until(lambda: process.poll() is not None or len(list((tmp_path / "out").glob("train-*.json"))) > 1)
    assert process.poll() is None, process.communicate()
    if how == signal.SIGINT:  # as a terminal sends it: to all processes
        os.killpg(process.pid, how)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130 and errors.strip() == "semmim-mini: stopped"
        assert not list((tmp_path / "out").glob(".*.tmp"))
    else:
        process.kill()
        process.communicate(timeout=120)
    assert not (tmp_path / "out/index.json").exists()
    until(lambda: not alive(process.pid))


def hears_ctrl_c() -> None:
    """A shell starts what it runs in the background deaf to Ctrl-C, and its children inherit that: so might these tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(true) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(group: int) -> bool:
    """Whether any process of a group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# Refused ----------------------------------------------------------------------------------------------------------------


def test_a_folder_is_not_made_of_two_things(tmp_path):
    entries = many(tmp_path / "pictures", 2)
    run(tmp_path / "out", entries)
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=r"holds the split train with collection things, size 64, .* not collection things, size 96"):
        run(tmp_path / "out", entries, size=96)
    with pytest.raises(UserError, match=r"not collection coco, size 64"):
        prepare("coco", {"train": entries}, tmp_path / "out", Settings(64, 2))
    assert contents(tmp_path / "out") == before
    prepare("coco", {"val": entries}, tmp_path / "out", Settings(96, 2))  # another split is another matter
    assert json.loads((tmp_path / "out/report.json").read_text()).keys() == {"train", "val"}
    assert len(ShardPairs(tmp_path / "out", "train")) == len(ShardPairs(tmp_path / "out", "val")) == 2


def test_somebodys_folder_is_left_alone(tmp_path):
    entries = many(tmp_path / "pictures", 2)
    with pytest.raises(UserError, match=r"--out .*pictures holds other things, such as 0.jpg; choose an empty folder"):
        run(tmp_path / "pictures", entries)
    with pytest.raises(UserError, match=r"--out .*0.jpg cannot be used"):
        run(tmp_path / "pictures/0.jpg", entries)
    assert contents(tmp_path / "pictures").keys() == {"0.jpg", "1.jpg"}


def test_when_no_picture_is_found_nothing_is_begun(tmp_path):
    with pytest.raises(UserError, match=r"things/train: not one of the first 1 pictures is on disk, such as a.jpg; say where .* --images"):
        run(tmp_path / "out", [Entry(("x",), "a.jpg", None, ("x",))])
    with pytest.raises(UserError, match=r"not one of the first 0 pictures is on disk; "):
        run(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_when_no_picture_can_be_used_that_is_said(tmp_path):
    with pytest.raises(UserError, match=r"not one of 1 pictures can be used: .*'unreadable': {'pictures': 1"):
        run(tmp_path / "out", [entry(tmp_path / "x.jpg", b"404")])


def test_a_full_disk_names_the_remedy(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    entries = many(tmp_path / "p", 2)
    monkeypatch.setattr(shard_writer, "_write_tar", full)
    with pytest.raises(UserError, match=r"cannot write .*train-000000.tar: No space left on device; finished shards stay"):
        run(tmp_path / "out", entries)


def test_a_mistake_as_it_is_typed(tmp_path, capsys):
    assert main(["prepare", "cc12m", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("semmim-mini: collection 'cc12m' is unknown; choose one of coco, vg, sbu")
    held_out = ["--held-out", str(small.put(tmp_path / "mine.json", {}))]
    assert main(["prepare", "coco", str(tmp_path), "--out", str(tmp_path / "out"), *held_out]) == 2
    assert "mine.json is none of Karpathy's files" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_impossible_settings():
    with pytest.raises(UserError, match=r"--shard-size 0 is too small; it needs at least 1"):
        Settings(shard_size=0)
    with pytest.raises(UserError, match=r"--size 63 is too small; it needs at least 64"):
        Settings(size=63)


def test_without_webdataset_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r'pip install "semmim-mini\[full\]"'):
        run(tmp_path / "out", many(tmp_path / "p", 1))


def test_a_worker_that_is_killed_names_the_remedy():
    with pytest.raises(UserError, match=r"a worker process was killed, .*lower --workers"), Workers(1) as workers:
        list(workers.map(os._exit, [1]))


# Tars of strangers ------------------------------------------------------------------------------------------------------


def tar_of(path: Path, *infos: tarfile.TarInfo, form=tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def info(name: str, size: int = 10, **more) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for key, value in more.items():
        setattr(made, key, value)
    return made


def test_only_files_are_members_and_names_are_only_names(tmp_path):
    link, folder = info("a.jpg", 0, type=tarfile.SYMTYPE, linkname="/etc/passwd"), info("x", 0, type=tarfile.DIRTYPE)
    path = tar_of(tmp_path / "x.tar", info("../../0.jpg"), link, folder, info("/1.txt", 0), info("n" * 300 + ".jpg"))
    found = list(members(path))
    assert [(name[:12], size) for name, _, size in found] == [("../../0.jpg", 10), ("/1.txt", 0), ("n" * 12, 10)]
    assert found[0][1] == 512 and sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_giant_header_takes_no_memory(tmp_path, form):
    path = tar_of(tmp_path / "x.tar", info("n" * 300), form=form)
    with open(path, "r+b") as file:
        header = tarfile.TarInfo.frombuf(file.read(512), "utf-8", "strict")
        header.size = 2**33
        file.seek(0)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**34)  # sparse: takes no room
    with pytest.raises(UserError, match=r"x.tar is not a whole tar file \(a header claims 8,589,93"):
        list(members(path))


def test_a_negative_size_ends_the_walk(tmp_path):
    path = tar_of(tmp_path / "x.tar", info("a"))
    header = bytearray(path.read_bytes()[:512])
    header[124:136] = b"\xff" * 11 + b"\x00"  # base 256, negative
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + path.read_bytes()[512:])
    with pytest.raises(UserError, match=r"is not a whole tar file"):
        list(members(path))


def test_a_tar_that_ends_in_a_member(tmp_path):
    source = small.img2dataset_tars(tmp_path / "source")
    data = (source / "00001.tar").read_bytes()
    (source / "00001.tar").write_bytes(data[:3000])
    with pytest.raises(UserError, match=r"00001.tar is not a whole tar file \(its end is missing\); fetch it again, or take it out"):
        list_entries("cc3m", source)
    long = tar_of(tmp_path / "long.tar", info("a.jpg", 5000)).read_bytes()
    (source / "00001.tar").write_bytes(long[:1024] + bytes(1024))  # an end where none belongs
    with pytest.raises(UserError, match=r"00001.tar is not a whole tar file \(unexpected end of data"):
        list(list_entries("cc3m", source)["train"])


def test_samples_are_found_where_webdataset_put_them(tmp_path):
    task = Task(str(tmp_path), "train-000000", 0, tuple(many(tmp_path / "p", 3)), 64)
    receipt = write_shard(task)
    data = (tmp_path / "train-000000.tar").read_bytes()
    for i, (offset, picture, _, _) in enumerate(receipt.places):
        assert data[offset : offset + 2] == b"\xff\xd8" and data[offset + picture - 2 : offset + picture] == b"\xff\xd9", i
    assert receipt.samples == 3 and not receipt.kept and write_shard(task).kept


def test_image_ids_are_those_of_the_identity(tmp_path):
    run(tmp_path / "out", many(tmp_path / "p", 1))
    assert read_pair(ShardPairs(tmp_path / "out", "train"), 0)[0].image_id == picture_id("things/0.jpg")
