r"""What one step on one GPU has of everything, from the configuration alone."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.plan.layers import ImageLayer, TextLayer
from semmim_mini.training.schedules import Plan, plan_at

BERT_VOCABULARY = 30_522  # pieces of bert-base-uncased, and of every tokenizer derived from it


class Run(NamedTuple):
    """Some image layers one after another."""

    layers: range
    text: int  # tokens that they read besides


@dataclass(frozen=True)
class Sizes:
    """One micro-batch on one GPU.

    Captions count as `data.max_length` tokens each: a batch is padded to its longest caption, and among hundreds one is that long.
    """

    config: Config
    plan: Plan  # which terms are on
    gpus: int
    vocab: int
    hidden_words: float  # that MLM asks for
    masked_patches: float  # that MIM asks for; expected, where r is drawn

    @property
    def b(self) -> int:
        return self.config.data.batch_size // (self.gpus * self.config.run.accumulate)

    @property
    def n(self) -> int:
        return self.config.n_patches

    @property
    def s(self) -> int:
        """Tokens of an image: [CLS] and patches."""
        return 1 + self.n

    @property
    def l(self) -> int:  # noqa: E743, the letter of the method's notation
        return self.config.data.max_length

    @property
    def keys(self) -> int:
        """Keys of ITC: the micro-batch of all GPUs, and the queue."""
        return self.b * self.gpus + self.config.losses.queue

    @property
    def sharded(self) -> bool:
        return self.config.run.parallel == "fsdp" and self.gpus > 1

    # What `training/step.py` decides, repeated in its words ---------------------------------------------------------------

    @property
    def masked_view(self) -> int:
        return 1 if self.config.losses.student_passes == "two" else 0

    @property
    def clean_views(self) -> int:
        return 2 if self.plan.has("consensus") and self.config.losses.student_passes == "three" else 1

    @property
    def teacher_views(self) -> int:
        return 2 if self.plan.has("consensus") or (self.masked_view == 1 and self.plan.has("mim")) else 1

    @property
    def teaches(self) -> bool:
        losses, plan = self.config.losses, self.plan
        contrast_asks = losses.itc_keys == "teacher" or losses.queue > 0 or plan.alpha > 0
        return plan.has("mim", "consensus") or (plan.has("itc", "itm") and contrast_asks)

    @property
    def teacher_reads(self) -> bool:
        """Whether the teacher's patches see the caption."""
        return self.plan.has("mim") and self.config.losses.mim_target == "codes" and self.config.losses.mim_target_text

    @property
    def masked_pass(self) -> bool:
        return self.plan.has("mim") or (self.plan.has("consensus") and self.masked_view == 1)

    @property
    def masked_runs(self) -> list["Run"]:
        """How the masked view runs through the image layers: the trunk, for MIM the branch that reads text, for the consensus of `two`
        passes one that does not."""
        m, depth, reads = self.config.image.inject_from, self.config.image.depth, self.config.losses.mim_student_text
        cls_reads = reads and self.config.image.isolation != "fork"  # [CLS] is then taken from the branch that read
        runs = [Run(range(m), 0)]
        if self.plan.has("mim") or cls_reads:
            runs.append(Run(range(m, depth), self.l if reads else 0))
        if self.masked_view == 1 and self.plan.has("consensus") and not cls_reads:
            runs.append(Run(range(m, depth), 0))
        return runs

    @property
    def texts(self) -> int:
        """Texts that the student reads: each caption, and for MLM the same with hidden words."""
        if not self.plan.has("itc", "itm", "mlm", "mim", "consensus"):
            return 0
        return self.b * (2 if self.plan.has("mlm") else 1)

    @property
    def pairs(self) -> int:
        """Pairs that the fusion encoder reads: ITM's true ones and two wrong ones each, and MLM's."""
        return self.b * (3 * self.plan.has("itm") + self.plan.has("mlm"))

    # Layers ---------------------------------------------------------------------------------------------------------------

    @cached_property
    def image_layers(self) -> list[ImageLayer]:
        image = self.config.image
        gated = [image.injection == "gated" and i >= image.inject_from for i in range(image.depth)]
        return [ImageLayer(image.width, int(image.width * image.mlp_ratio), g) for g in gated]

    @cached_property
    def text_layer(self) -> TextLayer:
        return self._text_layer(cross=False)

    @cached_property
    def cross_layer(self) -> TextLayer:
        return self._text_layer(cross=True)

    def _text_layer(self, cross: bool) -> TextLayer:
        text = self.config.text
        return TextLayer(text.width, int(text.width * text.mlp_ratio), text.heads, cross, text.dropout > 0)


def sizes_of(config: Config, gpus: int = 1, vocab: int | None = None, step: int | None = None) -> Sizes:
    """Sizes of one step.

    Args:
        vocab: of the tokenizer; by default the configured size, or BERT's where the tokenizer has a name.
        step: by default the last, when all terms are on.

    Raises:
        UserError: a batch that does not divide, or a configuration that is not one of pre-training.
    """
    data, accumulate = config.data, config.run.accumulate
    if config.task.name != "pretrain" or config.losses.answer.weight > 0:
        raise UserError(f"plan works out pre-training, not task {config.task.name}; leave out task.* and losses.answer")
    if data.batch_size % (gpus * accumulate):
        raise UserError(
            f"data.batch_size={data.batch_size} does not divide by {gpus} GPUs × run.accumulate={accumulate}; "
            f"use a multiple of {gpus * accumulate}"
        )
    b = data.batch_size // (gpus * accumulate)
    return Sizes(
        config=config,
        plan=plan_at(config, config.run.steps - 1 if step is None else step),
        gpus=gpus,
        vocab=vocab or (data.vocab_size if data.tokenizer == "train" else BERT_VOCABULARY),
        hidden_words=b * max(1, round(data.mlm_share * (data.max_length - 2))),
        masked_patches=b * config.masking.masked_share * _hidden_patches(config),
    )


def _hidden_patches(config: Config) -> float:
    """Of a masked sample: floor(r·n), at least 1, on average over r ~ U(low, high)."""
    (low, high), n = config.masking.ratio, config.n_patches
    if low == high:
        return max(1, math.floor(low * n + 1e-9))
    return max(1.0, (low + high) / 2 * n - 0.5)  # cutting off what follows the point takes half a patch on average
