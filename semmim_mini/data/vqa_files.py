r"""VQA v2 (Goyal et al. 2017) in its official files; v1 has the same form.

    v2_OpenEnded_mscoco_train2014_questions.json   {"data_subtype": "train2014",
                                                    "questions": [{"question_id": 9000, "image_id": 9, "question": "…?"}, …]}
    v2_mscoco_train2014_annotations.json           {"annotations": [{"question_id": 9000, "answer_type": "other", "question_type": …,
                                                                     "answers": [{"answer": "red"}, … ten in all]}, …]}
    COCO_train2014_000000000009.jpg                in the folder of pictures, or in a folder train2014 there

The answers of the test pictures are kept secret: test2015 (and its part test-dev2015) have questions only.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from semmim_mini.data.pairs import Pair
from semmim_mini.data.picture_files import BadPictures, Folders, Photo, PhotoPairs, at_home, whole_letters
from semmim_mini.data.questions import Asked, VisualQuestion
from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown

SUBSETS = {"train": "train2014", "val": "val2014", "dev": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
SECRET = ("test", "test-dev")
SUBSET = re.compile(r"(train|val)2014|test(-dev)?2015")


def open_vqa(rest: str, split: str, max_bad_share: float = 0.01, decode_size: int | None = None) -> "VqaQuestions":
    """The questions of `QUESTIONS.json:ANNOTATIONS.json:IMAGES_DIR`, with `split` in place of the split that the names name.

    Raises:
        UserError: not of that form, an unknown split, file names without a split.
    """
    parts = re.fullmatch(r"(.+?\.json):(.+?\.json):(.+)", rest)  # colons may also be in a drive letter or a folder's name
    if not parts:
        raise UserError(f"data.source='vqa:{rest}' is incomplete; write it as vqa:QUESTIONS.json:ANNOTATIONS.json:IMAGES_DIR")
    if split not in SUBSETS:
        raise UserError(f"VQA v2 has no split {split!r}; choose one of {', '.join(SUBSETS)}")
    files = [at_home(part) for part in parts.group(1, 2)]
    for file in files:
        if not SUBSET.search(file.name):
            raise UserError(f"the name {file.name} says no split; keep the official names, such as v2_mscoco_train2014_annotations.json")
    questions, annotations = (file.with_name(SUBSET.sub(SUBSETS[split], file.name)) for file in files)
    return VqaQuestions(questions, None if split in SECRET else annotations, parts[3], max_bad_share, decode_size)


class VqaQuestions:
    """The questions of one split, in the order of the file, as `questions.Questions`.

    Questions about pictures that are missing are left out at opening. A picture that turns out unreadable later gives way to the
    next good one with one of its questions, always the same.

    Args:
        questions_file, annotations_file: of one split; no annotations for the test pictures.
        images_dir: holds the pictures, or a folder of them for each split.

    Raises:
        UserError: a file is missing, malformed or empty, a question has no annotation, too many pictures are missing.
    """

    def __init__(
        self,
        questions_file: str | Path,
        annotations_file: str | Path | None,
        images_dir: str | Path,
        max_bad_share: float = 0.01,
        decode_size: int | None = None,
    ):
        questions_file, images_dir = Path(questions_file), at_home(images_dir)
        subset, questions = read_questions(questions_file, annotations_file and Path(annotations_file))
        if not images_dir.is_dir():
            raise UserError(f"the picture folder {images_dir} does not exist; correct data.source=vqa:…:…:IMAGES_DIR")
        self.name = f"vqa/{subset}"
        about: dict[int, list[VisualQuestion]] = {}
        for question in questions:
            about.setdefault(question.image_id, []).append(question)
        folders = Folders()
        photos = [_photo(image_id, subset, images_dir, folders, own) for image_id, own in about.items()]
        self.photos = PhotoPairs(self.name, photos, BadPictures(max_bad_share), decode_size)
        self.place = {photo.name: place for place, photo in enumerate(self.photos.photos)}
        self.questions = [question for question in questions if _file_name(question.image_id, subset) in self.place]
        self.subset, self.about = subset, {_file_name(image_id, subset): own for image_id, own in about.items()}

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Pair:
        return self.read(index)[0]

    def read(self, index: int) -> tuple[Pair, list[str]]:
        """Question `index`, or one about the next picture that is readable, and the names of pictures passed over."""
        question = self.questions[index]
        pair, passed = self.photos.read(self.place[_file_name(question.image_id, self.subset)])
        if passed:
            own = self.about[pair.name]
            question = own[index % len(own)]
        return Pair(pair.image, (Asked(question),), question.image_id, pair.name), passed

    def captions(self, index: int) -> tuple[Asked]:
        return (Asked(self.questions[index]),)

    def sample(self, count: int) -> Iterator[VisualQuestion]:
        """Questions spread evenly over the file."""
        return iter(self.questions[:: -(-len(self) // min(count, len(self)))])


def _file_name(image_id: int, subset: str) -> str:
    return f"COCO_{subset}_{image_id:012d}.jpg"


def _photo(image_id: int, subset: str, images_dir: Path, folders: Folders, questions: list[VisualQuestion]) -> Photo:
    name = _file_name(image_id, subset)
    path = folders.find(images_dir, name) or folders.find(images_dir / subset, name)
    return Photo(name, path, tuple(question.text for question in questions))


# The files ------------------------------------------------------------------------------------------------------------


def read_questions(questions_file: Path, annotations_file: Path | None) -> tuple[str, list[VisualQuestion]]:
    """The subset of COCO that the pictures are of (train2014), and all questions with their answers; () where there are none."""
    content = _read(questions_file, "questions", {"question_id": int, "image_id": int, "question": str})
    subset = content.get("data_subtype")
    if not isinstance(subset, str) or not SUBSET.fullmatch(subset):
        raise UserError(f"{questions_file} has data_subtype {subset!r:.80}, none of {', '.join(sorted(set(SUBSETS.values())))}")
    given = _annotations(annotations_file) if annotations_file else {}
    questions = []
    for entry in content["questions"]:
        number, note = entry["question_id"], {}
        if annotations_file and (note := given.get(number)) is None:
            raise UserError(
                f"{annotations_file} has no annotation for question {shown(number)} of {questions_file}; take both of one split"
            )
        if entry["image_id"] >> 63:
            raise UserError(
                f"{questions_file}: question {shown(number)} has image_id {shown(entry['image_id'])}, none of COCO's; get it again"
            )
        answers = tuple(Counter(whole_letters(answer["answer"]) for answer in note.get("answers", ())).most_common())
        kind, begins = (whole_letters(note.get(key, other)) for key, other in (("answer_type", "not annotated"), ("question_type", "")))
        text = " ".join(whole_letters(entry["question"]).split())
        questions.append(VisualQuestion(text, answers, kind, number, entry["image_id"], begins))
    return subset.replace("-dev", ""), questions


def _annotations(path: Path) -> dict[int, dict]:
    """The annotations by question."""
    wanted = {"question_id": int, "answer_type": str, "question_type": str, "answers": list}
    found = _read(path, "annotations", wanted)["annotations"]
    for place, note in enumerate(found):
        answers = note["answers"]
        if not answers or not all(isinstance(answer, dict) and isinstance(answer.get("answer"), str) for answer in answers):
            raise UserError(f"{path}: annotations[{place}] has answers {answers!r:.80}, not objects with a text 'answer'")
    return {note["question_id"]: note for note in found}


def _read(path: Path, key: str, wanted: dict[str, type]) -> dict:
    """A JSON file with a list `key` of objects that have `wanted`."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"the {key} file {path} cannot be read: {error.strerror}; get it from visualqa.org, or correct data.source"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}; get it again") from None
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} has no list {key!r} with anything in it; it must have the layout of VQA v2's {key} file")
    for place, entry in enumerate(entries):
        for name, kind in wanted.items():
            value = entry.get(name) if isinstance(entry, dict) else None
            if type(value) is not kind:
                raise UserError(f"{path}: {key}[{place}] has {name} {value!r:.80}; VQA v2 has a value of type {kind.__name__} there")
    return content
