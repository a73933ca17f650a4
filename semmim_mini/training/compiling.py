r"""`run.compile`: the layers of both image encoders through torch.compile, everything else as it is.

    Layer.__call__ ──► dynamo records its operations once per kind of call (with or without text, with or without gradient)
                   ──► inductor writes fused code for them, C++ on a CPU and Triton on a GPU

Layers, not the whole step [C]: the step asks how many words are hidden and which negatives there are, and every such question would
cut its graph; a layer asks nothing, and the layers of one shape share their code. Compiled in place, they keep the names of their
weights, and hooks and checkpoints work as before. What looks inside layers (instruments, figures) gets a model without: `eager`.

Text has other lengths in each batch and images come one view or two at once, so sizes are left open from the start.
"""

import copy
import os
import shutil

from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM

COMPILERS = ("g++", "clang++", "c++")


def compile_layers(model: SemMIM) -> None:
    """Compile the image encoders' layers of student and teacher at their first use.

    Raises:
        UserError: no C++ compiler on the search path, which torch.compile needs for CPUs and GPUs alike.
    """
    wanted = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in wanted):
        raise UserError(f"run.compile=true needs a C++ compiler, and none of {', '.join(wanted)} is there; install one, or leave it false")
    for layer in (*model.student.image.layers, *model.teacher.image.layers):
        layer.compile(dynamic=True)


def eager(model: SemMIM) -> SemMIM:
    """The same model, not compiled: copies are plain."""
    return copy.deepcopy(model)
