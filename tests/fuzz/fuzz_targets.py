"""All targets, each group with a folder of its own, made when its turn comes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fuzz_annotations
import fuzz_checkpoints
import fuzz_pictures
import fuzz_settings
import fuzz_shards
from fuzz_engine import Target

GROUPS = (
    *fuzz_annotations.GROUPS,
    *fuzz_settings.GROUPS,
    *fuzz_pictures.GROUPS,
    *fuzz_shards.GROUPS,
    *fuzz_checkpoints.GROUPS,
)


def make_targets(folder: Path, only: tuple[str, ...] = ()) -> Iterator[Target]:
    """Every target, or those of `only`: groups ("karpathy") and single targets ("karpathy/pairs"); their files go below `folder`."""
    for group in GROUPS:
        name = group.__name__
        if not only or any(wanted.partition("/")[0] == name for wanted in only):
            (folder / name).mkdir(parents=True)
            for target in group(folder / name):
                target = replace(target, name=f"{name}/{target.name}")
                if not only or {name, target.name} & set(only):
                    yield target
