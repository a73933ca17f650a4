r"""Do stored weights fit a configuration? Asked of the head of their file, before memory is taken for a network.

    model.safetensors   length of the head │ {"itm_head.bias": {"dtype": "F32", "shape": [2], …}, …} │ numbers
    config.yaml         ─► the network without its numbers (PyTorch's device "meta") ─► the same names and shapes?

A checkpoint may be a stranger's. Its configuration is a few letters long, whatever size of network it asks for; its weights are as long
as they say they are, because safetensors looks after that.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM

# The teacher's: the student's are tied to others, and stored under any of their names.
WORDS = "teacher.text.bert.embeddings.word_embeddings.weight"


class Stored(NamedTuple):
    """What the head of a file says of a tensor."""

    shape: tuple[int, ...]
    floating: bool


def both_encoders(stored: dict[str, Any]) -> dict[str, Any]:
    """By name, what a checkpoint holds or says of its weights. One that was packed to be small holds one set of encoders, the
    teacher's, which are the average of the student's last steps [F: DINO evaluates these]: the student has the same."""
    if any(name.startswith("student.") for name in stored):
        return stored
    return stored | {name.replace("teacher.", "student.", 1): value for name, value in stored.items() if name.startswith("teacher.")}


def read_head(path: Path) -> dict[str, Stored]:
    """All tensors of a file by name.

    Raises:
        UserError: missing or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            said = {name: Stored(tuple(part.get_shape()), part.get_dtype().startswith(("F", "BF"))) for name, part in parts.items()}
            return both_encoders(said)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or missing: {error!s:.500}; give another checkpoint") from error


def require_fitting(config: Config, checkpoint: Path, vocab_size: int | None = None) -> None:
    """Refuse a configuration that the weights of `checkpoint` are not of.

    Args:
        vocab_size: of the tokenizer; that of the weights, where it is not known yet.

    Raises:
        UserError: the first weight that is missing, of another shape, or of no use.
    """
    path = checkpoint / "model.safetensors"
    found, text = read_head(path), config.text
    layers = config.image.depth + text.depth + text.fusion_depth + text.decoder_depth
    if layers > len(found):  # modules take memory, too, numbers or not
        raise UserError(
            f"{path} has {len(found)} weights, too few for the {layers:,} layers of this configuration; give another checkpoint"
        )
    if vocab_size is None:
        vocab_size = found[WORDS].shape[0] if WORDS in found and found[WORDS].shape else 1
    try:
        with torch.device("meta"):
            wanted = SemMIM(config, vocab_size).state_dict(keep_vars=True)
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes whose product no number holds
        raise UserError(f"{path} does not fit this configuration, which is of an impossible size: {error!s:.200}") from error
    tied = {id(wanted[name]) for name in found if name in wanted}  # of tied weights a file has one name
    wrong = [name for name in found if name not in wanted or wanted[name].shape != found[name].shape]
    wrong += [name for name, value in wanted.items() if id(value) not in tied]
    if wrong:
        theirs, ours = (tuple(x[wrong[0]].shape) if wrong[0] in x else "missing" for x in (found, wanted))
        raise UserError(
            f"{path} does not fit this configuration: {wrong[0]:.80} is {theirs} in the file and {ours} in the configuration; "
            "give another checkpoint"
        )
