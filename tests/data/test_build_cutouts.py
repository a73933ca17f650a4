"""Cropping, shrinking and colour names by hand; then a whole build from a package folder of a few drawn pictures."""

import csv
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semmim_mini.data.build_cutouts import (
    EMOJI,
    SELECTION_COLUMNS,
    _open_library,
    cut_out,
    encode,
    find_pictures,
    main,
    measure_colors,
    read_selection,
    slug,
)
from semmim_mini.data.cutouts import MANIFEST, load_cutouts, samples_folder
from semmim_mini.errors import UserError


def painted(*stripes: tuple[tuple[int, int, int, int], int]) -> np.ndarray:
    """Vertical stripes of (RGBA colour, width in px), 10 px high."""
    return np.concatenate([np.full((10, width, 4), color, dtype=np.uint8) for color, width in stripes], axis=1)


# -------------------------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((220, 20, 20), "red"),
        ((255, 140, 0), "orange"),
        ((255, 220, 40), "yellow"),
        ((40, 160, 60), "green"),
        ((30, 90, 220), "blue"),
        ((130, 40, 200), "purple"),
        ((255, 150, 190), "pink"),
        ((120, 70, 30), "brown"),
        ((222, 184, 135), "brown"),  # light wood
        ((10, 10, 12), "black"),
        ((250, 250, 248), "white"),
        ((130, 130, 130), "grey"),
        ((0x66, 0x75, 0x7F), "grey"),  # slate, although its hue is blue
    ],
)
def test_plain_colours_have_their_names(rgb, word):
    assert measure_colors(painted(((*rgb, 255), 10))) == (word,)


RED, BLUE, GREEN = (220, 20, 20, 255), (30, 90, 220, 255), (40, 160, 60, 255)


def test_the_most_frequent_colour_comes_first():
    assert measure_colors(painted((RED, 4), (BLUE, 6))) == ("blue", "red")


def test_a_small_share_is_not_named():
    assert measure_colors(painted((RED, 8), (BLUE, 2))) == ("red",)  # 20 % is no clear share
    assert measure_colors(painted((RED, 6), (BLUE, 2))) == ("red", "blue")  # 25 % is


def test_two_words_at_most():
    assert len(measure_colors(painted((RED, 4), (BLUE, 3), (GREEN, 3)))) == 2


def test_transparent_pixels_have_no_vote_and_faint_ones_a_faint_vote():
    assert measure_colors(painted((RED, 2), ((30, 90, 220, 0), 90))) == ("red",)
    # 2·255 of red against 8·51 of blue: 56 % to 44 %, although blue covers four times the pixels.
    assert measure_colors(painted((RED, 2), ((30, 90, 220, 51), 8))) == ("red", "blue")


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=6))
def test_every_colour_has_a_name_and_turning_the_picture_keeps_it(colors):
    picture = painted(*[((*color, 255), 1 + index) for index, color in enumerate(colors)])
    named = measure_colors(picture)
    assert 1 <= len(named) <= 2
    assert measure_colors(picture[::-1, ::-1]) == named == measure_colors(picture.transpose(1, 0, 2))


# -------------------------------------------------------------------------------------------------------------- cutting


def test_the_crop_follows_what_is_visible():
    canvas = np.zeros((20, 30, 4), dtype=np.uint8)
    canvas[5:9, 10:17] = RED
    canvas[0, 0] = (255, 255, 255, 3)  # haze nobody sees
    assert cut_out(Image.fromarray(canvas)).tolist() == [[list(RED)] * 7] * 4


@given(st.integers(1, 300), st.integers(1, 300))
def test_sides_shrink_to_the_limit_and_never_grow(height, width):
    result = cut_out(Image.new("RGBA", (width, height), RED), side=64)
    factor = min(1.0, 64 / max(height, width))
    assert result.shape == (max(1, round(height * factor)), max(1, round(width * factor)), 4)


def test_shrinking_leaves_no_dark_fringe():
    # A red disc whose transparent surroundings are black underneath: averaging plain RGB would halve the rim's red.
    y, x = np.mgrid[:224, :224]
    disc = np.where(((y - 111.5) ** 2 + (x - 111.5) ** 2 < 112**2)[..., None], np.array(RED), 0).astype(np.uint8)
    result = cut_out(Image.fromarray(disc))
    rim = result[(result[..., 3] > 40) & (result[..., 3] < 215)]
    assert len(rim) > 50
    assert np.abs(rim[:, :3].astype(int) - RED[:3]).max() <= 8  # rounding in 8 bits at low alpha; a fringe differs by 100
    assert not result[result[..., 3] == 0].any()


def test_an_invisible_picture_is_refused():
    with pytest.raises(UserError, match="fully transparent"):
        cut_out(Image.new("RGBA", (8, 8)))


def test_saving_loses_nothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    pixels[0, 0, 3] = 0
    (tmp_path / "noise.webp").write_bytes(encode(pixels))
    assert np.array_equal(np.array(Image.open(tmp_path / "noise.webp")), pixels)


def test_file_names_hold_no_odd_characters():
    assert [slug(name) for name in ("teddy bear", "t-shirt", "dolls' house")] == ["teddy-bear", "t-shirt", "dolls-house"]


# ------------------------------------------------------------------------------------------------------------- building


def ellipse(color: tuple[int, int, int, int], side: int) -> Image.Image:
    y, x = np.mgrid[:side, :side]
    inside = ((y - side / 2) / 0.4) ** 2 + ((x - side / 2) / 0.3) ** 2 < side**2
    return Image.fromarray(np.where(inside[..., None], np.array(color), 0).astype(np.uint8))


@pytest.fixture
def packages(tmp_path):
    """Unpacked packages with one emoji, "1f415", in three styles and one furniture library with one model."""
    root = tmp_path / "packages"
    for source, color in zip(EMOJI, (RED, GREEN, BLUE), strict=True):
        picture = root / source.key / source.pictures.format(code="1f415")
        picture.parent.mkdir(parents=True)
        ellipse(color, 256 if source.key == "fluent" else 64).save(picture, lossless=True)
        (root / source.key / "package/package.json").write_text(json.dumps({"version": source.version}))
    library = root / "furniture/usr/share/sweethome3d/furniture/Scopia.sh3f"
    library.parent.mkdir(parents=True)
    ellipse((120, 70, 30, 255), 128).save(tmp_path / "dog.png")
    catalogue = "icon#1=/scopia/dog.png\ncreator#1=Ana\\u00efs & caf\xe9\nicon#2=/scopia/cat.png\ncreator#2=Nobody\n"
    with zipfile.ZipFile(library, "w") as archive:
        archive.write(tmp_path / "dog.png", "scopia/dog.png")
        archive.writestr("PluginFurnitureCatalog.properties", catalogue.encode("latin-1"))
    yield root
    _open_library.cache_clear()


def select(folder, **changes):
    """A folder whose selection holds one concept."""
    row = dict(concept="dog", synonyms="puppy", plural="dogs", category="animal", emoji="1f415", furniture="Scopia:dog")
    folder.mkdir(exist_ok=True)
    with (folder / "selection.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, SELECTION_COLUMNS)
        writer.writeheader()
        writer.writerow(row | changes)
    return folder


def run(packages, out, *flags) -> int:
    return main(["--packages", str(packages), "--out", str(out), *flags])


def test_a_build_loads_as_cutouts(packages, tmp_path):
    out = select(tmp_path / "out")
    assert run(packages, out) == 0
    built = {cutout.id: cutout for cutout in load_cutouts(out)}
    assert list(built) == ["dog_fluent_01", "dog_furniture_01", "dog_noto_01", "dog_twemoji_01"]
    assert {cutout.names for cutout in built.values()} == {("dog", "puppy")}
    assert [cutout.colors for cutout in built.values()] == [("red",), ("brown",), ("green",), ("blue",)]
    assert max(built["dog_fluent_01"].picture.shape) == 112 and max(built["dog_noto_01"].picture.shape) < 64


def test_the_manifest_says_whom_to_thank(packages, tmp_path):
    out = select(tmp_path / "out")
    run(packages, out)
    with (out / MANIFEST).open(encoding="utf-8", newline="") as handle:
        rows = {row["id"]: row for row in csv.DictReader(handle)}
    furniture = rows["dog_furniture_01"]
    assert (furniture["creator"], furniture["licence"]) == ("Anaïs & café", "CC-BY-3.0")
    assert furniture["origin"] == "usr/share/sweethome3d/furniture/Scopia.sh3f:scopia/dog.png"
    assert rows["dog_twemoji_01"]["licence"] == "CC-BY-4.0" and rows["dog_noto_01"]["version"] == "16.0.0"


def test_two_builds_are_equal_and_verify_says_so(packages, tmp_path, capsys):
    out = select(tmp_path / "out")
    run(packages, out)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    run(packages, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert run(packages, out, "--verify") == 0
    assert "4 pictures, 0 differences" in capsys.readouterr().out


def test_verify_reports_a_changed_pixel_a_changed_row_and_a_missing_file_and_writes_nothing(packages, tmp_path, capsys):
    out = select(tmp_path / "out")
    run(packages, out)
    pixels = np.array(Image.open(out / "dog_noto_01.webp"))
    pixels[20, 20, 0] ^= 1
    (out / "dog_noto_01.webp").write_bytes(encode(pixels))
    (out / "dog_fluent_01.webp").unlink()
    manifest = (out / MANIFEST).read_text().replace("Ana", "Eva")
    (out / MANIFEST).write_text(manifest)
    assert run(packages, out, "--verify") == 1
    report = capsys.readouterr().out
    assert "dog_noto_01: pixels differ" in report and "dog_fluent_01: dog_fluent_01.webp is missing" in report
    assert "dog_furniture_01: the manifest's row differs" in report and "3 differences" in report
    assert (out / MANIFEST).read_text() == manifest and not (out / "dog_fluent_01.webp").exists()


def test_pictures_no_longer_selected_go(packages, tmp_path):
    out = select(tmp_path / "out")
    run(packages, out)
    select(out, emoji="1f415:ft", furniture="")
    assert run(packages, out) == 0
    assert sorted(path.name for path in out.glob("*.webp")) == ["dog_fluent_01.webp", "dog_twemoji_01.webp"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emoji": "1f999"}, "'1f999', but .* is missing: unpack @lobehub/fluent-emoji-3d 1.1.0"),
        ({"furniture": "Scopia:unicorn"}, "asks for Scopia:unicorn, but .*Scopia.sh3f lists no icon"),
        ({"furniture": "Ikea:dog"}, "names the library 'Ikea'; choose one of"),
        ({"furniture": "KatorLegaz:dog"}, "library .*KatorLegaz.sh3f is missing: unpack sweethome3d-furniture"),
    ],
)
def test_what_cannot_be_found_is_named(packages, tmp_path, changes, message):
    selection = read_selection(select(tmp_path / "out", **changes) / "selection.csv")
    with pytest.raises(UserError, match=message):
        list(find_pictures(selection[0], packages))


def test_another_version_is_refused(packages, tmp_path, capsys):
    (packages / "noto/package/package.json").write_text('{"version": "15.1.0"}')
    assert run(packages, select(tmp_path / "out")) == 1
    assert "version 15.1.0; the cutouts are built from emoji-datasource-google 16.0.0" in capsys.readouterr().err


def test_a_missing_package_and_a_missing_selection_are_named(packages, tmp_path, capsys):
    assert run(tmp_path / "nowhere", select(tmp_path / "out")) == 1
    assert "unpack @lobehub/fluent-emoji-3d 1.1.0 into" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(packages, tmp_path / "empty") == 1
    assert "--out must hold selection.csv" in capsys.readouterr().err


def test_a_selection_with_other_columns_is_refused(tmp_path):
    (tmp_path / "selection.csv").write_text("concept,plural\ndog,dogs\n")
    with pytest.raises(UserError, match="it needs concept, synonyms, plural"):
        read_selection(tmp_path / "selection.csv")


def test_the_shipped_selection_matches_the_shipped_pictures():
    selection = {row["concept"]: row for row in read_selection(samples_folder() / "cutouts/selection.csv")}
    cutouts = load_cutouts()
    assert {cutout.concept for cutout in cutouts} == set(selection)
    for cutout in cutouts:
        row = selection[cutout.concept]
        assert "|".join(cutout.names) == f"{row['concept']}|{row['synonyms']}".strip("|")
        assert (cutout.plural, cutout.category) == (row["plural"], row["category"])
        assert cutout.colors == measure_colors(cutout.picture)
