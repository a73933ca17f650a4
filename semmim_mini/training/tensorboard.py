r"""`run.tensorboard`: the numbers of metrics.jsonl as TensorBoard's curves, in DIR/tensorboard.

    loss/mim  chance/mim     a term beside what a guesser pays; the tab "Custom scalars" draws both in one picture
    health/…                 gradient norm, temperature, entropies, prototypes in use
    plan/…                   what the schedules asked for: rate, momentum, hardness
    speed/…                  images per second over all processes, seconds of a step and of waiting for data

metrics.jsonl is the record; this is a view of it.
"""

from pathlib import Path

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.training.schedules import TERMS

FOLDER = "tensorboard"
_PLAN = ("momentum", "teacher_temperature", "hardness", "random_mask")
_SPEED = ("images_per_second", "seconds", "seconds_waiting_for_data")


def require_tensorboard() -> type:
    """TensorBoard's writer.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError('run.tensorboard=true needs the package tensorboard: pip install "semmim-mini[full]"') from error
    return SummaryWriter


class Curves:
    """Writes the records of a run, one by one.

    Args:
        folder: of the run.
        start: the first step to be written; whatever an earlier process wrote of that step or later is hidden.
        config: names the terms, and the rate that `lr_factor` multiplies.
    """

    def __init__(self, folder: Path, start: int, config: Config):
        self.lr = config.optim.lr
        self.writer = require_tensorboard()(str(folder / FOLDER), purge_step=start)
        terms = [name for name in TERMS if getattr(config.losses, name).weight > 0]
        self.writer.add_custom_scalars({"losses": {name: ["Multiline", [f"loss/{name}", f"chance/{name}"]] for name in terms}})

    def add(self, record: dict) -> None:
        """One record of metrics.jsonl."""
        for name, value in scalars(record, self.lr).items():
            self.writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        self.writer.close()


def scalars(record: dict, lr: float) -> dict[str, float]:
    """The numbers of a record by the names of their curves."""
    named = {f"{group}/{name}": value for group in ("loss", "chance") for name, value in record[group].items()}
    named["plan/lr"] = lr * record["lr_factor"]
    for name, value in record.items():
        if name not in ("step", "loss", "chance", "lr_factor"):
            group = "plan" if name in _PLAN else "speed" if name in _SPEED else "health"
            named[f"{group}/{name}"] = float(value)
    return named
