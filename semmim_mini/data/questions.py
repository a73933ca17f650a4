r"""Questions about pictures, with their answers: one interface behind scenes and VQA v2.

    scenes ──► SceneQuestions ──┐
                                ├──► pairs whose one caption is a question ──► QuestionLoader ──► QuestionBatch
    VQA v2 ──► VqaQuestions ────┘

A question stands where a caption stands in pre-training, so the order of samples, the workers, the slices of processes and what
happens to unreadable pictures are the same code. It only carries more than its words: `Asked` is that text with all that is known.

How many questions a scene has follows from its layout, and working out five thousand layouts takes half a minute. So every scene
has a fixed number of places, filled with its questions in turn, and the number of all places needs no look at any scene [C].
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from semmim_mini.data.pairs import Pair, Question
from semmim_mini.data.scene_questions import KINDS
from semmim_mini.data.scene_splits import SPLITS
from semmim_mini.data.scenes import SPLIT_STRIDE, SceneDataset
from semmim_mini.data.sources import OTHER_SCENES, SCENES
from semmim_mini.errors import UserError

PLACES = 10  # questions of a scene in one round: of the 2 to 18 that a scene has, nine on average
FORMS = "scenes, vqa:QUESTIONS.json:ANNOTATIONS.json:IMAGES_DIR"


@dataclass(frozen=True)
class VisualQuestion:
    """A question about one picture and what people answered."""

    text: str
    answers: tuple[tuple[str, int], ...]  # each answer with how many people gave it; () where the answers are kept secret
    kind: str  # scenes: what | where | how many | which colour | yes/no; VQA v2: yes/no | number | other
    question_id: int
    image_id: int
    question_type: str = ""  # VQA v2: how the question begins, "what color is the"

    @property
    def weights(self) -> dict[str, float]:
        """The share of people behind each answer that has any words [F: ALBEF, BLIP train on all answers, so weighted]."""
        people = sum(count for _, count in self.answers)
        return {answer: count / people for answer, count in self.answers if answer.strip()}


class Asked(str):
    """A question's text, which is all that tokenizers and views of captions want, with the question itself."""

    question: VisualQuestion

    def __new__(cls, question: VisualQuestion) -> "Asked":
        text = super().__new__(cls, question.text)
        text.question = question
        return text

    def __getnewargs__(self) -> tuple[VisualQuestion]:
        return (self.question,)


class Questions(Protocol):
    """A source of questions. It is a source of pairs (`data/pairs.py`), each with one caption, an `Asked`."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def captions(self, index: int) -> tuple[Asked]: ...

    def sample(self, count: int) -> Iterator[VisualQuestion]:
        """About `count` questions for statistics, no pixels touched."""
        ...


class SceneQuestions:
    """The questions of composed scenes; place p of scene s has index p · scenes + s.

    The first places of all scenes come first: a few hundred questions are about as many scenes. In its places a scene's kinds of
    question take turns, and begin with another kind from scene to scene. A scene with fewer questions than places repeats them,
    and training sees all scenes equally often; evaluation drops repeats by their `question_id`.

    Args:
        scenes: of one split.
        cache: keep pictures in memory once they were drawn.
        places: of each scene.
    """

    def __init__(self, scenes: SceneDataset, cache: bool = False, places: int = PLACES):
        self.scenes, self.cache, self.places = scenes, cache, places
        self.name = f"{scenes.name}/questions"
        self._pictures: dict[int, Pair] = {}
        self._questions: dict[int, tuple[VisualQuestion, ...]] = {}

    def __reduce__(self):
        """Without what is remembered: workers remember for themselves."""
        return type(self), (self.scenes, self.cache, self.places)

    def __len__(self) -> int:
        return len(self.scenes) * self.places

    def __getitem__(self, index: int) -> Pair:
        scene = range(len(self))[index] % len(self.scenes)
        pair = self._pictures.get(scene) or self.scenes[scene]
        if pair.truth is not None:
            self._questions.setdefault(scene, _in_turn(pair.truth.questions, scene, pair.image_id))
            pair = replace(pair, truth=None)
        if self.cache:
            self._pictures[scene] = pair
        return replace(pair, captions=self.captions(index))

    def captions(self, index: int) -> tuple[Asked]:
        place, scene = divmod(range(len(self))[index], len(self.scenes))
        questions = self.of_scene(scene)
        return (Asked(questions[place % len(questions)]),)

    def of_scene(self, scene: int) -> tuple[VisualQuestion, ...]:
        """All questions of a scene in the order of its places; its pixels are not drawn."""
        if scene not in self._questions:
            self._questions[scene] = _in_turn(self.scenes.questions(scene), scene, SPLITS.index(self.scenes.split) * SPLIT_STRIDE + scene)
        return self._questions[scene]

    def sample(self, count: int) -> Iterator[VisualQuestion]:
        """All questions of the first scenes."""
        every = (question for scene in range(len(self.scenes)) for question in self.of_scene(scene))
        return itertools.islice(every, count)


def _in_turn(questions: tuple[Question, ...], scene: int, image_id: int) -> tuple[VisualQuestion, ...]:
    """The kinds of question in turn. Which kind begins, and which question of a kind, differs from scene to scene."""
    numbered = [
        VisualQuestion(q.question, ((q.answer, 1),), q.kind, question_id=100 * image_id + number, image_id=image_id)
        for number, q in enumerate(questions)
    ]
    kinds = [[q for q in numbered if q.kind == kind] for kind in _from(KINDS, scene)]
    turns = itertools.zip_longest(*(_from(own, scene // len(KINDS)) for own in kinds))
    return tuple(question for turn in turns for question in turn if question is not None)


def _from(row, start: int):
    start = start % max(len(row), 1)
    return [*row[start:], *row[:start]]


def open_questions(
    spec: str, split: str, *, resolution: int, seed: int = 0, size: int | None = None, cache: bool = False, max_bad_share: float = 0.01
) -> Questions:
    """The questions of one split of a source.

    Args:
        spec: `scenes`, or `vqa:QUESTIONS.json:ANNOTATIONS.json:IMAGES_DIR` with the names that the official files have: the split
            in them (train2014) is replaced by the one wanted.
        split: train, val, test; scenes also know test_pictures, VQA v2 test-dev.
        seed, size, cache: of scenes only, as in `data.sources`.

    Raises:
        UserError: an unknown spec, or whatever the source has to object to.
    """
    kind, _, rest = spec.partition(":")
    if spec == "scenes":
        scenes = SceneDataset(split, size=size or SCENES.get(split, OTHER_SCENES), seed=seed, resolution=resolution)
        return SceneQuestions(scenes, cache)
    if kind == "vqa" and rest:
        from semmim_mini.data.vqa_files import open_vqa

        return open_vqa(rest, split, max_bad_share, decode_size=2 * resolution)
    raise UserError(f"data.source={spec!r} is no source of questions; it takes one of these forms: {FORMS}")
