r"""Bytes on one GPU: what is always there, and how high one step rises above it.

    standing   weights · teacher · AdamW's two averages · queue and centres · the batch · with DDP all gradients a second time
    tide       activations rise part by part through the forward pass, then ebb backwards while gradients come in

                     ╭── all kept, and the last losses at work
            ╭────────╯ ╲
        ╭───╯           ╲___ a part gives its activations back, and its parameters' gradients appear
    ────╯                   ╲______________ all gradients
    forward                  backward

The peak is the highest point of that walk; with large batches it lies at its crest, with tiny ones at its end. Workspace of
libraries and fragmentation are not in it: `USABLE` leaves room for them.

With `run.parallel=fsdp` every GPU holds its share of weights, teacher, averages and gradients, and what belongs to no layer in full.
"""

from dataclasses import dataclass

from semmim_mini.plan.activations import activations, one_layer
from semmim_mini.plan.layers import Format
from semmim_mini.plan.parameters import frozen, outside_layers, parameters, trainable
from semmim_mini.plan.sizes import Sizes

USABLE = 0.92  # share of a GPU's memory that tensors may fill; the rest is the driver's, the libraries' and lost between blocks [C]
FP32 = 4


@dataclass(frozen=True)
class Part:
    """One part of a step on its way through the tide, in bytes. Work is what is there for a moment only."""

    name: str
    kept: float = 0.0
    gradients: float = 0.0  # of the parameters whose gradients its backward pass is the first to make
    forward_work: float = 0.0
    backward_work: float = 0.0  # while its activations are still there
    late_work: float = 0.0  # when they are gone


def standing(sizes: Sizes) -> dict[str, float]:
    """Bytes that are there before, during and after every step."""
    space, losses, parts = sizes.config.space, sizes.config.losses, parameters(sizes)
    queue = losses.queue * (2 * space.projection * FP32 + 8) + sizes.config.teacher.cls_queue * space.bottleneck * FP32
    if losses.mim_target == "tokens":
        queue += FP32 * losses.patch_tokens * 3 * sizes.config.image.patch**2  # the codebook
    share = _per_parameter(sizes)
    found = {
        "weights": share * (sum(parts.values()) - parts["teacher"]),
        "teacher": share * parts["teacher"],
        "optimiser": share * 2 * trainable(sizes),
        "queue, centres": queue + 2 * space.prototypes * FP32,
        "batch": FP32 * 2 * sizes.b * 3 * sizes.config.data.resolution**2,
    }
    if sizes.sharded:  # the last unit with its gradients, and one layer
        whole = 2 * outside_layers(sizes) + sizes.cross_layer.parameters()
        return found | {"gathered weights": FP32 * whole}
    return found | ({"gradients again, for DDP": FP32 * trainable(sizes)} if sizes.gpus > 1 else {})


def tide(sizes: Sizes, format: Format) -> list[Part]:
    """The parts in the order of the forward pass."""
    kept = {name: numbers.bytes(format) for name, numbers in activations(sizes).items()}
    forward, (backward, late) = _forward_work(sizes, format), _backward_work(sizes, format)
    columns = (kept, _gradients(sizes), forward, backward, late)
    parts = [Part(name, *(column.get(name, 0.0) for column in columns)) for name in kept]
    if negatives := gathered(sizes):  # they arrive in pieces and are joined; their gradients come back in one
        before = [part.name for part in parts].index("fusion: ITM, MLM")
        parts.insert(before, Part("negatives of ITM", forward_work=2 * negatives, backward_work=negatives))
    return parts


def rise(sizes: Sizes, format: Format) -> tuple[float, str]:
    """The most that a step needs beyond what stands, and where in the step that is."""
    parts, gradients = tide(sizes, format), _per_parameter(sizes) * trainable(sizes)
    first = sizes.config.run.accumulate == 1  # later micro-batches find all gradients in place
    level, points = 0.0 if first else gradients, [(gradients, "optimiser")]
    for part in parts:
        level += part.kept
        points.append((level + part.forward_work + _taught(sizes), f"forward, {part.name}"))
    for part in reversed(parts):
        points.append((level + part.backward_work, f"backward, {part.name}"))
        level += part.gradients * first - part.kept
        points.append((level + part.late_work, f"backward, {part.name}"))
    return max(points)


def memory(sizes: Sizes, format: Format) -> dict:
    """Everything that `plan` says about memory, in bytes."""
    stands, (peak, where) = standing(sizes), rise(sizes, format)
    return {
        "standing": stands,
        "activations": {part.name: part.kept for part in tide(sizes, format)},
        "logits": {name: format.product * size for name, size in logits(sizes).items()},
        "gradients": _per_parameter(sizes) * trainable(sizes),
        "gathered_for_itm": gathered(sizes),
        "step_peak": peak,
        "step_peak_at": where,
        "total": sum(stands.values()) + peak,
    }


def logits(sizes: Sizes) -> dict[str, float]:
    """How many numbers the largest products put out, once each; losses but MIM's keep two to three times that (`activations.py`)."""
    plan, found = sizes.plan, {}
    if plan.has("itc"):
        found["ITC, 2 b · keys"] = 2 * sizes.b * sizes.keys
    if plan.has("mim") and sizes.config.losses.mim_target == "codes":
        found["MIM, patches · k"] = sizes.masked_patches * sizes.config.space.prototypes
    if plan.has("mlm"):
        found["MLM, words · pieces"] = sizes.hidden_words * sizes.vocab
    if plan.has("caption"):
        found["captions, b · l · pieces"] = sizes.b * sizes.l * sizes.vocab
    return found


def gathered(sizes: Sizes) -> float:
    """Bytes of all processes' image and text tokens, from which ITM takes its negatives (`step.matching_pairs`), in fp32."""
    if sizes.gpus == 1 or not sizes.plan.has("itm"):
        return 0.0
    width = sizes.config.image.width, sizes.config.text.width
    return FP32 * sizes.gpus * sizes.b * (sizes.s * width[0] + sizes.l * width[1])


# Details of the walk ------------------------------------------------------------------------------------------------------


def _per_parameter(sizes: Sizes) -> float:
    """Bytes of a gradient on this GPU."""
    return FP32 / sizes.gpus if sizes.sharded else FP32


def _taught(sizes: Sizes) -> float:
    """What the teacher said stays until the forward pass is over: words, trunk and clean tokens, and tokens that read the caption."""
    if not sizes.teaches:
        return 0.0
    image = sizes.b * sizes.s * sizes.config.image.width
    return FP32 * ((2 * sizes.teacher_views + sizes.teacher_reads) * image + sizes.b * sizes.l * sizes.config.text.width)


def _gradients(sizes: Sizes) -> dict[str, float]:
    parts, still = parameters(sizes), frozen(sizes)
    words = sizes.vocab * sizes.config.text.width if sizes.plan.has("mlm") and not still["text encoder"] else 0
    image = "masked student" if sizes.masked_pass else "clean student"  # the later of the two passes is the first to go back
    first = {
        "text encoder": parts["text encoder"] - still["text encoder"] - words,
        image: parts["image encoder"] - still["image encoder"],
        "ITC": parts["ITC projections"],
        "fusion: ITM, MLM": parts["fusion encoder"] + parts["heads"] + words,  # MLM writes with the words' embeddings
        "caption decoder": parts.get("caption decoder", 0),
        "prototypes: MIM, consensus": parts["encoding space"],
    }
    return {name: _per_parameter(sizes) * count for name, count in first.items()}


def _forward_work(sizes: Sizes, format: Format) -> dict[str, float]:
    """Losses at work, beyond what they keep; and logits of captions, which stay at hand until all losses are there."""
    config, k, scores = sizes.config, sizes.config.space.prototypes, sizes.b * sizes.keys
    said = sizes.b * sizes.l * sizes.vocab * format.product if sizes.plan.has("caption") else 0.0
    keys = 2 * FP32 * sizes.keys * config.space.projection if sizes.plan.alpha > 0 else 0.0
    masked = sizes.masked_patches if sizes.plan.has("mim") else 0.0
    # Sinkhorn–Knopp holds six tensors over everybody's [CLS] and the queue of earlier ones.
    balanced = sizes.b * sizes.gpus + config.teacher.cls_queue if config.teacher.balance == "sinkhorn" else 0
    return {
        "ITC": 4 * FP32 * scores + keys,
        "caption decoder": said + FP32 * sizes.b * sizes.l * sizes.vocab,
        "masked student": said,
        "prototypes: MIM, consensus": said + FP32 * k * max(3 * masked, 6 * balanced),
    }


def _backward_work(sizes: Sizes, format: Format) -> tuple[dict[str, float], dict[str, float]]:
    """Gradients on their way: of logits and of the prototypes' lengths, of one image layer at a time, of tokens that several losses
    read; and late in a part those of word embeddings, which reading and writing words both give: three of them are there at once."""
    config, tokens = sizes.config, sizes.b * sizes.s
    width, hidden = config.image.width, int(config.image.width * config.image.mlp_ratio)
    layer = 2 * FP32 * width + 2 * format.product * hidden
    if config.run.checkpoint_activations:
        layer += one_layer(sizes, 1, sizes.l).bytes(format) / sizes.s
    clean, words = FP32 * sizes.clean_views * tokens * width, FP32 * sizes.vocab * config.text.width
    written = words * sizes.plan.has("mlm")
    early = {
        "prototypes: MIM, consensus": FP32 * config.space.prototypes * 5 * config.space.bottleneck,
        "masked student": clean + tokens * layer,
        "caption decoder": clean + 2 * FP32 * sizes.b * sizes.l * sizes.vocab,
        "fusion: ITM, MLM": clean + 2 * FP32 * sizes.pairs * sizes.s * config.text.width + written,
        "clean student": clean + sizes.clean_views * tokens * layer,
    }
    late = {
        "masked student": early["masked student"],  # of its first layer, when all others have their gradients
        "caption decoder": 2 * words,
        "clean student": early["clean student"],
        "text encoder": 2 * written,
    }
    return early, late
