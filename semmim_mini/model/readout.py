r"""[CLS] read from several layers: for encoders whose own [CLS] was trained for something else, or hardly.

    layer        last [CLS]   mean of the others        notes        readout
    depth − k + 1   ●              ●              ──► 2 of width d ─┐
    …               ●              ●              ──► 2 of width d ─┼─ norm ─ concatenate ─ linear ─► [CLS] of width d
    depth           ●              ●              ──► 2 of width d ─┘

A layer halfway up knows of parts and places what the last one has given up for its own task, and a mean of tokens says what is in a picture
even where nobody ever asked its [CLS]. Classifiers on frozen DINOv2 features read four layers so, each [CLS] and mean [F: DINOv2's linear
evaluation]; sentence encoders such as MiniLM are trained on the mean of their words [F: sentence-transformers]. Here it is a layer of the
encoder, so that whoever asks for [CLS] (contrast, consensus, fusion) gets it without knowing.

It begins as the last layer's own [CLS]: a model with a fresh readout says what it said without.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semmim_mini.config import NOTES


class Readout(nn.Module):
    """A linear map from the notes of k layers to one token.

    Args:
        width: d.
        layers: k; the last one is where [CLS] would be taken from otherwise.
    """

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.linear = nn.Linear(NOTES * layers * width, width)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.zero_()
            self.linear.weight[:, -NOTES * width : (1 - NOTES) * width] = torch.eye(width)

    def forward(self, notes: Float[Tensor, "b notes d"]) -> Float[Tensor, "b d"]:
        """Notes of the first layer first, all with the final norm on them."""
        return self.linear(notes.flatten(1))


def note(cls: Float[Tensor, "b d"], mean: Float[Tensor, "b d"]) -> Float[Tensor, "b 2 d"]:
    """What the readout keeps of a layer."""
    return torch.stack([cls, mean], dim=1)


def replace_cls(tokens: Float[Tensor, "b s d"], cls: Float[Tensor, "b d"]) -> Float[Tensor, "b s d"]:
    """`tokens` with another first one."""
    return torch.cat([cls.to(tokens.dtype)[:, None], tokens[:, 1:]], dim=1)
