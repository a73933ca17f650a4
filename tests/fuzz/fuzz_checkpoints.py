r"""Checkpoints and models from the hub, file by file, and whole.

Most readers get a module of two small layers: what they do does not depend on its size. The whole folder is read as `load_run` does it.
"""

import json
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import torch
from fuzz_annotations import printable
from fuzz_engine import Target, write
from fuzz_files import safetensors_header
from fuzz_mutations import blind, json_values, lines, mixed, yaml_values
from safetensors.torch import save
from torch import nn

from semmim_mini.config import Config, override, to_yaml
from semmim_mini.data.text import load_tokenizer, tokenize, train_wordpiece
from semmim_mini.evaluation import stored_answers
from semmim_mini.experiment import load_run
from semmim_mini.hub import Pretrained, figure_table
from semmim_mini.model.semmim import SemMIM
from semmim_mini.training import checkpoint

# As small as networks can be that have every part.
SMALLEST = (
    *("data.resolution=8", "data.max_length=4", "data.batch_size=2", "image.patch=4", "image.width=4", "image.depth=1", "image.heads=1"),
    *("image.inject_from=0", "text.width=4", "text.depth=1", "text.fusion_depth=1", "text.heads=1", "space.prototypes=2", "space.hidden=4"),
    *("space.bottleneck=2", "space.projection=2", "teacher.cls_queue=2"),
)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))


def tensors(folder: Path) -> list[Target]:
    """Weights and AdamW's averages."""
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    sum(x.sum() for x in model.parameters()).backward()
    optimizer.step()
    weights, averages = save(checkpoint.weights(model)), save(checkpoint.optimizer_tensors(model, optimizer))
    both = mixed(blind, safetensors_header, safetensors_header)

    def fill(data: bytes) -> None:
        write(folder / "model.safetensors", data)
        checkpoint.load_weights(model, folder)
        assert all(x.dtype in (torch.float32, torch.long) for x in model.state_dict().values())

    def load(data: bytes) -> None:
        write(folder / "model.safetensors", data)
        for name, value in checkpoint.load_tensors(folder).items():
            (name.encode(), value.shape)

    def resume(data: bytes) -> None:
        write(folder / "optimizer.safetensors", data)
        fresh = torch.optim.AdamW(model.parameters())
        checkpoint.load_optimizer(model, fresh, folder)
        fresh.step()

    return [
        Target("weights", (weights,), both, fill),
        Target("weights by name", (weights,), both, load),
        Target("optimizer", (averages,), both, resume),
    ]


class Folder:
    """A whole checkpoint, and beside it what the hub has."""

    def __init__(self, folder: Path):
        self.home = folder / "run" / "checkpoints" / "step-000002"
        self.run = folder / "run"
        tokenizer = train_wordpiece(["a red dog", "two cats"], 60)
        self.model = SemMIM(override(Config(), list(SMALLEST)), len(tokenizer))
        self.loaded, self.outline = tokenizer, lru_cache(maxsize=64)(SemMIM)
        whole = Pretrained(
            self.model, tokenizer, {"pairs": "scenes/test", "matching": {"balanced_accuracy": 0.8, "chance": 0.5}}, '["one"]'
        )
        whole.save_pretrained(self.home)
        write(self.home / "state.json", json.dumps({"step": 2, "best_score": 0.5}))
        self.good = {str(path.relative_to(self.home)): path.read_bytes() for path in self.home.rglob("*") if path.is_file()}
        self.broken: str | None = None

    def put(self, name: str, data: bytes) -> None:
        """`data` as the file `name`, with all others as they were."""
        if self.broken is not None and self.broken != name:
            write(self.home / self.broken, self.good[self.broken])
        self.broken = name
        write(self.home / name, data)

    def config(self, data: bytes) -> None:
        self.put("config.yaml", data)
        checkpoint.read_config(self.home)

    def state(self, data: bytes) -> None:
        self.put("state.json", data)
        state = checkpoint.read_state(self.home)
        assert state["step"] >= 0 and state["best_score"] is not None

    def pointer(self, data: bytes) -> None:
        write(self.run / "checkpoints" / "last", data)
        found = checkpoint.find(self.run)
        assert found.parent == self.run / "checkpoints"

    def tokenizer(self, name: str):
        def read(data: bytes) -> None:
            self.put(f"tokenizer/{name}", data)
            tokenizer = load_tokenizer(self.home / "tokenizer")
            len(tokenizer)
            tokenize(tokenizer, ["a red dog", "cats, two"], 8)

        return read

    def hub(self, name: str):
        def read(data: bytes) -> None:
            self.put(name, data)
            with patch("semmim_mini.hub.load_run", lambda folder: (self.model, self.loaded)):  # the same each time
                found = Pretrained.from_pretrained(self.home)
            printable([figure_table(found.report or {}), found.answers or ""])
            stored_answers(self.home)

        return read

    def whole(self, name: str):
        """As for use, but what fits is not built anew: it is the network that is there."""

        def read(data: bytes) -> None:
            self.put(name, data)
            with (
                patch("semmim_mini.training.fitting.SemMIM", self.outline),
                patch("semmim_mini.experiment.SemMIM", lambda config, vocab_size: self.model),
                patch("semmim_mini.experiment.load_tokenizer", lambda folder: self.loaded),
            ):
                load_run(self.home)

        return read


def folders(folder: Path) -> list[Target]:
    made = Folder(folder)
    made.put("config.yaml", "\n".join(_short()).encode())  # a tenth of what is stored: PyYAML takes its time
    made.good["config.yaml"] = (made.home / "config.yaml").read_bytes()
    good, values = made.good, json_values()
    states = (b'{"step": 2, "best_score": 0.5}', b'{"step": 100, "best_score": -Infinity, "scaler": {"scale": 1.0}}')
    small = (to_yaml(override(Config(), list(SMALLEST))).encode(), "\n".join(_short()).encode())
    return [
        Target("config", small[1:], mixed(blind, yaml_values, yaml_values), made.config),
        Target("state", states, mixed(blind, values), made.state),
        Target("pointer", (b"step-000002", b"step-000002\n"), mixed(blind, lines), made.pointer),
        Target(
            "tokenizer.json", (good["tokenizer/tokenizer.json"],), mixed(blind, values, values), made.tokenizer("tokenizer.json"), cost=4
        ),
        Target(
            "tokenizer_config", (good["tokenizer/tokenizer_config.json"],), mixed(blind, values), made.tokenizer("tokenizer_config.json")
        ),
        Target("hub config", (good["config.json"],), mixed(blind, values), made.hub("config.json")),
        Target("hub report", (good["report.json"],), mixed(blind, values, values), made.hub("report.json")),
        Target("hub answers", (b'["yes", "no"]',), mixed(blind, values), made.hub("answers.json")),
        Target("whole by weights", (good["model.safetensors"],), mixed(blind, safetensors_header), made.whole("model.safetensors"), cost=8),
        Target("whole by config", small[1:], mixed(blind, yaml_values, yaml_values), made.whole("config.yaml"), cost=8),
    ]


def _short() -> list[str]:
    """SMALLEST as YAML, a line for each group."""
    groups: dict[str, list[str]] = {}
    for setting in SMALLEST:
        name, value = setting.split("=")
        group, leaf = name.split(".")
        groups.setdefault(group, []).append(f"{leaf}: {value}")
    return [f"{group}: {{{', '.join(values)}}}" for group, values in groups.items()]


GROUPS = (tensors, folders)
