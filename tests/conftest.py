"""What all tests share: one thread, shapes checked at run time, and the smallest configuration that has every part."""

import os

# Before torch is imported: many tests are many small operations, and idle threads that spin slow them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import jaxtyping

# Every annotated function of these packages checks its arguments' and results' shapes while tests run.
jaxtyping.install_import_hook(["semmim_mini.objectives", "semmim_mini.model"], "beartype.beartype")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
# Same examples in every run: a red test must be red again on the next machine.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repeatable")

VOCAB = 30
# Text and image widths differ, so that a mix-up of the two cannot pass. All that tests read is written out here: the
# defaults of the presets are tuned now and then, and no test of a mechanism should notice.
TINY = (
    *("run.steps=400", "run.seed=0", "optim.lr=0.001", "optim.lr_end=0.000001", "optim.warmup=0.05"),
    *(f"losses.{term}={{weight: 1.0, start: 0.0}}" for term in ("itc", "itm", "mlm", "consensus", "mim")),
    *("losses.itc_keys=teacher", "losses.alpha=0.4", "losses.alpha_ramp=[0.0, 0.1]", "losses.hard_negatives=0.0"),
    *(
        "losses.mim_target=codes",
        "losses.student_passes=three",
        "losses.mim_student_text=true",
        "losses.mim_target_text=true",
    ),
    *(
        "image.injection=append",
        "image.isolation=fork",
        "space.shared=true",
        "space.init=kmeans",
        "space.freeze_share=0.03",
    ),
    *(
        "teacher.balance=sinkhorn",
        "teacher.temperature=0.04",
        "teacher.temperature_start=0.04",
        "teacher.per_image=0.0",
    ),
    *("masking.strategy=text_high", "masking.relevance=cross", "masking.masked_share=1.0", "masking.random_until=0.1"),
    *("data.resolution=16", "data.batch_size=4", "data.max_length=8"),
    *(
        "image.mlp_ratio=4.0",
        "text.mlp_ratio=4.0",
        "image.patch=8",
        "image.width=16",
        "image.depth=2",
        "image.heads=2",
        "image.inject_from=1",
    ),
    *("text.width=12", "text.depth=1", "text.fusion_depth=1", "text.decoder_depth=1", "text.heads=2"),
    *("space.prototypes=6", "space.hidden=16", "space.bottleneck=8", "space.projection=10"),
    *(
        "losses.queue=8",
        "losses.caption={weight: 1.0, start: 0.0}",
        "losses.patch_tokens=5",
        "teacher.cls_queue=8",
        "masking.ratio=0.5",
    ),
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny():
    """`tiny("losses.mim.weight=0", …)`: 16 px, 4 patches, two image layers, all six losses on."""
    from semmim_mini.config import Config, override

    return lambda *settings: override(Config(), [*TINY, *settings])


@pytest.fixture
def make_model(tiny):
    """`make_model("image.isolation=mask", …)`: a SemMIM of that configuration."""
    from semmim_mini.model.semmim import SemMIM

    def make(*settings: str) -> SemMIM:
        torch.manual_seed(0)
        return SemMIM(tiny(*settings), VOCAB)

    return make


@pytest.fixture(scope="session")
def make_batch():
    """`make_batch(config)`: random images, captions of different lengths, two hidden words each at most."""
    return fake_batch


def fake_batch(config, b: int | None = None, seed: int = 1):
    from semmim_mini.data.loader import Batch

    draw = torch.Generator().manual_seed(seed)
    b, longest, side = b or config.data.batch_size, config.data.max_length, config.data.resolution
    length = torch.randint(4, longest, (b, 1), generator=draw)
    length[-1] = longest  # the longest caption stands in the last row, so that halves of a batch are padded differently
    place = torch.arange(longest)
    words = place < length
    ids = torch.randint(5, VOCAB, (b, longest), generator=draw)
    ids[:, 0] = 2  # [CLS]
    ids = torch.where(place == length - 1, 3, ids) * words  # [SEP], then padding
    hidden = (place == 1) | ((place == 2) & (torch.arange(b)[:, None] % 3 == 0))
    return Batch(
        images=torch.randn(2, b, 3, side, side, generator=draw),
        input_ids=ids,
        attention_mask=words,
        mlm_ids=torch.where(hidden, 4, ids),
        mlm_labels=torch.where(hidden, ids, -100),
        image_ids=torch.arange(b),
        captions=[f"caption {i}" for i in range(b)],
    )
