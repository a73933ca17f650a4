"""Runs of two processes for `test_many_processes`: started by torchrun, all in one launch, because starting takes most of the time.

torchrun … spread_runs.py JOBS.json      [{"config": FILE, "out": DIR, "until": 2, "resume": false, "report": false}, …]
"""

import hashlib
import json
import sys
from pathlib import Path

from semmim_mini.config import from_yaml
from semmim_mini.experiment import run_experiment
from semmim_mini.training import processes
from semmim_mini.training.loop import Training


class Watched(Training):
    """Writes down what each step is given: picture, pixels and caption of every row, in seen-RANK.jsonl."""

    def _one_step(self, batch, step: int) -> dict:
        pixels = [hashlib.sha256(batch.images[:, i].numpy().tobytes()).hexdigest() for i in range(len(batch.captions))]
        rows = list(zip(batch.image_ids.tolist(), pixels, batch.captions, strict=True))
        self.folder.mkdir(parents=True, exist_ok=True)  # the main process makes it, and may come later
        with open(self.folder / f"seen-{processes.rank()}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps([step, rows]) + "\n")
        return super()._one_step(batch, step)


def seen(folder: Path) -> dict[int, list]:
    """{step: rows of all processes, in order}"""
    steps: dict[int, list] = {}
    for path in sorted(folder.glob("seen-*.jsonl")):
        for step, rows in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            steps.setdefault(step, []).extend(rows)
    return steps


def main(file: str) -> None:
    for job in json.loads(Path(file).read_text(encoding="utf-8")):
        config, out = from_yaml(Path(job["config"]).read_text(encoding="utf-8")), Path(job["out"])
        if job["report"]:  # the last one: it takes leave of the other process
            run_experiment(config, out)
        else:
            Watched(config, out, job["resume"]).run(job["until"])


if __name__ == "__main__":
    main(sys.argv[1])
