"""What only a GPU can show. Everywhere else these tests are skipped, and say why."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "end_to_end"))  # whose small runs are run here, too


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU that torch can use"))


@pytest.fixture
def on_gpu(make_model, make_batch):
    """`on_gpu(*settings)`: a small model and a batch of eight for it, both on the GPU."""

    def make(*settings: str):
        model = make_model("data.batch_size=8", *settings).to("cuda")
        return model, make_batch(model.config).to("cuda")

    return make
