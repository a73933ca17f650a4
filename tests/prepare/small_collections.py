"""A few pictures of every collection, in exactly the layout that it has after unpacking."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COCO_INFO = {"info": {"year": 2014, "version": "1.0"}, "licenses": [{"id": 3, "name": "Attribution License"}]}


def jpeg(number: int = 0, size: tuple[int, int] = (96, 80)) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), 40 + 10 * number, np.uint8)).save(data, "JPEG")
    return data.getvalue()


def put(path: Path, content: bytes | str | object) -> Path:
    """A file with bytes, text, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def coco(folder: Path, year: str = "2014") -> Path:
    """captions_train and captions_val with two and one pictures; the caption of picture 25 comes first in its file."""
    prefix = {name: f"COCO_{name}2014_" if year == "2014" else "" for name in ("train", "val")}
    listed = {"train": [(9, 0), (25, 1)], "val": [(391895, 2)]}
    for split, pictures in listed.items():
        images = [
            {"license": 3, "file_name": f"{prefix[split]}{id_:012d}.jpg", "height": 80, "width": 96, "id": id_, "flickr_url": "http://f"}
            for id_, _ in pictures
        ]
        notes = [
            {"image_id": id_, "id": 10 * id_ + k, "caption": f"Caption {k} of {id_}. "} for id_, _ in reversed(pictures) for k in (0, 1)
        ]
        put(folder / f"annotations/captions_{split}{year}.json", COCO_INFO | {"images": images, "annotations": notes})
        for image, (_, number) in zip(images, pictures, strict=True):
            put(folder / f"{split}{year}" / image["file_name"], jpeg(number))
    return folder


def karpathy_coco(folder: Path) -> Path:
    """dataset_coco.json: a train, a restval, a val and a test picture in the folders of COCO's archives."""
    entries = []
    for number, (split, subset, id_) in enumerate(
        [("train", "train2014", 9), ("restval", "val2014", 42), ("val", "val2014", 73), ("test", "val2014", 391895)]
    ):
        name = f"COCO_{subset}_{id_:012d}.jpg"
        put(folder / subset / name, jpeg(number))
        sentence = {"tokens": ["a", "cat"], "raw": f"A cat, number {number}.", "imgid": number, "sentid": number}
        entries.append({"filepath": subset, "sentids": [number], "filename": name, "imgid": number, "split": split, "cocoid": id_})
        entries[-1]["sentences"] = [sentence]
    put(folder / "dataset_coco.json", {"images": entries, "dataset": "coco"})
    return folder


def karpathy_flickr30k(folder: Path, images: str = "flickr30k-images") -> Path:
    entries = []
    for number, split in enumerate(("train", "val", "test")):
        name = f"{1000092795 + number}.jpg"
        put(folder / images / name, jpeg(number))
        sentence = {"tokens": ["two", "men"], "raw": "Two men.", "imgid": number, "sentid": number}
        entries.append({"sentids": [number], "imgid": number, "sentences": [sentence], "split": split, "filename": name})
    put(folder / "dataset_flickr30k.json", {"images": entries, "dataset": "flickr30k"})
    return folder


def flickr8k(folder: Path) -> Path:
    lines = ["image,caption"]
    for number, split in enumerate(("train", "dev")):
        name = f"{1000268201 + number}_693b08cb0e.jpg"
        put(folder / "Images" / name, jpeg(number))
        put(folder / f"Flickr_8k.{split}Images.txt", name + "\n")
        lines += [f"{name},A child , number {number} .", f"{name},Somebody ."]
    put(folder / "captions.txt", "\n".join(lines) + "\n")
    return folder


# image_id, coco_id, flickr_id, folder. The third is in COCO's test split as Karpathy has it, the fourth in Flickr30k's.
VG = [
    (1, None, None, "VG_100K_2"),
    (2407890, 9, 4385058960, "VG_100K"),
    (2412112, 391895, 8505158818, "VG_100K"),
    (5, None, 1000092797, "VG_100K_2"),
]


def visual_genome(folder: Path) -> Path:
    images, regions = [], []
    for number, (image, coco_id, flickr_id, archive) in enumerate(VG):
        put(folder / archive / f"{image}.jpg", jpeg(number))
        url = f"https://cs.stanford.edu/people/rak248/{archive}/{image}.jpg"
        images.append({"image_id": image, "url": url, "width": 96, "height": 80, "coco_id": coco_id, "flickr_id": flickr_id})
        phrases = [f"the clock of {image}", "a green tree", "a  green tree "]
        boxes = [
            {"region_id": 10 * image + k, "width": 9, "height": 9, "image_id": image, "phrase": p, "y": 0, "x": 0}
            for k, p in enumerate(phrases)
        ]
        regions.append({"regions": boxes, "id": image})
    put(folder / "image_data.json", images)
    put(folder / "region_descriptions.json", regions)
    return folder


SBU_URLS = ["http://static.flickr.com/2723/4385058960_b0f291553e.jpg", "http://static.flickr.com/55/1000092797_abcdef0123.jpg"]
SBU_CAPTIONS = ["A wooden chair in the living room", "the view from our window"]


def sbu_texts(folder: Path) -> Path:
    put(folder / "dataset/SBU_captioned_photo_dataset_urls.txt", "\n".join(SBU_URLS) + "\n")
    put(folder / "dataset/SBU_captioned_photo_dataset_captions.txt", "\n".join(SBU_CAPTIONS) + "\n")
    for number, url in enumerate(SBU_URLS):
        put(folder / "dataset" / url.rpartition("/")[2], jpeg(number))
    return folder


def sbu_json(folder: Path) -> Path:
    put(folder / "sbu-captions-all.json", {"image_urls": SBU_URLS, "user_ids": ["a", "b"], "captions": SBU_CAPTIONS})
    for number, url in enumerate(SBU_URLS):
        put(folder / "images" / url.rpartition("/")[2], jpeg(number))
    return folder


def cc3m_tsv(folder: Path) -> Path:
    """Three addresses, of which two end alike, and one without a name."""
    rows = [
        ("a very typical bus station", "http://lh6.ggpht.com/-IvRtNLNcG8o/TpFyrudaT6I/0000/bus%20station.jpg?imgmax=800"),
        ("sierra looked stunning", "http://78.media.tumblr.com/3b13/image.jpg"),
        ("young confused girl", "https://media.gettyimages.com/photos/image.jpg"),
        ("interior design of a room", "https://example.org/gallery/"),
    ]
    put(folder / "Train_GCC-training.tsv", "".join(f"{caption}\t{url}\n" for caption, url in rows))
    put(folder / "images/bus station.jpg", jpeg(0))
    put(folder / "images/image.jpg", jpeg(1))
    return folder


def albef_json(folder: Path) -> Path:
    """Paths and captions as ALBEF's lists have them; a picture comes twice, and once with two captions."""
    rows = [("cc3m/000000012.jpg", "a red bus"), ("cc3m/000000013.jpg", ["a cat", "one cat"]), ("cc3m/000000012.jpg", "a bus in town")]
    put(folder / "cc3m_train.json", [{"image": image, "caption": caption} for image, caption in rows])
    for number in (12, 13):
        put(folder / f"cc3m/{number:09d}.jpg", jpeg(number - 12))
    return folder


def about(key: str, caption: str) -> bytes:
    """The .json that img2dataset puts beside a picture."""
    facts = {"caption": caption, "url": f"http://example.org/{key}", "key": key, "status": "success", "error_message": None}
    return json.dumps(
        facts | {"width": 96, "height": 80, "original_width": 960, "original_height": 800, "exif": "{}", "sha256": "0" * 64}
    ).encode()


def img2dataset_tars(folder: Path) -> Path:
    """Two tars as webdataset's writer makes them, with the statistics beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w|", format=tarfile.PAX_FORMAT) as tar:
            for number in range(2):
                key = f"{shard:05d}{number:04d}"
                for ending, data in (("jpg", jpeg(number)), ("json", about(key, f"picture {key}")), ("txt", f"picture {key}".encode())):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size, info.mtime = len(data), 1700000000.25  # a broken second makes a second, extended header
                    tar.addfile(info, io.BytesIO(data))
        put(folder / f"{shard:05d}_stats.json", {"count": 3, "successes": 2, "failed_to_download": 1})
        put(folder / f"{shard:05d}.parquet", b"PAR1")
    return folder


def img2dataset_files(folder: Path) -> Path:
    for number in range(3):
        key = f"{number:09d}"
        put(folder / f"00000/{key}.json", about(key, f"picture {key}"))
        put(folder / f"00000/{key}.txt", f"picture {key}")
        if number != 1:  # whose download failed
            put(folder / f"00000/{key}.jpg", jpeg(number))
    put(folder / "00000_stats.json", {"count": 3, "successes": 2})
    return folder
