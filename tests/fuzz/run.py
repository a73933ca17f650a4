r"""Feed every reader with any number of broken inputs.

    python tests/fuzz/run.py --inputs 100000                         all targets, one after the other
    python tests/fuzz/run.py --inputs 100000 --target karpathy       those of one group; --list names all
    python tests/fuzz/run.py --target settings/yaml --replay FILE    an input that was saved before, with its traceback

Each target prints a line: inputs, results, documented errors, anything else, inputs per second, the slowest input, by how much the
process's peak of memory rose. "Anything else" is a defect; its input is saved to --out. So is an input that takes longer than
--seconds or raises the peak by more than --memory. The exit code is 1 if there was any.
"""

import argparse
import logging
import resource
import sys
import tempfile
import warnings
from pathlib import Path

from fuzz_engine import MEGABYTE, Tally, fuzz, write
from fuzz_targets import make_targets


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Feed every reader with broken inputs.")
    parser.add_argument("--inputs", type=int, default=1_000, help="of each target (1000)")
    parser.add_argument("--target", action="append", default=[], help="only this one, or this group; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20, help="that an input may take (20)")
    parser.add_argument("--memory", type=int, default=1_500, help="MiB by which an input may raise the peak (1500)")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz_findings"), help="folder for the inputs of findings")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--replay", type=Path, help="a saved input; needs --target")
    parsed = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as folder:
        targets = make_targets(Path(folder), tuple(parsed.target))
        if parsed.list:
            print(*(target.name for target in targets), sep="\n")
            return 0
        if parsed.replay:
            print(next(targets).read(parsed.replay.read_bytes()))
            return 0
        _cap(4 * parsed.memory * MEGABYTE)
        found = 0
        for target in targets:
            tally = fuzz(target, parsed.inputs, parsed.seed, parsed.seconds, parsed.memory * MEGABYTE)
            print(tally, flush=True)
            found += len(tally.findings)
            _save(tally, parsed.out)
    return 1 if found else 0


def _memory_disk() -> str | None:
    """Files that live in memory, where there are such: a hundred thousand writes wear no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _cap(more: int) -> None:
    """An input that asks for a terabyte shall fail, not the machine."""
    try:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):
        print("memory cannot be capped on this system", file=sys.stderr)


def _save(tally: Tally, out: Path, most: int = 20) -> None:
    """The inputs of findings, and one line on each; of one reason the first few."""
    seen: dict[str, int] = {}
    for finding in tally.findings:
        key = finding.reason[:60]
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= 3 and len(seen) <= most:
            path = write(out / f"{tally.name.replace('/', '-').replace(' ', '_')}-{finding.number}", finding.data)
            print(f"    {path}: {finding.reason}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
