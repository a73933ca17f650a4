"""Compiled layers: the same numbers, the same names, and plain copies. tests/gpu has whole steps."""

import shutil

import jaxtyping
import pytest
import torch

from semmim_mini.errors import UserError
from semmim_mini.training import compiling

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, compiling.COMPILERS)), reason="no C++ compiler")


@pytest.fixture
def unchecked():
    """Shapes are not checked while the compiler looks on: the one of PyTorch 2.9 follows the check itself, and goes astray in it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def is_compiled(layer) -> bool:
    return layer._compiled_call_impl is not None


def test_no_compiler_is_told_before_anything_runs(make_model, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"run\.compile=true needs a C\+\+ compiler, and none of g\+\+, clang\+\+, c\+\+ is there"):
        compiling.compile_layers(make_model())


@needs_compiler
def test_names_stay_and_copies_are_plain(make_model):
    model = make_model()
    names = list(model.state_dict())
    compiling.compile_layers(model)
    layers = [*model.student.image.layers, *model.teacher.image.layers]
    assert len(layers) == 4 and all(map(is_compiled, layers))
    assert list(model.state_dict()) == names
    plain = compiling.eager(model)
    assert not any(map(is_compiled, plain.modules()))
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in plain.state_dict().items())


@needs_compiler
def test_compiled_layers_compute_the_same_with_text_and_without(unchecked, make_model):
    models = make_model(), make_model()
    compiling.compile_layers(models[1])
    for b, length in ((3, 5), (2, 7)):  # other sizes must not be wrong, nor need a new start
        images, tokens = torch.randn(b, 3, 16, 16), torch.randn(b, length, 12)
        words = torch.arange(length) < torch.randint(3, length, (b, 1))
        found = []
        for model in models:
            image = model.student.image
            image.zero_grad()
            text = image.read(tokens, words)
            out = torch.cat([image(images), image(images, text=text)])
            out.square().mean().backward()
            found.append([out, *(p.grad for p in image.parameters() if p.grad is not None)])
        eager, compiled = found
        assert len(eager) == len(compiled) > 25
        for one, other in zip(eager, compiled, strict=True):
            torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
