"""The figures of `plan` as text for a terminal."""

from collections.abc import Callable

WIDE = 38  # of the first column


def as_table(plan: dict) -> str:
    """All of `make_plan`'s result, in the order in which questions about it arise."""
    sections = [_heading(plan), _parameters(plan), _flops(plan), _memory(plan), _run(plan), _traffic(plan), _data(plan)]
    if "here" in plan:
        sections.append(_here(plan["here"]))
    return "\n\n".join([*sections, "not in these figures: " + ";\n  ".join(plan["not_modelled"])])


def _heading(plan: dict) -> str:
    sizes, card = plan["sizes"], plan["gpu"]
    return "\n".join(
        [
            f"preset {plan['preset']} on {plan['gpus']} × {card['name']}, {plan['precision']}: {card['memory_gib']:g} GiB, "
            f"{card['peak_flops'] / 1e12:g} TFLOP/s each ({card['source']})",
            f"global batch {sizes['global_batch']:,} = {plan['gpus']} GPU(s) × {sizes['accumulate']} micro-batch(es) of b={sizes['b']}; "
            f"n={sizes['n']} l={sizes['l']} k={sizes['k']:,}",
            f"queue {sizes['queue']:,}, vocabulary {sizes['vocabulary']:,}, masked patches in b images {sizes['masked_patches']:,.0f}",
        ]
    )


def _row(name: str, *cells: str) -> str:
    return f"{name:<{WIDE}}" + "".join(f"{cell:>13}" for cell in cells)


def _parameters(plan: dict) -> str:
    found = plan["parameters"]
    rows = [_row(name, f"{count:,}") for name, count in found["parts"].items()]
    return "\n".join([_row("parameters", "number"), *rows, _row("trained", f"{found['trainable']:,}"), _row("all", f"{found['total']:,}")])


def _flops(plan: dict) -> str:
    parts = plan["flops"]["per_gpu_and_micro_batch"]
    whole = sum(part["forward"] + part["backward"] for part in parts.values())
    heading = _row("GFLOP of b pairs on one GPU", "forward", "backward", "of step")
    rows = [
        _row(name, *(f"{part[way] / 1e9:,.1f}" for way in ("forward", "backward")), f"{sum(part.values()) / whole:.1%}")
        for name, part in parts.items()
    ]
    return "\n".join([heading, *rows, f"{plan['flops']['per_step'] / 1e12:,.3f} TFLOP a step over all GPUs"])


def _memory(plan: dict) -> str:
    found = plan["memory"]
    unit, scale = ("GiB", 2**30) if found["total"] > 2**30 else ("MiB", 2**20)

    def row(name: str, size: float) -> str:
        return _row(name, f"{size / scale:,.2f}")

    return "\n".join(
        [
            _row("memory of one GPU", unit),
            *(row(name, size) for name, size in found["standing"].items()),
            *(row(f"kept by {name}", size) for name, size in found["activations"].items() if size),
            *(row(f"  logits, {name}", size) for name, size in found["logits"].items()),
            row("gradients", found["gradients"]),
            row("a step at its peak, above what stands", found["step_peak"]) + f"  ({found['step_peak_at']})",
            row("in all", found["total"]),
            _fit(found, plan["gpu"]["memory_gib"], row),
        ]
    )


def _fit(found: dict, card: float, row: Callable[[str, float], str]) -> str:
    usable = f"the {found['usable'] / 2**30:.1f} GiB of {card:g} that tensors may fill"
    if found["fits"]:
        return f"fits into {usable}"
    if not found["remedies"]:
        return f"DOES NOT FIT into {usable}, and no setting makes it; take more or larger GPUs, or a smaller model"
    return "\n".join([f"DOES NOT FIT into {usable}. What would:", *(row(f"  {name}", size) for name, size in found["remedies"].items())])


def _run(plan: dict) -> str:
    run = plan["run"]
    return (
        f"{run['steps']:,} steps, {run['images_seen']:,} images seen, {run['flops']:.3g} FLOP: {_time(run['hours'])} at "
        f"{run['utilisation']:.0%} of the peak;\n{run['seconds_per_step']:.3g} s a step, {run['images_per_second']:,.0f} images/s"
    )


def _traffic(plan: dict) -> str:
    names = {
        "gradients": "gradients",
        "itm_tokens": "tokens for ITM's negatives",
        "itc_features": "ITC features",
        "random_numbers_on_host": "random numbers, drawn on the host",
    }
    rows = [_row(name, f"{plan['between_gpus'][key] / 1e6:,.1f}") for key, name in names.items()]
    return "\n".join([_row("a step moves, at each GPU", "MB"), *rows])


def _data(plan: dict) -> str:
    data = plan["data"]
    megabytes = data["bytes_per_second_and_node"] / 1e6
    rate = f"a node reads {data['images_per_second_and_node']:,.0f} images/s, {megabytes:,.0f} MB/s from shards"
    if "images" not in data:
        return rate
    return (
        f"{rate};\n{data['images']:,.0f} images are {data['shards']:,} shards, {data['bytes'] / 1e9:,.0f} GB, "
        f"their index {data['index_bytes'] / 1e6:,.0f} MB, the order of an epoch {data['order_bytes_per_node'] / 1e9:,.2f} GB in a node"
    )


def _here(pair: dict) -> str:
    found, expected = pair["measured"], pair["predicted"]
    rows = [
        f"one step here: {found['device']}, {found['precision']}, one process, b={found['b']}",
        _row("", "measured", "predicted", "ratio"),
    ]
    for name, scale, unit in (("parameters", 1e6, "million"), ("flops", 1e9, "GFLOP"), ("standing", 2**20, "MiB"), ("peak", 2**20, "MiB")):
        one, other = found[name], expected[name]
        rows.append(_row(f"{name}, {unit}", f"{one / scale:,.1f}", f"{other / scale:,.1f}", f"{other / one:.3f}"))
    return "\n".join(rows)


def _time(hours: float) -> str:
    for unit, length, least in (("days", 24, 48), ("hours", 1, 1), ("minutes", 1 / 60, 1 / 60)):
        if hours >= least:
            return f"{hours / length:,.1f} {unit}"
    return f"{hours * 3600:,.1f} seconds"
