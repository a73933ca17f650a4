"""A dozen made-up concepts, three plain pictures each: scenes whose every colour and outline can be checked by eye."""

import numpy as np

from semmim_mini.data.cutouts import Cutout

COLORS = {"red": (220, 30, 30), "blue": (40, 60, 220), "green": (30, 160, 50), "black": (15, 15, 15), "yellow": (240, 220, 40)}
# Concept, names, plural; two share a word and must never meet.
THINGS = (
    *(("disc", ("disc", "round plate"), "discs"), ("block", ("block",), "blocks"), ("apple", ("apple",), "apples")),
    *(("unicorn", ("unicorn",), "unicorns"), ("hourglass", ("hourglass", "sand timer"), "hourglasses")),
    *(("car", ("car",), "cars"), ("police car", ("police car",), "police cars"), ("owl", ("owl",), "owls")),
    *(("sheep", ("sheep", "lamb"), "sheep"), ("bunch of grapes", ("bunch of grapes",), "bunches of grapes")),
    *(("drum", ("drum",), "drums"), ("stick", ("stick",), "sticks")),
)


def make_shapes(things=THINGS, pictures: int = 3) -> list[Cutout]:
    """Discs, blocks and bars, each of one colour; every second picture has a second one."""
    rng = np.random.default_rng(0)
    cutouts = []
    for concept, names, plural in things:
        for number in range(pictures):
            colors = tuple(str(color) for color in rng.permutation(list(COLORS))[: 1 + number % 2])
            category = "animal" if concept in ("unicorn", "owl", "sheep") else "thing"
            picture = _picture(concept, [COLORS[color] for color in colors])
            cutouts.append(Cutout(f"{concept}_{number}", concept, names, plural, category, colors, picture))
    return cutouts


def _picture(concept: str, rgb: list[tuple[int, int, int]]) -> np.ndarray:
    height, width = (100, 40) if concept == "stick" else (60, 90) if "car" in concept else (80, 80)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    alpha = (x**2 + y**2 <= 1) if concept in ("disc", "apple", "owl", "drum") else np.ones_like(x, bool)
    picture = np.zeros((height, width, 4), np.uint8)
    picture[alpha] = (*rgb[0], 255)
    if len(rgb) > 1:
        picture[alpha & (y > 0.4)] = (*rgb[1], 255)
    return picture
