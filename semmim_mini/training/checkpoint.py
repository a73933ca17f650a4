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
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file
from torch import nn

from semmim_mini.config import Config, differences, from_yaml, to_yaml
from semmim_mini.errors import UserError
from semmim_mini.training import processes

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
        save_file(weights, str(temporary / "model.safetensors"))
        save_file(averages, str(temporary / "optimizer.safetensors"))
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


def read_pointer(folder: Path, which: str) -> str | None:
    """The name that `last` or `best` points to, if its folder exists."""
    try:
        name = (folder / "checkpoints" / which).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return name if name and (folder / "checkpoints" / name).is_dir() else None


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
    try:
        return from_yaml((checkpoint / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{checkpoint / 'config.yaml'} is not readable: {error}; the checkpoint is incomplete") from error


def read_state(checkpoint: Path) -> dict:
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        return state | {"step": int(state["step"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{checkpoint / 'state.json'} is not readable: {error}; resume from another checkpoint") from error


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
    """Fill `model` from a checkpoint; nothing is unpickled."""
    path = checkpoint / "model.safetensors"
    try:
        load_model(model, str(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not fit this configuration or is damaged: {error}") from error


def load_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint by name, for whoever needs some of them; of tied weights, one name."""
    path = checkpoint / "model.safetensors"
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or missing: {error}; give another checkpoint") from error


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


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Fill AdamW's state from a checkpoint, each value where its parameter is, and spread as it is."""
    path, parameters = checkpoint / "optimizer.safetensors", dict(model.named_parameters())
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or missing: {error}; resume from another checkpoint") from error
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("|", 1)
        if parameter_name not in parameters:
            raise UserError(f"{path} does not fit this configuration: it holds {parameter_name}; resume from another checkpoint")
        parameter = parameters[parameter_name]
        value = value.to(parameter.device) if key == "step" else processes.spread_like(value, parameter)
        optimizer.state[parameter][key] = value


def _remove_unreferenced(home: Path) -> None:
    """Folders that no pointer names, and what killed processes left half-written."""
    keep = {read_pointer(home.parent, which) for which in ("last", "best")}
    for folder in (*home.glob("step-*"), *home.glob(".step-*.tmp")):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
