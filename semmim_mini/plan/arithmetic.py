r"""Floating-point operations of a step on one GPU, part by part, as formulas; tests hold them equal to torch's counter.

The parts have the names that `semmim-mini bench` measures. Counted are matrix products, convolutions and attention, as in the
literature; norms, softmax, losses, optimiser and EMA read and write memory more than they compute, and count as nothing.
"""

from semmim_mini.config import ImageConfig, TextConfig
from semmim_mini.plan.layers import Work, notes, product
from semmim_mini.plan.sizes import Sizes


def arithmetic(sizes: Sizes) -> dict[str, dict[str, float]]:
    """FLOPs of each part, {"forward": …, "backward": …}; backward includes what activation checkpointing computes again."""
    return {name: {"forward": work.forward, "backward": work.backward} for name, work in _parts(sizes).items()}


def _parts(sizes: Sizes) -> dict[str, Work]:
    plan, parts = sizes.plan, {}
    if sizes.teaches:
        parts["teacher, forward"] = _teacher(sizes).without_gradient()
    if sizes.texts:
        work, text = _text_encoder(sizes, sizes.texts), sizes.config.text
        parts["text encoder"] = (work.without_gradient() if text.freeze else work) + _readout(text, sizes.texts)
    parts["clean student"] = _clean(sizes)
    if plan.has("itc", "itm"):
        parts["ITC"] = _contrast(sizes) + _similarities(sizes).without_gradient()
    if plan.has("itm", "mlm"):
        parts["fusion: ITM, MLM"] = _fuse(sizes)
    if plan.has("caption"):
        parts["caption decoder"] = _decoder(sizes)
    if sizes.masked_pass:
        parts["mask"] = _mask(sizes).without_gradient()
        parts["masked student"] = _masked(sizes)
    if plan.has("mim", "consensus"):
        parts["prototypes: MIM, consensus"] = _see(sizes) + _targets(sizes).without_gradient()
    return parts


# Encoders -----------------------------------------------------------------------------------------------------------------


def _text_encoder(sizes: Sizes, rows: float) -> Work:
    """BERT's layers."""
    return sizes.text_layer.work(rows, sizes.l) * sizes.config.text.depth


def _readout(encoder: ImageConfig | TextConfig, rows: float) -> Work:
    """[CLS] from the notes of several layers; nothing without."""
    return product(rows, notes(encoder), encoder.width)


def _embed(sizes: Sizes, rows: float) -> Work:
    """Patches of pixels to vectors; pixels receive no gradient, and frozen weights neither."""
    image = sizes.config.image
    work = product(rows * sizes.n, 3 * image.patch**2, image.width).forward
    return Work(still=work) if image.freeze else Work(constant=work)


def _read(sizes: Sizes) -> Work:
    """Text brought to the image width."""
    return product(sizes.b * sizes.l, sizes.config.text.width, sizes.config.image.width)


def _layers(sizes: Sizes, rows: float, numbers: range, t: int = 0) -> Work:
    """Image layers forwards, whatever comes back."""
    return sum((sizes.image_layers[number].work(rows, sizes.s, t) for number in numbers), Work())


def _teacher(sizes: Sizes) -> Work:
    config, b, views = sizes.config, sizes.b, sizes.teacher_views
    work = _text_encoder(sizes, b) + _embed(sizes, views * b) + _layers(sizes, views * b, range(config.image.depth))
    work += _readout(config.text, b) + _readout(config.image, views * b)
    work += product(b, config.image.width, config.space.projection) + product(b, config.text.width, config.space.projection)
    if sizes.teacher_reads:
        work += _readout(config.image, b)
        work += _read(sizes) + _layers(sizes, b, range(config.image.inject_from, config.image.depth), sizes.l)
    return work + (_head(sizes, views * b) if sizes.plan.has("consensus") else Work())


def _trained(sizes: Sizes, rows: float, number: int, t: int = 0) -> Work:
    """One layer of the student, with its second forward pass under activation checkpointing."""
    layer = sizes.image_layers[number]
    work = layer.work(rows, sizes.s, t)
    work = work.frozen() if number < sizes.config.image.freeze else work
    return work + layer.anew(rows, sizes.s, t) if sizes.config.run.checkpoint_activations else work


def _clean(sizes: Sizes) -> Work:
    """The student's clean views; gradients go back to the first layer that is not frozen."""
    rows, image = sizes.clean_views * sizes.b, sizes.config.image
    work = _embed(sizes, rows) + _layers(sizes, rows, range(image.freeze)).without_gradient() + _readout(image, rows)
    return sum((_trained(sizes, rows, number) for number in range(image.freeze, image.depth)), work)


def _masked(sizes: Sizes) -> Work:
    """The masked view. Gradients reach the mask token through frozen layers, too."""
    work = _embed(sizes, sizes.b)
    for run in sizes.masked_runs:
        work += sum((_trained(sizes, sizes.b, number, run.text) for number in run.layers), _read(sizes) if run.text else Work())
        work += _readout(sizes.config.image, sizes.b) if run.layers.stop == sizes.config.image.depth else Work()
    return work


# Image and text -----------------------------------------------------------------------------------------------------------


def _contrast(sizes: Sizes) -> Work:
    """Projections, and ITC's two products of the batch with all keys; a teacher's keys receive no gradient."""
    config, b, p = sizes.config, sizes.b, sizes.config.space.projection
    work = product(b, config.image.width, p) + product(b, config.text.width, p)
    if not sizes.plan.has("itc"):
        return work
    logits = 2 * product(b, p, sizes.keys).forward
    return work + (Work(constant=logits) if config.losses.itc_keys == "teacher" else Work(logits))


def _similarities(sizes: Sizes) -> Work:
    """The teacher's similarities for soft targets, and those within the batch from which ITM draws."""
    b, p = sizes.b, sizes.config.space.projection
    soft = product(b, p, sizes.keys) * 2 if sizes.plan.has("itc") and sizes.plan.alpha > 0 else Work()
    return soft + product(b, p, b * sizes.gpus) * 2


def _cross(sizes: Sizes, rows: float, depth: int) -> Work:
    """Text layers with cross-attention to an image; images mapped to the text's width where it differs."""
    image, text = sizes.config.image.width, sizes.config.text.width
    mapped = product(rows * sizes.s, image, text) if image != text else Work()
    return mapped + sizes.cross_layer.work(rows, sizes.l, sizes.s) * depth


def _words(sizes: Sizes, rows: float) -> Work:
    """Features to logits over the vocabulary."""
    width = sizes.config.text.width
    return product(rows, width, width) + product(rows, width, sizes.vocab)


def _fuse(sizes: Sizes) -> Work:
    work = _cross(sizes, sizes.pairs, sizes.config.text.fusion_depth)
    if sizes.plan.has("itm"):
        work += product(3 * sizes.b, sizes.config.text.width, 2)
    return work + (_words(sizes, sizes.hidden_words) if sizes.plan.has("mlm") else Work())


def _decoder(sizes: Sizes) -> Work:
    return _cross(sizes, sizes.b, sizes.config.text.decoder_depth) + _words(sizes, sizes.b * sizes.l)


def _mask(sizes: Sizes) -> Work:
    """What scores the patches (`training/masks.py`); random masks cost nothing."""
    masking, d, b = sizes.config.masking, sizes.config.image.width, sizes.b
    strategy = "random" if sizes.plan.random_mask else masking.strategy
    if strategy in ("random", "block"):
        return Work()
    if strategy == "attention":
        image = sizes.config.image
        return _layers(sizes, b, range(image.inject_from, image.depth - 1)) + product(b * sizes.s, d, 3 * d) + Work(2 * b * sizes.s**2 * d)
    if masking.relevance == "query":
        asked = product(b, sizes.config.text.width, d) + product(b, d, 3 * d)
        return asked + product(b * sizes.s, d, 3 * d) + Work(2 * b * sizes.n * d)
    if masking.relevance == "itc":
        p = sizes.config.space.projection
        return product(b * sizes.n, d, p) + product(b, sizes.n, p)
    heard = Work(2 * b * sizes.l * sizes.n)  # attention of the words that count, averaged
    text = sizes.config.text
    return heard + _cross(sizes, b, text.decoder_depth if masking.relevance == "caption" else text.fusion_depth)


# The encoding space -------------------------------------------------------------------------------------------------------


def _head(sizes: Sizes, rows: float) -> Work:
    """The MLP down to the bottleneck."""
    space = sizes.config.space
    return product(rows, sizes.config.image.width, space.hidden) + product(rows, space.hidden, space.hidden + space.bottleneck)


def _score(sizes: Sizes, rows: float) -> Work:
    return product(rows, sizes.config.space.bottleneck, sizes.config.space.prototypes)


def _see(sizes: Sizes) -> Work:
    """The student's side of MIM on masked patches, and of consensus on two [CLS] an image."""
    config, m, work = sizes.config, sizes.masked_patches, Work()
    if sizes.plan.has("consensus"):
        work += _head(sizes, 2 * sizes.b) + _score(sizes, 2 * sizes.b)
    if not sizes.plan.has("mim"):
        return work
    if config.losses.mim_target == "codes":
        return work + _head(sizes, m) + _score(sizes, m).early()
    outputs = {"pixels": 3 * config.image.patch**2, "tokens": config.losses.patch_tokens}[config.losses.mim_target]
    return work + product(m, config.image.width, outputs)


def _targets(sizes: Sizes) -> Work:
    """The teacher's side, without gradient."""
    config, m, work = sizes.config, sizes.masked_patches, Work()
    if sizes.plan.has("consensus"):
        older = config.teacher.cls_queue if config.teacher.balance == "sinkhorn" else 0
        work += _score(sizes, 2 * sizes.b + older)
    if not sizes.plan.has("mim") or config.losses.mim_target == "pixels":
        return work
    if config.losses.mim_target == "tokens":
        return work + product(m, 3 * config.image.patch**2, config.losses.patch_tokens)
    return work + _head(sizes, sizes.b * sizes.n if config.teacher.per_image else m) + _score(sizes, m)
