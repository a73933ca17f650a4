"""Photos: the official layouts on small files, every kind of picture, every mistake a folder can hold."""

import json
import logging
import os
import pickle
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.photos import Flickr8kPairs, KarpathyPairs, UnreadablePicture, read_picture
from semmim_mini.data.picture_files import BadPictures, Photo, PhotoPairs
from semmim_mini.errors import UserError

NAMES = ["1000268201_693b08cb0e.jpg", "1001773457_577c3a7d70.jpg", "1002674143_1b742ab4b8.jpg"]
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def save(path: Path, color=(255, 0, 0), size=(12, 8), mode="RGB", **options) -> Path:
    Image.new("RGB", size, color).convert(mode).save(path, **options)
    return path


@pytest.fixture
def flickr(tmp_path):
    """A whole small Flickr8k in the layout of Kaggle's copy."""
    (tmp_path / "Images").mkdir()
    for name in NAMES:
        save(tmp_path / "Images" / name)
    (tmp_path / "captions.txt").write_text(
        "image,caption\n"
        f"{NAMES[0]},A child in a pink dress .\n"
        f'{NAMES[0]},"A girl , going ""in"" ."\n'
        f"{NAMES[1]},Two dogs on pavement .\n"
        f"{NAMES[2]},A girl, covered in paint, sits .\n",
        encoding="utf-8",
    )
    (tmp_path / "Flickr_8k.trainImages.txt").write_text(f"{NAMES[1]}\n{NAMES[0]}\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text(f"{NAMES[2]}\n")
    return tmp_path


def coco(entries) -> dict:
    return {"images": entries, "dataset": "coco"}


def entry(name: str, split: str, *captions: str, **more) -> dict:
    return {"filename": name, "split": split, "sentences": [{"raw": c, "tokens": c.split()} for c in captions]} | more


@pytest.fixture
def karpathy(tmp_path):
    """A whole small COCO in Karpathy's layout."""
    for folder in ("train2014", "val2014"):
        (tmp_path / "images" / folder).mkdir(parents=True)
    save(tmp_path / "images/train2014/a.jpg")
    save(tmp_path / "images/val2014/b.jpg", (0, 255, 0))
    save(tmp_path / "images/c.jpg", (0, 0, 255))
    entries = [
        entry("a.jpg", "train", "A cat.", "One cat.", filepath="train2014", cocoid=9),
        entry("b.jpg", "restval", "A dog.", filepath="val2014"),
        entry("c.jpg", "test", "A bus.", filepath="val2014"),
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps(coco(entries)))
    return tmp_path


# Flickr8k ---------------------------------------------------------------------------------------------------------------


def test_flickr8k_reads_the_list_in_its_order_with_all_captions(flickr):
    pairs = Flickr8kPairs(flickr, "train")
    assert isinstance(pairs, Pairs) and pairs.name == "flickr8k/train" and len(pairs) == 2
    assert [pairs[i].name for i in range(2)] == [NAMES[1], NAMES[0]]
    assert pairs.captions(1) == ("A child in a pink dress .", 'A girl , going "in" .') == pairs[1].captions
    assert pairs[0].image.shape == (3, 8, 12) and pairs[0].image.dtype == torch.uint8 and pairs[0].truth is None
    assert Flickr8kPairs(flickr, "val").captions(0) == ("A girl, covered in paint, sits .",)  # commas without quotes


def test_dev_is_another_word_for_val(flickr):
    dev, val = Flickr8kPairs(flickr, "dev"), Flickr8kPairs(flickr, "val")
    assert dev.name == val.name == "flickr8k/val" and dev[0].image_id == val[0].image_id


def test_token_file_and_original_folder_name_give_the_same_pairs(flickr):
    before = [(p.name, p.image_id, p.captions) for p in Flickr8kPairs(flickr, "train")]
    (flickr / "captions.txt").unlink()
    (flickr / "Images").rename(flickr / "Flicker8k_Dataset")
    lines = [f"{NAMES[0]}#0\tA child in a pink dress .", f'{NAMES[0]}#1\tA girl , going "in" .']
    lines += [f"{NAMES[1]}#0\tTwo dogs on pavement .", "2258277193_586949ec62.jpg.1#0\ta line of the official file"]
    (flickr / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    assert [(p.name, p.image_id, p.captions) for p in Flickr8kPairs(flickr, "train")] == before


def test_ids_differ_between_pictures_and_survive_changes_of_the_list(flickr):
    ids = {p.name: p.image_id for p in Flickr8kPairs(flickr, "train")}
    (flickr / "Flickr_8k.trainImages.txt").write_text("\n".join(NAMES))
    later = {p.name: p.image_id for p in Flickr8kPairs(flickr, "train")}
    assert len(set(later.values())) == 3 and all(later[name] == ids[name] for name in ids)
    assert all(0 <= i < 2**53 and int(float(i)) == i for i in later.values())


def test_pairs_travel_to_worker_processes(flickr):
    assert pickle.loads(pickle.dumps(Flickr8kPairs(flickr, "train")))[0].name == NAMES[1]


def test_windows_line_ends_and_byte_order_mark(flickr):
    text = (flickr / "captions.txt").read_text()
    (flickr / "captions.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert Flickr8kPairs(flickr, "val").captions(0) == ("A girl, covered in paint, sits .",)


FLICKR_MISTAKES = {
    "no folder": (lambda f: os.rename(f / "Images", f / "photos"), "Images, Flicker8k_Dataset, Flickr8k_Dataset"),
    "no captions": (lambda f: (f / "captions.txt").unlink(), "captions.txt, Flickr8k.token.txt"),
    "no list": (lambda f: (f / "Flickr_8k.trainImages.txt").unlink(), "Flickr_8k.trainImages.txt"),
    "empty list": (lambda f: (f / "Flickr_8k.trainImages.txt").write_text("\n\n"), "names no picture"),
    "strange list": (lambda f: (f / "Flickr_8k.trainImages.txt").write_text("x.jpg\n"), "'x.jpg'"),
    "no header": (lambda f: (f / "captions.txt").write_text(f"{NAMES[0]},A dog\n"), "line 1: .*image,caption"),
    "no caption": (lambda f: (f / "captions.txt").write_text("image,caption\na.jpg,dog\nb.jpg\n"), "line 3: 'b.jpg'"),
    "no name": (lambda f: (f / "captions.txt").write_text("image,caption\n,dog\n"), "line 2"),
    "open quote": (lambda f: (f / "captions.txt").write_text('image,caption\na.jpg,"dog\nb.jpg,cat\n'), "line 3"),
    "swallowed line": (
        lambda f: (f / "captions.txt").write_text('image,caption\na.jpg,"dog\nb.jpg,cat"\n'),
        "never closed",
    ),
    "inner quote": (lambda f: (f / "captions.txt").write_text('image,caption\na.jpg,"dog" he said\n'), "line 2"),
    "not text": (lambda f: (f / "captions.txt").write_bytes(b"image,caption\n\xff\xfe"), "not UTF-8"),
    "empty file": (lambda f: (f / "captions.txt").write_text(""), "names no picture"),
}


@pytest.mark.parametrize("mistake", FLICKR_MISTAKES)
def test_flickr8k_mistakes_are_named(flickr, mistake):
    make, message = FLICKR_MISTAKES[mistake]
    make(flickr)
    with pytest.raises(UserError, match=message):
        Flickr8kPairs(flickr, "train")


def test_a_malformed_token_line_is_named_with_its_number(flickr):
    (flickr / "captions.txt").unlink()
    (flickr / "Flickr8k.token.txt").write_text(f"{NAMES[0]}#0\tA dog\n{NAMES[0]} A dog without number and tab\n")
    with pytest.raises(UserError, match=r"Flickr8k.token.txt, line 2"):
        Flickr8kPairs(flickr, "train")


def test_unknown_split_and_missing_folder(flickr):
    with pytest.raises(UserError, match=r"'training'; choose one of train, val"):
        Flickr8kPairs(flickr, "training")
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        Flickr8kPairs(flickr / "nowhere", "train")


@FUZZ
@given(
    text=st.lists(st.sampled_from([*'a,"\n\r#\t\x00 é', *NAMES]), max_size=40).map("".join),
    header=st.booleans(),
)
def test_any_captions_file_gives_pairs_or_a_user_error(flickr, text, header):
    (flickr / "captions.txt").write_text("image,caption\n" * header + text, encoding="utf-8", newline="")
    try:
        pairs = Flickr8kPairs(flickr, "train", max_bad_share=0.99)
    except UserError:
        return
    assert len(pairs) and all(pairs.captions(i) and all(pairs.captions(i)) for i in range(len(pairs)))


# Karpathy files ---------------------------------------------------------------------------------------------------------


def test_karpathy_counts_restval_as_train_and_finds_pictures_with_or_without_filepath(karpathy):
    train = KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "images", "train")
    assert train.name == "coco/train" and [p.name for p in train] == ["a.jpg", "b.jpg"]
    assert train.captions(0) == ("A cat.", "One cat.")
    test = KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "images", "test")
    assert test[0].image[2].float().mean() > 250  # the blue picture, which lies outside the folder its filepath names
    with pytest.raises(UserError, match=r"no picture in split 'val'"):
        KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "images", "val")


KARPATHY_MISTAKES = {
    "{": "not valid JSON",
    "[" * 100_000: "not valid JSON",
    "[]": "no list 'images'",
    '{"images": {}}': "no list 'images'",
    json.dumps(coco(["a.jpg"])): r"images\[0\] is 'a.jpg'",
    json.dumps(coco([entry("a.jpg", "train", "x"), entry(3, "train", "x")])): r"images\[1\] has filename 3",
    json.dumps(coco([entry("a.jpg", "trian", "x")])): "'trian'",
    json.dumps(coco([entry("a.jpg", "train", "x", filepath="../..")])): "filepath",
    json.dumps(coco([entry("a.jpg", "train") | {"sentences": None}])): "no list 'sentences'",
    json.dumps(coco([entry("a.jpg", "train") | {"sentences": [{"tokens": ["x"]}]}])): "text 'raw'",
}


@pytest.mark.parametrize("text", KARPATHY_MISTAKES, ids=lambda text: text[:30])
def test_karpathy_mistakes_are_named(karpathy, text):
    (karpathy / "dataset_coco.json").write_text(text)
    with pytest.raises(UserError, match=KARPATHY_MISTAKES[text]):
        KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "images", "train")


def test_karpathy_missing_files_and_splits(karpathy):
    with pytest.raises(UserError, match=r"nothing.json cannot be read"):
        KarpathyPairs(karpathy / "nothing.json", karpathy / "images", "train")
    with pytest.raises(UserError, match=r"elsewhere does not exist"):
        KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "elsewhere", "train")
    with pytest.raises(UserError, match=r"no split 'restval'"):
        KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "images", "restval")


PLAIN = st.none() | st.booleans() | st.integers() | st.sampled_from(["a.jpg", "c.jpg", "\x00", "\ud800", "train", ""])
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["raw"]), inner))
ENTRY = st.fixed_dictionaries(
    {"filename": PLAIN, "split": st.just("train") | JSON, "sentences": st.just([{"raw": "a \ud800 dog"}]) | JSON},
    optional={"filepath": JSON},
)


@FUZZ
@given(content=st.lists(ENTRY, max_size=3).map(coco) | JSON)
def test_any_json_gives_pairs_or_a_user_error(karpathy, content):
    (karpathy / "dataset_coco.json").write_text(json.dumps(content))
    try:
        pairs = KarpathyPairs(karpathy / "dataset_coco.json", karpathy / "images", "train", max_bad_share=0.99)
    except UserError:
        return
    assert all(c.encode() for i in range(len(pairs)) for c in pairs.captions(i))  # no half characters: tokenizers choke


# Bad pictures -----------------------------------------------------------------------------------------------------------


def test_missing_pictures_are_dropped_named_and_counted(flickr, caplog):
    (flickr / "Images" / NAMES[1]).unlink()
    with caplog.at_level(logging.WARNING):
        pairs = Flickr8kPairs(flickr, "train", max_bad_share=0.5)
    assert len(pairs) == 1 and pairs[0].name == NAMES[0]
    assert "1 of 2" in caplog.text and NAMES[1] in caplog.text
    with pytest.raises(UserError, match=rf"1 of 2 .*data.max_bad_share=0.4.*{NAMES[1]}.*missing.*raise data.max_bad_share"):
        Flickr8kPairs(flickr, "train", max_bad_share=0.4)


def test_a_picture_without_a_caption_counts_as_bad(flickr):
    (flickr / "captions.txt").write_text(f"image,caption\n{NAMES[0]},A dog\n{NAMES[1]},  \n")
    with pytest.raises(UserError, match=rf"{NAMES[1]}.*no caption"):
        Flickr8kPairs(flickr, "train")
    assert [p.name for p in Flickr8kPairs(flickr, "train", max_bad_share=0.5)] == [NAMES[0]]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "folder", "gone"])
def test_an_unreadable_picture_gives_way_to_the_next_good_one(flickr, damage, caplog):
    pairs = Flickr8kPairs(flickr, "train", max_bad_share=0.5)
    path = flickr / "Images" / NAMES[1]
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"404 not found"}[damage])
    for _ in range(2):  # the second time without opening it again
        pair, passed = pairs.read(0)
        assert pair.name == NAMES[0] and passed == [NAMES[1]] and pair.captions == pairs.captions(1)
    assert pairs.read(1)[1] == [] and list(pairs.unreadable) == [0] and len(caplog.records) == 1


def test_after_the_last_picture_comes_the_first(flickr):
    pairs = Flickr8kPairs(flickr, "train", max_bad_share=0.5)
    (flickr / "Images" / NAMES[0]).write_bytes(b"")
    assert pairs[1].name == NAMES[1] and pairs[-2].name == NAMES[1]
    with pytest.raises(IndexError):
        pairs[2]


def test_too_many_unreadable_pictures_end_the_run(flickr):
    pairs = Flickr8kPairs(flickr, "train")
    (flickr / "Images" / NAMES[1]).write_bytes(b"")
    with pytest.raises(UserError, match=rf"1 of 2 .*{NAMES[1]}.*unreadable"):
        pairs[0]


def test_when_no_picture_is_readable_that_is_said(flickr):
    pairs = Flickr8kPairs(flickr, "train", max_bad_share=1.0)
    for name in NAMES:
        (flickr / "Images" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"not one picture is readable"):
        pairs[0]


# Single pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, suffix", [("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("1", "png"), ("RGBA", "png")])
def test_every_mode_becomes_rgb(tmp_path, mode, suffix):
    image = read_picture(save(tmp_path / f"x.{suffix}", (255, 255, 255), mode=mode))
    assert image.shape == (3, 8, 12) and image.min() >= 254


def test_transparent_parts_lie_on_white(tmp_path):
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2] = (255, 0, 0, 255)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "x.png")
    image = read_picture(tmp_path / "x.png")
    assert image[:, 0, 0].tolist() == [255, 0, 0] and image[:, 3, 0].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_is_scaled(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").unique().tolist() == [0x80]


def test_sideways_photos_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (16, 8), "blue")
    picture.paste("red", (0, 0, 8, 8))  # red on the left of the file …
    exif = Image.Exif()
    exif[0x0112] = 6  # … which the camera says to turn a quarter clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    image = read_picture(tmp_path / "x.png")
    assert image.shape == (3, 16, 8) and image[:, 0, 0].tolist() == [255, 0, 0]  # so red ends on top


def test_decode_size_bounds_the_shorter_side(tmp_path):
    assert read_picture(save(tmp_path / "big.jpg", size=(400, 200)), decode_size=50).shape == (3, 50, 100)
    assert read_picture(save(tmp_path / "big.png", size=(200, 400)), decode_size=50).shape == (3, 100, 50)
    assert read_picture(save(tmp_path / "small.jpg", size=(40, 30)), decode_size=50).shape == (3, 30, 40)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + b"\0\0\0\0IDAT"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width, pixels", [(10_000, "100,000,000"), (100_000, "far too many")])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, width, pixels):
    (tmp_path / "bomb.png").write_bytes(png_header(width, 10_000))  # there are no pixels behind it: only the header is read
    with pytest.raises(UserError, match=rf"bomb.png claims {pixels} pixels"):
        read_picture(tmp_path / "bomb.png")


def test_the_pixel_limit_is_exact(tmp_path):
    path = save(tmp_path / "x.png", size=(10, 10))
    assert read_picture(path, max_pixels=100).shape == (3, 10, 10)
    with pytest.raises(UserError, match=r"100 pixels, more than the 99"):
        read_picture(path, max_pixels=99)


@FUZZ
@given(data=st.data())
def test_a_damaged_file_is_read_or_unreadable(tmp_path, data):
    content = bytearray(save(tmp_path / "x.jpg", size=(24, 24)).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.jpg").write_bytes(content)
    with suppress(UnreadablePicture, UserError):
        assert read_picture(tmp_path / "x.jpg").shape[0] == 3


@pytest.mark.skipif("SEMMIM_FLICKR8K" not in os.environ, reason="set SEMMIM_FLICKR8K to a folder with Flickr8k to run this")
def test_the_real_flickr8k():
    pairs = Flickr8kPairs(os.environ["SEMMIM_FLICKR8K"], "train")
    assert len(pairs) == 6000 and all(len(pairs.captions(i)) == 5 for i in range(len(pairs)))
    assert not pairs.dropped and len({photo.image_id for photo in pairs.photos}) == 6000
    assert pairs[5999].image.shape[0] == 3


def test_names_in_messages_are_cut():
    photos = [Photo("x" * 5_000, None, ("a thing",))]
    with pytest.raises(UserError, match=r"1 of 1 pictures cannot be used") as caught:
        PhotoPairs("things/train", photos, BadPictures(0.5))
    assert len(str(caught.value)) < 400 and "x" * 30 in str(caught.value)
