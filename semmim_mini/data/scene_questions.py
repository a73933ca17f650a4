r"""Questions about a scene, each with exactly one right answer.

A question is asked only where the facts leave no doubt: "what is to the left of the dog?" if one thing is, clearly, and all others
clearly are not. Yes and no come equally often for every form of question, so that a model that answers without looking stays at one half.
"""

from collections.abc import Iterator

import numpy as np

from semmim_mini.data.pairs import Question
from semmim_mini.data.scene_language import NUMBERS, SAY, article
from semmim_mini.data.scene_relations import OPPOSITE, Facts, Group
from semmim_mini.data.scene_splits import Catalogue

KINDS = ("what", "where", "how many", "which colour", "yes/no")
DIRECTIONS = ("left", "right", "above", "below", "behind", "front")
# Colours that nobody confuses with the key; a question whose answer is "no" offers one of them.
FAR_COLORS = {
    "black": ("white", "yellow", "pink", "red"),
    "blue": ("red", "yellow", "orange", "brown", "pink"),
    "brown": ("blue", "green", "white", "purple", "pink"),
    "green": ("red", "purple", "pink", "orange", "black"),
    "grey": ("red", "yellow", "green", "orange", "pink"),
    "orange": ("blue", "green", "purple", "black", "white"),
    "pink": ("green", "blue", "black", "yellow", "brown"),
    "purple": ("green", "yellow", "orange", "white", "brown"),
    "red": ("blue", "green", "white", "yellow", "grey"),
    "white": ("red", "black", "green", "brown", "blue"),
    "yellow": ("blue", "purple", "black", "red", "green"),
}


def make_questions(facts: Facts, catalogue: Catalogue, draw: np.random.Generator) -> tuple[Question, ...]:
    """The questions of a layout, in the order of `KINDS`."""
    asker = Asker(facts, catalogue, draw)
    forms = (asker.what(), asker.where(), asker.how_many(), asker.which_color(), asker.yes_or_no())
    return tuple(Question(question, answer, kind) for kind, form in zip(KINDS, forms, strict=True) for question, answer in form)


class Asker:
    """Asks about one layout."""

    def __init__(self, facts: Facts, catalogue: Catalogue, draw: np.random.Generator):
        self.facts, self.catalogue, self.draw, self.layout = facts, catalogue, draw, facts.layout
        self.groups = facts.groups
        self.singles = [group for group in self.groups if group.single]

    def what(self) -> Iterator[tuple[str, str]]:
        """One thing stands in a relation to another, the rest certainly does not. At most two such questions."""
        found = [(r, g, answer) for g in self.singles for r in DIRECTIONS if (answer := self._only(r, g)) is not None]
        for index in self.draw.permutation(len(found))[:2]:
            relation, group, answer = found[index]
            yield f"what is {SAY[relation][0]} the {group.concept}?", answer.concept

    def where(self) -> Iterator[tuple[str, str]]:
        """At most two."""
        placed = [(group, place) for group in self.singles if (place := self.facts.place(group))]
        for index in self.draw.permutation(len(placed))[:1]:
            yield f"where is the {placed[index][0].concept}?", placed[index][1]
        sided = [(group, side) for group in self.singles if (side := self.facts.side(group))]
        for index in self.draw.permutation(len(sided))[:1]:
            yield f"on which side is the {sided[index][0].concept}?", sided[index][1]

    def how_many(self) -> Iterator[tuple[str, str]]:
        """All things; every group of several; now and then one of a kind, or none."""
        yield "how many things are there?", NUMBERS[len(self.layout.cutouts)]
        for group in self.groups:
            if not group.single or self.draw.random() < 0.15:
                yield f"how many {group.plural} are there?", NUMBERS[len(group.members)]
        if self.draw.random() < 0.25 and (absent := self._absent()) is not None:
            yield f"how many {absent.plural} are there?", NUMBERS[0]

    def which_color(self) -> Iterator[tuple[str, str]]:
        """Only things of one colour are asked about."""
        for group in self.groups:
            if group.only_color:
                noun, verb = (group.concept, "is") if group.single else (group.plural, "are")
                yield f"which colour {verb} the {noun}?", group.only_color
        ground = self.layout.background
        if ground.kind == "plain" and ground.word:
            yield "which colour is the background?", ground.word

    def yes_or_no(self) -> Iterator[tuple[str, str]]:
        """Presence, a relation, a colour: each form asked once, yes or no by the toss of a coin."""
        for form in (self._presence, self._relation, self._color):
            question = form(yes := bool(self.draw.integers(2)))
            if question is not None:
                yield question, "yes" if yes else "no"

    def _presence(self, yes: bool) -> str | None:
        thing = self._choose(self.groups) if yes else self._absent()
        if thing is None:
            return None
        name = thing.concept if yes else thing.name
        return f"is there {article(name)} {name}?" if not yes or thing.single else f"are there any {thing.plural}?"

    def _relation(self, yes: bool) -> str | None:
        found = [(g, r, h) for g in self.singles for h in self.singles if g is not h for r in DIRECTIONS if self.facts.holds(r, g, h)]
        if not found:
            return None
        one, relation, other = self._choose(found)
        said = relation if yes else OPPOSITE[relation]
        return f"is the {one.concept} {SAY[said][0]} the {other.concept}?"

    def _color(self, yes: bool) -> str | None:
        colored = [group for group in self.singles if group.only_color]
        if not colored:
            return None
        group = self._choose(colored)
        return f"is the {group.concept} {group.only_color if yes else self._choose(FAR_COLORS[group.only_color])}?"

    def _choose(self, options):
        return options[int(self.draw.random() * len(options))]

    def _only(self, relation: str, group: Group) -> Group | None:
        """The single thing in a relation to `group`, if all the others certainly are not."""
        others = [other for other in self.groups if other is not group]
        holding = [other for other in others if self.facts.holds(relation, other, group)]
        if len(holding) != 1 or not holding[0].single:
            return None
        clear = all(self.facts.fails(relation, other, group) for other in others if other is not holding[0])
        return holding[0] if clear else None

    def _absent(self):
        """A concept that is not here, nor anything like it; as a rule of the category of something that is."""
        catalogue = self.catalogue
        here = [catalogue.index[group.concept] for group in self.groups]
        free = ~catalogue.clash[here].any(0)
        free[here] = False
        category = self._choose(self.groups).cutouts[0].category
        alike = free & (catalogue.categories == category)
        candidates = np.flatnonzero(alike if alike.any() and self.draw.random() < 0.7 else free)
        return catalogue.concepts[int(candidates[int(self.draw.integers(len(candidates)))])] if len(candidates) else None
