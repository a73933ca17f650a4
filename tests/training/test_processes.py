"""Two processes compute what one would: collectives by hand, then whole steps in PyTorch's data-parallel wrapper."""

from dataclasses import fields, replace

import pytest
import torch
from gloo_pair import WORLD, run_pair
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from semmim_mini.config import Config, from_yaml, to_yaml
from semmim_mini.data.loader import Batch
from semmim_mini.model.semmim import SemMIM
from semmim_mini.training import processes
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep

VOCAB = 30

# Means over equally many rows of each process; metrics of masked patches and words are local and only logged.
COMMON_METRICS = ("itc_accuracy", "itc_keys", "masked_share", "cls_entropy", "cls_kl_to_uniform", "cls_prototypes_used")

VARIANTS = {
    "as the paper": ("losses.hard_negatives=[0.0, 0.5]",),
    "student keys, two passes": (
        "losses.itc_keys=student",
        "losses.student_passes=two",
        "teacher.balance=center",
        "losses.queue=0",
    ),
    "uneven masks": (
        "masking.ratio=[0.1, 1.0]",
        "masking.masked_share=0.5",
        "masking.strategy=block",
        "teacher.per_image=0.5",
    ),
    "pixels": ("losses.mim_target=pixels", "image.isolation=mask", "masking.strategy=random", "space.shared=false"),
}


# One process ----------------------------------------------------------------------------------------------------------


def test_with_one_process_everything_is_the_identity():
    x = torch.randn(4, 3)
    assert processes.world() == 1 and processes.rank() == 0
    for operation in (
        processes.total,
        processes.gather,
        processes.gather_padded,
        processes.average,
        processes.own_slice,
    ):
        assert torch.equal(operation(x), x), operation.__name__


def test_the_common_mean_of_one_process_is_the_mean():
    assert processes.common_mean(torch.tensor([1.0, 2.0, 6.0])) == 3
    empty = torch.zeros(0, requires_grad=True)
    assert processes.common_mean(empty) == 0 and processes.common_mean(empty).requires_grad


def test_a_tensor_of_one_process_is_whole():
    x = torch.randn(3, 2, requires_grad=True)
    assert not processes.is_spread(x)
    for part in (processes.whole(x), processes.own_rows(x), processes.spread_like(x.detach(), x)):
        assert torch.equal(part, x) and not part.requires_grad
    processes.own_rows(x).zero_()
    assert not x.any()  # the rows themselves, not a copy


# Two processes --------------------------------------------------------------------------------------------------------


def _work(rank: int, folder: str, jobs: dict) -> None:
    _collectives_by_hand(rank)
    results = {}
    for name, (yaml, batch) in jobs.items():
        results |= {f"{name}|{key}": value for key, value in _one_step(from_yaml(yaml), _own_part(batch, rank)).items()}
    save_file(results, f"{folder}/rank{rank}.safetensors")


def _collectives_by_hand(rank: int) -> None:
    """Rank 0 holds 1, rank 1 holds 2 (and more rows where that may differ)."""
    mine = torch.full((1, 2), float(rank + 1))
    assert processes.world() == WORLD and processes.rank() == rank
    assert torch.equal(processes.total(mine), torch.full((1, 2), 3.0)) and torch.equal(mine, torch.full((1, 2), float(rank + 1)))
    assert torch.equal(processes.average(mine), torch.full((1, 2), 1.5))
    assert processes.gather(mine)[:, 0].tolist() == [1, 2]
    assert processes.gather(torch.tensor([rank])).tolist() == [0, 1]
    assert processes.own_slice(torch.arange(6)).tolist() == [[0, 1, 2], [3, 4, 5]][rank]

    ragged = processes.gather_padded(torch.full((1, 2 + rank), float(rank + 1)))
    assert ragged.tolist() == [[1, 1, 0], [2, 2, 2]]

    # Rows 1 on rank 0; 2 and 6 on rank 1: the mean of all is 3, and the average over processes must give it.
    rows = [torch.tensor([1.0]), torch.tensor([2.0, 6.0])][rank].requires_grad_()
    share = processes.common_mean(rows)
    assert processes.average(share.detach()) == 3
    share.backward()
    torch.testing.assert_close(rows.grad, torch.full_like(rows, WORLD / 3))

    # Loss of rank r: (r + 1) · the sum of all rows. Rows of either rank receive 1 + 2.
    mine.requires_grad_()
    ((rank + 1) * processes.gather(mine)).sum().backward()
    assert torch.equal(mine.grad, torch.full((1, 2), 3.0))


def _own_part(batch: Batch, rank: int) -> Batch:
    """Rank `rank`'s half, padded to its own longest caption as the loader does."""
    part = batch.split(WORLD)[rank]
    longest = int(part.attention_mask.sum(dim=1).max())
    text = ("input_ids", "attention_mask", "mlm_ids", "mlm_labels")
    return replace(part, **{name: getattr(part, name)[:, :longest].contiguous() for name in text})


def _one_step(config: Config, batch: Batch) -> dict[str, Tensor]:
    """Losses, metrics, gradients and memory of one step, the same in one process and, averaged, in several."""
    torch.manual_seed(0)
    model = SemMIM(config, VOCAB)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.2 * torch.randn_like(parameter))
    memory = model.memory
    memory.add_pairs(*torch.nn.functional.normalize(torch.randn(2, 3, 10), dim=-1), torch.tensor([0, 50, 51]))
    memory.add_directions(torch.nn.functional.normalize(torch.randn(5, 8), dim=-1))

    step, plan = SemMIMStep(model), plan_at(config, 300)
    wrapped = step
    if processes.world() > 1:  # as the loop does through accelerate
        wrapped = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)
    out = wrapped(batch, plan, 5)
    sum(out.losses.values()).backward()
    step.remember(out.remember)
    return {
        **{f"loss {name}": processes.average(loss.detach()) for name, loss in out.losses.items()},
        **{f"gradient {name}": p.grad.contiguous() for name, p in model.trainable() if p.grad is not None},
        **{f"memory {name}": x.clone() for name, x in memory.state_dict().items()},
        **{f"metric {name}": processes.average(out.metrics[name]) for name in COMMON_METRICS},
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny, make_batch):
    """{variant: (one process, rank 0, rank 1)}, every variant computed in the same two processes."""
    configs = {name: tiny("data.batch_size=8", *more) for name, more in VARIANTS.items()}
    jobs = {name: (to_yaml(config), make_batch(config)) for name, config in configs.items()}
    for _, batch in jobs.values():
        batch.image_ids[5] = 2  # one picture twice, its captions on different processes
    folder = run_pair(_work, tmp_path_factory.mktemp("processes"), jobs)
    ranks = [load_file(folder / f"rank{rank}.safetensors") for rank in range(WORLD)]

    def of(name: str, everything: dict) -> dict:
        return {key.split("|", 1)[1]: value for key, value in everything.items() if key.startswith(f"{name}|")}

    return {name: (_one_step(configs[name], batch), *(of(name, r) for r in ranks)) for name, (_, batch) in jobs.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_equal_one(results, variant):
    one, *ranks = results[variant]
    losses = {name for name in one if name.startswith("loss ")}
    assert losses == {f"loss {term}" for term in ("itc", "itm", "mlm", "consensus", "mim", "caption")}
    assert sum(name.startswith("gradient ") for name in one) > 80
    for rank, two in enumerate(ranks):
        for name, expected in one.items():
            torch.testing.assert_close(two[name], expected, atol=1e-5, rtol=1e-4, msg=lambda m, n=name, r=rank: f"{n} on rank {r}: {m}")
        unused = {name for name, x in two.items() if name not in one and x.abs().max() > 0}
        assert not unused


def test_the_halves_were_really_different(tiny, make_batch):
    halves = [_own_part(make_batch(tiny("data.batch_size=8")), rank) for rank in range(WORLD)]
    assert halves[0].input_ids.shape[1] < halves[1].input_ids.shape[1]
    assert all(len(getattr(half, f.name)) == 4 for half in halves for f in fields(half) if f.name not in ("images", "skipped"))
