"""Every official layout, read from small files; and every mistake, named by file and entry."""

import json

import pytest
import small_collections as small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semmim_mini.data.picture_files import picture_id
from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Bytes, Finder, coco_identity, flickr_identity, inside
from semmim_mini.prepare.held_out import held_out_identities
from semmim_mini.prepare.layouts import list_entries

FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def listed(collection, source, *more, **options) -> dict[str, list]:
    return {split: list(entries) for split, entries in list_entries(collection, source, *more, **options).items()}


def names(entries) -> list[str]:
    return [entry.name for entry in entries]


# COCO and Flickr --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_cocos_own_files_by_split_in_the_order_of_the_pictures(tmp_path, year):
    splits = listed("coco", small.coco(tmp_path, year))
    assert list(splits) == ["train", "val"]
    assert [entry.identities for entry in splits["train"]] == [("coco/9",), ("coco/25",)]
    assert splits["train"][0].captions == ("Caption 0 of 9.", "Caption 1 of 9.")
    assert all(entry.picture.open().read(2) == b"\xff\xd8" for entries in splits.values() for entry in entries)
    assert splits["val"][0].image_id == picture_id("coco/391895")


def test_one_file_of_coco_and_pictures_elsewhere(tmp_path):
    small.coco(tmp_path / "all")
    (tmp_path / "all/train2014").rename(tmp_path / "pictures")
    file = tmp_path / "all/annotations/captions_train2014.json"
    assert list(listed("coco", file)) == ["train"] and all(e.picture is None for e in listed("coco", file)["train"])
    assert all(e.picture for e in listed("coco", file, tmp_path / "pictures")["train"])


def test_two_years_at_once_are_a_question(tmp_path):
    small.coco(small.coco(tmp_path), "2017")
    with pytest.raises(UserError, match=r"several train files, captions_train2017.json among them; give one of them as SOURCE"):
        listed("coco", tmp_path)


def test_karpathys_file_comes_before_cocos_own(tmp_path):
    splits = listed("coco", small.karpathy_coco(small.coco(tmp_path)))
    assert {split: [e.identities[0] for e in entries] for split, entries in splits.items()} == {
        "train": ["coco/9", "coco/42"],  # with restval
        "val": ["coco/73"],
        "test": ["coco/391895"],
    }
    assert splits["test"][0].captions == ("A cat, number 3.",) and splits["test"][0].picture
    assert list(listed("coco", tmp_path, split="test")) == ["test"]
    assert list(listed("coco", tmp_path / "annotations/captions_val2014.json")) == ["val"]


@pytest.mark.parametrize("images", ["flickr30k-images", "flickr30k_images", "images", "."])
def test_flickr30k_wherever_its_archive_puts_the_pictures(tmp_path, images):
    splits = listed("flickr30k", small.karpathy_flickr30k(tmp_path, images))
    assert list(splits) == ["train", "val", "test"] and splits["test"][0].identities == ("flickr/1000092797",)
    assert all(entry.picture for entries in splits.values() for entry in entries)


def test_flickr8k_has_the_splits_whose_lists_are_there(tmp_path):
    splits = listed("flickr8k", small.flickr8k(tmp_path))
    assert list(splits) == ["train", "val"] and splits["val"][0].captions == ("A child , number 1 .", "Somebody .")
    assert splits["train"][0].identities == ("flickr/1000268201",)
    with pytest.raises(UserError, match=r"has no split 'test' of flickr8k, only train, val"):
        listed("flickr8k", tmp_path, split="test")


# Visual Genome, and what must not be trained on -------------------------------------------------------------------------


def test_visual_genome_without_coco_unless_its_held_out_pictures_are_known(tmp_path):
    entries = listed("vg", small.visual_genome(tmp_path))["train"]
    assert [entry.left_out for entry in entries] == ["", "held out", "held out", ""]
    assert all(entry.picture for entry in entries) and entries[0].captions == ("the clock of 1", "a green tree")  # each phrase once
    assert entries[1].identities == ("coco/9", "flickr/4385058960", "vg/2407890.jpg")
    coco, flickr = (small.karpathy_coco(tmp_path / "c"), small.karpathy_flickr30k(tmp_path / "f"))
    held_out = held_out_identities([coco / "dataset_coco.json", flickr / "dataset_flickr30k.json"])
    assert held_out == {"coco/73", "coco/391895", "flickr/1000092796", "flickr/1000092797"}
    known = listed("vg", tmp_path, held_out=held_out)["train"]
    assert [entry.left_out for entry in known] == [""] * 4  # job.py leaves out by identity
    assert [not held_out.isdisjoint(entry.identities) for entry in known] == [False, False, True, True]
    only_flickr = held_out_identities([flickr / "dataset_flickr30k.json"])
    assert [entry.left_out for entry in listed("vg", tmp_path, held_out=only_flickr)["train"]] == ["", "held out", "held out", ""]


def test_one_picture_in_two_collections_has_one_id(tmp_path):
    vg = listed("vg", small.visual_genome(tmp_path / "vg"))["train"]
    coco = listed("coco", small.karpathy_coco(tmp_path / "coco"))
    assert vg[1].image_id == coco["train"][0].image_id and vg[2].image_id == coco["test"][0].image_id


def test_visual_genomes_documentation_names_the_picture_otherwise(tmp_path):
    regions = json.loads((small.visual_genome(tmp_path) / "region_descriptions.json").read_text())
    small.put(tmp_path / "region_descriptions.json", [{"image_id": r["id"], "regions": r["regions"]} for r in regions])
    assert listed("vg", tmp_path)["train"][0].captions == ("the clock of 1", "a green tree")


def test_files_that_are_not_karpathys_hold_nothing_out(tmp_path):
    with pytest.raises(UserError, match=r"test.json is none of Karpathy's files; they are named dataset_coco, "):
        held_out_identities([small.put(tmp_path / "test.json", {"images": []})])


# Lists from the web -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [small.sbu_texts, small.sbu_json])
def test_sbu_finds_addresses_by_their_last_part(tmp_path, layout):
    entries = listed("sbu", layout(tmp_path))["train"]
    assert [entry.identities[0] for entry in entries] == ["flickr/4385058960", "flickr/1000092797"]
    assert [entry.captions for entry in entries] == [(caption,) for caption in small.SBU_CAPTIONS]
    assert all(entry.picture for entry in entries)


def test_cc3m_leaves_out_what_it_cannot_tell_apart(tmp_path):
    entries = listed("cc3m", small.cc3m_tsv(tmp_path))["train"]
    assert [(entry.left_out, entry.picture is not None) for entry in entries] == [
        ("", True),
        ("ambiguous", True),
        ("ambiguous", True),
        ("", False),
    ]
    assert entries[0].name == "bus station.jpg" and entries[0].captions == ("a very typical bus station",)


def test_a_tsv_of_paths(tmp_path):
    small.put(tmp_path / "a/b.jpg", small.jpeg())
    file = small.put(tmp_path / "list.tsv", "\ufeffa cat\u2028or two\ta/b.jpg\r\n\r\na dog\ta/c.jpg\n")
    entries = listed("cc3m", file, split="val")["val"]
    assert [(e.name, e.captions, e.picture is None) for e in entries] == [
        ("a/b.jpg", ("a cat or two",), False),
        ("a/c.jpg", ("a dog",), True),
    ]


def test_albefs_lists_with_all_captions_of_a_picture(tmp_path):
    entries = listed("cc3m", small.albef_json(tmp_path) / "cc3m_train.json")["train"]
    assert [(e.name, e.captions) for e in entries] == [
        ("cc3m/000000012.jpg", ("a red bus", "a bus in town")),
        ("cc3m/000000013.jpg", ("a cat", "one cat")),
    ]
    assert all(entry.picture for entry in entries)


@pytest.mark.parametrize("given", ["folder", "tar"])
def test_img2dataset_in_tars(tmp_path, given):
    folder = small.img2dataset_tars(tmp_path)
    entries = listed("cc3m", folder if given == "folder" else folder / "00001.tar")["train"]
    keys = [f"{shard:05d}{number:04d}" for shard in range(2) for number in range(2)]
    assert [entry.identities for entry in entries] == [(f"cc3m/{key}",) for key in (keys if given == "folder" else keys[2:])]
    assert entries[-1].picture.open().read() == small.jpeg(1) and entries[-1].caption_file.open().read() == b"picture 000010001"


def test_img2dataset_in_files(tmp_path):
    entries = listed("sbu", small.img2dataset_files(tmp_path))["train"]
    assert names(entries) == ["00000: 000000000", "00000: 000000001", "00000: 000000002"]
    assert [entry.picture is None for entry in entries] == [False, True, False] and entries[
        2
    ].caption_file.open().read() == b"picture 000000002"


# Mistakes ---------------------------------------------------------------------------------------------------------------

COCO = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "id": 1, "caption": "A cat"}]}
MISTAKES = {
    "coco: no file": ("coco", {}, "x", r"has no dataset_coco.json and no captions_\*.json"),
    "coco: no json": ("coco", {"captions_train2014.json": "{"}, "", r"captions_train2014.json is not valid JSON"),
    "coco: deep": ("coco", {"captions_train2014.json": "[" * 100_000}, "", r"is not valid JSON"),
    "coco: no images": ("coco", {"captions_val2014.json": {"annotations": []}}, "", r"has no list images"),
    "coco: id": (
        "coco",
        {"captions_train2014.json": COCO | {"images": [{"id": "1", "file_name": "1.jpg"}]}},
        "",
        r"images\[0\] has id '1'",
    ),
    "coco: true": (
        "coco",
        {"captions_train2014.json": COCO | {"images": [{"id": True, "file_name": "1.jpg"}]}},
        "",
        r"images\[0\] has id True",
    ),
    "coco: caption": (
        "coco",
        {"captions_train2014.json": COCO | {"annotations": [{"image_id": 1, "caption": None}]}},
        "",
        r"annotations\[0\] has caption None; the official layout has a text there",
    ),
    "coco: unknown picture": (
        "coco",
        {"captions_train2014.json": COCO | {"annotations": [{"image_id": 7, "caption": "x"}]}},
        "",
        r"annotations name image_id 7, which images does not list",
    ),
    "coco: path": (
        "coco",
        {"captions_train2014.json": COCO | {"images": [{"id": 1, "file_name": "../1.jpg"}]}},
        "",
        r"images with id 1 has the picture '../1.jpg', not a path inside the folder of pictures",
    ),
    "coco: name": ("coco", {"captions_mine.json": COCO}, "captions_mine.json", r"says no split; keep the official names"),
    "karpathy: path": (
        "flickr30k",
        {"dataset_flickr30k.json": {"images": [{"filename": "/etc/1.jpg", "split": "train", "sentences": []}]}},
        "",
        r"images\[0\] has the picture '/etc/1.jpg'",
    ),
    "karpathy: entry": ("flickr30k", {"dataset_flickr30k.json": {"images": [3]}}, "", r"images\[0\] is 3, not an object"),
    "flickr30k: no file": ("flickr30k", {}, "", r"has no dataset_flickr30k.json; see --help"),
    "flickr8k: no captions": ("flickr8k", {"Images/x": ""}, "", r"has no captions file"),
    "vg: no regions": ("vg", {"image_data.json": [{"image_id": 1}]}, "", r"region_descriptions.json cannot be read: No such file"),
    "vg: id": ("vg", {"image_data.json": [{"image_id": "1"}]}, "", r"image_data.json: \[0\] has image_id '1'"),
    "vg: coco_id": ("vg", {"image_data.json": [{"image_id": 1, "coco_id": "9"}]}, "", r"has coco_id '9'; .* a number or null there"),
    "vg: phrase": (
        "vg",
        {"image_data.json": [{"image_id": 1}], "region_descriptions.json": [{"id": 1, "regions": [{"phrase": 3}]}]},
        "",
        r"region_descriptions.json: \[0\] has no id, or regions without a text 'phrase'",
    ),
    "vg: a file": ("vg", {"x.json": []}, "x.json", r"the folder of Visual Genome .*x.json is no folder that exists"),
    "tsv: no tab": ("cc3m", {"x.tsv": "a cat\ta.jpg\na dog a.jpg\n"}, "x.tsv", r"x.tsv, line 2: 'a dog a.jpg' is malformed"),
    "tsv: two tabs": ("cc3m", {"x.tsv": "a\tcat\ta.jpg\n"}, "x.tsv", r"x.tsv, line 1"),
    "tsv: no address": ("cc3m", {"x.tsv": "a cat\t\n"}, "x.tsv", r"x.tsv, line 1"),
    "tsv: path": ("cc3m", {"x.tsv": "a cat\t../a.jpg\n"}, "x.tsv", r"x.tsv, line 1 has the picture '../a.jpg'"),
    "tsv: bytes": ("cc3m", {"x.tsv": b"\xff\xfe"}, "x.tsv", r"x.tsv is not UTF-8 text at byte 0"),
    "list: caption": ("sbu", {"x.json": [{"image": "a.jpg", "caption": 3}]}, "x.json", r"\[0\] has caption 3; .* a text or a list there"),
    "list: captions": ("sbu", {"x.json": [{"image": "a.jpg", "caption": [3]}]}, "x.json", r"\[0\] has captions that are no texts"),
    "list: path": ("sbu", {"x.json": [{"image": "/etc/passwd", "caption": "x"}]}, "x.json", r"\[0\] has the picture '/etc/passwd'"),
    "list: backslash": ("sbu", {"x.json": [{"image": "..\\..\\a.jpg", "caption": "x"}]}, "x.json", r"not a path inside"),
    "columns": (
        "sbu",
        {"x.json": {"image_urls": ["a"], "captions": []}},
        "x.json",
        r"no lists of texts image_urls and captions of equal length",
    ),
    "texts": (
        "sbu",
        {"SBU_captioned_photo_dataset_urls.txt": "a\nb\n", "SBU_captioned_photo_dataset_captions.txt": "x\n"},
        "",
        r"has 2 lines and SBU_captioned_photo_dataset_captions.txt 1",
    ),
    "two lists": (
        "sbu",
        {"Train_GCC-training.tsv": "", "sbu-captions-all.json": ""},
        "",
        r"holds Train_GCC-training.tsv, sbu-captions-all.json;",
    ),
    "web: nothing": ("cc3m", {"readme.txt": ""}, "", r"has no tars and no numbered folders"),
    "tar: cut": ("cc3m", {"00000.tar": b"x" * 5000}, "", r"00000.tar is not a whole tar file \(its end is missing\)"),
    "tar: empty": ("cc3m", {"00000.tar": b""}, "", r"00000.tar is not a whole tar file"),
    "tar: other bytes": ("cc3m", {"00000.tar": b"x" * 5000 + bytes(1024)}, "", r"00000.tar is not a whole tar file"),
    "source": ("coco", {}, "nowhere", r"nowhere does not exist; give the folder that holds coco"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(tmp_path, mistake):
    collection, files, source, message = MISTAKES[mistake]
    for name, content in files.items():
        small.put(tmp_path / name, content)
    (tmp_path / "x").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        listed(collection, tmp_path / source)


def test_words_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"collection 'cc12m' is unknown; choose one of coco, vg"):
        listed("cc12m", tmp_path)
    with pytest.raises(UserError, match=r"--split 'dev' is none; choose one of train, val, test"):
        listed("coco", tmp_path, split="dev")
    with pytest.raises(UserError, match=r"the folder of pictures .*no is no folder that exists"):
        listed("coco", tmp_path, tmp_path / "no")
    for collection, layout in (("flickr8k", small.flickr8k), ("sbu", small.img2dataset_files)):
        with pytest.raises(UserError, match=r"--images .* cannot be used here"):
            listed(collection, layout(tmp_path / collection), tmp_path)


PLAIN = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["1.jpg", "..", "\x00", "\ud800", "a/b", "http://[x/..", ""])
ANY = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["images", "annotations", "id", "file_name", "image_id", "caption", "image", "image_urls", "captions", "regions"]
            ),
            inner,
        )
    ),
)


@FUZZ
@given(content=ANY, other=ANY, collection=st.sampled_from(["coco", "vg", "sbu"]))
def test_any_json_is_read_or_refused(tmp_path, content, other, collection):
    files = {
        "coco": ["captions_train2014.json"],
        "vg": ["image_data.json", "region_descriptions.json"],
        "sbu": ["sbu-captions-all.json"],
    }
    for name, value in zip(files[collection], (content, other), strict=False):
        small.put(tmp_path / collection / name, json.dumps(value))
    try:
        entries = listed(collection, tmp_path / collection)["train"]
    except UserError:
        return
    assert all(caption.encode() for entry in entries for caption in entry.captions)


@FUZZ
@given(text=st.lists(st.sampled_from([*"ab\t\n\r\x00. /\\:%é", "http://", ".jpg", "\u2028"]), max_size=30).map("".join))
def test_any_tsv_is_read_or_refused(tmp_path, text):
    file = small.put(tmp_path / "x.tsv", text)
    try:
        entries = listed("cc3m", file)["train"]
    except UserError:
        return
    assert all(entry.picture is None for entry in entries)  # nothing is there, least of all outside the folder


# Names ------------------------------------------------------------------------------------------------------------------


def test_identities_by_hand():
    assert coco_identity("COCO_val2014_000000391895.jpg") == coco_identity("000000391895.jpg") == "coco/391895"
    assert coco_identity("cat.jpg") == "coco/cat.jpg"
    assert coco_identity(f"{'9' * 5_000}.jpg") == f"coco/{'9' * 5_000}.jpg"  # more digits than Python makes a number of
    assert coco_identity("9" * 1_000_000)  # at once: not once for every digit it might begin with
    assert flickr_identity("2723/4385058960_b0f291553e.jpg") == flickr_identity("4385058960.jpg") == "flickr/4385058960"
    assert flickr_identity("4385058960_b0f291553e_z.jpg") == "flickr/4385058960"
    assert flickr_identity("000000012.jpg") is None and flickr_identity("4385058960.png") is None
    assert flickr_identity("cat_12345678.jpg") is None and flickr_identity("12.jpg") is None


def test_paths_stay_inside():
    assert inside("train2014/a..b.jpg", "x") == "train2014/a..b.jpg"
    for path in ("", "/a", "a/../../b", "..", "a\0", "\\\\server\\a", "a\\..\\b", None, 3):
        with pytest.raises(UserError, match=r"^line 7 has the picture"):
            inside(path, "line 7")


def test_the_first_folder_that_has_a_picture_wins(tmp_path):
    small.put(tmp_path / "b/x/1.jpg", b"b")
    finder = Finder(tmp_path / "a", tmp_path / "b", tmp_path / "a")
    assert finder.find("x/1.jpg") == Bytes(str(tmp_path / "b/x/1.jpg")) and finder.find("1.jpg") is None and len(finder.roots) == 2
