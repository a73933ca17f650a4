r"""Batches for pre-training, each a pure function of (seed, step).

    step ─► places ─► data/order.py ─► (epoch, index) of each sample ─► caption, views, hidden words ─► Batch
                                               └── with the seed, decides every random choice ──┘

Nothing else decides what is in a batch: not how many workers prepare it, not how many processes share it, not what was
run before. That makes resuming exact (start at the step), and lets one process check what eight would do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from semmim_mini.data.order import order_of, sample_seed
from semmim_mini.data.pairs import Pairs, read_pair
from semmim_mini.data.text import Vocabulary, mask_tokens, tokenize
from semmim_mini.data.views import TwoViews
from semmim_mini.errors import UserError


@dataclass
class Batch:
    """What a training step reads."""

    images: Float[Tensor, "v b 3 h w"]
    input_ids: Int[Tensor, "b l"]
    attention_mask: Bool[Tensor, "b l"]
    mlm_ids: Int[Tensor, "b l"]  # the caption with hidden words
    mlm_labels: Int[Tensor, "b l"]  # their true ids; -100 elsewhere
    image_ids: Int[Tensor, "b"]
    captions: list[str]
    skipped: list[str] = field(default_factory=list)  # pictures that could not be read and were replaced

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        return self._each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """In page-locked memory, from where copies to a GPU need not be waited for."""
        return self._each(Tensor.pin_memory)

    def split(self, parts: int) -> list["Batch"]:
        """Equal slices, for gradient accumulation; what was skipped is told once."""
        if parts == 1:
            return [self]
        size = len(self.image_ids) // parts
        return [self._slice(slice(i * size, (i + 1) * size), self.skipped if i == 0 else []) for i in range(parts)]

    def _slice(self, rows: slice, skipped: list[str]) -> "Batch":
        rest = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("images", "skipped")}
        return Batch(images=self.images[:, rows], skipped=skipped, **rest)

    def _each(self, change) -> "Batch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: change(x) for name, x in tensors.items()})


class _Steps(Dataset):
    """Batch number `step`, or this process's share of it, as item `step` of a data set."""

    def __init__(self, loader: "PretrainLoader"):
        self.loader = loader
        self.vocabulary = Vocabulary.of(loader.tokenizer)
        self.order = order_of(loader.pairs, loader.seed)

    def __getitem__(self, step: int) -> Batch | UserError:
        try:
            return self._batch(step)
        except UserError as error:
            return error  # raised again by the loader: from a worker it would arrive wrapped in a traceback

    def _batch(self, step: int) -> Batch:
        loader = self.loader
        share = loader.batch_size // loader.world
        first = step * loader.batch_size + loader.rank * share
        samples = [self._sample(epoch, index) for epoch, index in self.order(range(first, first + share))]
        images, captions, image_ids, uniform, skipped = zip(*samples, strict=True)
        ids, attention = tokenize(loader.tokenizer, captions, loader.max_length)
        masked, labels = mask_tokens(ids, attention, self.vocabulary, loader.mlm_share, uniform=torch.stack(uniform))
        names = [name for names in skipped for name in names]
        pixels = torch.stack(images, dim=1)
        return Batch(pixels, ids, attention, masked, labels, torch.tensor(image_ids), list(captions), names)

    def _sample(self, epoch: int, index: int) -> tuple:
        draw = torch.Generator().manual_seed(sample_seed(self.loader.seed, epoch, index))
        pair, skipped = read_pair(self.loader.pairs, index)
        caption = pair.captions[torch.randint(len(pair.captions), (1,), generator=draw)]
        images = self.loader.views(pair, caption, draw).pixels
        return images, caption, pair.image_id, torch.rand(3, self.loader.max_length, generator=draw), skipped


class PretrainLoader:
    """Iterates the batches of steps `start_step` to `stop_step`, this process's share of each.

    Args:
        batch_size: b over all processes; process `rank` of `world` gets the rank-th of `world` equal slices.
        seed: of the order and of every random choice.
        workers: processes that prepare batches; 0 prepares them in this one.
        max_length: l, tokens of a caption with [CLS] and [SEP].
        mlm_share: of words hidden for masked language modelling.

    Raises:
        UserError: fewer pairs than a batch holds, a batch that does not divide by the processes; while iterating, what
            a source has to object to.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: PreTrainedTokenizerBase,
        views: TwoViews,
        *,
        batch_size: int,
        seed: int,
        start_step: int,
        stop_step: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        max_length: int = 24,
        mlm_share: float = 0.15,
    ):
        if len(pairs) < batch_size:
            raise UserError(f"{pairs.name} has {len(pairs)} pairs, fewer than data.batch_size={batch_size}; set it lower")
        if batch_size % world:
            raise UserError(f"data.batch_size={batch_size} does not divide by {world} processes; use a multiple of {world}")
        self.pairs, self.tokenizer, self.views = pairs, tokenizer, views
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.steps, self.workers = range(start_step, stop_step), workers
        self.max_length, self.mlm_share = max_length, mlm_share

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        batches = DataLoader(
            _Steps(self),
            batch_size=None,  # an item is a whole batch already
            sampler=self.steps,
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it draws from the global one, and a resumed run would differ
            worker_init_fn=_one_thread,
        )
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def _unchanged(batch):
    return batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)  # the workers are the parallelism: with all threads each, they would fight for the cores
