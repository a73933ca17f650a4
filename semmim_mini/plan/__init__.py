r"""`semmim-mini plan`: what a run will need, before it is paid for.

    sizes.py         what a step on one GPU has of everything
    layers.py        formulas of one layer: parameters, products, what it keeps
    parameters.py    arithmetic.py    activations.py      the same for the parts of the method
    memory.py        the peak of one GPU
    duration.py      hours           gpus.py   data sheets           traffic.py   between GPUs, and from the disk
    measured.py      one step on this machine beside its prediction (`--measure`)

Everything but `measured.py` is arithmetic on a configuration: no network is built, PyTorch is not even loaded. What it leaves out, it
says: `NOT_MODELLED`.
"""

import json
from dataclasses import dataclass, replace

from semmim_mini.config import Config, override
from semmim_mini.errors import UserError
from semmim_mini.plan.arithmetic import arithmetic
from semmim_mini.plan.duration import UTILISATION, duration, flops_of_step, with_steps
from semmim_mini.plan.gpus import Gpu, gpu
from semmim_mini.plan.layers import Format
from semmim_mini.plan.memory import USABLE, memory
from semmim_mini.plan.parameters import parameters, trainable
from semmim_mini.plan.sizes import Sizes, sizes_of
from semmim_mini.plan.traffic import between_gpus, from_disk

NOT_MODELLED = (
    "waiting for data, for the slowest process and for gradients, beyond what utilisation stands for",
    "workspace of libraries and fragmentation, beyond the share of memory that is left free",
    "validation, saving and the report",
    "fp32 products of the encoding space under autocast, which run at a lower peak",
    "the weights that travel with run.parallel=fsdp",
)


@dataclass(frozen=True)
class Wanted:
    """What `plan` is asked, besides the configuration."""

    gpus: int = 8
    gpu: str = "a100-80g"
    images: float | None = None  # with epochs; without both, `run.steps` decides
    epochs: float | None = None
    utilisation: float = UTILISATION
    per_node: int = 8  # GPUs


def run_plan(config: Config, wanted: Wanted, as_json: bool = False, measure: bool = False) -> int:
    """Work it out and print it. Returns the exit code.

    Args:
        measure: also run one step here, and put what it took beside what the formulas say for it.
    """
    result = make_plan(config, wanted)
    if measure:
        result["here"] = _here(config, wanted)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        from semmim_mini.plan.table import as_table

        print(as_table(result))
    return 0


def make_plan(config: Config, wanted: Wanted) -> dict:
    """Everything that `plan` says, in bytes, FLOPs, seconds and hours.

    Raises:
        UserError: a GPU that is not in the table, a batch that does not divide, a run of nothing.
    """
    card = gpu(wanted.gpu)
    if wanted.gpus < 1:
        raise UserError(f"--gpus {wanted.gpus} is impossible: it needs at least 1")
    config = with_steps(config, wanted.images, wanted.epochs)
    precision = card.precision if config.run.precision == "auto" else config.run.precision
    sizes = sizes_of(config, wanted.gpus)
    hours = duration(config, wanted.gpus, sizes.vocab, card.peak(precision), wanted.utilisation)
    return {
        "preset": config.preset,
        "gpus": wanted.gpus,
        "gpu": {"name": wanted.gpu, "memory_gib": card.memory, "peak_flops": card.peak(precision), "source": card.source},
        "precision": precision,
        "sizes": _sizes(sizes),
        "parameters": {"parts": parameters(sizes), "trainable": trainable(sizes), "total": sum(parameters(sizes).values())},
        "flops": {"per_gpu_and_micro_batch": arithmetic(sizes), "per_step": flops_of_step(sizes)},
        "memory": memory(sizes, Format.of(precision)) | _fit(config, wanted.gpus, card, precision),
        "run": hours,
        "between_gpus": between_gpus(sizes),
        "data": from_disk(sizes, wanted.images, hours["images_per_second"], wanted.per_node),
        "not_modelled": list(NOT_MODELLED),
    }


def _sizes(sizes: Sizes) -> dict[str, float]:
    config = sizes.config
    return {
        "global_batch": config.data.batch_size,
        "b": sizes.b,
        "accumulate": config.run.accumulate,
        "n": sizes.n,
        "l": sizes.l,
        "k": config.space.prototypes,
        "queue": config.losses.queue,
        "vocabulary": sizes.vocab,
        "masked_patches": sizes.masked_patches,
        "hidden_words": sizes.hidden_words,
    }


# Does it fit, and if not, what would? ------------------------------------------------------------------------------------

CHECKPOINTED = "run.checkpoint_activations=true"


def _fit(config: Config, gpus: int, card: Gpu, precision: str) -> dict:
    """Whether the peak leaves room, and else the least of each remedy that makes it do so."""
    room = USABLE * card.memory * 2**30
    fits = memory(sizes_of(config, gpus), Format.of(precision))["total"] <= room
    remedies = {}
    for family in [] if fits else _remedies(config, gpus):
        for settings in family:
            size = _needed(config, settings, gpus, precision)
            if size is not None and size <= room:
                remedies[" ".join(settings)] = size
                break
    return {"usable": room, "fits": fits, "remedies": remedies}


def _needed(config: Config, settings: tuple[str, ...], gpus: int, precision: str) -> float | None:
    """Bytes with these settings; None where the batch does not divide so."""
    try:
        return memory(sizes_of(override(config, list(settings)), gpus), Format.of(precision))["total"]
    except UserError:
        return None


def _remedies(config: Config, gpus: int) -> list[list[tuple[str, ...]]]:
    """Families of settings to try, what changes least first; in each from little to much."""
    micro = [f"run.accumulate={config.run.accumulate * times}" for times in (2, 4, 8, 16, 32)]
    smaller = [f"data.batch_size={config.data.batch_size // times}" for times in (2, 4, 8, 16)]
    families = [[(CHECKPOINTED,)], [(m,) for m in micro], [(CHECKPOINTED, m) for m in micro], [(s,) for s in smaller]]
    if gpus > 1 and config.run.parallel == "ddp":
        families.insert(1, [("run.parallel=fsdp",), (CHECKPOINTED, "run.parallel=fsdp")])
    return families


def _here(config: Config, wanted: Wanted) -> dict:
    """One micro-batch of one GPU, on this machine and by the formulas."""
    from semmim_mini.plan.measured import measure, predict

    b = sizes_of(config, wanted.gpus).b
    alone = replace(config, data=replace(config.data, batch_size=b), run=replace(config.run, accumulate=1))
    found = measure(alone)
    return {"measured": found, "predicted": predict(alone, found["precision"], found["device"])}
