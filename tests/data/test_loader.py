"""The loader: what is in a batch follows from seed and step alone."""

import pytest
import torch
from torchvision import tv_tensors

from semmim_mini.data.loader import Batch, PretrainLoader
from semmim_mini.data.mixture import MixedPairs
from semmim_mini.data.order import Shuffled
from semmim_mini.data.pairs import Pair
from semmim_mini.data.text import IGNORE, train_wordpiece
from semmim_mini.data.views import TwoViews
from semmim_mini.errors import UserError

COLOURS = ["red", "green", "blue", "black", "white", "brown", "grey", "pink", "orange", "yellow"]


class Colours:
    """Ten noisy pictures, two captions of different lengths each; picture 7 cannot be read when `broken`."""

    name = "colours/train"

    def __init__(self, broken: bool = False, error: str = ""):
        self.broken, self.error = broken, error

    def __len__(self) -> int:
        return len(COLOURS)

    def captions(self, index: int) -> tuple[str, ...]:
        return f"a {COLOURS[index]} thing", f"something {COLOURS[index]} left of nothing in particular"

    def __getitem__(self, index: int) -> Pair:
        pixels = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        return Pair(tv_tensors.Image(pixels), self.captions(index), 100 + index, COLOURS[index])

    def read(self, index: int) -> tuple[Pair, list[str]]:
        if self.error:
            raise UserError(self.error)
        return (self[8], ["pink"]) if self.broken and index == 7 else (self[index], [])


TOKENIZER = train_wordpiece((c for i in range(10) for c in Colours().captions(i)), 200)


def loader(pairs=None, **options) -> PretrainLoader:
    options = dict(batch_size=4, seed=1, start_step=0, stop_step=4) | options
    return PretrainLoader(pairs or Colours(), TOKENIZER, TwoViews(16), **options)


def same(one: Batch, other: Batch) -> bool:
    names = ("images", "input_ids", "attention_mask", "mlm_ids", "mlm_labels", "image_ids")
    return one.captions == other.captions and all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


# The batches ------------------------------------------------------------------------------------------------------------


def test_a_batch_holds_what_the_step_reads():
    batch = next(iter(loader()))
    length = batch.input_ids.shape[1]
    assert batch.images.shape == (2, 4, 3, 16, 16) and batch.images.dtype == torch.float32
    assert batch.attention_mask.dtype == torch.bool and batch.attention_mask.shape == (4, length)
    assert batch.image_ids.tolist() == [100 + i for _, i in Shuffled(10, seed=1)(range(4))]
    for caption, ids, words in zip(batch.captions, batch.input_ids, batch.attention_mask, strict=True):
        assert TOKENIZER(caption)["input_ids"] == ids[words].tolist()
    hidden = batch.mlm_labels != IGNORE
    assert hidden.any(dim=1).all() and torch.equal(batch.mlm_labels[hidden], batch.input_ids[hidden])
    assert torch.equal(batch.mlm_ids[~hidden], batch.input_ids[~hidden]) and batch.skipped == []


def test_workers_change_nothing():
    alone, helped = list(loader()), list(loader(workers=2))
    assert len(alone) == len(helped) == len(loader()) == 4
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_resuming_changes_nothing():
    assert all(same(a, b) for a, b in zip(list(loader())[2:], loader(start_step=2), strict=True))


def test_processes_partition_the_global_batch_and_change_nothing():
    for whole, *parts in zip(loader(), loader(rank=0, world=2), loader(rank=1, world=2), strict=True):
        assert [c for part in parts for c in part.captions] == whole.captions
        assert torch.equal(torch.cat([part.images for part in parts], dim=1), whole.images)
        for rank, part in enumerate(parts):  # a slice may be padded to less
            rows, length = slice(2 * rank, 2 * rank + 2), part.input_ids.shape[1]
            assert torch.equal(part.mlm_ids, whole.mlm_ids[rows, :length])
            assert torch.equal(part.mlm_labels, whole.mlm_labels[rows, :length])


class Blocked(Colours):
    blocks = (3, 3, 4)


@pytest.mark.parametrize(
    "pairs",
    [Blocked(), MixedPairs([Blocked(), Colours()], [2, 1]), MixedPairs([Colours(), Blocked()], [1, 1])],
    ids=["blocks", "2:1", "1:1"],
)
@pytest.mark.parametrize(("world", "workers", "start"), [(2, 0, 0), (1, 2, 3), (4, 1, 2)])
def test_blocks_and_mixtures_keep_all_of_that(pairs, world, workers, start):
    whole = list(loader(pairs, stop_step=6))[start:]
    parts = [list(loader(pairs, stop_step=6, start_step=start, rank=rank, world=world, workers=workers)) for rank in range(world)]
    assert [b.captions for b in whole] == [[c for b in batches for c in b.captions] for batches in zip(*parts, strict=True)]
    for batch, batches in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat([b.images for b in batches], dim=1), batch.images)


def test_a_pair_seen_again_looks_and_reads_differently():
    batches = list(loader(stop_step=50))
    of_one = [(b.captions[i], b.images[0, i]) for b in batches for i in range(4) if b.image_ids[i] == 103]
    assert len(of_one) == 20 and len({caption for caption, _ in of_one}) == 2
    assert not any(torch.equal(of_one[0][1], other) for _, other in of_one[1:])


def test_other_seeds_give_other_views():
    one, other = (next(iter(loader(batch_size=10, seed=seed))) for seed in (1, 2))  # all pictures, in two orders
    for image_id in one.image_ids:
        views = [batch.images[:, batch.image_ids == image_id] for batch in (one, other)]
        assert not torch.equal(*views)


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    list(loader())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_pictures_are_reported(workers):
    batches = list(loader(Colours(broken=True), batch_size=5, stop_step=2, workers=workers))  # one epoch
    assert [name for batch in batches for name in batch.skipped] == ["pink"]
    ids = [i for batch in batches for i in batch.image_ids.tolist()]
    assert sorted(ids) == [100, 101, 102, 103, 104, 105, 106, 108, 108, 109]  # the neighbour stands in


@pytest.mark.parametrize("workers", [0, 1])
def test_user_errors_arrive_unchanged_from_workers(workers):
    with pytest.raises(UserError) as caught:
        list(loader(Colours(error="the disk is gone; mount it"), workers=workers))
    assert str(caught.value) == "the disk is gone; mount it"


def test_moving_a_batch_moves_every_tensor():
    batch = next(iter(loader())).to("meta")
    tensors = [x for x in vars(batch).values() if isinstance(x, torch.Tensor)]
    assert len(tensors) == 6 and all(x.device.type == "meta" for x in tensors) and len(batch.captions) == 4


def test_impossible_batches_are_refused():
    with pytest.raises(UserError, match=r"colours/train has 10 pairs, fewer than data.batch_size=11"):
        loader(batch_size=11)
    with pytest.raises(UserError, match=r"data.batch_size=4 does not divide by 3 processes"):
        loader(world=3)
    assert len(loader(batch_size=10)) == 4
