"""What a run writes about itself: metrics.jsonl with every step, curves on request, and a bar or plain lines for whoever watches."""

import json
import sys
from pathlib import Path

from semmim_mini.training.checkpoint import write_text


class Logbook:
    """metrics.jsonl plus progress on a terminal (a bar) or elsewhere (a line every `log_every` steps).

    Each step is one JSON line, flushed, so that a killed run loses none. On resume, lines from the resumed step on are dropped:
    the file never tells the same step twice.

    Args:
        curves: is given every record, too (`tensorboard.Curves`).
        quiet: say and write nothing: not the main process.
    """

    def __init__(self, folder: Path, steps: int, start: int, log_every: int, quiet: bool = False, curves=None):
        self.path, self.steps, self.log_every, self.quiet = folder / "metrics.jsonl", steps, log_every, quiet
        self.bar, self.curves = None, curves
        if quiet:
            return
        self._drop_from(start)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (stays open for the run)
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def _drop_from(self, step: int) -> None:
        if self.path.exists():
            lines = read_metrics(self.path)
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines if line["step"] < step))

    def step(self, record: dict) -> None:
        if self.quiet:
            return
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        if self.curves is not None:
            self.curves.add(record)
        terms = "  ".join(f"{name} {value:.2f}" for name, value in record["loss"].items())
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix_str(terms)
        elif (record["step"] + 1) % self.log_every == 0:
            print(f"step {record['step'] + 1}/{self.steps}  {terms}  {record['images_per_second']:.0f} images/s", flush=True)

    def say(self, text: str) -> None:
        """A line for people, above the bar where there is one."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        if not self.quiet:
            self.file.close()
            for other in (self.bar, self.curves):
                if other is not None:
                    other.close()


def read_metrics(path: Path) -> list[dict]:
    """The records of metrics.jsonl, one per step; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
