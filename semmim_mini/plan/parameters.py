r"""Parameters by part, as formulas; tests hold them equal to the built model.

    student = image encoder + text encoder + projections + encoding space         teacher = a copy of the student
    trained = student + fusion encoder + heads (+ decoder) + temperature           all = trained + teacher

The word head and the caption decoder share their output matrix with word embeddings, so that it counts once.
"""

from semmim_mini.config import ImageConfig, TextConfig
from semmim_mini.plan.layers import linear, notes
from semmim_mini.plan.sizes import Sizes

ENCODERS = ("image encoder", "text encoder", "ITC projections", "encoding space")  # what student and teacher have in common


def parameters(sizes: Sizes) -> dict[str, int]:
    """Parameters of each part that is built, the teacher last."""
    text, losses = sizes.config.text, sizes.config.losses
    parts = {
        "image encoder": _image_encoder(sizes),
        "text encoder": _bert(sizes) + _readout(text),
        "ITC projections": linear(sizes.config.image.width, _p(sizes)) + linear(text.width, _p(sizes)),
        "encoding space": _space(sizes),
        "fusion encoder": _image_map(sizes) + text.fusion_depth * sizes.cross_layer.parameters(),
        "heads": _heads(sizes),
    }
    if losses.caption.weight > 0:
        layers = text.decoder_depth * sizes.cross_layer.parameters()
        parts["caption decoder"] = _embeddings(sizes) + layers + _word_head(sizes) + _image_map(sizes)
    return parts | {"teacher": sum(parts[name] for name in ENCODERS)}


def trainable(sizes: Sizes) -> int:
    """Parameters that the optimiser moves."""
    parts = parameters(sizes)
    return sum(parts.values()) - parts["teacher"] - sum(frozen(sizes).values())


def frozen(sizes: Sizes) -> dict[str, int]:
    """Parameters of the student that stay as they were loaded."""
    image, text = sizes.config.image, sizes.config.text
    first = sum(layer.parameters() for layer in sizes.image_layers[: image.freeze])
    before = _patches(sizes) + (1 + sizes.s) * image.width  # patches, [CLS], positions
    return {
        "image encoder": first + before if image.freeze else 0,
        "text encoder": _bert(sizes) if text.freeze else 0,
    }


def outside_layers(sizes: Sizes) -> int:
    """Parameters of student, teacher and heads that belong to no transformer layer (`training/parallel.py`: the last unit)."""
    text, losses = sizes.config.text, sizes.config.losses
    encoders = sum(layer.parameters() for layer in sizes.image_layers) + text.depth * sizes.text_layer.parameters()
    crossing = text.fusion_depth + (text.decoder_depth if losses.caption.weight > 0 else 0)
    return sum(parameters(sizes).values()) - 2 * encoders - crossing * sizes.cross_layer.parameters()


def _p(sizes: Sizes) -> int:
    return sizes.config.space.projection


def _image_encoder(sizes: Sizes) -> int:
    d = sizes.config.image.width
    tokens = d + d + sizes.s * d  # [CLS], mask token, positions
    layers = sum(layer.parameters() for layer in sizes.image_layers)
    return _patches(sizes) + tokens + layers + 2 * d + linear(sizes.config.text.width, d) + _readout(sizes.config.image)


def _bert(sizes: Sizes) -> int:
    return _embeddings(sizes) + sizes.config.text.depth * sizes.text_layer.parameters()


def _readout(encoder: ImageConfig | TextConfig) -> int:
    """[CLS] from the notes of several layers, where one is asked for."""
    return linear(notes(encoder), encoder.width) if encoder.readout else 0


def _patches(sizes: Sizes) -> int:
    """Pixels to vectors; CLIP has a norm behind them."""
    image = sizes.config.image
    return linear(3 * image.patch**2, image.width) + (2 * image.width if image.form == "clip" else 0)


def _embeddings(sizes: Sizes) -> int:
    """Of words, of positions (64 at least), of BERT's two segments, and their norm."""
    return (sizes.vocab + max(sizes.l, 64) + 2 + 2) * sizes.config.text.width


def _space(sizes: Sizes) -> int:
    space = sizes.config.space
    mlp = linear(sizes.config.image.width, space.hidden) + linear(space.hidden, space.hidden) + linear(space.hidden, space.bottleneck)
    return (1 if space.shared else 2) * (mlp + space.prototypes * space.bottleneck)


def _image_map(sizes: Sizes) -> int:
    """Image tokens mapped to the text's width, where the two differ."""
    image, text = sizes.config.image.width, sizes.config.text.width
    return linear(image, text) if image != text else 0


def _word_head(sizes: Sizes) -> int:
    """A layer, its norm, and a bias for each word; the matrix is the embeddings'."""
    width = sizes.config.text.width
    return linear(width, width) + 2 * width + sizes.vocab


def _heads(sizes: Sizes) -> int:
    """ITM, MLM, the temperature, and where masked modelling asks for pixels or tokens, that head."""
    config, d = sizes.config, sizes.config.image.width
    answers = {"codes": 0, "pixels": linear(d, 3 * config.image.patch**2), "tokens": linear(d, config.losses.patch_tokens)}
    return linear(config.text.width, 2) + _word_head(sizes) + 1 + answers[config.losses.mim_target]
