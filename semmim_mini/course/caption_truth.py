r"""Which words of a written caption are true of its scene: notebook 10's own measure, which no score of n-grams can give.

    "a view of a grey sheep"   ─► grey: a colour, true if anything in the scene is grey
                                  sheep: a thing, true if there is one

Only scenes know this. Two kinds of words are judged [C]: names of things, by all names that captions use, and colours. A colour is
true if any object of the scene has it, whatever thing the caption gives it to: the mildest reading, so that what it calls false is
false. Grounds are no objects: a colour before "background" is left out.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from semmim_mini.data.cutouts import load_cutouts
from semmim_mini.data.pairs import Pair
from semmim_mini.data.scene_language import COLORS

KINDS = ("thing", "colour")


class Claim(NamedTuple):
    """Words of a caption, caption[start:end], that are true of the scene or are not."""

    kind: str
    start: int
    end: int
    true: bool


@cache
def _names() -> dict[str, frozenset[str]]:
    """Every name of a thing, one or several, with the ids of the cutouts that it fits."""
    found: dict[str, set[str]] = {}
    for cutout in load_cutouts():
        for name in (*cutout.names, cutout.plural):
            found.setdefault(name, set()).add(cutout.id)
    return {name: frozenset(ids) for name, ids in found.items()}


@cache
def _words() -> re.Pattern:
    """Names of things, the longest first, and colours."""
    names = sorted(_names(), key=lambda name: (-len(name), name))
    things, colours = ("|".join(map(re.escape, words)) for words in (names, sorted(COLORS)))
    return re.compile(rf"\b(?:(?P<thing>{things})|(?P<colour>{colours})(?! background))\b")


def claims(caption: str, pair: Pair) -> list[Claim]:
    """What a caption says about a scene, in order."""
    things = {thing.cutout_id for thing in pair.truth.objects}
    colours = {colour for thing in pair.truth.objects for colour in thing.colors}
    found = []
    for match in _words().finditer(caption):
        true = match["colour"] in colours if match["colour"] else bool(_names()[match["thing"]] & things)
        found.append(Claim(match.lastgroup, *match.span(), true))
    return found


def share_true(captions: Iterable[str], pairs: Iterable[Pair]) -> dict[str, float]:
    """For each kind of words, the share that is true; NaN where nothing of that kind is said."""
    every = [claim for caption, pair in zip(captions, pairs, strict=True) for claim in claims(caption, pair)]
    said = {kind: [claim.true for claim in every if claim.kind == kind] for kind in KINDS}
    return {kind: sum(truths) / len(truths) if truths else float("nan") for kind, truths in said.items()}
