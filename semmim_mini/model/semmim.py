r"""All networks of SemMIM in one module: a student, its teacher, and the heads that only the student has.

    student  image encoder · text encoder · ITC projections · encoding space
    teacher  the same four, an exponential moving average of the student, never trained [S: momentum encoder]
    heads    fusion encoder · ITM · MLM · (captioning) · (pixels | tokens, for comparison)
    memory   ITC queue, [CLS] queue, centres: what a step remembers of earlier ones

What a step does with them stands in `training/step.py`.
"""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semmim_mini.config import Config
from semmim_mini.model.encoding_space import EncodingSpace
from semmim_mini.model.image_encoder import ImageEncoder
from semmim_mini.model.remembered import Remembered
from semmim_mini.model.text_encoder import CaptionDecoder, FusionEncoder, TextEncoder, WordHead
from semmim_mini.objectives.contrastive import enqueue

TEMPERATURE = 0.07  # of ITC, at first [F: ALBEF]


class Encoders(nn.Module):
    """What student and teacher have in common."""

    def __init__(self, config: Config, vocab_size: int):
        super().__init__()
        image, text, space = config.image, config.text, config.space
        self.image = ImageEncoder(image, config.data.resolution, text.width)
        self.text = TextEncoder(text, vocab_size, config.data.max_length)
        self.image_projection = nn.Linear(image.width, space.projection)
        self.text_projection = nn.Linear(text.width, space.projection)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
            nn.init.zeros_(projection.bias)
        self.space = EncodingSpace(image.width, space)

    def project_image(self, tokens: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest p"]:
        """ITC feature, L2-normalised in fp32."""
        return F.normalize(self.image_projection(tokens).float(), dim=-1)

    def project_text(self, tokens: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest p"]:
        """ITC feature, L2-normalised in fp32."""
        return F.normalize(self.text_projection(tokens).float(), dim=-1)


class Memory(nn.Module):
    """What a step remembers: ring buffers and centres. Buffers, so that checkpoints carry them and resume is exact."""

    def __init__(self, config: Config):
        super().__init__()
        p, k, z = config.space.projection, config.space.prototypes, config.space.bottleneck
        self.register_buffer("image_queue", torch.zeros(config.losses.queue, p))
        self.register_buffer("text_queue", torch.zeros(config.losses.queue, p))
        self.register_buffer("id_queue", torch.full((config.losses.queue,), -1))
        self.register_buffer("pairs_seen", torch.zeros((), dtype=torch.long))
        # Directions, not logits: prototypes move on, and old directions can be scored again.
        self.register_buffer("cls_queue", torch.zeros(config.teacher.cls_queue, z))
        self.register_buffer("cls_seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("cls_center", torch.zeros(k))
        self.register_buffer("patch_center", torch.zeros(k))

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image features, text features and image ids in the queue; only places that were ever written."""
        filled = min(int(self.pairs_seen), len(self.id_queue))
        return self.image_queue[:filled], self.text_queue[:filled], self.id_queue[:filled]

    def add_pairs(self, image: Tensor, text: Tensor, ids: Tensor) -> None:
        if len(self.id_queue) == 0:
            return
        pointer = int(self.pairs_seen) % len(self.id_queue)
        for queue, rows in ((self.image_queue, image), (self.text_queue, text), (self.id_queue, ids)):
            enqueue(queue, rows, pointer)
        self.pairs_seen += min(len(ids), len(self.id_queue))

    def directions(self) -> Tensor:
        """Teacher [CLS] directions of earlier steps."""
        return self.cls_queue[: min(int(self.cls_seen), len(self.cls_queue))]

    def add_directions(self, rows: Tensor) -> None:
        if len(self.cls_queue) == 0:
            return
        enqueue(self.cls_queue, rows, int(self.cls_seen) % len(self.cls_queue))
        self.cls_seen += min(len(rows), len(self.cls_queue))


class SemMIM(nn.Module):
    """Student, teacher, heads and memory.

    Args:
        config: the whole configuration.
        vocab_size: of the tokenizer that makes the captions' ids.
    """

    def __init__(self, config: Config, vocab_size: int):
        super().__init__()
        self.config, image, text, losses = config, config.image, config.text, config.losses
        self.student = Encoders(config, vocab_size)
        self.fusion = FusionEncoder(text, vocab_size, image.width, config.data.max_length)
        self.itm_head = nn.Linear(text.width, 2)
        self.mlm_head = WordHead(self.student.text)
        self.decoder = CaptionDecoder(text, vocab_size, image.width, config.data.max_length) if losses.caption.weight > 0 else None
        # Answers are written like captions, by a decoder that looks at the question as the fusion encoder read it [F: ALBEF, BLIP].
        self.answerer = CaptionDecoder(text, vocab_size, text.width, config.data.max_length) if losses.answer.weight > 0 else None
        pixels = 3 * image.patch**2
        self.pixel_head = nn.Linear(image.width, pixels) if losses.mim_target == "pixels" else None
        self.token_head = nn.Linear(image.width, losses.patch_tokens) if losses.mim_target == "tokens" else None
        self.register_buffer("codebook", torch.zeros(losses.patch_tokens if self.token_head is not None else 0, pixels))
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))  # of ITC, learnable [F: ALBEF]
        self.keep_temperature()
        self.memory = Memory(config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.student.image.checkpointed = config.run.checkpoint_activations
        self.student.image.freeze(image.freeze)
        self.student.image.remembered = Remembered(image.remember) if image.remember else None
        if text.freeze:
            self.student.text.bert.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "SemMIM":
        """The teacher never drops anything out: its answers are targets."""
        super().train(mode)
        self.teacher.eval()
        return self

    def itc_temperature(self) -> Tensor:
        """In the range of `losses.temperature` [F: ALBEF], because `keep_temperature` is called after every optimiser step.

        Not clamped here: on the border and beyond, a clamp has no gradient, and the temperature would stay there for good.
        """
        return self.temperature.float()

    @torch.no_grad()
    def keep_temperature(self) -> None:
        """Back into its range, should an optimiser step have led out of it."""
        self.temperature.clamp_(*self.config.losses.temperature)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that the optimiser moves."""
        return [(name, p) for name, p in self.named_parameters() if p.requires_grad]

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """teacher ← momentum · teacher + (1 − momentum) · student, all tensors in a few calls."""
        teacher, student = list(self.teacher.parameters()), list(self.student.parameters())
        torch._foreach_lerp_(teacher, [p.detach() for p in student], 1 - momentum)
