"""Checkers of notebook 13, full scale: what stands in memory, what a layer costs, a mean over processes; and photos to make shards of."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, as_whole, cases_of, compare
from semmim_mini.data.pairs import Pairs
from semmim_mini.plan.layers import ImageLayer

# 13.1 -----------------------------------------------------------------------------------------------------------------


def check_standing(student: Callable[[int, int, int, int], int]) -> None:
    """`student(trained, frozen, teacher, processes)`: numbers of weights → bytes on one GPU that depend on no batch, in fp32."""

    def case(generator, draw):
        return Case(trained=draw(1_000, 9_000), frozen=draw(100, 900), teacher=draw(1_000, 9_000), processes=draw(1, 2) * draw(1, 4))

    cases = cases_of(case)
    cases[0]["processes"] = 1  # alone, nothing travels
    cases[1]["processes"] = 8
    compare("Exercise 13.1", lambda *given: as_whole(student(*given)), _standing, cases, STANDING_MISTAKES)


def _standing(trained: int, frozen: int, teacher: int, processes: int, copies: int = 4, of_frozen: int = 1, of_teacher: int = 1) -> int:
    """4 bytes for each number. Of a trained weight there are itself, its gradient and two averages, and in DDP the gradient once more."""
    travelling = trained if processes > 1 else 0
    return 4 * (copies * trained + of_frozen * frozen + of_teacher * teacher + travelling)


STANDING_MISTAKES = (
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, 1),
        "with several processes, DDP keeps all gradients a second time, in the buckets in which they travel",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, 2),
        "one process alone sends nothing: the second copy of the gradients is there with `processes` > 1 only",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, processes, copies=3),
        "a trained weight is itself, its gradient, and AdamW's *two* averages: four numbers; one is missing",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, processes, of_teacher=4),
        "the teacher is counted like the student; it has neither gradients nor averages, it only follows",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, processes, of_frozen=4),
        "frozen weights have neither gradients nor averages; they take 4 bytes, not 16",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, processes) // 2,
        "these are 2 bytes a number; in mixed precision the weights themselves, and all that AdamW keeps, stay in fp32",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, 1) // processes,
        "the sum is shared out among the processes; that is FSDP. In DDP every process holds everything",
    ),
    Mistake(
        lambda trained, frozen, teacher, processes: _standing(trained, frozen, teacher, processes) // 4,
        "this counts numbers; a number in fp32 has 4 bytes",
    ),
)

# 13.2 -----------------------------------------------------------------------------------------------------------------


def check_layer_flops(student: Callable[[int, int, int, int, int], tuple[int, int]]) -> None:
    """`student(b, s, t, d, h)` → FLOPs of an image layer forwards and backwards; s image tokens read t text tokens."""

    def case(generator, draw):
        return Case(b=draw(1, 4), s=draw(5, 17), t=draw(2, 9), d=8 * draw(1, 4), h=32 * draw(1, 4))

    cases = cases_of(case)
    cases[0]["t"] = 0  # no text

    def numbers(*given):
        answer = student(*given)
        return tuple(float(x) for x in answer) if isinstance(answer, (tuple, list)) else answer

    compare("Exercise 13.2", numbers, _layer_flops, cases, LAYER_FLOPS_MISTAKES)


def _layer_flops(b: int, s: int, t: int, d: int, h: int) -> tuple[float, float]:
    work = ImageLayer(d, h).work(b, s, t)
    return float(work.forward), float(work.backward)


def _written_out(b, s, t, d, h, each=2, text=2, scores=4, keys=None, back=2.0, fused=2.5) -> tuple[float, float]:
    """`_layer_flops` with its choices as arguments: FLOPs a weight, width of what text is mapped to, and the price of going back."""
    products = each * b * (s * (4 * d * d + 2 * d * h) + t * text * d * d)
    attention = scores * b * s * (s + t if keys is None else keys(s, t)) * d
    return float(products + attention), float(back * products + fused * attention)


LAYER_FLOPS_MISTAKES = (
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, each=1, scores=2),
        "a weight costs two operations for each token, a multiplication and an addition; you count one",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, scores=0),
        "attention itself is missing: the scores and the weighted sum, s·(s + t)·d multiplications each",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, scores=2),
        "attention has two products, the scores *and* the weighted sum of the values; you count one of them",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, text=0),
        "text tokens need keys and values of their own: 2d² weights each",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, text=4 + 2 * h / d),
        "text tokens run through the whole layer; they only give keys and values: no query, no output, no MLP",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, keys=lambda s, t: s),
        "image tokens attend to s + t tokens; you count the s of the image only",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, keys=lambda s, t: s + t + t * (s + t) / s),
        "text tokens attend, too, in your count; only image tokens ask, so attention is s·(s + t), not (s + t)²",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, fused=2.0),
        "backwards, fused attention costs 2.5 times its forward pass: its scores were not kept and are computed again",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, back=1.0, fused=1.25),
        "backwards every product has two gradients, one for its input and one for its weights: twice the forward pass",
    ),
    Mistake(
        lambda b, s, t, d, h: _written_out(b, s, t, d, h, back=3.0, fused=3.5),
        "your second number is forwards and backwards together; return them apart",
    ),
)

# 13.3 -----------------------------------------------------------------------------------------------------------------


def check_shares(student: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`student(values (processes, most), counts (processes,))` → (processes,): each one's share; their average is the mean of all rows."""

    def case(generator, draw):
        processes, most = draw(2, 4), draw(5, 8)
        counts = torch.randint(1, most, (processes,), generator=generator)
        counts[0] = most
        return Case(values=0.5 + torch.rand(processes, most, generator=generator), counts=counts)

    cases = cases_of(case)
    cases[0]["counts"][-1] = 0  # a process without any masked sample
    compare("Exercise 13.3", student, _shares, cases, SHARES_MISTAKES)


def _own(values: Tensor, counts: Tensor) -> Tensor:
    """Sum of each process's own rows, without the padding."""
    return (values * (torch.arange(values.shape[1]) < counts[:, None])).sum(dim=1)


def _shares(values: Tensor, counts: Tensor) -> Tensor:
    return _own(values, counts) * len(counts) / counts.sum()


SHARES_MISTAKES = (
    Mistake(
        lambda values, counts: _own(values, counts) / counts,
        "these are means over each process's own rows: a row weighs more where rows are few, and a process without rows gives NaN. "
        "Divide by the count of *all* rows",
    ),
    Mistake(
        lambda values, counts: _own(values, counts) / counts.clamp_min(1),
        "these are means over each process's own rows: a row weighs more where rows are few. Divide by the count of *all* rows",
    ),
    Mistake(
        lambda values, counts: _own(values, counts) / counts.sum(),
        "DDP takes the *average* over processes, so the mean of all comes out divided by their number; multiply each share by it",
    ),
    Mistake(
        lambda values, counts: (_own(values, counts) / counts.sum()).sum().expand(len(counts)),
        "every process names the mean of all rows. As a number that is right, but no process has the graph of the others' rows: "
        "each may only add up its own",
    ),
    Mistake(
        lambda values, counts: values.mean(dim=1),
        "padding takes part: of row p of `values` only the first counts[p] are real",
    ),
    Mistake(
        lambda values, counts: values.sum(dim=1) * len(counts) / counts.sum(),
        "padding takes part in the sums: of row p of `values` only the first counts[p] are real",
    ),
    Mistake(
        lambda values, counts: _own(values, counts) / counts.max(),
        "the sums are divided by the largest count; divide by the count of all rows, and multiply by the number of processes",
    ),
)

# Photos to make shards of ---------------------------------------------------------------------------------------------


def as_photos(folder: Path, pairs: Pairs, splits: Mapping[str, Sequence[str]]) -> None:
    """Write pairs as Flickr8k comes from its archive: pictures, captions.txt and a list of names for each split.

    Args:
        splits: the collection's word for a split (train, dev, test) → file names "0.jpg", "1.jpg", …: each is the pair of that number.
            A number behind the last pair is a name that is listed but has no picture.
    """
    (folder / "Images").mkdir(parents=True)
    captions = ["image,caption"]
    for number in range(len(pairs)):
        pixels = pairs[number].image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "Images" / f"{number}.jpg", quality=90)
        captions += [f'{number}.jpg,"{caption}"' for caption in pairs[number].captions]
    (folder / "captions.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    for split, names in splits.items():
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
