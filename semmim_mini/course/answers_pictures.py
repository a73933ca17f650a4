"""Pictures of notebook 09 to look at: captions with the pictures they find, pictures with their captions; the right ones are marked."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.figures.style import GREEN, GREY, INK, MARGIN, SMALL, WIDTH, Drawn, Sheet, as_picture, line_height, styled, wrap
from semmim_mini.tasks.retrieval import ranks

INNER = WIDTH - 2 * MARGIN
TOP = 5  # answers to a query
TILE, GAP = 1.28, 0.12  # inches: a picture, and the space beside it
DIRECTIONS = ("text→image", "image→text")


def all_captions(pairs: Pairs, count: int) -> list[str]:
    """The captions of the first `count` pairs, in the order of `tasks.retrieval.encode_pairs`."""
    return [caption for i in range(count) for caption in pairs.captions(i)]


def rank_of_texts(found: Mapping[str, Tensor]) -> Tensor:
    """Ranks of the captions' own images (t,); `found` is from `encode_pairs`."""
    return ranks(found["text"], found["image"], found["text_ids"], found["image_ids"]).cpu()


def rank_of_images(found: Mapping[str, Tensor]) -> Tensor:
    """Ranks of the images' best captions (i,)."""
    return ranks(found["image"], found["text"], found["image_ids"], found["text_ids"]).cpu()


@styled
def pictures_found(found: Mapping[str, Tensor], pairs: Pairs, queries: Sequence[int], resolution: int) -> Drawn:
    """Captions, each with its own picture and the five that ITC puts first.

    Args:
        found: from `encode_pairs`.
        queries: places of captions.

    Returns:
        `r1`, `r5`: shares of the captions that are drawn; `gallery`: pictures to choose from.
    """
    rank, captions = rank_of_texts(found)[list(queries)], all_captions(pairs, len(found["image"]))
    gallery = len(found["image"])
    number = {f"r{k}": float((rank <= k).float().mean()) for k in (1, TOP)} | {"gallery": float(gallery)}
    lines = [wrap(f"“{captions[query]}”", INNER, bold=True) for query in queries]
    heights = [len(line) * line_height() + TILE + 0.4 for line in lines]
    title = _title(f"captions among {gallery} pictures", rank) if len(queries) > 1 else _place(rank[0], 1, gallery)
    sheet = Sheet(title, sum(heights), _note("picture"))
    top = 0.0
    for query, place, line, height in zip(queries, rank.tolist(), lines, heights, strict=True):
        for i, words in enumerate(line):
            sheet.text(MARGIN, top + i * line_height(), words, weight="bold")
        _pictures(sheet, top + len(line) * line_height() + 0.05, found, pairs, query, place, resolution)
        top += height
    return Drawn(sheet.figure, number)


def _pictures(sheet: Sheet, top: float, found: Mapping[str, Tensor], pairs: Pairs, query: int, place: int, resolution: int) -> None:
    """A caption's own picture, and the nearest with their cosines."""
    own, similarity = int(found["owners"][query]), found["text"][query] @ found["image"].T
    shown = [(own, f"its own, place {place}")]
    shown += [(int(i), f"{float(similarity[i]):.2f}") for i in similarity.topk(min(TOP, len(similarity))).indices]
    for i, (index, words) in enumerate(shown):
        left = MARGIN + i * (TILE + GAP) + (0.25 if i else 0)
        axes = sheet.picture(left, top, TILE, as_picture(CenterView(resolution)(pairs[index]).pixels))
        is_hit = i > 0 and index == own
        if is_hit:
            axes.spines[:].set(visible=True, color=GREEN, linewidth=4)
        sheet.text(left + TILE / 2, top + TILE + 0.05, words, SMALL, "center", color=GREEN if is_hit else GREY)


@styled
def captions_found(found: Mapping[str, Tensor], pairs: Pairs, queries: Sequence[int], resolution: int) -> Drawn:
    """Pictures, each with the five captions that ITC puts first, its own in green.

    Args:
        found: from `encode_pairs`.
        queries: places of pictures.

    Returns:
        `r1`, `r5`: shares of the pictures that are drawn; `gallery`: captions to choose from.
    """
    rank, captions = rank_of_images(found)[list(queries)], all_captions(pairs, len(found["image"]))
    gallery = len(captions)
    number = {f"r{k}": float((rank <= k).float().mean()) for k in (1, TOP)} | {"gallery": float(gallery)}
    own = (found["owners"] == queries[0]).sum()
    title = _title(f"pictures among {gallery} captions", rank) if len(queries) > 1 else _place(rank[0], int(own), gallery)
    sheet = Sheet(title, len(queries) * (TILE + 0.15), _note("caption"))
    for row, (query, place) in enumerate(zip(queries, rank.tolist(), strict=True)):
        top, left = row * (TILE + 0.15), MARGIN + TILE + 0.2
        sheet.picture(MARGIN, top, TILE, as_picture(CenterView(resolution)(pairs[query]).pixels))
        similarity = found["image"][query] @ found["text"].T
        for i, index in enumerate(similarity.topk(min(TOP, gallery)).indices.tolist()):
            own = int(found["owners"][index]) == query
            words = f"{float(similarity[index]):.2f}  {captions[index]}"
            sheet.text(left, top + i * line_height(), words, color=GREEN if own else INK, weight="bold" if own else "normal")
        mine = similarity.masked_fill((found["owners"] != query), float("-inf")).argmax()
        best = f"its best own, place {place}: {float(similarity[mine]):.2f}  {captions[int(mine)]}"
        sheet.text(left, top + (TOP + 0.4) * line_height(), best, SMALL, color=GREY)
    return Drawn(sheet.figure, number)


def _title(what: str, rank: Tensor) -> str:
    first, near = (int((rank <= k).sum()) for k in (1, TOP))
    return f"{len(rank)} {what}: {first} find a right answer first, {near} among the first {TOP}"


def _place(rank: Tensor, own: int, gallery: int) -> str:
    """The best of `own` right answers in a random order has on average the place (gallery + 1) / (own + 1)."""
    return (
        f"The best right answer has place {int(rank)} of {gallery}; a random order would give it about {round((gallery + 1) / (own + 1))}"
    )


def _note(kind: str) -> str:
    return f"Numbers: cosines. Green: right. Another {kind} may be true as well, and counts as wrong."


@styled
def answers_to(found: Mapping[str, Tensor], pairs: Pairs, resolution: int, *, direction: str, scene: int, caption: int = 0) -> Drawn:
    """What one caption, or one picture, finds: for `course.explorer.explore`.

    Raises:
        UserError: a direction, scene or caption that is not there.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"direction={direction!r} is none; choose one of {', '.join(DIRECTIONS)}")
    if not 0 <= scene < len(found["image"]):
        raise UserError(f"scene={scene} is not in the gallery; it has 0 to {len(found['image']) - 1}")
    if direction == "image→text":
        return captions_found(found, pairs, [scene], resolution)
    own = (found["owners"] == scene).nonzero().flatten()
    if not 0 <= caption < len(own):
        raise UserError(f"caption={caption} is none of scene {scene}; it has 0 to {len(own) - 1}")
    return pictures_found(found, pairs, [int(own[caption])], resolution)
