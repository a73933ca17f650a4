r"""The two trained models that ship with the kit, and how they were packed.

    semmim-mini pretrain --config data_samples/checkpoint/config.yaml --out runs/course      trains the one of preset `tiny` anew
    python -m semmim_mini.course.checkpoint runs/course                                      packs it into data_samples/checkpoint

    semmim-mini pretrain --preset mini --out runs/mini                                       the larger one
    python -m semmim_mini.course.checkpoint runs/mini --out data_samples/mini --averaged     of one set of encoders

Notebooks, tests and README examples load them where training would take longer than a reader waits. Packed means: weights of the last
checkpoint in half precision, configuration, tokenizer, the whole log, and report.json made anew from the packed weights, so that
`semmim-mini report data_samples/checkpoint` gives the same figures.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from semmim_mini.data.cutouts import samples_folder
from semmim_mini.data.text import load_tokenizer, save_tokenizer
from semmim_mini.errors import UserError
from semmim_mini.experiment import load_run, report_on
from semmim_mini.model.semmim import SemMIM
from semmim_mini.report import write_report
from semmim_mini.training import checkpoint
from semmim_mini.training.logbook import read_metrics

TINY, MINI = "checkpoint", "mini"  # folders of data_samples
DIGITS = 4  # significant ones, of the log: more than any curve shows


def course_folder(name: str = TINY) -> Path:
    """Where a trained model lies: config.yaml, model.safetensors, tokenizer/, metrics.jsonl, report.json.

    Args:
        name: TINY, which nearly all notebooks load, or MINI.
    """
    return samples_folder() / name


def course_model(name: str = TINY) -> tuple[SemMIM, object]:
    """A trained model, ready for evaluation, and its tokenizer; on the GPU where there is one. `name` as for `course_folder`."""
    model, tokenizer = load_run(course_folder(name))
    return model.eval(), tokenizer


def pack(run: Path, folder: Path, averaged: bool = False) -> None:
    """The last checkpoint of `run` as a small folder.

    Args:
        averaged: one set of encoders instead of two, the teacher's, which are the average of the student's last steps. The file is then
            little more than half as large, and the student of whoever loads it is the teacher's twin (`training/fitting.both_encoders`).
    """
    source = checkpoint.find(run)
    folder.mkdir(parents=True, exist_ok=True)
    if averaged:
        model, _ = load_run(source)
        model.student.load_state_dict(model.teacher.state_dict())
        tensors = {name: x for name, x in checkpoint.weights(model).items() if not name.startswith("student.")}
    else:
        tensors = checkpoint.load_tensors(source)
    small = {name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}
    save_file(small, str(folder / "model.safetensors"))
    for name in ("config.yaml", "state.json"):
        checkpoint.write_text(folder / name, (source / name).read_text(encoding="utf-8"))
    save_tokenizer(load_tokenizer(source / "tokenizer"), folder / "tokenizer")
    lines = (json.dumps(_short(record)) for record in read_metrics(run / "metrics.jsonl"))
    checkpoint.write_text(folder / "metrics.jsonl", "".join(f"{line}\n" for line in lines))
    finished = json.loads((run / "report.json").read_text(encoding="utf-8"))
    write_report(folder, report_on(folder) | {"run": finished["run"]})


def _short(value):
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.course.checkpoint", description="Pack a run into data_samples/checkpoint.")
    parser.add_argument("run", type=Path, help="the folder of a finished pretrain")
    parser.add_argument("--out", type=Path, help="another folder than data_samples/checkpoint")
    parser.add_argument("--averaged", action="store_true", help="one set of encoders, the teacher's: little more than half the file")
    parsed = parser.parse_args(arguments)
    try:
        pack(parsed.run, parsed.out or course_folder(), parsed.averaged)
    except (UserError, OSError) as error:
        print(f"{parsed.run} cannot be packed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
