r"""What the parts of a step keep from forward to backward on one GPU, in numbers by format (`layers.Kept`).

    part                        kept
    text encoder                2b captions, each layer by its formula
    clean student               v·b images, every layer; under activation checkpointing only each layer's input
    ITC                         two logits, log-probabilities and targets over b × keys; the keys
    fusion: ITM, MLM            4b pairs: images copied, keys and values of every image token in every layer, attention written out
    masked student              b images, the branch that reads text
    prototypes: MIM, consensus  log-probabilities and targets over k for every [CLS]; of masked patches the head and two gradients

An activation that two parts share counts where it is made.
"""

from semmim_mini.config import ImageConfig, TextConfig
from semmim_mini.plan.layers import Kept, notes
from semmim_mini.plan.parameters import parameters
from semmim_mini.plan.sizes import Sizes


def activations(sizes: Sizes) -> dict[str, Kept]:
    """Kept by part, in the order of the forward pass; with each part the 16-bit copies that autocast makes of its weights."""
    plan, weights, parts = sizes.plan, parameters(sizes), {}
    if sizes.texts:
        words = sizes.vocab * sizes.config.text.width  # looked up, not multiplied
        parts["text encoder"] = _text_encoder(sizes) + Kept(again=weights["text encoder"] - words)
    parts["clean student"] = _clean(sizes) + Kept(again=weights["image encoder"])
    if plan.has("itc", "itm"):
        parts["ITC"] = _contrast(sizes) + Kept(again=weights["ITC projections"])
    if plan.has("itm", "mlm"):
        parts["fusion: ITM, MLM"] = _fuse(sizes) + Kept(again=weights["fusion encoder"] + weights["heads"])
    if plan.has("caption"):
        parts["caption decoder"] = _decoder(sizes) + Kept(again=weights["caption decoder"])
    if sizes.masked_pass:
        parts["masked student"] = _masked(sizes)
    if plan.has("mim", "consensus"):
        parts["prototypes: MIM, consensus"] = _see(sizes) + Kept(again=weights["encoding space"])
    return parts


def one_layer(sizes: Sizes, rows: float, t: int = 0) -> Kept:
    """The largest image layer, as it exists for a moment when it is computed again."""
    return sizes.image_layers[-1].kept(rows, sizes.s, t)


def _embeddings(sizes: Sizes, rows: float) -> Kept:
    """The sum that the norm reads; its result is the first layer's input."""
    size = rows * sizes.l * sizes.config.text.width
    return Kept(full=size, drop=size if sizes.config.text.dropout else 0)


def _text_encoder(sizes: Sizes) -> Kept:
    if sizes.config.text.freeze:
        return Kept(full=sizes.texts * sizes.l * sizes.config.text.width)
    layers = sizes.text_layer.kept(sizes.texts, sizes.l) * sizes.config.text.depth
    result = Kept(full=sizes.texts * sizes.l * sizes.config.text.width)
    return _embeddings(sizes, sizes.texts) + layers + result + _notes(sizes.config.text, sizes.texts)


def _norms(sizes: Sizes, rows: float, count: int) -> Kept:
    """Tokens in fp32: what a norm of its own reads, or makes for later parts."""
    return Kept(full=count * rows * sizes.s * sizes.config.image.width)


def _notes(encoder: ImageConfig | TextConfig, rows: float) -> Kept:
    """What a readout reads: [CLS] and mean of several layers."""
    return Kept(product=rows * notes(encoder))


def _layers(sizes: Sizes, rows: float, numbers: range, t: int = 0) -> Kept:
    if sizes.config.run.checkpoint_activations:
        return _norms(sizes, rows, len(numbers))
    return sum((sizes.image_layers[number].kept(rows, sizes.s, t) for number in numbers), Kept())


def _clean(sizes: Sizes) -> Kept:
    """All layers that are not frozen, what the last norm reads and makes, and with CLIP what the first reads."""
    rows, image = sizes.clean_views * sizes.b, sizes.config.image
    layers = _layers(sizes, rows, range(image.freeze, image.depth))
    return layers + _norms(sizes, rows, 3 if image.form == "clip" else 2) + _notes(image, rows)


def _masked(sizes: Sizes) -> Kept:
    """The masked view; of frozen layers a little less is kept than counted here."""
    b, kept = sizes.b, _norms(sizes, sizes.b, 1 if sizes.config.image.form == "clip" else 0)
    for run in sizes.masked_runs:
        kept += _layers(sizes, b, run.layers, run.text)
        kept += _norms(sizes, b, 2) + _notes(sizes.config.image, b) if run.layers.stop == sizes.config.image.depth else Kept()
        if run.text:  # at the image's width, and where it was cast for that
            kept += Kept(product=b * sizes.l * sizes.config.image.width, again=b * sizes.l * sizes.config.text.width)
    return kept


def _contrast(sizes: Sizes) -> Kept:
    """Per direction: logits before the temperature, log-probabilities, targets; and all keys."""
    if not sizes.plan.has("itc"):
        return Kept()
    logits, keys = sizes.b * sizes.keys, sizes.keys * sizes.config.space.projection
    targets = 2 if sizes.plan.alpha > 0 else 1
    return Kept(product=2 * logits + 2 * keys, full=(2 + targets) * logits)


def _cross(sizes: Sizes, rows: float, depth: int, copied: bool) -> Kept:
    """Text layers with cross-attention; image tokens copied together (`copied`), mapped, cast once for keys and once for values."""
    image, text = sizes.config.image.width, sizes.config.text.width
    tokens = rows * sizes.s
    if image != text:
        seen = Kept(product=tokens * (image * copied + text), again=tokens * image * (not copied))
    else:
        seen = Kept(product=tokens * image * copied, again=tokens * image * (2 * depth - copied))
    return seen + sizes.cross_layer.kept(rows, sizes.l, sizes.s) * depth


def _words(sizes: Sizes, rows: float, read: float) -> Kept:
    """The word head on `rows` tokens: input, before and after GELU, after the norm; log-probabilities of those the loss reads."""
    width = sizes.config.text.width
    return Kept(product=3 * rows * width, full=rows * width + read * sizes.vocab)


def _fuse(sizes: Sizes) -> Kept:
    kept = _cross(sizes, sizes.pairs, sizes.config.text.fusion_depth, copied=True)
    kept += Kept(full=sizes.pairs * sizes.l * sizes.config.text.width)  # the result
    if not sizes.plan.has("mlm"):
        return kept
    matrix = Kept(again=sizes.vocab * sizes.config.text.width)  # the word embeddings, cast to be multiplied with
    return kept + _words(sizes, sizes.hidden_words, sizes.hidden_words) + matrix


def _decoder(sizes: Sizes) -> Kept:
    layers = _cross(sizes, sizes.b, sizes.config.text.decoder_depth, copied=False)
    return _embeddings(sizes, sizes.b) + layers + _words(sizes, sizes.b * sizes.l, sizes.b * (sizes.l - 1))


def _head(sizes: Sizes, rows: float) -> Kept:
    """Input, both hidden layers before and after GELU; the bottleneck before and after its norm."""
    space = sizes.config.space
    return Kept(product=rows * (sizes.config.image.width + 4 * space.hidden), full=2 * rows * space.bottleneck)


def _see(sizes: Sizes) -> Kept:
    """Rows through the head; for [CLS] log-probabilities, targets and prototypes at unit length, for patches the prototypes' gradient."""
    config, m, k, kept = sizes.config, sizes.masked_patches, sizes.config.space.prototypes, Kept()
    prototypes = k * config.space.bottleneck
    if sizes.plan.has("consensus"):
        kept += _head(sizes, 2 * sizes.b) + Kept(full=4 * sizes.b * k + prototypes)
    if not sizes.plan.has("mim"):
        return kept
    if config.losses.mim_target == "codes":
        return kept + _head(sizes, m) + Kept(full=prototypes)  # a gradient in place of each row's unit length, none of the logits
    outputs = {"pixels": 3 * config.image.patch**2, "tokens": config.losses.patch_tokens}[config.losses.mim_target]
    return kept + Kept(product=m * config.image.width, full=m * outputs)
