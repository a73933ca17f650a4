r"""Figures of a run. Each function returns a matplotlib figure AND the number it shows; `draw_all` writes them beside the run.

losses.png  health.png          curves.py      metrics.jsonl against chance
masks.png   masks_two_captions.png  masks.py   what the caption hides
isolation.png                   attention.py   who may look at whom
patterns.png                    patterns.py    what codes stand for
codes.png                       codes.py       code maps of scenes (they need the truth)
pca.png                         pca.py         patch features as colours
words.png                       grounding.py   where each phrase looks (needs the truth)
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from semmim_mini.config import Config
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.text import tokenize
from semmim_mini.figures.attention import isolation_masks
from semmim_mini.figures.codes import code_map
from semmim_mini.figures.curves import health_curves, loss_curves
from semmim_mini.figures.grounding import words_and_regions
from semmim_mini.figures.masks import masks_for_two_captions, text_guided_masks
from semmim_mini.figures.patterns import pattern_layout
from semmim_mini.figures.pca import pca_of_patches
from semmim_mini.figures.style import Drawn, save
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.instruments.semantics import untrained
from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives.masked_language import unigram_entropy
from semmim_mini.tasks.grounding import evaluate_grounding
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.step import SemMIMStep

__all__ = [
    "Drawn", "code_map", "draw_all", "draw_losses", "health_curves", "isolation_masks", "loss_curves", "masks_for_two_captions",
    "pattern_layout", "pca_of_patches", "save", "text_guided_masks", "words_and_regions",
]  # fmt: skip


def draw_all(
    folder: Path, model: SemMIM, tokenizer, pairs: Pairs, out: Path | None = None, images: int = 128, pattern_images: int = 512
) -> list[Path]:
    """Every figure that this run and these pairs allow; their numbers in figures.json beside them.

    Args:
        folder: of the run; without its metrics.jsonl the curves are left out.
        pairs: held-out pairs; photos, which carry no truth, have no code maps, no regions of words, and fewer numbers.
        out: where to; `folder`/figures unless given.
        images: held-out images looked at.
        pattern_images: for patterns, which need several pictures of each concept.

    Returns:
        The files written.
    """
    home, numbers, paths = out or Path(folder) / "figures", {}, []
    home.mkdir(parents=True, exist_ok=True)
    for name, drawn in _figures(Path(folder), model, tokenizer, pairs, images, pattern_images):
        paths.append(save(drawn.figure, home / f"{name}.png"))
        numbers[name] = {key: round(value, 5) for key, value in drawn.number.items()}
    write_text(home / "figures.json", json.dumps(numbers, indent=2) + "\n")
    return [*paths, home / "figures.json"]


def draw_losses(folder: Path, config: Config) -> Path:
    """The loss curves alone: what a fine-tuning run has to show of its training."""
    home = Path(folder) / "figures"
    home.mkdir(parents=True, exist_ok=True)
    return save(loss_curves(read_metrics(Path(folder) / "metrics.jsonl"), config).figure, home / "losses.png")


def _figures(folder: Path, model: SemMIM, tokenizer, pairs: Pairs, images: int, pattern_images: int) -> Iterator[tuple[str, Drawn]]:
    config, losses = model.config, model.config.losses
    records = read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    if records:
        yield "losses", loss_curves(records, config, caption_entropy(pairs, tokenizer, config.data.max_length))
        yield "health", health_curves(records, config)
    model.eval()
    device = next(model.parameters()).device
    sizes = {"resolution": config.data.resolution, "max_length": config.data.max_length, "batch": min(64, images)}
    many = list(held_out_batches(pairs, tokenizer, count=max(images, pattern_images), device=device, **sizes))
    batches = many[: -(-images // sizes["batch"])]
    step = SemMIMStep(model)
    yield "masks", text_guided_masks(step, batches[0])
    yield "masks_two_captions", masks_for_two_captions(step, tokenizer, batches[0])
    yield "isolation", isolation_masks(config)
    before, patch = untrained(model, batches), config.image.patch
    if losses.consensus.weight > 0 or (losses.mim.weight > 0 and losses.mim_target == "codes"):  # else the space was never trained
        yield "patterns", pattern_layout(before, model.teacher, many, patch)
        if batches[0].pairs[0].truth is not None:
            yield "codes", code_map(before, model.teacher, batches, patch)
    yield "pca", pca_of_patches(before, model.teacher, batches)
    if batches[0].pairs[0].truth is not None:
        yield "words", words_and_regions(model, tokenizer, batches[0], evaluate_grounding(model, tokenizer, pairs, images)["best"])


def caption_entropy(pairs: Pairs, tokenizer, max_length: int, most: int = 500) -> float:
    """Unigram entropy in nats of the words of (some of) the captions: the chance line of MLM."""
    captions = [caption for i in range(min(most, len(pairs))) for caption in pairs.captions(i)]
    ids, words = tokenize(tokenizer, captions, max_length)
    return unigram_entropy(ids[words & ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))])
