r"""Every choice of a run, in one tree of frozen dataclasses.

    Config
    ├── data      which pairs, how large, how many at once
    ├── image     the vision transformer and where text enters it        spec letters: n patches, d width, m inject_from
    ├── text      BERT-style text encoder and fusion encoder             l text tokens
    ├── space     the shared encoding space                              k prototypes
    ├── teacher   the momentum copy and how its logits become targets
    ├── masking   which patches are hidden                               r ratio
    ├── losses    weight and start of every term
    ├── optim     AdamW and its schedule
    ├── run       steps, seed, precision, saving
    └── task      what is trained: pre-training, or fine-tuning from a checkpoint

The same tree is a preset (`presets.py`), a YAML file (`to_yaml`, `from_yaml`) and the command line (`--set masking.ratio=0.3`).
Impossible values fail when the tree is built, not an hour later: each message names the field, the value and what would do.
Defaults are those of the `tiny` preset; what the paper's scale uses stands in the `base` preset.
"""

import contextlib
import dataclasses
import math
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_origin

from semmim_mini.errors import UserError
from semmim_mini.plain_values import LARGEST, named, read_yaml, shown

NOTES = 2  # of each layer that a readout reads: [CLS] and mean


def _require(ok: bool, name: str, value: Any, valid: str) -> None:
    if not ok:
        raise UserError(f"{name}={shown(value)} is impossible: {valid}")


def _at_least_one(group: str, node: Any, *names: str) -> None:
    for name in names:
        _require(getattr(node, name) >= 1, f"{group}.{name}", getattr(node, name), "needs at least 1")


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    _require(value in valid, name, value, f"choose one of {', '.join(valid)}")


@dataclass(frozen=True)
class DataConfig:
    source: str = "scenes"  # scenes | flickr8k:DIR | karpathy:FILE.json:IMAGES_DIR | shards:DIR | mix:2*SOURCE+1*SOURCE
    resolution: int = 64  # px, square
    train_size: int = 5_000  # scenes only: how many different training scenes there are
    cache: bool = True  # keep pairs in memory once they were made; for sources that fit [C: a scene costs more to make than to see]
    batch_size: int = 64  # b, over all processes
    workers: int = 0  # processes that prepare batches; 0 prepares them in the training process
    max_length: int = 24  # l, tokens of a caption with [CLS] and [SEP]
    tokenizer: str = "train"  # "train": a WordPiece vocabulary from the captions at hand; else a transformers name or folder
    vocab_size: int = 2_000  # of a vocabulary trained here
    # Share of the area that a random crop keeps [F: 0.2–1 in ALBEF; C: scenes lose objects below 0.5].
    crop_scale: tuple[float, float] = (0.5, 1.0)
    randaugment: bool = False  # N=2, M=7 without colour-changing operations [F: ALBEF]
    mlm_share: float = 0.15  # [F: BERT]
    report_split: str = "test"  # held-out pairs of report.json: test, val, or test_pictures of scenes
    max_bad_share: float = 0.01  # of missing or unreadable pictures before the run stops

    def __post_init__(self):
        _require(self.batch_size >= 2, "data.batch_size", self.batch_size, "contrast needs at least 2 pairs")
        _require(self.max_length >= 4, "data.max_length", self.max_length, "[CLS], a word or two and [SEP] need at least 4")
        low, high = self.crop_scale
        _require(0 < low <= high <= 1, "data.crop_scale", self.crop_scale, "needs 0 < low ≤ high ≤ 1")
        _require(0 < self.mlm_share < 1, "data.mlm_share", self.mlm_share, "needs a share between 0 and 1, such as 0.15")
        _require(0 <= self.max_bad_share < 1, "data.max_bad_share", self.max_bad_share, "needs a share from 0 up to 1")
        _require(self.workers >= 0, "data.workers", self.workers, "needs 0 or more")
        _at_least_one("data", self, "train_size", "resolution")


@dataclass(frozen=True)
class ImageConfig:
    patch: int = 8  # px
    width: int = 128  # d
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 2.0  # of the hidden layer to the width [F: 4; C: 2 in tiny, whose compute is better spent on steps]
    inject_from: int = 2  # m: layers ≥ m see text [C: half the depth]
    injection: str = "append"  # append: text as extra keys and values [C] | gated: zero-gated cross-attention [F: FIBER]
    isolation: str = "fork"  # none | mask | fork: how [CLS] is kept from the text [C; H: that it must be]
    form: str = "vit"  # vit | clip: details in which CLIP's transformer differs from all others
    pretrained: str = ""  # CLIP, DeiT, DINO, DINOv2 or ViT of transformers, by name or folder; "" starts from scratch
    freeze: int = 0  # that many first layers, with patches and positions, stay as pre-trained
    readout: int = 0  # [CLS] is a linear map of that many last layers' [CLS] and means [F: DINOv2's probes]; 0: it is the last layer's own
    remember: int = 0  # MiB for what those layers say of pictures that come again: model/remembered.py

    def __post_init__(self):
        _at_least_one("image", self, "patch", "width", "heads")
        _require(self.mlp_ratio * self.width >= 1, "image.mlp_ratio", self.mlp_ratio, "leaves no hidden unit; 4 is usual")
        _require(self.width % self.heads == 0, "image.width", self.width, f"must be a multiple of image.heads={self.heads}")
        _require(0 <= self.inject_from < self.depth, "image.inject_from", self.inject_from, f"m needs 0 ≤ m < image.depth={self.depth}")
        _one_of("image.injection", self.injection, ("append", "gated"))
        _one_of("image.isolation", self.isolation, ("none", "mask", "fork"))
        _one_of("image.form", self.form, ("vit", "clip"))
        _require(0 <= self.freeze <= self.depth, "image.freeze", self.freeze, f"needs 0 to image.depth={self.depth} layers")
        _require(not self.freeze or bool(self.pretrained), "image.freeze", self.freeze, "only image.pretrained layers can be frozen")
        _require(self.remember >= 0, "image.remember", self.remember, "needs 0 (off) or more MiB")
        _require(0 <= self.readout <= self.depth, "image.readout", self.readout, f"needs 0 to image.depth={self.depth} layers")
        leaks = self.readout > 0 and self.isolation == "mask"
        _require(not leaks, "image.isolation", self.isolation, "means of patches that read text tell [CLS] the caption; take fork")
        _require(not self.remember or self.freeze > 0, "image.remember", self.remember, "only frozen layers (image.freeze) stay the same")


@dataclass(frozen=True)
class TextConfig:
    width: int = 128
    depth: int = 2  # layers of the text encoder
    fusion_depth: int = 2  # layers with cross-attention to the image
    decoder_depth: int = 1  # layers of the caption decoder, built only when losses.caption.weight > 0
    heads: int = 4
    mlp_ratio: float = 2.0  # as in the image encoder
    dropout: float = 0.0
    pretrained: str = ""  # a transformers BERT by name or folder for the text encoder; "" starts from scratch
    freeze: bool = False  # keep a pre-trained text encoder fixed
    readout: int = 0  # as in the image encoder; 1 gives MiniLM and its like the mean of words that they were trained on

    def __post_init__(self):
        _at_least_one("text", self, "width", "heads", "depth", "fusion_depth", "decoder_depth")
        _require(self.mlp_ratio * self.width >= 1, "text.mlp_ratio", self.mlp_ratio, "leaves no hidden unit; 4 is usual")
        _require(self.width % self.heads == 0, "text.width", self.width, f"must be a multiple of text.heads={self.heads}")
        _require(0 <= self.readout <= self.depth, "text.readout", self.readout, f"needs 0 to text.depth={self.depth} layers")
        _require(0 <= self.dropout < 1, "text.dropout", self.dropout, "needs 0 ≤ dropout < 1")
        _require(not self.freeze or bool(self.pretrained), "text.freeze", self.freeze, "only a text.pretrained encoder can be frozen")


@dataclass(frozen=True)
class SpaceConfig:
    prototypes: int = 512  # k
    hidden: int = 256
    bottleneck: int = 64
    shared: bool = True  # ONE head for [CLS] and patches [S]; False builds two (ablation A3)
    init: str = "kmeans"  # kmeans: prototypes start on the head's own outputs [C] | random [F: DINO]
    freeze_share: float = 0.03  # of the steps that use the space, prototypes fixed [F: DINO, first epoch]
    projection: int = 64  # width of the ITC projections

    def __post_init__(self):
        _require(self.prototypes >= 2, "space.prototypes", self.prototypes, "k needs at least 2 prototypes")
        _at_least_one("space", self, "hidden", "bottleneck", "projection")
        _one_of("space.init", self.init, ("kmeans", "random"))
        _require(0 <= self.freeze_share < 1, "space.freeze_share", self.freeze_share, "needs a share from 0 up to 1")


@dataclass(frozen=True)
class TeacherConfig:
    momentum: float = 0.99  # EMA [F: 0.995 in ALBEF; C: lower for short runs]
    momentum_schedule: str = "warmup"  # constant [F: ALBEF] | cosine: → 1 [F: DINO] | warmup: (1+t)/(10+t) up to momentum [C]
    balance: str = "sinkhorn"  # sinkhorn [C: SwAV] | center [F: DINO]: what keeps all prototypes in use
    center_momentum: float = 0.9  # [F: DINO]
    cls_queue: int = 1024  # older [CLS] logits that join Sinkhorn-Knopp, so that b may be smaller than k
    per_image: float = 0.0  # share of an image's mean patch direction taken off its patches before balancing [C]
    temperature: float = 0.04  # τ_t at the end [F: DINO 0.04 → 0.07]
    temperature_start: float = 0.04
    temperature_warmup: float = 0.1  # share of the run
    student_temperature: float = 0.1  # τ_s [F: DINO]

    def __post_init__(self):
        _require(0 <= self.momentum <= 1, "teacher.momentum", self.momentum, "needs 0 ≤ momentum ≤ 1")
        _one_of("teacher.momentum_schedule", self.momentum_schedule, ("constant", "cosine", "warmup"))
        _one_of("teacher.balance", self.balance, ("sinkhorn", "center"))
        for name in ("temperature", "temperature_start", "student_temperature"):
            _require(getattr(self, name) > 0, f"teacher.{name}", getattr(self, name), "needs a temperature above 0")
        for name in ("per_image", "center_momentum", "temperature_warmup"):
            _require(0 <= getattr(self, name) <= 1, f"teacher.{name}", getattr(self, name), "needs a share from 0 to 1")
        _require(self.cls_queue >= 0, "teacher.cls_queue", self.cls_queue, "needs 0 or more")


@dataclass(frozen=True)
class MaskingConfig:
    strategy: str = "text_high"  # text_high [S] | text_low | random | block [F: BEiT] | attention [F: AttMask]
    relevance: str = "caption"  # caption [C] | cross [C] | query [F: TRIPS] | itc [C]: see objectives/masking.py
    ratio: tuple[float, float] = (0.3, 0.3)  # r ~ U(low, high) [F: 0.1–0.5 in AttMask and iBOT; C: fixed]
    masked_share: float = 1.0  # of the samples that are masked at all [F: 0.5 in iBOT; C: 1]
    random_until: float = 0.1  # share of the MIM steps that use random masks, before patch scores mean anything

    def __post_init__(self):
        _one_of("masking.strategy", self.strategy, ("text_high", "text_low", "random", "block", "attention"))
        _one_of("masking.relevance", self.relevance, ("caption", "cross", "query", "itc"))
        low, high = self.ratio
        _require(0 < low <= high <= 1, "masking.ratio", self.ratio, "r needs 0 < low ≤ high ≤ 1")
        _require(0 < self.masked_share <= 1, "masking.masked_share", self.masked_share, "needs a share above 0, up to 1")
        _require(0 <= self.random_until <= 1, "masking.random_until", self.random_until, "needs a share from 0 to 1")


@dataclass(frozen=True)
class Term:
    """One loss term: `weight` 0 leaves it out, `start` is the share of the run after which it joins."""

    weight: float = 1.0
    start: float = 0.0

    def __post_init__(self):
        _require(self.weight >= 0, "losses.*.weight", self.weight, "needs 0 (off) or more")
        _require(0 <= self.start < 1, "losses.*.start", self.start, "needs a share of the run from 0 up to 1")


@dataclass(frozen=True)
class LossesConfig:
    itc: Term = field(default_factory=Term)
    itm: Term = field(default_factory=lambda: Term(start=0.75))
    mlm: Term = field(default_factory=lambda: Term(start=0.75))
    consensus: Term = field(default_factory=lambda: Term(start=0.93))
    mim: Term = field(default_factory=lambda: Term(start=0.93))
    caption: Term = field(default_factory=Term)
    answer: Term = field(default_factory=lambda: Term(weight=0.0))  # of fine-tuning for questions only
    queue: int = 0  # ITC negatives from earlier steps [F: 65,536 in ALBEF]; 0 for none
    itc_keys: str = "student"  # batch keys: teacher [F: ALBEF] | student [F: CLIP; learns faster while the teacher is young]
    # Where ITC's learned temperature is kept [F: ALBEF]; it begins at 0.07. Equal ends fix it: little data teaches it to be sure too early.
    temperature: tuple[float, float] = (0.001, 0.5)
    alpha: float = 0.4  # share of the teacher's similarity in the ITC targets [F: ALBEF]
    alpha_ramp: tuple[float, float] = (0.93, 1.0)  # shares of the run between which alpha grows from 0 [F: the first epoch]
    # Shares of the run between which ITM negatives go from random to hard [F: hard at once; C: a ramp]. (1, 1) is random throughout:
    # in so short a run hard negatives throw matching back to its base rate.
    hard_negatives: tuple[float, float] = (1.0, 1.0)
    mim_target: str = "codes"  # codes [S] | pixels [F: VLMAE] | tokens [F: VL-BEiT]
    mim_student_text: bool = True  # text in masked modelling [S]
    mim_target_text: bool = True  # text in the targets [S]
    student_passes: str = "three"  # three | two: see training/step.py
    patch_tokens: int = 512  # codebook of the frozen patch tokenizer, for mim_target=tokens

    def __post_init__(self):
        _require(0 <= self.alpha <= 1, "losses.alpha", self.alpha, "needs a share from 0 to 1")
        _require(0 < self.temperature[0] <= self.temperature[1], "losses.temperature", self.temperature, "needs 0 < low ≤ high")
        _one_of("losses.itc_keys", self.itc_keys, ("teacher", "student"))
        _one_of("losses.mim_target", self.mim_target, ("codes", "pixels", "tokens"))
        _one_of("losses.student_passes", self.student_passes, ("two", "three"))
        for name in ("hard_negatives", "alpha_ramp"):
            low, high = getattr(self, name)
            _require(0 <= low <= high <= 1, f"losses.{name}", (low, high), "needs 0 ≤ begin ≤ end ≤ 1")
        _require(self.queue >= 0, "losses.queue", self.queue, "needs 0 or more")
        _require(self.patch_tokens >= 2, "losses.patch_tokens", self.patch_tokens, "a codebook needs at least 2 entries")


@dataclass(frozen=True)
class OptimConfig:
    lr: float = 2e-3
    lr_pretrained: float = 1e-5  # for layers that start from pre-trained weights [F: ALBEF]
    lr_end: float = 2e-4  # of lr=2e-3; [F: 1e-6]. The terms that join late need some rate left [C]
    warmup: float = 0.05  # share of the run
    weight_decay: float = 0.02  # none on biases and norms
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 3.0  # gradient norm

    def __post_init__(self):
        for name in ("lr", "lr_pretrained"):
            _require(getattr(self, name) > 0, f"optim.{name}", getattr(self, name), "needs a rate above 0")
        _require(0 <= self.lr_end <= self.lr, "optim.lr_end", self.lr_end, f"needs a rate from 0 to optim.lr={self.lr}")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "needs 0 or more")
        _require(all(0 <= beta < 1 for beta in self.betas), "optim.betas", self.betas, "needs two shares from 0 up to 1")
        _require(0 <= self.warmup < 1, "optim.warmup", self.warmup, "needs a share from 0 up to 1")
        _require(self.clip > 0, "optim.clip", self.clip, "needs a norm above 0")


@dataclass(frozen=True)
class RunConfig:
    steps: int = 720
    seed: int = 0
    precision: str = "auto"  # auto | fp32 | bf16 | fp16
    accumulate: int = 1  # micro-batches per optimiser step
    checkpoint_activations: bool = False  # recompute image layers in the backward pass: slower, less memory
    parallel: str = "ddp"  # of several processes: ddp, each holds everything | fsdp, each holds its share: training/parallel.py
    compile: bool = False  # torch.compile of the image encoders' layers: slow to start; measure whether it pays
    tensorboard: bool = False  # curves for TensorBoard, beside metrics.jsonl
    eval_every: int = 720  # steps between looks at the validation pairs
    eval_size: int = 500  # validation images looked at then
    report_size: int = 1_000  # held-out images or questions behind report.json; of photos, as many as there are
    save_every: int = 100
    log_every: int = 20  # lines on a terminal that shows no progress bar; metrics.jsonl has every step

    def __post_init__(self):
        _at_least_one("run", self, "steps", "accumulate", "eval_every", "save_every", "log_every", "eval_size", "report_size")
        _one_of("run.precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        _one_of("run.parallel", self.parallel, ("ddp", "fsdp"))


TASKS = ("pretrain", "retrieval", "captioning", "vqa")


@dataclass(frozen=True)
class TaskConfig:
    name: str = "pretrain"  # pretrain | retrieval | captioning | vqa: what the run trains
    checkpoint: str = ""  # the run or checkpoint folder that it starts from; pre-training needs none
    from_scratch: bool = False  # take that checkpoint's settings and tokenizer, not its weights: what pre-training is worth

    def __post_init__(self):
        _one_of("task.name", self.name, TASKS)


@dataclass(frozen=True)
class Config:
    preset: str = "tiny"  # the name this tree started from, for logs; changing it changes nothing else
    data: DataConfig = field(default_factory=DataConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    losses: LossesConfig = field(default_factory=LossesConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    task: TaskConfig = field(default_factory=TaskConfig)

    def __post_init__(self):
        side, patch = self.data.resolution, self.image.patch
        _require(side % patch == 0, "data.resolution", side, f"must be a multiple of image.patch={patch}")
        if self.masking.relevance == "caption" and self.task.name == "pretrain":
            trained = self.losses.caption.weight > 0
            _require(trained, "masking.relevance", "caption", "it reads the decoder of losses.caption: give that weight, or choose cross")
        queue, batch = self.losses.queue, self.data.batch_size
        _require(queue == 0 or queue >= batch, "losses.queue", queue, f"must be 0 or at least data.batch_size={batch}")
        _require(batch % self.run.accumulate == 0, "data.batch_size", batch, f"must be a multiple of run.accumulate={self.run.accumulate}")

    @property
    def n_patches(self) -> int:
        """n, without [CLS]."""
        return (self.data.resolution // self.image.patch) ** 2


def to_dict(config: Config) -> dict:
    """Nested plain values, ready for YAML or JSON."""
    return dataclasses.asdict(config)


def from_dict(values: dict, kind: type = Config, path: str = "") -> Any:
    """The tree from nested plain values; unknown keys and wrong types fail with their dotted name."""
    if not isinstance(values, dict):
        raise UserError(f"{path or 'the configuration'} holds {shown(values)}; it needs a mapping of names to values")
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"{_join(path, named(key))} is no setting; {_suggest(named(key), list(known))}")
    return kind(**{key: _convert(value, known[key].type, _join(path, key)) for key, value in values.items()})


def override(config: Config, settings: list[str]) -> Config:
    """Apply `name.of.field=value` settings, in order. Values are read as YAML, so `false`, `0.3` and `[0.1, 0.5]` mean what they say."""
    values = to_dict(config)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {shown(setting)} has no '='; write it as losses.mim.weight=0.5")
        *parents, leaf = name.strip().split(".")
        node = values
        for i, parent in enumerate(parents):
            if not isinstance(node.get(parent), dict):
                raise UserError(f"{named('.'.join(parents[: i + 1]))} is no group of settings; {_suggest(parent, list(node))}")
            node = node[parent]
        if leaf not in node:
            raise UserError(f"{named(name)} is no setting; {_suggest(leaf, list(node))}")
        try:
            node[leaf] = read_yaml(text)
        except ValueError as error:
            raise UserError(f"the value of --set {shown(setting)} is not readable: {error}; quote text with special characters") from None
    return from_dict(values)


def to_yaml(config: Config) -> str:
    import yaml

    return yaml.safe_dump(_plain(to_dict(config)), sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> Config:
    try:
        return from_dict(read_yaml(text))
    except ValueError as error:
        raise UserError(f"the configuration is not valid YAML: {error}; mend it, or take the config.yaml of a run") from None


def differences(one: Config, other: Config) -> list[str]:
    """Every setting in which two trees differ, as "name: one → other"."""
    left, right = _flatten(to_dict(one)), _flatten(to_dict(other))
    return [f"{key}: {left[key]!r} → {right[key]!r}" for key in left if left[key] != right[key]]


def _flatten(values: dict, path: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat |= _flatten(value, _join(path, key)) if isinstance(value, dict) else {_join(path, key): value}
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _suggest(name: str, valid: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]}?" if close else f"valid are {', '.join(valid)}"


def _convert(value: Any, kind: Any, path: str) -> Any:
    """One plain value as the field's type; whole numbers are accepted for floats, lists for tuples, nothing else is bent."""
    if dataclasses.is_dataclass(kind):
        return from_dict(value, kind, path)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(value, (list, tuple)):
            value = [value] * len(inner)  # masking.ratio=0.3 means (0.3, 0.3)
        if len(value) != len(inner):
            raise UserError(f"{path}={shown(value)} needs {len(inner)} values")
        return tuple(_convert(v, k, path) for v, k in zip(value, inner, strict=True))
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if kind is float and type(value) is int and abs(value) <= LARGEST:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{path}={shown(value)} is of type {type(value).__name__}; it needs {kind.__name__}")
    if (kind is float and not math.isfinite(value)) or (kind is int and abs(value) > LARGEST):
        raise UserError(f"{path}={shown(value)} is impossible: it needs a number that is finite and has at most 18 digits")
    return value
