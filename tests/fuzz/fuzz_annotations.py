"""Readers of what collections come with: captions, splits, questions, lists from the web, answers, results."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from fuzz_engine import Target, write
from fuzz_files import picture
from fuzz_mutations import blind, json_values, lines, mixed

from semmim_mini.data.answers import AnswerList, read_answer_list
from semmim_mini.data.flickr8k import Flickr8kPairs
from semmim_mini.data.karpathy import KarpathyPairs
from semmim_mini.data.vqa_files import VqaQuestions
from semmim_mini.prepare.entries import Entry
from semmim_mini.prepare.held_out import held_out_identities
from semmim_mini.prepare.layouts import list_entries
from semmim_mini.prepare.shard_writer import LeftOut, make_sample
from semmim_mini.tasks.caption_files import read_annotations, read_results, write_results

NAMES = ("9.jpg", "1000268201_693b08cb0e.jpg", "COCO_train2014_000000000009.jpg", "2407890.jpg")
JSON = json_values(('"9.jpg"', '"COCO_train2014_000000000009.jpg"', '"http://x/9.jpg?a#b"', '"//"', '"a\\u0000b/9.jpg"', '"restval"'))


def _dump(content: object) -> bytes:
    return json.dumps(content).encode()


def printable(texts: Iterable[str]) -> None:
    """Texts that go to a tokenizer, a log or a file; a lone half of a character fails there."""
    for text in texts:
        text.encode("utf-8")


def _pictures(folder: Path) -> Path:
    for name in NAMES:
        write(folder / name, picture())
    return folder


def flickr8k(folder: Path) -> list[Target]:
    """The captions in both forms, and the list of a split."""
    _pictures(folder / "Images")
    captions = 'image,caption\n9.jpg,"A child, smiling ."\n1000268201_693b08cb0e.jpg,Two dogs , running .\n9.jpg,A dög .\n'
    tokens = "9.jpg#0\tA child .\n9.jpg#1\tA dog .\n1000268201_693b08cb0e.jpg#0\tTwo dogs .\n"
    names = "9.jpg\n1000268201_693b08cb0e.jpg\n"

    def reading(file: str, **others: str):
        home = folder / file
        home.mkdir()
        (home / "Images").symlink_to(folder / "Images")
        for name, content in {"Flickr_8k.trainImages.txt": names, **others}.items():
            write(home / name, content)

        def read(data: bytes) -> None:
            write(home / file, data)
            pairs = Flickr8kPairs(home, "train", max_bad_share=0.99)
            for i in range(min(len(pairs), 5)):
                printable(pairs.captions(i))

        return read

    both = mixed(blind, lines)
    return [
        Target("captions", (captions.encode(),), both, reading("captions.txt")),
        Target("tokens", (tokens.encode(),), both, reading("Flickr8k.token.txt")),
        Target("list", (names.encode(),), both, reading("Flickr_8k.trainImages.txt", **{"captions.txt": captions})),
    ]


def karpathy(folder: Path) -> list[Target]:
    """As pairs to train on, as entries to prepare, and as pictures to hold out."""
    entry = {"filename": "9.jpg", "filepath": "sub", "split": "train", "imgid": 0, "sentences": [{"raw": "A child .", "tokens": ["a"]}]}
    others = [{"filename": NAMES[2], "split": split, "sentences": [{"raw": "A dog ."}]} for split in ("restval", "val", "test")]
    seeds, file = (_dump({"images": [entry, *others], "dataset": "coco"}),), folder / "dataset_coco.json"
    _pictures(folder)

    def pairs(data: bytes) -> None:
        found = KarpathyPairs(write(file, data), folder, "train", max_bad_share=0.99)
        for i in range(len(found)):
            printable(found.captions(i))

    def prepared(data: bytes) -> None:
        write(file, data)
        for entries in list_entries("coco", folder).values():
            use_entries(entries)

    both = mixed(blind, JSON, JSON)
    return [
        Target("pairs", seeds, both, pairs),
        Target("prepare", seeds, both, prepared),
        Target("held out", seeds, both, lambda data: held_out_identities([write(file, data)])),
    ]


def vqa(folder: Path) -> list[Target]:
    _pictures(folder / "train2014")
    questions = _dump(
        {"data_subtype": "train2014", "questions": [{"question_id": n, "image_id": 9, "question": "What colour ?"} for n in (1, 2)]}
    )
    note = {"answer_type": "other", "question_type": "what", "answers": [{"answer": "red"}, {"answer": "red"}, {"answer": "blue"}]}
    annotations = _dump({"annotations": [{"question_id": n, **note} for n in (1, 2)]})
    files = [folder / f"v2_{kind}_train2014.json" for kind in ("questions", "annotations")]

    def reading(at: int):
        def read(data: bytes) -> None:
            write(files[at], data)
            write(files[1 - at], (questions, annotations)[1 - at])
            found = VqaQuestions(*files, folder, max_bad_share=0.99)
            for i in range(min(len(found), 3)):
                question = found.questions[i]
                printable([question.text, question.kind, question.question_type, *(answer for answer, _ in question.answers)])
                torch.tensor([found[i].image_id])  # as in a batch

        return read

    both = mixed(blind, JSON, JSON)
    return [Target("questions", (questions,), both, reading(0)), Target("annotations", (annotations,), both, reading(1))]


def answers_and_results(folder: Path) -> list[Target]:
    """What this code writes itself, and people copy and edit."""
    file, both = folder / "file.json", mixed(blind, JSON, JSON)
    write_results(file, {391895: "a man", 2**40: "two dögs"})
    results = file.read_bytes()
    notes = _dump({"annotations": [{"image_id": 391895, "id": 1, "caption": "A man ."}, {"image_id": 5, "id": 2, "caption": "A dog ."}]})
    answers = AnswerList(("yes", "no", "two"), {"other": "yes"}, {"how many ?": "two"}).to_json().encode()

    def read_answers(data: bytes) -> None:
        found = read_answer_list(write(file, data))
        printable([*found.answers, found.guess("other", "how many ?"), found.to_json()])

    def captions(read):
        return lambda data: [printable([text] if isinstance(text, str) else text) for text in read(write(file, data)).values()]

    return [
        Target("answer list", (answers, b'["yes", "no"]'), both, read_answers),
        Target("caption results", (results,), both, captions(read_results)),
        Target("caption annotations", (notes,), both, captions(read_annotations)),
    ]


def use_entries(entries: Iterable[Entry], most: int = 3) -> None:
    """What `prepare` asks of entries before and while a shard is written."""
    for place, entry in enumerate(entries):
        (entry.image_id, repr(entry))
        if place < most:
            try:
                printable(make_sample(entry, 64)[1])
            except LeftOut as reason:
                str(reason)


def prepared_lists(folder: Path) -> list[Target]:
    """COCO's caption files, Visual Genome, and lists from the web, as `semmim-mini prepare` lists them."""
    both = mixed(blind, JSON, JSON)
    coco, vg, web = _pictures(folder / "coco"), _pictures(folder / "vg"), _pictures(folder / "web")
    images = [{"id": 9, "file_name": NAMES[2]}, {"id": 10, "file_name": "000000000010.jpg"}]
    notes = [{"image_id": 9, "id": 1, "caption": "A cat ."}, {"image_id": 10, "id": 2, "caption": "A dog ."}]
    data = [{"image_id": 2407890, "coco_id": 9, "flickr_id": None}, {"image_id": 5, "coco_id": None, "flickr_id": 4385058960}]
    regions = [{"id": 2407890, "regions": [{"region_id": 1, "phrase": "the clock"}]}, {"image_id": 5, "regions": []}]
    write(vg / "image_data.json", _dump(data))
    write(vg / "region_descriptions.json", _dump(regions))
    sbu = ("SBU_captioned_photo_dataset_urls.txt", "SBU_captioned_photo_dataset_captions.txt")
    urls, texts = "http://x/9.jpg\nhttp://x/1000268201_693b08cb0e.jpg\n", "A dog .\nA cat .\n"

    def listed(collection: str, file: Path, source: Path | None = None, then: bytes | None = None):
        def read(data: bytes) -> None:
            before = then and file.read_bytes()
            write(file, data)
            try:
                for entries in list_entries(collection, source or file, held_out={"coco/9"}).values():
                    use_entries(entries)
            finally:
                if before:
                    file.write_bytes(before)

        return read

    def listed_texts(data: bytes) -> None:
        write(web / sbu[1], texts)
        use_entries(list_entries("sbu", write(web / sbu[0], data))["train"])

    objects = _dump([{"image": "9.jpg", "caption": "a bus"}, {"image": "http://x/y/2407890.jpg", "caption": ["a", "b"]}])
    columns = _dump({"image_urls": ["http://x/9.jpg", "http://x/9.jpg?b"], "captions": ["a dog", "a cat"], "user_ids": ["1", "2"]})
    tabs = b"a red bus\t9.jpg\nA d\xc3\xb6g\thttp://x/y/2407890.jpg?a=b\n"
    return [
        Target("coco captions", (_dump({"images": images, "annotations": notes}),), both, listed("coco", coco / "captions_train2014.json")),
        Target("vg pictures", (_dump(data),), both, listed("vg", vg / "image_data.json", vg, b"1")),
        Target("vg regions", (_dump(regions),), both, listed("vg", vg / "region_descriptions.json", vg, b"1")),
        Target("web tsv", (tabs,), mixed(blind, lines), listed("cc3m", web / "list.tsv")),
        Target("web json", (objects, columns), both, listed("sbu", web / "list.json")),
        Target("sbu texts", (urls.encode(),), mixed(blind, lines), listed_texts),
    ]


GROUPS = (flickr8k, karpathy, vqa, answers_and_results, prepared_lists)
