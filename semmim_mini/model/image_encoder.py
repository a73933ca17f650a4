r"""The image encoder: a vision transformer that can hide patches and read text.

    images ──patchify──► patches ──hide──► + positions ──► layers < m ──► layers ≥ m ──► norm
                                  ▲                        "trunk"        "branch"
                             mask token                                    ▲ text, optional

**Trunk and branch.** Text enters at layer m (`inject_from`) [H: "from a certain layer"; C: m = depth/2]. Everything before it is
the same with and without text, so it is computed once (`trunk`) and the rest (`branch`) runs as often as needed:

| isolation | the branch of an image with text runs | [CLS] is read from |
| --- | --- | --- |
| `none`  | once, text visible to every query           | the text-injected branch |
| `mask`  | once, text hidden from the [CLS] query      | the text-injected branch |
| `fork`  | twice: text-free and text-injected          | the text-free branch [C: default] |

[CLS] must agree across views on what is *shown* [H]; if the caption reaches it, two views of one image agree by quoting the caption.
`mask` looks sufficient and is not: see `layers.TextForImage.allowed`.

With `readout` [CLS] is a linear map of what several layers say of the whole picture (`readout.py`). Their notes travel behind the
tokens, out of sight of the layers.

Without text, mask and readout this is a plain ViT; tests prove it equal to timm's and transformers' on a tiny configuration. Weights of
CLIP, DeiT, DINO, DINOv2 and ViT fit in: `pretrained_image.py`.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semmim_mini.config import ImageConfig
from semmim_mini.model.layers import EPSILON, Layer, TextForImage
from semmim_mini.model.readout import Readout, note, replace_cls
from semmim_mini.model.remembered import Remembered


class ImageEncoder(nn.Module):
    """ViT with mask token and text injection.

    Args:
        config: width d, depth, heads, patch size, m, kind of injection, isolation.
        resolution: pixels per side; n = (resolution / patch)².
        text_width: width of the text features that `read` maps to d.
    """

    def __init__(self, config: ImageConfig, resolution: int, text_width: int):
        super().__init__()
        self.config, width = config, config.width
        self.side = resolution // config.patch
        self.tokens = 1 + self.side**2
        self.patchify = nn.Conv2d(3, width, config.patch, config.patch)
        self.cls = nn.Parameter(torch.zeros(width))
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(self.tokens, width))
        # CLIP normalises what enters the first layer; everybody else leaves that to the layer.
        self.norm_input = nn.LayerNorm(width, eps=EPSILON["clip"]) if config.form == "clip" else nn.Identity()
        gated = [config.injection == "gated" and i >= config.inject_from for i in range(config.depth)]
        self.layers = nn.ModuleList(Layer(width, config.heads, config.mlp_ratio, g, config.form) for g in gated)
        self.norm = nn.LayerNorm(width, eps=EPSILON[config.form])
        self.text_map = nn.Linear(text_width, width)  # the only new weights that injection by appending needs
        self.checkpointed = False  # recompute layers in the backward pass
        self.remembered: Remembered | None = None  # what frozen layers said of pictures, in training
        self.apply(_init_vit)
        self.readout = Readout(width, config.readout) if config.readout else None
        for layer in self.layers:  # residual updates start at half size
            layer.attention.out.weight.data.mul_(0.5)
            layer.mlp[2].weight.data.mul_(0.5)
        for parameter, deviation in ((self.cls, 0.02), (self.mask_token, 0.02), (self.positions, 0.2)):
            nn.init.normal_(parameter, std=deviation)

    def embed(self, images: Float[Tensor, "b 3 h w"], mask: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b tokens d"]:
        """Patch embeddings with [CLS] in front. The mask token takes a patch's place *before* its position is added, so that
        a hidden patch still knows where it is [F: iBOT, BEiT]."""
        patches = rearrange(self.patchify(images), "b d i j -> b (i j) d")
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        cls = self.cls.to(patches.dtype).expand(len(patches), 1, -1)
        return self.norm_input(torch.cat([cls, patches], dim=1) + self.positions)

    def freeze(self, layers: int) -> None:
        """Hold the first `layers` layers, and everything before them, as they are. The mask token goes on learning: it is new."""
        if layers:
            for part in (self.patchify, self.norm_input, *self.layers[:layers]):
                part.requires_grad_(False)
            self.cls.requires_grad_(False)
            self.positions.requires_grad_(False)

    def trunk(self, images: Float[Tensor, "b 3 h w"], mask: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b s d"]:
        """Layers below m: what text cannot change. Notes for a readout that begins below m come last."""
        return self._run(self.embed(images, mask), range(self.config.inject_from))

    def branch(self, x: Float[Tensor, "b s d"], text: TextForImage | None = None) -> Float[Tensor, "b tokens d"]:
        """Layers from m on, and the final norm; with `text`, patches read it."""
        return self._read_out(self._run(x, range(self.config.inject_from, self.config.depth), text))

    def forward(
        self, images: Float[Tensor, "b 3 h w"], mask: Bool[Tensor, "b n"] | None = None, text: TextForImage | None = None
    ) -> Float[Tensor, "b tokens d"]:
        """All layers: [CLS] first, then the n patches."""
        if self.remembered is None or mask is not None or text is not None or not (self.training and torch.is_grad_enabled()):
            return self.branch(self.trunk(images, mask), text)
        held = self.config.freeze
        x = self.remembered(images, lambda new: self._run(self.embed(new), range(held)))
        return self._read_out(self._run(x, range(held, self.config.depth)))

    def read(self, tokens: Float[Tensor, "b l t"], words: Bool[Tensor, "b l"]) -> TextForImage:
        """Text features made readable for this encoder: mapped to width d, [CLS] shielded as `isolation` says."""
        return TextForImage(self.text_map(tokens), words, hide_from_cls=self.config.isolation == "mask")

    def cls_attention(self, x: Float[Tensor, "b tokens d"]) -> Float[Tensor, "b n"]:
        """The last layer's attention from [CLS] to each patch, averaged over heads, given the trunk's output [F: AttMask]."""
        x = self._run(x, range(self.config.inject_from, self.config.depth - 1))[:, : self.tokens]
        last = self.layers[-1]
        return last.attention.weights(last.norm_attention(x))[:, :, 0, 1:].mean(dim=1)

    def text_query(self, x: Float[Tensor, "b tokens d"], text_cls: Float[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
        """Query of the text [CLS] and keys of the patches in layer m, (b, h, 1, c) and (b, h, n, c) [F: TRIPS]."""
        layer = self.layers[self.config.inject_from]
        query, _, _ = layer.attention.project(layer.norm_attention(self.text_map(text_cls))[:, None])
        _, key, _ = layer.attention.project(layer.norm_attention(x[:, : self.tokens]))
        return query, key[:, :, 1:]

    def _run(self, x: Tensor, numbers: range, text: TextForImage | None = None) -> Tensor:
        """Some layers one after another. Each of the last `readout` ones leaves its notes behind all others'."""
        for number in numbers:
            layer, tokens, notes = self.layers[number], x[:, : self.tokens], x[:, self.tokens :]
            recompute = self.checkpointed and torch.is_grad_enabled()
            x = checkpoint(layer, tokens, text, use_reentrant=False) if recompute else layer(tokens, text)
            if number >= self.config.depth - self.config.readout:
                x = torch.cat([x, notes, note(x[:, 0], x[:, 1:].mean(dim=1))], dim=1)
        return x

    def _read_out(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "b tokens d"]:
        x = self.norm(x)
        return x if self.readout is None else replace_cls(x[:, : self.tokens], self.readout(x[:, self.tokens :]))


def _init_vit(module: nn.Module) -> None:
    """Fan-in scaled weights, zero biases [C]. The usual 0.02 [F: ViT] suits width 768; narrower layers start nearly silent with it."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        nn.init.zeros_(module.bias)
