r"""Captions of a scene: five true sentences from a small grammar, and which words name which objects.

    at least one caption names everything, at least two name only a part (where there is more than one object): like people, who
    say what catches their eye. What a caption leaves out is the reason to hide patches by their relevance to the text.

A sentence is a list of pieces: plain words, or a `Phrase` that names objects. Joining the pieces yields the text and the mentions at
once, so that the two cannot disagree.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from semmim_mini.data.pairs import Mention
from semmim_mini.data.scene_relations import Facts, Group

CAPTIONS = 5
WORDS = (4, 18)
NUMBERS = ("zero", "one", "two", "three", "four")
COLORS = frozenset(("black", "blue", "brown", "green", "grey", "orange", "pink", "purple", "red", "white", "yellow"))
SAY = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
    "behind": ("behind", "partly hidden by", "half hidden behind"),
    "front": ("in front of", "partly covering"),
    "beside": ("next to", "beside", "close to"),
}
OPENERS = (
    *("there {is}", "here {is}", "a picture of", "an image of", "a scene with", "a view of"),
    *("this picture shows", "the image shows", "we can see", "you can see"),
)


@dataclass(frozen=True)
class Phrase:
    """Words that name objects."""

    text: str
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Caption:
    """A finished caption."""

    text: str
    mentions: tuple[Mention, ...]


def make_captions(facts: Facts, draw: np.random.Generator) -> tuple[Caption, ...]:
    """Five different captions of a layout, each true of it."""
    speaker = Speaker(facts, draw)
    part = speaker.part if len(speaker.facts.groups) > 1 else speaker.everything
    captions: list[Caption] = []
    for make in (speaker.everything, speaker.relations, speaker.everything, part, part):
        captions.append(speaker.new(make, captions))
    return tuple(captions[i] for i in draw.permutation(CAPTIONS))


def join(pieces: list[str | Phrase]) -> Caption:
    """One line of text, single spaces, none before a comma; a mention for each phrase."""
    text, mentions = "", []
    for piece in pieces:
        words = piece.text if isinstance(piece, Phrase) else piece
        start = len(text) + bool(text and words != ",")
        text += (" " if start > len(text) else "") + words
        if isinstance(piece, Phrase):
            mentions.append(Mention(piece.objects, start, len(text)))
    return Caption(text, tuple(mentions))


def article(words: str) -> str:
    """a or an, by sound as far as the names of cutouts need it."""
    vowel = (words[0] in "aeiou" and not words.startswith(("uni", "eu", "one", "ukulele"))) or words.startswith("hour")
    return "an" if vowel else "a"


class Speaker:
    """Makes sentences about one layout."""

    def __init__(self, facts: Facts, draw: np.random.Generator):
        self.facts, self.draw, self.background = facts, draw, facts.layout.background

    def new(self, make: Callable[[], list[str | Phrase]], known: list[Caption]) -> Caption:
        """A sentence that has the right length and was not said before."""
        texts = {caption.text for caption in known}
        for _ in range(12):
            caption = join(make())
            if WORDS[0] <= len(caption.text.split()) <= WORDS[1] and caption.text not in texts:
                return caption
        return self._plainest(self.facts.groups[:1] if make == self.part else self.facts.groups, texts)

    def _plainest(self, groups: list[Group], texts: set[str]) -> Caption:
        """A bare list, for scenes whose things have names so long that adorned sentences do not fit."""
        for opener, ordered in itertools.product((*OPENERS, ""), itertools.permutations(groups)):
            start = [self._opener(opener, ordered[0])] if opener else []
            caption = join([*start, *self._list([self._plain(group) for group in ordered])])
            if WORDS[0] <= len(caption.text.split()) <= WORDS[1] and caption.text not in texts:
                return caption
        raise ValueError(f"no caption of at most {WORDS[1]} words for {[group.concept for group in groups]}")

    # ------------------------------------------------------------------------------------------------------ kinds of sentences

    def everything(self) -> list[str | Phrase]:
        """Names all groups: a list, or two things in relation and the rest beside them."""
        groups = self._shuffled(self.facts.groups)
        if len(groups) > 1 and self._chance(0.5):
            return self.relations()
        return self._open(groups[0]) + self._list([self._named(group, self._chance(0.3)) for group in groups]) + self._ground()

    def relations(self) -> list[str | Phrase]:
        """Names all groups, two of them in relation: "a dog is behind a car, and there is a cat"."""
        found = self._relation()
        if found is None:
            groups = self._shuffled(self.facts.groups)
            return self._open(groups[0]) + self._list([self._named(group, True) for group in groups])
        one, words, other = found
        rest = self._shuffled([group for group in self.facts.groups if group not in (one, other)])
        if not rest and self._chance(0.6):
            return self._related(found)
        known = self._chance(0.25)  # "the", as if the things had been spoken of before
        first = [self._phrase(one, known), self._be(one), words, self._phrase(other, known)]
        if not rest:
            return first
        more = self._list([self._named(group, self._chance(0.3)) for group in rest])
        return [*first, ",", *(["and", "there", self._be(rest[0])] if self._chance(0.7) else ["with"]), *more]

    def part(self) -> list[str | Phrase]:
        """Names some groups, never all."""
        groups = self._shuffled(self.facts.groups)
        few = groups[: 1 + int(self.draw.integers(min(2, len(groups) - 1)))]
        found = self._relation() if len(groups) > 2 and len(few) > 1 else None
        if found and self._chance(0.7):
            return self._related(found)
        if len(few) == 1 and self._chance(0.35):
            return self._statement(few[0])
        return self._open(few[0]) + self._list([self._named(group, self._chance(0.4)) for group in few]) + self._ground()

    def _related(self, found: tuple[Group, str, Group]) -> list[str | Phrase]:
        """there is a dog behind a car"""
        one, words, other = found
        return [*self._open(one), self._phrase(one), words, self._phrase(other, self._chance(0.2)), *self._ground()]

    def _statement(self, group: Group) -> list[str | Phrase]:
        """Says something of a group: "the dog is on the left", "on the left there is a dog", "the dogs are brown"."""
        place = self.facts.place(group)
        if place and self._chance(0.6):
            if self._chance(0.4):
                return [place, "there", self._be(group), self._phrase(group)]
            return [self._phrase(group, definite=True), self._be(group), place]
        if group.color:
            return [Phrase(f"the {self._noun(group)}", group.members), self._be(group), self._color(group)]
        return [*self._open(group), self._phrase(group), *self._ground()]

    # ------------------------------------------------------------------------------------------------------------------ pieces

    def _chance(self, share: float) -> bool:
        return self.draw.random() < share

    def _choose(self, options):
        return options[int(self.draw.random() * len(options))]

    def _shuffled(self, items: list) -> list:
        return [items[i] for i in self.draw.permutation(len(items))]

    def _relation(self) -> tuple[Group, str, Group] | None:
        """Two groups and words between them. Sides are said less often than they could be: a caption with one forbids mirroring."""
        found = self.facts.sayable
        aside = [relation for relation in found if relation[1] not in ("left", "right")]
        if aside and self._chance(0.4):
            found = aside
        if not found:
            return None
        one, relation, other = self._choose(found)
        said = SAY[relation]
        return one, said[0] if self._chance(0.6) else self._choose(said), other

    def _opener(self, opener: str, first: Group) -> str:
        return opener.format(**{"is": self._be(first)})

    def _open(self, first: Group) -> list[str]:
        return [self._opener(self._choose(OPENERS), first)] if self._chance(0.6) else []

    def _be(self, group: Group) -> str:
        return "is" if group.single else "are"

    def _list(self, phrases: list[list[str | Phrase] | Phrase]) -> list[str | Phrase]:
        """a, b and c"""
        pieces: list[str | Phrase] = []
        for index, phrase in enumerate(phrases):
            if index:
                pieces.append("and" if index == len(phrases) - 1 else ",")
            pieces += phrase if isinstance(phrase, list) else [phrase]
        return pieces

    def _named(self, group: Group, with_place: bool) -> list[str | Phrase]:
        place = self.facts.place(group) if with_place else None
        return [self._phrase(group), place] if place else [self._phrase(group)]

    def _plain(self, group: Group) -> Phrase:
        noun = group.concept if group.single else group.plural
        return Phrase(f"{article(noun) if group.single else NUMBERS[len(group.members)]} {noun}", group.members)

    def _phrase(self, group: Group, definite: bool = False) -> Phrase:
        """a dog, the brown dog, two dogs, the two brown dogs"""
        words = self._noun(group)
        if group.color and self._chance(0.45):
            words = f"{self._color(group)} {words}"
        if not group.single:
            words = f"{NUMBERS[len(group.members)]} {words}"
        if definite:
            words = f"the {words}"
        elif group.single:
            words = f"{article(words)} {words}"
        return Phrase(words, group.members)

    def _noun(self, group: Group) -> str:
        if not group.single:
            return group.plural
        names = [name for name in group.cutouts[0].names if not COLORS & set(name.split())]
        return self._choose(names) if names and self._chance(0.5) else group.concept

    def _color(self, group: Group) -> str:
        colors = group.cutouts[0].colors
        both = group.single and len(colors) == 2 and self._chance(0.3)
        return f"{colors[0]} and {colors[1]}" if both else group.color

    def _ground(self) -> list[str]:
        """Words on the background, where it has a simple name."""
        ground = self.background
        word = {"plain": ground.word, "stripes": "striped", "checks": "checked"}.get(ground.kind)
        if word is None or not self._chance(0.3):
            return []
        return [f"{self._choose(('on', 'against'))} {article(word)} {word} background"]
