r"""What is true of a layout, with a margin wide enough that nobody would dispute it.

Things of one concept form a `Group` ("two dogs"), because words can only name them together. A relation holds between groups if it
holds for every pair of their members. Between "true" and "false" lies a gap in which nothing is said and nothing is asked:
"left of" is true from `FAR` on, false from the other side of `CLEAR` on.
"""

from dataclasses import dataclass
from functools import cached_property

from semmim_mini.data.cutouts import Cutout
from semmim_mini.data.scene_layout import Layout

FAR = 0.16  # distance of centres, share of the image side, from which one is left of, or above, the other
CLEAR = 0.06  # distance in the other direction from which that is certainly false
SLANT = 0.7  # captions say "left of" only where things lie more beside than above each other
BEHIND = (0.15, 0.60)  # share of the hinder thing on which the other is seen
APART = 0.02  # share up to which a thing is not hidden
BESIDE = 0.12  # widest gap between the boxes of things next to each other
LOW, MIDDLE, HIGH = (0.0, 0.37), (0.44, 0.56), (0.63, 1.0)  # thirds of the picture, without their borders

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "behind": "front", "front": "behind", "beside": "beside"}
PLACES = {
    (0, 0): "at the top left",
    (1, 0): "at the top",
    (2, 0): "at the top right",
    (0, 1): "on the left",
    (1, 1): "in the middle",
    (2, 1): "on the right",
    (0, 2): "at the bottom left",
    (1, 2): "at the bottom",
    (2, 2): "at the bottom right",
}


@dataclass(frozen=True, eq=False)
class Group:
    """All objects of one concept."""

    members: tuple[int, ...]  # indices of objects
    cutouts: tuple[Cutout, ...]

    @property
    def single(self) -> bool:
        return len(self.members) == 1

    @property
    def concept(self) -> str:
        return self.cutouts[0].concept

    @property
    def plural(self) -> str:
        return self.cutouts[0].plural

    @cached_property
    def color(self) -> str | None:
        """The main colour, if all members share it."""
        main = {cutout.colors[0] for cutout in self.cutouts}
        return main.pop() if len(main) == 1 else None

    @cached_property
    def only_color(self) -> str | None:
        """The one colour of all members, if there is no second one."""
        return self.color if all(len(cutout.colors) == 1 for cutout in self.cutouts) else None


class Facts:
    """Groups of a layout, and the relations between them."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.centers = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in layout.boxes]
        self.hidden = layout.hidden.tolist()
        by_concept: dict[str, list[int]] = {}
        for index, cutout in enumerate(layout.cutouts):
            by_concept.setdefault(cutout.concept, []).append(index)
        self.groups = [Group(tuple(found), tuple(layout.cutouts[i] for i in found)) for found in by_concept.values()]

    def holds(self, relation: str, one: Group, other: Group) -> bool:
        """True if `one` stands in the relation to `other`, each member to each."""
        return relation in self._held[one, other]

    def fails(self, relation: str, one: Group, other: Group) -> bool:
        """True if the relation certainly does not hold for any pair of members. Not the negation of `holds`."""
        return all(self._object_fails(relation, i, j) for i in one.members for j in other.members)

    def says(self, one: Group, other: Group) -> list[str]:
        """The relations of `one` to `other` that a person would choose to mention."""
        return [relation for relation in self._held[one, other] if self._natural(relation, one, other)]

    @cached_property
    def sayable(self) -> list[tuple[Group, str, Group]]:
        """Every relation worth a caption, in both directions."""
        return [(g, relation, h) for g in self.groups for h in self.groups if g is not h for relation in self.says(g, h)]

    @cached_property
    def _held(self) -> dict[tuple[Group, Group], list[str]]:
        """The relations that hold, worked out once: captions and questions ask for them again and again."""
        held = {}
        for one, other in ((g, h) for g in self.groups for h in self.groups if g is not h):
            pairs = [(i, j) for i in one.members for j in other.members]
            held[one, other] = [relation for relation in OPPOSITE if all(self._object_holds(relation, i, j) for i, j in pairs)]
        return held

    def place(self, group: Group) -> str | None:
        """Where in the picture a group is, as one of nine phrases; None near a border between two."""
        places = {self._object_place(index) for index in group.members}
        return places.pop() if len(places) == 1 else None

    def side(self, group: Group) -> str | None:
        """left or right, whatever the height; None near the middle."""
        x = [self.centers[index][0] for index in group.members]
        return "left" if max(x) < LOW[1] else "right" if min(x) > HIGH[0] else None

    def _object_place(self, index: int) -> str | None:
        thirds = tuple(
            next((third for third, (low, high) in enumerate((LOW, MIDDLE, HIGH)) if low <= c <= high), None) for c in self.centers[index]
        )
        return PLACES.get(thirds)

    def _object_holds(self, relation: str, i: int, j: int) -> bool:
        if relation == "beside":
            return self._beside(i, j)
        if relation in ("behind", "front"):
            back, front = (i, j) if relation == "behind" else (j, i)
            return BEHIND[0] <= self.hidden[back][front] <= BEHIND[1]
        return self._ahead(relation, i, j) > FAR

    def _object_fails(self, relation: str, i: int, j: int) -> bool:
        if relation in ("behind", "front"):
            back, front = (i, j) if relation == "behind" else (j, i)
            return self.hidden[back][front] <= APART
        return relation != "beside" and self._ahead(relation, i, j) < -CLEAR

    def _ahead(self, relation: str, i: int, j: int) -> float:
        """How far i lies from j in the direction of a relation, share of the image side."""
        (xi, yi), (xj, yj) = self.centers[i], self.centers[j]
        return {"left": xj - xi, "right": xi - xj, "above": yj - yi, "below": yi - yj}[relation]

    def _beside(self, i: int, j: int) -> bool:
        (l1, t1, r1, b1), (l2, t2, r2, b2) = self.layout.boxes[i], self.layout.boxes[j]
        gap = max(l1, l2) - min(r1, r2)
        level = min(b1, b2) - max(t1, t2) > 0.5 * min(b1 - t1, b2 - t2)
        return level and -0.03 <= gap <= BESIDE and self.hidden[i][j] + self.hidden[j][i] <= APART

    def _natural(self, relation: str, one: Group, other: Group) -> bool:
        if relation not in ("left", "right", "above", "below"):
            return True
        across = "above" if relation in ("left", "right") else "left"
        return all(self._ahead(relation, i, j) >= SLANT * abs(self._ahead(across, i, j)) for i in one.members for j in other.members)
