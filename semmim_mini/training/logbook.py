"""What a run writes about itself: metrics.jsonl with every step, curves on request, and a bar or plain lines for whoever watches."""

import json
import sys
from pathlib import Path

from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown
from semmim_mini.training.checkpoint import write_text


class Logbook:
    """metrics.jsonl plus progress on a terminal (a bar) or elsewhere (a line every `log_every` steps).

    Each step is one JSON line, written at once, so that a killed run loses none. On resume, lines from the resumed step on are dropped:
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
        # Without a buffer: what could not be written must not be tried again when the file is closed.
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (stays open for the run)
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def _drop_from(self, step: int) -> None:
        if self.path.exists():
            lines = read_metrics(self.path)
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines if line["step"] < step))

    def step(self, record: dict) -> None:
        """Write and show a record.

        Raises:
            UserError: the disk is full or gone; a line may be cut short, which a resume mends.
        """
        if self.quiet:
            return
        line = json.dumps(record).encode() + b"\n"
        try:
            while line:  # a disk that is nearly full takes a part, and objects to the rest
                line = line[self.file.write(line) :]
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}; free space, then go on with --resume") from error
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
    """The records of metrics.jsonl, one per step; a last line cut short by a kill is left out.

    Raises:
        UserError: not readable, or another line than the last is none of a log.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the file and its permissions") from None
    while lines and not lines[-1].strip():
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise UserError(f"{path}, line {number}: {shown(line)} is no record of a step; remove that line, or put the log back as it was")
    return records


def _record(line: bytes) -> dict | None:
    """A line, if it is whole."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and type(found.get("step")) is int and isinstance(found.get("loss"), dict) else None
