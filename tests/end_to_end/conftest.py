"""What all runs of a few steps share; the helpers are in `small_runs`."""

from pathlib import Path

import pytest
from small_runs import SMALL, changed, make_photos

from semmim_mini.config import Config, from_dict


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    return make_photos(tmp_path_factory.mktemp("flickr8k"))


@pytest.fixture(scope="session")
def small(photos) -> Config:
    """The configuration of `SMALL` on `photos`; change single values with `changed`."""
    return changed(from_dict(SMALL), f"data.source=flickr8k:{photos}")
