r"""Transformer layers of the image encoder, with room for text.

A vision transformer layer is two residual updates:

$$ x \leftarrow x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad x \leftarrow x + \mathrm{MLP}(\mathrm{LN}(x)). $$

SemMIM lets patches look at words. The cheapest way we know [C] changes nothing but the *keys and values*: text features are
appended to them, the queries stay image tokens, and the layer's own weights project both. Attention then decides, patch by
patch and head by head, how much of its unit budget goes to words:

    queries            keys and values
    [CLS] p1 … pn  →   [CLS] p1 … pn | t1 … tl

The alternative [F: FIBER, Dou et al. 2022] keeps the layer as it is and adds a cross-attention whose output passes a gate
that starts at zero, so that a pre-trained encoder begins unchanged.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

EPSILON = {"vit": 1e-6, "clip": 1e-5}  # of layer norms, by `image.form`


def attention_weights(
    query: Float[Tensor, "b h q c"], key: Float[Tensor, "b h s c"], allowed: Tensor | None = None
) -> Float[Tensor, "b h q s"]:
    """softmax(q·kᵀ/√c) written out, for figures and masks; fused kernels compute the same numbers and hide them.

    In fp32 even under autocast, which would round the scores to few digits and let patches tie that do not.

    Args:
        allowed: bool, broadcastable to (b, h, q, s); False entries receive exactly zero attention. Every query needs one True:
            a softmax over nothing is NaN. Image tokens always see each other, and words [CLS].
    """
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.einsum("bhqc,bhsc->bhqs", query.float(), key.float()) * query.shape[-1] ** -0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores.softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head attention whose queries are image tokens and whose keys may include text [S: text is injected; C: how]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the image tokens; keys and values of image tokens and, behind them, text tokens. Each (b, h, tokens, c)."""
        query, key, value = rearrange(self.qkv(x), "b n (three h c) -> three b h n c", three=3, h=self.heads)
        if text is not None:
            # Text asks no questions here: only the key and value thirds of the shared projection are used.
            width = x.shape[-1]
            text_kv = F.linear(text, self.qkv.weight[width:], self.qkv.bias[width:])
            text_key, text_value = rearrange(text_kv, "b l (two h c) -> two b h l c", two=2, h=self.heads)
            key, value = torch.cat([key, text_key], dim=2), torch.cat([value, text_value], dim=2)
        return query, key, value

    def forward(
        self, x: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None = None, allowed: Bool[Tensor, "#b 1 n s"] | None = None
    ) -> Float[Tensor, "b n d"]:
        query, key, value = self.project(x, text)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(rearrange(mixed, "b h n c -> b n (h c)"))

    def weights(self, x: Tensor, text: Tensor | None = None, allowed: Tensor | None = None) -> Float[Tensor, "b h n s"]:
        """The attention `forward` applies, as numbers (tested: weights · values equals the fused kernel)."""
        query, key, _ = self.project(x, text)
        return attention_weights(query, key, allowed)


class GatedTextAttention(nn.Module):
    """Cross-attention to text behind a gate that starts shut: tanh(0) = 0 [F: FIBER]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"], words: Bool[Tensor, "b l"]) -> Float[Tensor, "b n d"]:
        query = rearrange(self.query(self.norm(x)), "b n (h c) -> b h n c", h=self.heads)
        key, value = rearrange(self.key_value(text), "b l (two h c) -> two b h l c", two=2, h=self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=rearrange(words, "b l -> b 1 1 l"))
        return self.gate.tanh() * self.out(rearrange(mixed, "b h n c -> b n (h c)"))


class QuickGELU(nn.Module):
    r"""$x\,\sigma(1.702\,x)$, which CLIP's weights were trained with [F].

    Through SiLU, $u\,\sigma(u)$ with $u = 1.702\,x$, the backward pass needs one hidden tensor; written out as a product it would keep
    x and its factor: three hidden tensors in an MLP where GELU has two.
    """

    SCALE = 1.702

    def forward(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        return F.silu(self.SCALE * x) / self.SCALE


class Layer(nn.Module):
    """One pre-norm transformer layer; its keys and values may include text.

    `form` "clip" has what CLIP's weights were trained with [F]: `QuickGELU` in the place of GELU, and a larger ε in its norms.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, gated: bool = False, form: str = "vit"):
        super().__init__()
        hidden, eps = int(width * mlp_ratio), EPSILON[form]
        self.norm_attention = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.text_attention = GatedTextAttention(width, heads) if gated else None
        self.norm_mlp = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), QuickGELU() if form == "clip" else nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Float[Tensor, "b n d"], text: "TextForImage | None" = None) -> Float[Tensor, "b n d"]:
        if text is None:
            x = x + self.attention(self.norm_attention(x))
        elif self.text_attention is None:
            # The layer's own norm brings text tokens to the scale its projection was trained on.
            x = x + self.attention(self.norm_attention(x), self.norm_attention(text.tokens), text.allowed(x.shape[1]))
        else:
            x = x + self.attention(self.norm_attention(x))
            update = self.text_attention(x, text.tokens, text.words)
            x = x + (update * text.without_cls(update) if text.hide_from_cls else update)
        return x + self.mlp(self.norm_mlp(x))


class TextForImage:
    """Text features on their way into the image encoder: mapped to its width, with the two masks that go with them."""

    def __init__(self, tokens: Float[Tensor, "b l d"], words: Bool[Tensor, "b l"], hide_from_cls: bool):
        self.tokens = tokens
        self.words = words  # False on padding: nothing ever attends to it
        self.hide_from_cls = hide_from_cls

    def allowed(self, queries: int) -> Bool[Tensor, "b 1 q s"]:
        """The attention mask over [image ; text] keys, True where a query may look.

        Under isolation `mask` the row of [CLS] is False on every text key. That stops the direct path only: patches see text,
        and from the next layer on [CLS] sees those patches. `figures.attention.cls_leak` measures it.
        """
        image = torch.ones(len(self.words), queries, queries, dtype=torch.bool, device=self.words.device)
        text = self.words[:, None, :].repeat(1, queries, 1)
        if self.hide_from_cls:
            text[:, 0] = False
        return rearrange(torch.cat([image, text], dim=2), "b q s -> b 1 q s")

    @staticmethod
    def without_cls(update: Float[Tensor, "b n d"]) -> Float[Tensor, "n 1"]:
        """1 for patches, 0 for [CLS]."""
        keep = update.new_ones(update.shape[1], 1)
        keep[0] = 0
        return keep
