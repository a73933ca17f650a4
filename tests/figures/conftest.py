"""What the tests of figures share: a small model, scenes and photos it can look at, and a check that no texts collide."""

import itertools
import math

import pytest
import torch
from torchvision import tv_tensors

from semmim_mini.config import override
from semmim_mini.data.pairs import Pair
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.data.text import train_wordpiece
from semmim_mini.figures.style import Drawn
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.model.semmim import SemMIM

SIZE = 10  # pictures


class Photos:
    """Noise with captions and no truth."""

    name = "photos/val"

    def __init__(self, captions=("a man and his dog on a beach", "a dog runs")):
        self._captions = captions

    def __len__(self) -> int:
        return SIZE

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions

    def __getitem__(self, index: int) -> Pair:
        noise = torch.randint(256, (3, 40, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        return Pair(tv_tensors.Image(noise), self._captions, index, f"photo {index}")


@pytest.fixture(scope="session")
def scenes():
    return SceneDataset("test", size=SIZE, resolution=32)


@pytest.fixture(scope="session")
def photos():
    return Photos()


@pytest.fixture(scope="session")
def config(tiny):
    return override(tiny(), ["data.resolution=32", "data.max_length=20", "run.steps=50", "masking.ratio=0.3"])


@pytest.fixture(scope="session")
def tokenizer(scenes, photos):
    return train_wordpiece([c for pairs in (scenes, photos) for i in range(SIZE) for c in pairs.captions(i)], 400)


@pytest.fixture(scope="session")
def model(config, tokenizer):
    torch.manual_seed(0)
    return SemMIM(config, len(tokenizer)).eval()


@pytest.fixture(scope="session")
def batches(config, tokenizer):
    """`batches(pairs)`: all of them, in batches of 4."""
    size = {"resolution": config.data.resolution, "max_length": config.data.max_length}
    return lambda pairs: list(held_out_batches(pairs, tokenizer, count=SIZE, batch=4, **size))


@pytest.fixture
def records():
    """`records(steps)`: what a run with all six losses logs; ITC, consensus and MIM from the tenth step on."""

    def make(steps: int = 50) -> list[dict]:
        late = {"itc": 2.0, "consensus": 1.5, "mim": 1.7}
        made = []
        for step in range(steps):
            made.append(
                {"step": step, "loss": {"itm": 0.6, "mlm": 3 - step / steps, "caption": 3.5} | (late if step >= 10 else {}),
                 "grad_norm": 2.0, "seconds": 0.5, "seconds_waiting_for_data": 0.1, "images_per_second": 8.0, "random_mask": step < 20}
            )  # fmt: skip
            if step >= 10:
                made[-1] |= {"itc_keys": float(min(12, 4 + step)), "cls_entropy": 1.0, "patch_entropy": 1.2, "cls_kl_to_uniform": 0.1,
                             "patch_kl_to_uniform": 0.2, "cls_prototypes_used": 4.0, "patch_prototypes_used": 5.0 + step % 2}  # fmt: skip
        return made

    return make


@pytest.fixture(scope="session")
def check():
    return check_drawn


def check_drawn(drawn: Drawn) -> None:
    """Finite numbers; all texts inside the figure; no two texts on one another."""
    assert drawn.number and all(math.isfinite(value) for value in drawn.number.values())
    figure = drawn.figure
    figure.draw_without_rendering()
    renderer, frame = figure.canvas.get_renderer(), figure.bbox
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
    assert boxes
    for words, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= frame.x1 + 1 and box.y1 <= frame.y1 + 1, f"{words!r} leaves the figure"
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1.5 or down < 3, f"{one!r} and {other!r} overlap by {across:.0f} × {down:.0f} px"


def visible_texts(figure) -> list:
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            texts += [tick.label1 for tick in axis.get_major_ticks() if axes.axison and low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]
