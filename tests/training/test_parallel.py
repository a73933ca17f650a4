"""FSDP computes what DDP does: gradients, clipping, the teacher, prototypes and checkpoints, in two processes on a CPU."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from gloo_pair import WORLD, run_pair
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers.models.bert.modeling_bert import BertLayer

from semmim_mini.config import Config, from_yaml, to_yaml
from semmim_mini.data.loader import Batch
from semmim_mini.errors import UserError
from semmim_mini.model.layers import Layer
from semmim_mini.model.semmim import SemMIM
from semmim_mini.training import parallel, processes
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.startup import prepare_step
from semmim_mini.training.step import SemMIMStep

VOCAB, CLIP, MOMENTUM = 30, 0.5, 0.9
VARIANTS = {
    "plain": (),
    "micro-batches, activations computed twice": ("run.accumulate=2", "run.checkpoint_activations=true", "losses.queue=0"),
    "masks that look inside layers": ("masking.strategy=attention", "space.shared=false"),
    "queries of words, gates, tokens": (
        "masking.relevance=query",
        "image.injection=gated",
        "losses.mim_target=tokens",
        "losses.student_passes=two",
    ),
    "bf16": ("run.precision=bf16", "masking.strategy=random", "losses.hard_negatives=1.0"),
}


# One process ----------------------------------------------------------------------------------------------------------


def test_units_are_all_transformer_layers(make_model):
    model = make_model()
    units = parallel.units(model)
    assert sum(isinstance(unit, Layer) for unit in units) == 4  # two of the student, two of the teacher
    assert sum(isinstance(unit, BertLayer) for unit in units) == 4  # text encoders, fusion encoder, decoder
    assert len(units) == 8


@pytest.mark.parametrize(("setting", "layer"), [("masking.strategy=attention", 2), ("masking.relevance=query", 1)])
def test_layers_that_masks_look_into_are_no_units(make_model, setting, layer):
    model = make_model(setting, "image.depth=3")  # text from layer 1 on
    units = parallel.units(model)
    inspected = model.teacher.image.layers[layer]
    assert len(units) == 9 and all(unit is not inspected for unit in units)


def fake(model: SemMIM, precision: str = "no") -> tuple[SimpleNamespace, SimpleNamespace]:
    """What `parallel` asks of an accelerator and of a job."""
    rank, job = processes.rank(), SimpleNamespace(model=model, step=SemMIMStep(model), tokenizer=range(VOCAB))
    job.prepare = lambda batch, step: prepare_step(job.model, batch, step)
    half, device = precision == "bf16", torch.device("cpu")
    accelerator = SimpleNamespace(mixed_precision=precision, is_main_process=rank == 0, device=device)
    accelerator.autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=half)
    accelerator.distributed_type = "MULTI_CPU"
    return accelerator, job


def test_fp16_is_refused_with_the_remedy(make_model):
    with pytest.raises(UserError, match=r"run\.parallel=fsdp computes in bf16 or fp32, not in fp16; set run\.precision=bf16"):
        parallel.Sharded(*fake(make_model(), "fp16"))


def test_a_launcher_that_shards_by_itself_is_refused(make_model):
    from accelerate import DistributedType

    accelerator, job = fake(make_model())
    accelerator.distributed_type = DistributedType.FSDP
    with pytest.raises(UserError, match=r"asks for FSDP; set distributed_type: MULTI_GPU there, and run\.parallel=fsdp here"):
        parallel.spread(job.model.config, accelerator, job)


def test_one_process_has_nothing_to_spread(tiny, make_model):
    accelerator, job = fake(make_model())
    accelerator.prepare = lambda *given: given
    found = parallel.spread(tiny("run.parallel=fsdp"), accelerator, job)
    assert type(found) is parallel.Replicated and found.finished("anywhere") is job.model


# Two processes --------------------------------------------------------------------------------------------------------


class Wrapped(parallel.Replicated):
    """DDP as accelerate sets it up."""

    def __init__(self, accelerator, job):
        wrapped = DistributedDataParallel(job.step, find_unused_parameters=True, broadcast_buffers=False)
        accelerator.prepare = lambda step, optimizer: (wrapped, optimizer)
        accelerator.no_sync = lambda module: module.no_sync()
        accelerator.clip_grad_norm_ = torch.nn.utils.clip_grad_norm_
        super().__init__(accelerator, job)

    def losses(self, batch, plan, seed):
        with self.accelerator.autocast():
            return super().losses(batch, plan, seed)


def _work(rank: int, folder: str, jobs: dict) -> None:
    results = {}
    for name, (yaml, batch) in jobs.items():
        for kind in (Wrapped, parallel.Sharded):
            found = _one_step(kind, from_yaml(yaml), batch.split(WORLD)[rank])
            results |= {f"{name}|{kind.__name__}|{key}": value.clone() for key, value in found.items()}
    save_file(results, f"{folder}/rank{rank}.safetensors")


def _model(config: Config) -> SemMIM:
    torch.manual_seed(0)
    model = SemMIM(config, VOCAB)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def _one_step(kind: type, config: Config, batch: Batch) -> dict[str, Tensor]:
    """A step as the loop takes it; everything it changes, whole."""
    spread, plan = kind(*fake(_model(config), config.run.precision)), plan_at(config, 300)
    model = spread.model
    spread.prepare(batch, 0)  # k-means falls due at the first step
    parts = batch.split(config.run.accumulate)
    for i, part in enumerate(parts):
        with spread.apart() if i < len(parts) - 1 else nullcontext():
            out = spread.losses(part, plan, 5 + i)
            (sum(out.losses.values()) / len(parts)).backward()
    found = {f"loss {name}": processes.average(loss.detach()) for name, loss in out.losses.items()}
    found["norm"] = torch.tensor(spread.clip(CLIP))
    found |= {f"gradient {name}": processes.whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    spread.optimizer.step()
    spread.update_teacher(MOMENTUM)
    with spread.looking():
        seen = spread.job.model
        assert not any(processes.is_spread(x) for x in seen.state_dict().values())
        found |= {f"weight {name}": x for name, x in seen.state_dict().items()}
    assert spread.job.model is model
    weights, averages = spread.tensors()
    assert (len(weights) > 100 and len(averages) > 100) if processes.rank() == 0 else not (weights or averages)
    for name, x in weights.items():
        assert torch.equal(x, found[f"weight {name}"]), name
    return found | {f"average {name}": x for name, x in averages.items()} | {"rows held": torch.tensor(_held(model, spread.adamw))}


def _held(model: SemMIM, adamw) -> int:
    """Numbers that this process keeps between two steps."""
    averages = [x for state in adamw.state.values() for key, x in state.items() if key != "step"]
    return sum(processes.own_rows(x).numel() for x in (*model.parameters(), *averages))


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny, make_batch):
    """{variant: [(DDP, FSDP) of rank 0, of rank 1]}"""
    configs = {name: tiny("data.batch_size=8", *more) for name, more in VARIANTS.items()}
    jobs = {name: (to_yaml(config), make_batch(config)) for name, config in configs.items()}
    folder = run_pair(_work, tmp_path_factory.mktemp("parallel"), jobs)
    ranks = [load_file(folder / f"rank{rank}.safetensors") for rank in range(WORLD)]

    def of(name: str, kind: str, everything: dict) -> dict:
        start = f"{name}|{kind}|"
        return {key.removeprefix(start): value for key, value in everything.items() if key.startswith(start)}

    return {name: [(of(name, "Wrapped", rank), of(name, "Sharded", rank)) for rank in ranks] for name in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS)
def test_fsdp_equals_ddp(results, variant):
    for rank, (ddp, fsdp) in enumerate(results[variant]):
        assert float(ddp["norm"]) > CLIP  # else nothing would be clipped
        exact = [name for name in ddp if name.startswith(("loss ", "norm", "gradient ", "weight memory.", "weight codebook"))]
        assert sum(name.startswith("gradient ") for name in exact) > 80
        for name in (*exact, *(name for name in ddp if name.startswith("average "))):
            torch.testing.assert_close(fsdp[name], ddp[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name, r=rank: f"{n} on rank {r}: {m}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_move_alike(results, variant):
    # Adam's first step is as long where a gradient is a rounding error as anywhere: a weight may then go the other way, by 2 · lr.
    for ddp, fsdp in results[variant]:
        weights = [name for name in ddp if name.startswith("weight ")]
        assert set(weights) == {name for name in fsdp if name.startswith("weight ")}
        off = torch.cat([(fsdp[name] - ddp[name]).abs().flatten().float() for name in weights])
        assert off.max() < 2.1e-3 and (off > 1e-5).float().mean() < 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_processes_see_the_same(results, variant):
    (_, first), (_, second) = results[variant]
    assert all(torch.equal(second[name], first[name]) for name in second if name != "rows held")


def test_each_process_holds_about_half(results):
    held = [fsdp["rows held"].item() for _, fsdp in results["plain"]]
    everything = results["plain"][0][0]["rows held"].item()
    assert sum(held) == everything + 3  # but for one scalar and its averages, which both hold
    assert max(held) < 0.55 * everything
