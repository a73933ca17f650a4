"""The figures of `bench` as text for a terminal."""


def as_table(result: dict) -> str:
    """All of `bench.measure`'s result, in the order in which questions about it arise."""
    parts = [_heading(result), _parts(result), _arithmetic(result), _data(result)]
    return "\n\n".join([*parts, _growth(result)] if "growth" in result else parts)


def _heading(result: dict) -> str:
    machine, sizes = result["machine"], result["sizes"]
    return "\n".join(
        [
            f"preset {result['config']['preset']}, " + ", ".join(f"{name}={value}" for name, value in sizes.items()),
            f"{machine['device']}, {machine['threads']} thread(s), torch {machine['torch']}, precision {machine['precision']} "
            f"({machine['precision_because']})",
            f"memory: {machine['memory_is']}",
            f"standing memory (weights, teacher, queues, optimiser state): {_mib(result['standing_bytes'])}",
        ]
    )


def _parts(result: dict) -> str:
    rows = [f"{'part of a step':<28}{'time':>10}{'of step':>9}{'peak memory':>14}"]
    rows += [_row(name, figures) for name, figures in result["parts"].items()]
    together = sum(figures["seconds"] for figures in result["parts"].values())
    rows += [
        f"{'sum of the parts':<28}{_ms(together):>10}{together / result['full_step']['seconds']:>9.0%}",
        _row("full step", result["full_step"]),
        _row("step of ITC alone", result["itc_step"]),
        f"a full step takes {result['full_over_itc']:.2f} times a step of ITC alone, "
        f"and computes {result['full_over_itc_arithmetic']:.2f} times as much",
    ]
    return "\n".join(rows)


def _row(name: str, figures: dict) -> str:
    return f"{name:<28}{_ms(figures['seconds']):>10}{figures['share']:>9.0%}{_mib(figures['peak_bytes']):>14}"


def _arithmetic(result: dict) -> str:
    numbers = result["arithmetic"]
    return (
        f"arithmetic: {numbers['flops_per_step'] / 1e9:.1f} GFLOP a step, {numbers['achieved_per_second'] / 1e9:.1f} GFLOP/s achieved, "
        f"{numbers['share']:.0%} of the\n{numbers['matrix_product_per_second'] / 1e9:.1f} GFLOP/s of one large "
        f"{numbers['matrix_product_in']} matrix product in this run"
    )


def _data(result: dict) -> str:
    data = result["data"]
    answer = "can keep it fed" if data["two_workers_suffice"] else "cannot keep it fed: use more, or expect to wait for data"
    return (
        f"data: one worker prepares {data['samples_per_second']:.0f} samples/s of {data['source']}; a step reads "
        f"{data['step_images_per_second']:.0f} images/s: two workers {answer}"
    )


def _growth(result: dict) -> str:
    rows = [f"{'growth':<8}{'size':>8}{'ideal':>9}{'step time':>12}{'peak memory':>14}"]
    for axis, points in result["growth"].items():
        rows += [f"{axis:<8}{p['size']:>8}{_ratio(p['ideal']):>9}{_ratio(p['time']):>12}{_ratio(p['memory']):>14}" for p in points]
    return "\n".join([*rows, "ratios to the middle row; ideal is growth in proportion to the size"])


def _ratio(value: float | None) -> str:
    return "out of memory" if value is None else f"{value:.2f}×"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
