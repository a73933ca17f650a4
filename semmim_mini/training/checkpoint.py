r"""Checkpoints that are never half-written, never unpickled, and enough to go on exactly.

    DIR/checkpoints/
      step-000200/  model.safetensors  optimizer.safetensors  state.json  config.yaml  tokenizer/
      last          text: the folder to resume from
      best          text: the folder with the best validation score

A folder is written under a temporary name and renamed when complete; only then does `last` point to it, and only then are
folders that nothing points to removed. A process killed at any moment leaves the previous checkpoint as it was.

There is no random state to save: every random number of step t comes from generators seeded by (seed, t), see `loop.py`.
"""

import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from semmim_mini.config import Config, differences, from_yaml, to_yaml
from semmim_mini.errors import UserError
from semmim_mini.plain_values import LARGEST, shown
from semmim_mini.training import processes
from semmim_mini.training.fitting import both_encoders, read_head, require_fitting

# Settings that do not change what is computed (`run.compile` and `run.parallel` change last digits): a run may be resumed with others.
FREE_ON_RESUME = (
    *("data.workers", "run.save_every", "run.eval_every", "run.eval_size", "run.report_size", "run.log_every", "run.tensorboard"),
    *("run.checkpoint_activations", "run.compile", "run.parallel"),
)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(folder: Path, weights: dict, averages: dict, tokenizer, config: Config, state: dict, best: bool) -> Path:
    """Save step `state["step"]` under `folder`/checkpoints; returns its folder.

    Args:
        weights: as `weights` makes them.
        averages: as `optimizer_tensors` makes them.

    Raises:
        UserError: the disk is full or read-only; earlier checkpoints are untouched.
    """
    home = folder / "checkpoints"
    name = f"step-{state['step']:06d}"
    temporary = home / f".{name}.{os.getpid()}.tmp"
    try:
        home.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for tensors, file in ((weights, "model.safetensors"), (averages, "optimizer.safetensors")):
            save_file(tensors, str(temporary / file))
            _to_disk(temporary / file)
        write_text(temporary / "state.json", json.dumps(state))
        write_text(temporary / "config.yaml", to_yaml(config))
        tokenizer.save_pretrained(str(temporary / "tokenizer"))
        shutil.rmtree(home / name, ignore_errors=True)  # the same step again, after a resume
        os.replace(temporary, home / name)
        write_text(home / "last", name)
        if best:
            write_text(home / "best", name)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = read_pointer(folder, "last") or "none yet"
        raise UserError(
            f"cannot save step {state['step']} under {home}: {error}; the last good checkpoint is {kept}; free space and --resume"
        ) from error
    _remove_unreferenced(home)
    return home / name


def _to_disk(path: Path) -> None:
    """Wait until a file is where a power failure cannot reach it: the pointer that names it must not be there first."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def read_pointer(folder: Path, which: str) -> str | None:
    """The name that `last` or `best` points to, if its folder exists."""
    try:
        with open(folder / "checkpoints" / which, encoding="utf-8") as file:
            name = file.read(100).strip()
    except (OSError, ValueError):  # ValueError: not UTF-8
        return None
    # The name becomes a path: it must not lead out of the folder.
    return name if re.fullmatch(r"step-[0-9]{6,20}", name) and (folder / "checkpoints" / name).is_dir() else None


def find(folder: Path, which: str = "last") -> Path:
    """The checkpoint folder inside a run folder; a checkpoint folder itself is returned as it is."""
    folder = Path(folder)
    if (folder / "model.safetensors").is_file():
        return folder
    name = read_pointer(folder, which)
    if name is None:
        raise UserError(f"{folder} holds no {which} checkpoint; give a run folder made by pretrain, or a folder with model.safetensors")
    return folder / "checkpoints" / name


def read_config(checkpoint: Path) -> Config:
    path = checkpoint / "config.yaml"
    try:
        return from_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable: {error}; the checkpoint is incomplete") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_fitting_config(checkpoint: Path, vocab_size: int | None = None) -> Config:
    """The configuration of a checkpoint whose weights are of it: what is asked before a network is built.

    Raises:
        UserError: as `read_config` and `fitting.require_fitting`.
    """
    config = read_config(checkpoint)
    require_fitting(config, checkpoint, vocab_size)
    return config


def read_state(checkpoint: Path) -> dict:
    path = checkpoint / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable: {error}; resume from another checkpoint") from error
    step, score, scaler = (state.get(name) for name in ("step", "best_score", "scaler")) if isinstance(state, dict) else (None,) * 3
    counted = type(step) is int and 0 <= step <= LARGEST and type(score) in (int, float) and score == score  # NaN is not
    if not counted or not isinstance(scaler, dict | None):
        raise UserError(f"{path} holds {shown(state)}, not a step and a best_score; resume from another checkpoint")
    return state


def require_same(stored: Config, wanted: Config) -> None:
    """Resuming with another configuration is another run: every differing setting is listed."""
    lines = [line for line in differences(stored, wanted) if not line.startswith(FREE_ON_RESUME)]
    if lines:
        raise UserError(
            "the checkpoint was made with other settings (checkpoint → now):\n  "
            + "\n  ".join(lines)
            + "\nresume with the same, or start in a new folder"
        )


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Fill `model` from a checkpoint; nothing is unpickled. Floats may be stored shorter than they are here, not as whole numbers."""
    path, own = checkpoint / "model.safetensors", model.state_dict(keep_vars=True)
    for name, stored in read_head(path).items():
        if name in own and stored.floating != own[name].is_floating_point():
            raise UserError(f"{path} is damaged: {name} is of another type than {own[name].dtype}; give another checkpoint")
    tensors = load_tensors(checkpoint)
    filled = {id(own[name]) for name in tensors if name in own}  # of tied weights a file has one name
    wrong = [f"unknown {name}" for name in tensors if name not in own] + [f"no {name}" for name in own if id(own[name]) not in filled]
    try:
        if not wrong:
            model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # shapes
        wrong = [str(error)]
    if wrong:
        raise UserError(f"{path} does not fit this configuration or is damaged: {', '.join(wrong):.500}; give another checkpoint")


def load_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint by name, for whoever needs some of them; of tied weights, one name."""
    path = checkpoint / "model.safetensors"
    try:
        return both_encoders(load_file(str(path)))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or missing: {error!s:.500}; give another checkpoint") from error


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Everything of a model by name, in this process's main memory; of tied weights one name, of spread ones all rows.

    Where weights are spread over processes, all processes must ask.
    """
    first: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True)
    for name in sorted(tensors):
        first.setdefault(id(tensors[name]), name)
    return {name: processes.whole(tensors[name]).cpu().contiguous() for name in first.values()}


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter name, as `weights`."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        f"{names[id(p)]}|{key}": processes.whole(value).cpu().contiguous().clone()
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


ADAMW = frozenset({"step", "exp_avg", "exp_avg_sq"})  # what it keeps of each parameter


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Fill AdamW's state from a checkpoint, each value where its parameter is, and spread as it is."""
    path, parameters = checkpoint / "optimizer.safetensors", dict(model.named_parameters())
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or missing: {error!s:.500}; resume from another checkpoint") from error
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("|")
        parameter = parameters.get(parameter_name)
        fits = parameter is not None and key in ADAMW and value.is_floating_point()
        fits = fits and value.shape == (() if key == "step" else parameter.shape)
        if not fits or (key == "step" and not 0 <= float(value) < 2**31):
            raise UserError(
                f"{path} does not fit this configuration: it holds {name:.80} {tuple(value.shape)}; resume from another checkpoint"
            )
        value = value.to(parameter.device) if key == "step" else processes.spread_like(value, parameter)
        optimizer.state[parameter][key] = value
    for name, parameter in parameters.items():
        if parameter in optimizer.state and optimizer.state[parameter].keys() != ADAMW:
            held = ", ".join(sorted(optimizer.state[parameter]))
            raise UserError(f"{path} does not fit this configuration: of {name} it holds only {held}; resume from another checkpoint")


def _remove_unreferenced(home: Path) -> None:
    """Folders that no pointer names, and what killed processes left half-written."""
    keep = {read_pointer(home.parent, which) for which in ("last", "best")}
    for folder in (*home.glob("step-*"), *home.glob(".step-*.tmp")):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
