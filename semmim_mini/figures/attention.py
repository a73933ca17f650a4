r"""Who may look at whom: the attention masks of the three kinds of isolation, and what they let through to [CLS].

The matrices come from the encoder's own `read` and `TextForImage.allowed`, not from a drawing; the leak is measured by running a
small random encoder with two captions. Under `mask` one layer is tight and two are not: patches carry the words on.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.config import Config, ImageConfig
from semmim_mini.figures.style import BLUE, GREY, INK, MARGIN, ORANGE, SMALL, WIDTH, Drawn, Sheet, styled
from semmim_mini.model.image_encoder import ImageEncoder

GRID, PADDING, TEXT_WIDTH = 3, 1, 16  # patches a side; padding tokens; width of the random captions
FORBIDDEN = "#E4E4E4"


def small_encoder(config: ImageConfig, isolation: str, layers: int, seed: int = 0) -> ImageEncoder:
    """A random encoder of 3 × 3 patches, one layer without text and `layers` with it."""
    kept = {name: getattr(config, name) for name in ("patch", "mlp_ratio", "injection", "form")}  # all that matters to the leak
    config = ImageConfig(**kept, width=32, heads=4, depth=1 + layers, inject_from=1, isolation=isolation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ImageEncoder(config, GRID * config.patch, TEXT_WIDTH).eval()
        for name, parameter in encoder.named_parameters():
            if parameter.ndim > 1:  # unit-scale weights: at ViT's 0.02 a fresh layer hardly changes anything
                torch.nn.init.normal_(parameter, std=parameter.flatten(1).shape[1] ** -0.5)
            if name.endswith("gate"):
                parameter.data.fill_(1.0)  # open, to see what passes
    return encoder


def allowed_matrix(encoder: ImageEncoder, words: int) -> np.ndarray:
    """What the injected branch allows, (1+n, 1+n+words+padding), from the encoder's own code."""
    real = torch.arange(words + PADDING) < words
    text = encoder.read(torch.zeros(1, words + PADDING, TEXT_WIDTH), real[None])
    return text.allowed(1 + encoder.side**2)[0, 0].numpy()


@torch.no_grad()
def cls_leak(config: ImageConfig, isolation: str, layers: int, words: int = 5, seed: int = 0) -> float:
    """The largest change of any [CLS] feature when the caption is swapped; features have unit variance."""
    encoder = small_encoder(config, isolation, layers, seed)
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, GRID * config.patch, GRID * config.patch, generator=draw)
    captions = torch.randn(2, 1, words + PADDING, TEXT_WIDTH, generator=draw)
    one, other = (_cls(encoder, image, caption, words) for caption in captions)
    return float((one - other).abs().max())


def _cls(encoder: ImageEncoder, image: Tensor, caption: Tensor, words: int) -> Tensor:
    """[CLS] as the step reads it (`training.step.SemMIMStep._cls`): under `fork` from the branch that never saw the caption."""
    trunk = encoder.trunk(image)
    text = encoder.read(caption, (torch.arange(caption.shape[1]) < words)[None])
    free, injected = encoder.branch(trunk), encoder.branch(trunk, text)
    return (free if encoder.config.isolation == "fork" else injected)[:, 0]


@styled
def isolation_masks(config: Config, words: int = 5) -> Drawn:
    """Query × key matrices of `none`, `mask` and the two branches of `fork`.

    Returns:
        `leak_<isolation>` with two layers that read text, `leak_<isolation>_one_layer` with one: see `cls_leak`.
    """
    leaks = {name: [cls_leak(config.image, name, layers, words) for layers in (1, 2)] for name in ("none", "mask", "fork")}
    number = {f"leak_{name}{end}": values[i] for name, values in leaks.items() for i, end in ((0, "_one_layer"), (1, ""))}
    injected = {name: allowed_matrix(small_encoder(config.image, name, 2), words) for name in leaks}
    free = np.ones((1 + GRID**2, 1 + GRID**2), dtype=bool)  # a branch without text has image keys only
    panels = [
        ("none", injected["none"], _leak_text(leaks["none"]), "cls"),
        ("mask", injected["mask"], _leak_text(leaks["mask"]), "cls"),
        ("fork: text-free branch", free, _leak_text(leaks["fork"]), "cls"),
        ("fork: injected branch", injected["fork"], ["Patches are read here;", "its [CLS] is thrown away."], "patches"),
    ]
    left, gap = 0.78, 0.22
    width = (WIDTH - MARGIN - left - 3 * gap) / 4
    cell = width / (1 + GRID**2 + words + PADDING)
    height = 1.25 * cell * (1 + GRID**2)  # cells taller than wide, for the labels of the rows
    sheet = Sheet(_title(number), height + 1.66, "Rows ask, columns answer. Blue: image keys. Orange: words. Grey: not allowed; "
                  "padding never is. Measured on a random encoder whose features have unit variance.")  # fmt: skip
    for i, (name, matrix, lines, reads) in enumerate(panels):
        x = left + i * (width + gap)
        axes = sheet.axes(x, 0.3, cell * matrix.shape[1], height)
        _matrix(axes, matrix, words, reads, labels=i == 0)
        sheet.text(x, 0.06, name, weight="bold")
        for row, line in enumerate(lines):
            sheet.text(x, 0.3 + height + 0.6 + 0.17 * row, line, SMALL, color=INK)
    return Drawn(sheet.figure, number)


def _title(number: dict) -> str:
    return (
        "What the caption can do to [CLS] when two layers read text: "
        f"none\u00a0{number['leak_none']:.2f}, mask\u00a0{number['leak_mask']:.2f}, fork\u00a0{_exact(number['leak_fork'])} "
        "(largest change of a feature when it is swapped)"
    )


def _leak_text(leaks: list[float]) -> list[str]:
    one, two = map(_exact, leaks)
    return ["[CLS] is read here.", "Caption swapped, it moves by", f"{one} after one layer with text,", f"{two} after two."]


def _exact(leak: float) -> str:
    return "0" if leak == 0 else f"{leak:.2f}"


def _matrix(axes: Axes, allowed: np.ndarray, words: int, reads: str, labels: bool) -> None:
    queries, keys = allowed.shape
    keys_colour = np.where(np.arange(keys)[:, None] < queries, to_rgb(BLUE), to_rgb(ORANGE))
    cells = np.where(allowed[..., None], keys_colour[None], to_rgb(FORBIDDEN))
    if reads == "patches":
        cells[0] = 0.35 * cells[0] + 0.65  # nobody takes [CLS] from this branch
    axes.imshow(cells, extent=(0, keys, queries, 0), interpolation="nearest", aspect="auto")
    axes.vlines(range(1, keys), 0, queries, color="white", linewidth=0.8)
    axes.hlines(range(1, queries), 0, keys, color="white", linewidth=0.8)
    first, rest = (0, 1) if reads == "cls" else (1, queries - 1)
    axes.add_patch(Rectangle((0, first), keys, rest, fill=False, edgecolor=INK, linewidth=1.6, clip_on=False, zorder=3))
    axes.set(xlim=(0, keys), ylim=(queries, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _key_labels(axes, queries, keys, words)
    if labels:
        for place, name in ((0.5, "[CLS]"), ((queries + 1) / 2, "patches")):
            axes.text(-0.5, place, name, ha="right", va="center", fontsize=SMALL)


def _key_labels(axes: Axes, queries: int, keys: int, words: int) -> None:
    below = queries + 0.25
    upright = dict(rotation=90, ha="center", va="top", fontsize=SMALL, color=GREY)
    axes.text(0.5, below, "[CLS]", **upright)
    axes.text((queries + 1) / 2, below, "patches", ha="center", va="top", fontsize=SMALL, color=GREY)
    if keys > queries:
        axes.text(queries + words / 2, below, "words", ha="center", va="top", fontsize=SMALL, color=GREY)
        axes.text(queries + words + 0.5, below, "padding", **upright)
