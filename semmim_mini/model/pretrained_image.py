r"""Image encoders from elsewhere: CLIP, DeiT, DINO, DINOv2 and ViT of transformers become ours, weight by weight.

They are one architecture in five dialects. What differs is folded into weights where it can be, so that nothing of the source's own
code is needed afterwards, and is a setting where it cannot:

| what differs | where it goes |
| --- | --- |
| names of weights                        | `ROLES`, all spellings side by side |
| q, k, v apart                           | one matrix, in thirds |
| mean and deviation of pixels            | the patch projection: both are linear, and pixels here are in [−1, 1] |
| DINOv2's scale of each residual update  | the last weights before it |
| DeiT's second token (distilled models)  | left out, with its position |
| a grid of other size                    | bicubic, not smoothed, as the source's own code does it |
| CLIP's activation, ε and first norm     | `image.form=clip` |

[F: ALBEF and mPLUG start from such weights; CLIP ViT-B/16 is what `base` takes.] Where `image.depth` is smaller than the source's, its
first layers are taken and its last norm. `text_map`, a readout and a missing mask token have no counterpart and stay fresh.
"""

import torch
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPVisionModel
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from semmim_mini.config import ImageConfig
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.transfer import resize_positions
from semmim_mini.plain_values import first_line

KINDS = {"vit": "vit", "deit": "vit", "dinov2": "vit", "clip": "clip", "clip_vision_model": "clip"}  # model type → image.form
STATISTICS = {"vit": ([0.5] * 3, [0.5] * 3)}
STATISTICS |= {kind: (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD) for kind in ("deit", "dinov2")}
STATISTICS |= {kind: (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) for kind in ("clip", "clip_vision_model")}
FRESH = ("text_map.", "mask_token", "readout.")  # no ViT has them, or only some
LAYERS = ("layers", "encoder.layer", "encoder.layers")
ROLES = {  # of a layer's parts: our name, and what others call it
    "norm_attention": ("layernorm_before", "norm1", "layer_norm1"),
    "query": ("attention.q_proj", "attention.attention.query", "self_attn.q_proj"),
    "key": ("attention.k_proj", "attention.attention.key", "self_attn.k_proj"),
    "value": ("attention.v_proj", "attention.attention.value", "self_attn.v_proj"),
    "attention.out": ("attention.o_proj", "attention.output.dense", "self_attn.out_proj"),
    "norm_mlp": ("layernorm_after", "norm2", "layer_norm2"),
    "mlp.0": ("mlp.fc1", "intermediate.dense"),
    "mlp.2": ("mlp.fc2", "output.dense"),
}
SCALES = {"attention.out": "layer_scale1.lambda1", "mlp.2": "layer_scale2.lambda1"}  # DINOv2's


def load_pretrained_image(model: SemMIM, name: str) -> None:
    """Fill the image encoders of student and teacher.

    Args:
        name: a model of transformers by hub name, or its folder.

    Raises:
        UserError: nothing loadable under that name, another architecture, or settings of image.* that do not fit it.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _require_fitting(getattr(config, "vision_config", config), config.model_type, model.config.image, name)
        kind = CLIPVisionModel if config.model_type.startswith("clip") else AutoModel
        source = kind.from_pretrained(name, trust_remote_code=False, use_safetensors=True)  # nothing is unpickled
    except UserError:
        raise
    except Exception as error:  # what transformers and the hub raise changes with their versions
        reason = first_line(error)
        raise UserError(f"image.pretrained={name!r} cannot be loaded: {reason}; give a ViT by hub name or local folder") from error
    mean, deviation = _pixel_statistics(name, config.model_type)
    ours = translate(source.state_dict(), model.config.image.depth, model.student.image.side, mean, deviation)
    missing = model.student.image.load_state_dict(ours, strict=False)
    absent = {key for key in missing.missing_keys if not key.startswith(FRESH) and ".text_attention." not in key}
    if absent or missing.unexpected_keys:
        raise UserError(
            f"image.pretrained={name!r} lacks or has more than a ViT's weights: {sorted(absent | set(missing.unexpected_keys))[:5]}"
        )
    model.teacher.image.load_state_dict(model.student.image.state_dict())


def _require_fitting(theirs, kind: str, ours: ImageConfig, name: str) -> None:
    if kind not in KINDS:
        raise UserError(f"image.pretrained={name!r} is a {kind}; one of {', '.join(KINDS)} is needed")
    hidden = getattr(theirs, "intermediate_size", None) or int(theirs.hidden_size * getattr(theirs, "mlp_ratio", 4))
    wanted = {
        "image.width": (theirs.hidden_size, ours.width),
        "image.heads": (theirs.num_attention_heads, ours.heads),
        "image.patch": (theirs.patch_size, ours.patch),
        "image.mlp_ratio": (hidden / theirs.hidden_size, ours.mlp_ratio),
        "image.form": (KINDS[kind], ours.form),
    }
    if wrong := {field: value for field, (value, own) in wanted.items() if value != own}:
        raise UserError(f"image.pretrained={name!r} needs " + " ".join(f"--set {field}={value}" for field, value in wrong.items()))
    if theirs.num_hidden_layers < ours.depth:
        raise UserError(f"image.depth={ours.depth} exceeds the {theirs.num_hidden_layers} layers of {name!r}")
    if getattr(theirs, "use_swiglu_ffn", False) or not getattr(theirs, "qkv_bias", True):
        raise UserError(f"image.pretrained={name!r} has gated layers or no biases, which this encoder has not; take another size of it")


def _pixel_statistics(name: str, kind: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation, per channel, of the pixels in [0, 1] that the source was trained on: its own, or its family's."""
    try:
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
        found = processor.image_mean, processor.image_std
    except (OSError, ValueError):  # a folder with weights only
        found = STATISTICS[kind]
    return torch.tensor(found[0]), torch.tensor(found[1])


def translate(theirs: dict[str, Tensor], depth: int, side: int, mean: Tensor, deviation: Tensor) -> dict[str, Tensor]:
    """The weights of `ImageEncoder` by name, from a source's.

    Args:
        theirs: a state dict of transformers.
        depth: how many layers to take.
        side: patches along one side of the picture.
        mean, deviation: (3,), of the pixels in [0, 1] that the source expects.
    """
    theirs = {key.removeprefix("vision_model."): value for key, value in theirs.items()}
    ours = _first_weights(theirs, side, mean, deviation)
    layers = next(prefix for prefix in LAYERS if any(key.startswith(f"{prefix}.0.") for key in theirs))
    for i in range(depth):
        prefix = f"{layers}.{i}."
        layer = {key.removeprefix(prefix): value for key, value in theirs.items() if key.startswith(prefix)}
        ours |= {f"layers.{i}.{key}": value for key, value in _layer(layer).items()}
    return ours


def _first_weights(theirs: dict[str, Tensor], side: int, mean: Tensor, deviation: Tensor) -> dict[str, Tensor]:
    """Patches, tokens, positions and the norms outside the layers."""
    patch, bias = _any(theirs, "embeddings.patch_embeddings.projection", "embeddings.patch_embedding")
    # Ours are x in [−1, 1]; the source wants ((x + 1)/2 − mean)/deviation. Slope into the weights, offset into the bias.
    slope, offset = (1 / (2 * deviation)).view(3, 1, 1), ((0.5 - mean) / deviation).view(3, 1, 1)
    bias = (patch * offset).sum(dim=(1, 2, 3)) + (0 if bias is None else bias)
    names = ("embeddings.cls_token", "embeddings.class_embedding")
    cls = next(theirs[name] for name in names if name in theirs).flatten()
    names = ("embeddings.position_embeddings", "embeddings.position_embedding.weight")
    positions = next(theirs[name] for name in names if name in theirs).reshape(-1, len(cls))
    if "embeddings.distillation_token" in theirs:
        positions = torch.cat([positions[:1], positions[2:]])
    ours = {"patchify.weight": patch * slope, "patchify.bias": bias, "cls": cls}
    ours["positions"] = resize_positions(positions, side, smooth=False)
    ours["norm.weight"], ours["norm.bias"] = _any(theirs, "layernorm", "post_layernorm")
    if "pre_layrnorm.weight" in theirs:  # spelt so in transformers
        ours["norm_input.weight"], ours["norm_input.bias"] = _any(theirs, "pre_layrnorm")
    if "embeddings.mask_token" in theirs:  # DINOv2 was trained with masks, too
        ours["mask_token"] = theirs["embeddings.mask_token"].flatten()
    return ours


def _layer(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    found = {role: _any(theirs, *names) for role, names in ROLES.items()}
    thirds = [found.pop(role) for role in ("query", "key", "value")]
    found["attention.qkv"] = tuple(torch.cat(parts) for parts in zip(*thirds, strict=True))
    for role, (weight, bias) in found.items():
        if (scale := theirs.get(SCALES.get(role, ""))) is not None:
            weight, bias = scale[:, None] * weight, scale * bias
        ours[f"{role}.weight"], ours[f"{role}.bias"] = weight, bias
    return ours


def _any(tensors: dict[str, Tensor], *names: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the first of these names that there is."""
    name = next(name for name in names if f"{name}.weight" in tensors)
    return tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
