r"""Four sizes of the same method.

| preset | for | image | text | k |
| --- | --- | --- | --- | --- |
| `tiny`  | the demo and the tests: minutes on two CPU cores | 64 px, patch 8, 4 × 128 | 2 + 2 × 128 | 512 |
| `mini`  | two CPU cores for two hours; or one GPU, minutes | 96 px, patch 8, 6 × 192 | 4 + 2 × 192 | 1,024 |
| `small` | one GPU, hours to days                           | 224 px, patch 16, 12 × 384 | 6 + 6 × 384 | 4,096 |
| `base`  | the paper's scale: a node of GPUs                | 256 px, patch 16, 12 × 768 | 6 + 6 × 768 | 8,192 |

`base` follows the field's values [F] wherever there are any; the small ones take our choices [C] where a short run needs others:
Sinkhorn–Knopp instead of centring, a teacher that starts young, negatives that start or stay easy, captioning as the patches' first
teacher. Each is one setting away.
"""

from semmim_mini.config import (
    Config,
    DataConfig,
    ImageConfig,
    LossesConfig,
    MaskingConfig,
    OptimConfig,
    RunConfig,
    SpaceConfig,
    TeacherConfig,
    Term,
    TextConfig,
)
from semmim_mini.errors import UserError


def _joining(start: float) -> dict[str, Term]:
    """ITC from the first step; matching, masked words, consensus and MIM from `start` on, when features mean something."""
    return {name: Term(start=start) for name in ("itm", "mlm", "consensus", "mim")}


def tiny() -> Config:
    return Config(preset="tiny")


def mini() -> Config:
    """Contrast and captioning alone for three quarters, which is where features come from and where a step costs least; then matching and
    masked words; consensus and masked modelling for the last 15 %. The recipe of both models that ship."""
    return Config(
        preset="mini",
        data=DataConfig(resolution=96, train_size=50_000, cache=False, workers=2, vocab_size=4_000, max_length=28),
        image=ImageConfig(width=192, mlp_ratio=4.0, depth=6, heads=6, inject_from=3),
        text=TextConfig(width=192, mlp_ratio=4.0, depth=4, fusion_depth=2, heads=6),
        space=SpaceConfig(prototypes=1_024, hidden=512, bottleneck=128, projection=128),
        losses=LossesConfig(consensus=Term(start=0.85), mim=Term(start=0.85)),
        optim=OptimConfig(lr=1e-3, lr_end=1e-4),
        run=RunConfig(steps=3_000, eval_every=500, save_every=100),
    )


def small() -> Config:
    return Config(
        preset="small",
        data=DataConfig(
            source="karpathy:dataset_coco.json:images",
            cache=False,
            resolution=224,
            batch_size=256,
            workers=12,
            max_length=30,
            tokenizer="bert-base-uncased",
            crop_scale=(0.2, 1.0),
            randaugment=True,
        ),
        image=ImageConfig(patch=16, width=384, mlp_ratio=4.0, depth=12, heads=6, inject_from=6),
        text=TextConfig(width=384, mlp_ratio=4.0, depth=6, fusion_depth=6, heads=12, dropout=0.1),
        space=SpaceConfig(prototypes=4_096, hidden=1_024, bottleneck=256, projection=256),
        teacher=TeacherConfig(momentum=0.995, cls_queue=4_096),
        masking=MaskingConfig(ratio=(0.1, 0.5)),
        losses=LossesConfig(**_joining(0.05), queue=16_384, itc_keys="teacher", alpha_ramp=(0.0, 0.1), hard_negatives=(0.05, 0.15)),
        optim=OptimConfig(lr=5e-4, lr_end=1e-6),
        run=RunConfig(steps=60_000, eval_every=2_000, eval_size=1_000, save_every=1_000, log_every=50),
    )


def base() -> Config:
    """4 M images, batch 1,024, 30 epochs."""
    return Config(
        preset="base",
        data=DataConfig(
            source="karpathy:dataset_coco.json:images",
            cache=False,
            resolution=256,
            batch_size=1_024,
            workers=12,
            max_length=30,
            tokenizer="bert-base-uncased",
            crop_scale=(0.2, 1.0),
            randaugment=True,
        ),
        image=ImageConfig(
            patch=16, width=768, mlp_ratio=4.0, depth=12, heads=12, inject_from=6, form="clip", pretrained="openai/clip-vit-base-patch16"
        ),
        text=TextConfig(width=768, mlp_ratio=4.0, depth=6, fusion_depth=6, heads=12, dropout=0.1, pretrained="bert-base-uncased"),
        space=SpaceConfig(prototypes=8_192, hidden=2_048, bottleneck=256, projection=256, init="random"),
        teacher=TeacherConfig(momentum=0.995, momentum_schedule="constant", balance="center", temperature_start=0.04, temperature=0.07),
        masking=MaskingConfig(relevance="cross", ratio=(0.1, 0.5), masked_share=0.5, random_until=0.03),
        losses=LossesConfig(
            **_joining(0.0), caption=Term(weight=0.0), queue=65_536, itc_keys="teacher", alpha_ramp=(0.0, 1 / 30), hard_negatives=(0.0, 0.0)
        ),
        optim=OptimConfig(lr=1e-4, lr_end=1e-6),
        run=RunConfig(steps=30 * 4_000_000 // 1_024, eval_every=4_000, eval_size=1_000, save_every=1_000, log_every=50),
    )


PRESETS = {"tiny": tiny, "mini": mini, "small": small, "base": base}


def preset(name: str) -> Config:
    if name not in PRESETS:
        raise UserError(f"--preset {name!r} is none; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
