"""Weights and configurations that belong together, and those that do not, told apart before a network is built."""

import pytest
import torch
from safetensors.torch import save_file

from semmim_mini.config import override
from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint
from semmim_mini.training.fitting import Stored, read_head, require_fitting

VOCAB = 30


@pytest.fixture
def stored(make_model, tmp_path):
    """`stored("image.depth=3")`: a network's configuration, and the folder with its weights."""

    def make(*settings):
        model = make_model(*settings)
        save_file(checkpoint.weights(model), str(tmp_path / "model.safetensors"))
        return model.config, tmp_path

    return make


def test_the_head_tells_shapes_and_kinds(tmp_path):
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.long), "c": torch.zeros(4, dtype=torch.bfloat16)}
    save_file(tensors, str(tmp_path / "x.safetensors"))
    assert read_head(tmp_path / "x.safetensors") == {"a": Stored((2, 3), True), "b": Stored((), False), "c": Stored((4,), True)}


@pytest.mark.parametrize(
    "settings", [(), ("losses.mim_target=pixels",), ("losses.answer.weight=1", "task.name=vqa"), ("space.shared=false",)]
)
def test_weights_fit_their_own_configuration(stored, settings):
    config, folder = stored(*settings)
    require_fitting(config, folder)
    require_fitting(config, folder, VOCAB)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("teacher.cls_queue=9", r"memory.cls_queue is \(8, 8\) in the file and \(9, 8\) in the configuration"),
        ("image.depth=1 image.inject_from=0", r"student.image.layers.1.* in the file and missing in the configuration"),
        ("image.depth=3", r"student.image.layers.2.* is missing in the file"),
        ("image.width=1000000000000", r"in the file and \(1000000000000,|impossible size"),
        ("image.width=4000000000000000000", "does not fit this configuration"),
        ("image.depth=1000000000", r"has \d+ weights, too few for the 1,000,000,003 layers"),
        ("losses.queue=1000000000000", r"memory.*_queue is \(8.*\) in the file and \(1000000000000"),
    ],
)
def test_another_configuration_is_refused_without_being_built(stored, setting, message):
    config, folder = stored()
    with pytest.raises(UserError, match=rf"model.safetensors .*{message}"):
        require_fitting(override(config, setting.split()), folder)


def test_another_vocabulary_is_refused(stored):
    config, folder = stored()
    with pytest.raises(UserError, match=r"\(30,?.*\) in the file and \(31,?.*\) in the configuration"):
        require_fitting(config, folder, VOCAB + 1)


def test_what_is_no_file_of_weights_is_named(tmp_path, tiny):
    with pytest.raises(UserError, match=r"model.safetensors is damaged or missing"):
        require_fitting(tiny(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match=r"model.safetensors is damaged or missing"):
        require_fitting(tiny(), tmp_path)
