r"""Three formulas for each kind of layer: how many parameters it has, how much it computes, what it keeps for its backward pass.

Letters as everywhere (b n l d k m r), and for one layer: s tokens, width d, hidden width h, a heads, t tokens that it reads besides.

| of a layer | image layer (pre-norm, fused attention) | text layer (BERT: post-norm) |
| --- | --- | --- |
| parameters | 4d² + 2dh + 9d + h | the same; cross-attention adds 4d² + 6d |
| products, forward | 2bs(4d² + 2dh); reading text adds 4btd² | the same; cross-attention adds 2b(2sd² + 2td²) |
| attention, forward | 4bs(s + t)d | 4bs²d; cross-attention adds 4bstd |
| kept | 8sd + 2sh a row (CLIP's form: 3sh) | 8sd + 2sh a row; cross-attention adds 4sd + 2td and its weights |

Backward. The gradient of a product costs two products. Fused attention computes its scores anew: five products instead of four.
Kept is what autograd saves: the inputs of linear layers, norms and GELU, and of attention queries, keys, values and result. Fused
attention keeps no b·a·s·s weights; BERT's written-out attention in fusion encoder and decoder does.

16-bit autocast [F]: products read and write 16 bit, so their inputs are kept in 16 bit; the residual stream and what norms read stay
in fp32. Every linear layer makes its own 16-bit copy of an fp32 input, also where three of them read the same one (`again`).
"""

from dataclasses import astuple, dataclass

from semmim_mini.config import NOTES, ImageConfig, TextConfig


@dataclass(frozen=True)
class Work:
    """Multiplications and additions, by what their backward pass costs."""

    product: float = 0.0  # both sides receive gradients: twice the forward pass
    constant: float = 0.0  # one side receives none: once
    fused: float = 0.0  # fused attention: 2.5 times
    still: float = 0.0  # no gradient at all
    again: float = 0.0  # no forward pass: computed anew in the backward pass

    def __add__(self, other: "Work") -> "Work":
        return Work(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(one * times for one in astuple(self)))

    @property
    def forward(self) -> float:
        return self.product + self.constant + self.fused + self.still

    @property
    def backward(self) -> float:
        return 2 * self.product + self.constant + 2.5 * self.fused + self.again

    def early(self) -> "Work":
        """All of it in the forward pass, gradients included."""
        return Work(still=self.forward + self.backward)

    def without_gradient(self) -> "Work":
        return Work(still=self.forward)

    def frozen(self) -> "Work":
        """The same with weights that are not trained: gradients only pass through."""
        return Work(constant=self.product + self.constant, fused=self.fused)


@dataclass(frozen=True)
class Format:
    """Bytes of one number in each of the roles that `Kept` tells apart."""

    name: str  # fp32 | bf16 | fp16
    product: int  # read or written by a product
    again: int  # further 16-bit copies of an fp32 tensor; fp32 shares one
    drop: int  # per element that dropout decides about

    @classmethod
    def of(cls, precision: str, cuda: bool = True) -> "Format":
        """On CUDA dropout keeps one byte an element, on a CPU a factor."""
        half = precision != "fp32"
        return cls(precision, product=2 if half else 4, again=2 if half else 0, drop=1 if cuda else 4)


@dataclass(frozen=True)
class Kept:
    """Numbers kept from forward to backward, by the format they are kept in."""

    product: float = 0.0
    full: float = 0.0  # fp32 in every precision
    again: float = 0.0
    drop: float = 0.0

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Kept":
        return Kept(*(one * times for one in astuple(self)))

    def bytes(self, format: Format) -> float:
        return self.product * format.product + 4 * self.full + self.again * format.again + self.drop * format.drop


def linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer with bias."""
    return inputs * outputs + outputs


def notes(encoder: ImageConfig | TextConfig) -> int:
    """Numbers that the readout of [CLS] reads of one picture, or one text; 0 without."""
    return NOTES * encoder.readout * encoder.width


def product(rows: float, inputs: int, outputs: int) -> Work:
    """A linear layer on so many rows: one multiplication and one addition per weight and row."""
    return Work(2 * rows * inputs * outputs)


@dataclass(frozen=True)
class ImageLayer:
    """`model/layers.Layer`."""

    width: int
    hidden: int
    gated: bool = False  # has, and with text uses, a cross-attention behind a gate

    def parameters(self) -> int:
        d, h = self.width, self.hidden
        own = linear(d, 3 * d) + linear(d, d) + linear(d, h) + linear(h, d) + 4 * d
        return own + (linear(d, d) + linear(d, 2 * d) + linear(d, d) + 2 * d + 1 if self.gated else 0)

    def work(self, b: float, s: int, t: int = 0) -> Work:
        """Of b rows with s image tokens that read t text tokens."""
        d, h = self.width, self.hidden
        own = product(b * s, d, 4 * d) + product(b * s, d, 2 * h) + Work(fused=4 * b * s * s * d)
        if t == 0:
            return own
        text = product(b * t, d, 2 * d) + Work(fused=4 * b * s * t * d)
        return own + text + (product(b * s, d, 2 * d) if self.gated else Work())

    def anew(self, b: float, s: int, t: int = 0) -> Work:
        """A second forward pass for the backward pass (activation checkpointing): torch stops it before the last product, whose
        result no gradient needs."""
        return Work(again=self.work(b, s, t).forward - product(b * s, self.hidden, self.width).forward)

    def kept(self, b: float, s: int, t: int = 0) -> Kept:
        d, h = self.width, self.hidden
        # Two norms' results, q k v, attention's result; both sides of GELU; what the norms read.
        own = Kept(product=6 * s * d + 2 * s * h, full=2 * s * d)
        if t == 0:
            return own * b
        if self.gated:  # norm's input and output, query, result, the update before its gate; keys and values
            return (own + Kept(product=4 * s * d + 2 * t * d, full=s * d)) * b
        # Keys and values joined anew beside those of the image alone; the normalised text; the mask as numbers.
        return (own + Kept(product=2 * (s + t) * d + t * d + s * (s + t))) * b


@dataclass(frozen=True)
class TextLayer:
    """transformers' `BertLayer`; `cross` is the width of what it also reads, `written_out` whether attention keeps its weights."""

    width: int
    hidden: int
    heads: int
    cross: bool = False
    dropout: bool = False

    def parameters(self) -> int:
        d, h = self.width, self.hidden
        return (2 if self.cross else 1) * (4 * linear(d, d) + 2 * d) + linear(d, h) + linear(h, d) + 2 * d

    def work(self, b: float, s: int, t: int = 0) -> Work:
        """Of b rows with s words, and t image tokens for cross-attention."""
        d, h = self.width, self.hidden
        own = product(b * s, d, 4 * d) + product(b * s, d, 2 * h)
        if not self.cross:
            return own + Work(fused=4 * b * s * s * d)
        return own + product(b * s, d, 2 * d) + product(b * t, d, 2 * d) + Work(4 * b * s * (s + t) * d)

    def kept(self, b: float, s: int, t: int = 0) -> Kept:
        d, h = self.width, self.hidden
        # Input, q k v, result of attention, input of the MLP, GELU's two sides; what the two norms read.
        own = Kept(product=6 * s * d + 2 * s * h, full=2 * s * d, again=2 * s * d, drop=2 * s * d * self.dropout)
        if not self.cross:
            return own * b
        more = Kept(product=3 * s * d + 2 * t * d, full=s * d, drop=s * d * self.dropout)  # input, query, result; keys and values
        return (own + more + self._weights(s, s + t)) * b

    def _weights(self, s: int, t: int) -> Kept:
        """Attention weights written out: the softmax, its 16-bit copy, and with dropout what was left of it."""
        weights = self.heads * s * t
        if self.dropout:
            return Kept(product=weights, full=weights, drop=weights)
        return Kept(full=weights, again=weights)
