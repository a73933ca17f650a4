"""The embedded pictures are what the manifest says, concepts differ, and whatever is damaged is named."""

import csv
import re
import struct
import zlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from semmim_mini.data import cutouts as module
from semmim_mini.data.cutouts import COLUMNS, MANIFEST, load_cutouts, samples_folder
from semmim_mini.errors import UserError

BASIC_COLORS = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey"}
ABOUT = dict(concept="dog", names="dog|puppy", plural="dogs", category="animal", colors="brown|white")
SOURCE = dict(source="hand", version="1", origin="dog.png", creator="nobody", licence="CC0-1.0")
ROW = dict(id="dog_drawn_01", file="dog_drawn_01.png") | ABOUT | SOURCE


@pytest.fixture(scope="module")
def rows():
    with (samples_folder() / "cutouts" / MANIFEST).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def write_folder(folder, *rows, columns=COLUMNS, picture=None):
    """A folder of cutouts with one red 4×3 picture per row."""
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        (picture or Image.new("RGBA", (4, 3), (255, 0, 0, 128))).save(folder / row["file"], "PNG")
    return folder


# ------------------------------------------------------------------------------------------------------ what is shipped


def test_there_is_enough_to_compose_scenes_from():
    pictures_of = Counter(cutout.concept for cutout in load_cutouts())
    assert len(pictures_of) >= 120
    assert sum(count >= 3 for count in pictures_of.values()) >= 80


def test_the_sample_stays_small():
    def size(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(samples_folder() / "cutouts") <= 6_000_000
    assert size(samples_folder() / "cutouts") + size(samples_folder() / "LICENSES") <= 8_000_000


def test_pictures_are_cropped_small_and_visible():
    for cutout in load_cutouts():
        height, width, channels = cutout.picture.shape
        assert cutout.picture.dtype == np.uint8 and channels == 4 and max(height, width) <= 112, cutout.id
        visible = cutout.picture[..., 3] > 0
        assert visible.any(axis=0)[[0, -1]].all() and visible.any(axis=1)[[0, -1]].all(), cutout.id  # no empty rim
        assert visible.mean() > 0.05, cutout.id
        assert not cutout.picture[~visible].any(), cutout.id  # nothing hides under transparent pixels


def test_concepts_are_described_the_same_way_in_every_row():
    described = defaultdict(set)
    for cutout in load_cutouts():
        described[cutout.concept].add((cutout.names, cutout.plural, cutout.category))
        assert cutout.names[0] == cutout.concept
        assert re.fullmatch(r"[a-z][a-z -]*", " ".join((*cutout.names, cutout.plural, cutout.category)))
        assert 1 <= len(set(cutout.colors)) == len(cutout.colors) <= 2 and set(cutout.colors) <= BASIC_COLORS
    assert all(len(ways) == 1 for ways in described.values())


def test_no_name_means_two_things():
    owners = defaultdict(set)
    for cutout in load_cutouts():
        for name in (*cutout.names, cutout.plural):
            owners[name].add(cutout.concept)
    assert {name: concepts for name, concepts in owners.items() if len(concepts) > 1} == {}


def test_no_name_contains_a_colour_word():
    # "an orange orange" or "a white brown bear" would make colour questions ambiguous.
    assert not [name for cutout in load_cutouts() for name in cutout.names if BASIC_COLORS & set(name.split())]


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """16×16 RGBA of the picture centred in a square: equal for equal pictures, close for close ones."""
    image = Image.fromarray(picture)
    square = Image.new("RGBA", (max(image.size),) * 2)
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    small = np.asarray(square.resize((16, 16), Image.Resampling.BOX)).astype(np.float32)
    return np.concatenate([small[..., :3] * small[..., 3:] / 255, small[..., 3:]], axis=-1).ravel()


def test_different_concepts_look_different():
    cutouts = load_cutouts()
    thumbnails = np.stack([thumbnail(cutout.picture) for cutout in cutouts])
    for index, cutout in enumerate(cutouts):
        other = np.array([other.concept != cutout.concept for other in cutouts])
        distance = np.abs(thumbnails - thumbnails[index]).mean(axis=1)  # of 255
        closest = np.argmin(np.where(other, distance, np.inf))
        assert distance[closest] > 5, f"{cutout.id} and {cutouts[closest].id} are nearly the same picture"


def test_no_picture_is_shipped_twice():
    seen = Counter((cutout.picture.shape, cutout.picture.tobytes()) for cutout in load_cutouts())
    assert max(seen.values()) == 1


def test_every_picture_has_a_creator_and_a_licence_text(rows):
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (samples_folder() / "LICENSES").glob("*.txt")}
    assert {row["licence"] for row in rows} == set(texts)
    assert all(len(text) > 1000 for text in texts.values())
    assert all(row["creator"] and row["origin"] and row["version"] and row["source"] for row in rows)


def test_the_readme_names_every_source_and_creator_and_counts_right(rows):
    readme = " ".join((samples_folder() / "README.md").read_text(encoding="utf-8").split())
    for row in rows:
        assert row["source"] in readme and row["creator"] in readme and row["version"] in readme
    assert f"{len(rows)} lossless RGBA pictures of {len({row['concept'] for row in rows})} concepts" in readme


def test_loading_is_sorted_shared_and_read_only():
    first, second = load_cutouts(), load_cutouts(samples_folder() / "cutouts")
    assert [cutout.id for cutout in first] == sorted(cutout.id for cutout in first)
    assert first[0] is second[0] and first is not second  # a caller may reorder the list without disturbing others
    with pytest.raises(ValueError, match="read-only"):
        first[0].picture[0, 0, 0] = 1


# ------------------------------------------------------------------------------------------------ a folder of one's own


def test_a_row_becomes_a_cutout(tmp_path):
    (cutout,) = load_cutouts(write_folder(tmp_path, ROW))
    assert (cutout.id, cutout.concept, cutout.plural, cutout.category) == ("dog_drawn_01", "dog", "dogs", "animal")
    assert cutout.names == ("dog", "puppy") and cutout.colors == ("brown", "white")
    assert cutout.picture.shape == (3, 4, 4) and cutout.picture[0, 0].tolist() == [255, 0, 0, 128]


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no manifest at .*manifest.csv"):
        load_cutouts(tmp_path)


def test_missing_columns_are_named(tmp_path):
    columns = [name for name in COLUMNS if name not in ("plural", "colors")]
    with pytest.raises(UserError, match="lacks the columns plural, colors"):
        load_cutouts(write_folder(tmp_path, ROW, columns=columns))


@pytest.mark.parametrize("content", [b"\xff\xfe", b'id,file\n"' + b"x" * 200_000], ids=["other bytes", "an endless field"])
def test_a_manifest_that_is_no_table_is_named(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content if content[:1] != b"i" else content.replace(b"id,file", ",".join(COLUMNS).encode()))
    with pytest.raises(UserError, match=r"manifest.csv, line \d: .*; it needs to be csv in UTF-8"):
        load_cutouts(tmp_path)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/b.png", "a\0.png"])
def test_a_file_elsewhere_is_refused(tmp_path, name):
    write_folder(tmp_path, ROW)
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace(ROW["file"], name))
    with pytest.raises(UserError, match=r"row 2: file .* is no name of a picture beside manifest.csv"):
        load_cutouts(tmp_path)


def test_an_empty_field_is_named(tmp_path):
    with pytest.raises(UserError, match="row 2: plural is empty"):
        load_cutouts(write_folder(tmp_path, ROW | {"plural": ""}))


def test_a_row_without_a_file_is_named(tmp_path):
    write_folder(tmp_path, ROW, ROW | {"id": "dog_drawn_02", "file": "dog_drawn_02.png"})
    (tmp_path / "dog_drawn_02.png").unlink()
    with pytest.raises(UserError, match=r"row 3: file 'dog_drawn_02.png' is missing"):
        load_cutouts(tmp_path)


def test_doubled_ids_are_named(tmp_path):
    with pytest.raises(UserError, match="row 3: id 'dog_drawn_01' was used in row 2"):
        load_cutouts(write_folder(tmp_path, ROW, ROW | {"file": "other.png"}))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_an_unreadable_picture_is_named(tmp_path, content):
    write_folder(tmp_path, ROW)
    (tmp_path / ROW["file"]).write_bytes(content)
    with pytest.raises(UserError, match=r"row 2: dog_drawn_01.png is not a readable picture"):
        load_cutouts(tmp_path)


def test_a_truncated_picture_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    write_folder(tmp_path, ROW, picture=Image.fromarray(noise))
    path = tmp_path / ROW["file"]
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match="not a readable picture"):
        load_cutouts(tmp_path)


def test_a_picture_without_alpha_is_refused(tmp_path):
    with pytest.raises(UserError, match="has mode RGB; a cutout needs an alpha channel"):
        load_cutouts(write_folder(tmp_path, ROW, picture=Image.new("RGB", (4, 4))))


@pytest.mark.parametrize("size", [(4097, 1), (1, 4097)])
def test_a_huge_picture_is_refused(tmp_path, size):
    with pytest.raises(UserError, match="at most 4096 px"):
        load_cutouts(write_folder(tmp_path, ROW, picture=Image.new("RGBA", size)))


def test_a_bomb_is_refused_before_it_unfolds(tmp_path):
    # A header that promises 300 megapixels, 1.2 GB when decoded. Pillow itself stops at 179 megapixels.
    write_folder(tmp_path, ROW)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 15_000, 8, 6, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / ROW["file"]).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(UserError, match=r"dog_drawn_01.png"):
        load_cutouts(tmp_path)


def test_an_installed_package_finds_its_copy(tmp_path, monkeypatch):
    package = tmp_path / "site" / "semmim_mini"
    (package / "data").mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "data" / "cutouts.py"))
    with pytest.raises(UserError, match=r"the embedded data is missing: neither .*data_samples nor .*_samples"):
        samples_folder()
    (package / "_samples" / "cutouts").mkdir(parents=True)
    (package / "_samples" / "cutouts" / MANIFEST).touch()
    assert samples_folder() == package / "_samples"
    (tmp_path / "site" / "data_samples" / "cutouts").mkdir(parents=True)
    (tmp_path / "site" / "data_samples" / "cutouts" / MANIFEST).touch()
    assert samples_folder() == tmp_path / "site" / "data_samples"  # a checkout's data wins over a stale copy
