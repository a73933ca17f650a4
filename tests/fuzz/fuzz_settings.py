"""Readers of settings and of tables: YAML, --set, the text of data.source, logs, comparisons, the manifest of cutouts."""

import json
import re
from pathlib import Path

from fuzz_annotations import printable
from fuzz_engine import Target, write
from fuzz_files import hostile_picture, picture
from fuzz_mutations import blind, json_values, lines, mixed, raw_yaml, yaml_values

from semmim_mini.ablation.cells import finished, folder_of
from semmim_mini.ablation.rows import ROWS
from semmim_mini.config import Config, from_yaml, override, to_yaml
from semmim_mini.course.comparison import Comparison
from semmim_mini.data.cutouts import COLUMNS, load_cutouts
from semmim_mini.data.mixture import parse
from semmim_mini.data.sources import open_pairs
from semmim_mini.training.logbook import read_metrics

SOURCES = (b"scenes", b"mix:2*scenes+1*scenes", b"mix:scenes+scenes", b"mix:0.5*scenes+0*scenes")
OTHERS = (
    b"flickr8k:",
    b"karpathy:x.json:",
    b"shards:",
    b"mix:",
    b"mix:1*shards:x+",
    b"vqa:",
    b"~",
    b"mix:1e9*",
    b"mix:0.000000001*scenes+",
)
SETTINGS = b"""image.width=64
data.source=scenes
masking.ratio=[0.1, 0.5]
losses.mim.weight=0
optim.lr=1e-2
image={patch: 8, width: 64}
losses.itc={weight: 1.0, start: 0.0}
run.tensorboard=false"""


def settings(folder: Path) -> list[Target]:
    """The whole tree as it is stored, small parts of it as people write them, and single settings."""
    small = (
        b"image: {width: 64, mlp_ratio: 4.0}\n",
        b"masking:\n  ratio: [0.1, 0.5]\n",
        b"losses: {mim: {weight: 0.5}, queue: 0}\n",
        b"preset: mini\n",
    )

    whole = to_yaml(Config())
    stored = tuple(part.encode() for part in re.split(r"\n(?=\w)", whole) if "\n" in part)  # group by group: PyYAML takes its time

    def read(data: bytes) -> None:
        config = from_yaml(data.decode("utf-8", "surrogateescape"))
        assert from_yaml(to_yaml(config)) == config  # what is accepted can be stored, and read again
        printable([to_yaml(config)])

    def typed(data: bytes) -> None:
        printable([to_yaml(override(Config(), [data.decode("utf-8", "surrogateescape")]))])

    def value(draw, data: bytes) -> bytes:
        name, equals, _ = data.partition(b"=")
        return name + equals + raw_yaml(draw).encode()

    return [
        Target("yaml", (*small, b"run: {seed: 0, steps: 9}\ntask: {name: pretrain}\n"), mixed(blind, yaml_values, yaml_values), read),
        Target("stored yaml", stored, mixed(blind, lines), read, cost=4),
        Target("set", tuple(SETTINGS.split(b"\n")), mixed(blind, value, value), typed),
    ]


def sources(folder: Path) -> list[Target]:
    write(folder / "here" / "x.jpg", picture())

    def read(data: bytes) -> None:
        text = data[:300].decode("utf-8", "replace")  # as long as what people type
        if text.startswith("mix:"):
            parse(text[4:])
        open_pairs(text, "train", resolution=64, size=4)

    def other(draw, data: bytes) -> bytes:
        return draw.choice(OTHERS) + data.rpartition(b":")[2]

    return [Target("data.source", SOURCES, mixed(blind, other), read)]


def logs_and_tables(folder: Path) -> list[Target]:
    record = {"step": 0, "loss": {"itc": 4.1}, "seconds": 0.1, "images_per_second": 500.0}
    log = "".join(json.dumps({**record, "step": step}) + "\n" for step in range(3)).encode()
    table = b"row,settings,seed,metric,value\nA0,a=1 b=2,0,cider,0.5\nA0,a=1 b=2,1,cider,0.6\nA8,,0,cider,0.7\n"
    row, figures = next(iter(ROWS.values())), folder_of(folder, next(iter(ROWS.values())), 0) / "figures.json"

    def metrics(data: bytes) -> None:
        for line in read_metrics(write(folder / "metrics.jsonl", data)):
            (line["step"] < 2, line.get("loss"))

    def compare(data: bytes) -> None:
        found = Comparison(write(folder / "ablation.csv", data))
        for name in found.rows:
            (found.seeds(name), found.values(name, "cider"), found.difference(name, "A0", "cider"))

    def cell(data: bytes) -> None:
        write(figures, data)
        for name, number in (finished(folder, row, 0) or {}).items():
            (name.upper(), float(number))

    both, json_lines = mixed(blind, lines), mixed(blind, lines, json_values())
    return [
        Target("metrics.jsonl", (log, log.split(b"\n")[0]), json_lines, metrics),
        Target("ablation.csv", (table,), both, compare),
        Target("figures.json", (b'{"cider": 0.5, "steps": 60, "ami": -0.1}',), mixed(blind, json_values()), cell),
    ]


def cutouts(folder: Path) -> list[Target]:
    """The manifest, and a picture that it names."""
    from semmim_mini.data import cutouts as module

    values = dict.fromkeys(COLUMNS, "x") | {"id": "dog_01", "file": "dog.webp", "names": "dog|puppy", "colors": "red|blue"}
    manifest = (",".join(values) + "\n" + ",".join(values.values()) + "\n").encode()
    good = picture("PNG", "RGBA", (9, 7))

    def read(data: bytes, name: str) -> None:
        write(folder / "manifest.csv", manifest)
        write(folder / "dog.webp", good)
        write(folder / name, data)
        module._load.cache_clear()
        for cutout in load_cutouts(folder):
            printable([cutout.id, *cutout.names])

    return [
        Target("manifest", (manifest,), mixed(blind, lines), lambda data: read(data, "manifest.csv")),
        Target("picture", (good,), mixed(blind, hostile_picture), lambda data: read(data, "dog.webp")),
    ]


GROUPS = (settings, sources, logs_and_tables, cutouts)
