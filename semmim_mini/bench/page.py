r"""How everything grows, measured and drawn on one page.

    python -m semmim_mini.bench.page --preset tiny --out DIR

Writes DIR/growth.json and DIR/growth.png. A step at half and double size (`growth.py`), the same pictures in more shards and the same
share in more processes (`many.py`), each beside the ideal line.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from semmim_mini.bench.growth import grow
from semmim_mini.bench.many import along_processes, along_shards
from semmim_mini.config import Config, override
from semmim_mini.errors import UserError
from semmim_mini.figures.growth import growth_figure
from semmim_mini.figures.style import save
from semmim_mini.plan.measured import random_batch
from semmim_mini.presets import preset
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.precision import choose_precision


def measure_growth(config: Config, processes: tuple[int, ...], shards: tuple[int, ...], repeats: int = 3) -> dict[str, list[dict]]:
    """Rows by axis, as `figures.growth.growth_figure` draws them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision, _ = choose_precision(config.run.precision, device.type)
    vocab_size = config.data.vocab_size
    found = grow(config, vocab_size, random_batch(config, vocab_size).to(device), precision, repeats)
    with tempfile.TemporaryDirectory() as folder:
        found["shards"] = along_shards(Path(folder), shards)
    return found | {"processes": along_processes(config, vocab_size, processes, repeats)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.bench.page", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="how many to train side by side (1 2)")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 8, 64], help="into how many to write the same pictures (1 8 64)")
    parser.add_argument("--out", type=Path, required=True, help="folder for growth.json and growth.png")
    given = parser.parse_args(arguments)
    try:
        config = override(preset(given.preset), given.settings)
        given.out.mkdir(parents=True, exist_ok=True)
        growth = measure_growth(config, tuple(given.processes), tuple(given.shards))
        write_text(
            given.out / "growth.json", json.dumps({"preset": given.preset, "settings": given.settings, "growth": growth}, indent=2) + "\n"
        )
        save(growth_figure(growth).figure, given.out / "growth.png")
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{parser.prog}: cannot write to {given.out}: {error}; choose another --out", file=sys.stderr)
        return 2
    print(f"growth of a step, of shards and of processes: {given.out / 'growth.png'}, the numbers beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
