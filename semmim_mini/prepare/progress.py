"""How far `prepare` is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

from semmim_mini.prepare.shard_writer import Receipt

EVERY = 15  # seconds between lines


class Progress:
    """Counts shards as they come; use it in a `with`.

    Args:
        name: of what is being prepared.
        total: entries in all, where that is known.
    """

    def __init__(self, name: str, total: int | None):
        self.name, self.total = name, total
        self.written = self.left_out = self.kept = 0
        self.began = self.said = time.monotonic()
        self.bar = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, desc=self.name, unit="picture", dynamic_ncols=True)
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()

    def add(self, receipt: Receipt) -> None:
        left_out = sum(receipt.left_out.values())
        self.written, self.left_out = self.written + receipt.samples, self.left_out + left_out
        self.kept += receipt.samples if receipt.kept else 0
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.left_out:,} left out")
            self.bar.update(receipt.samples + left_out)
        elif time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            of_all = f" of {self.total:,}" if self.total else ""
            rate = (self.written - self.kept) / (self.said - self.began)
            text = f"{self.written + self.left_out:,}{of_all} pictures, {self.left_out:,} left out, {rate:.0f} written per second"
            print(f"{self.name}: {text}", flush=True)
