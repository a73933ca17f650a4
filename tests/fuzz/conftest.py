"""A checkpoint as small as can be, for tests that break it."""

import shutil
from pathlib import Path

import pytest
from fuzz_checkpoints import Folder as Checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint as small as can be, made once; `folder` copies it."""
    return Checkpoint(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved.home, tmp_path / "run" / "checkpoints" / "step-000002"))
