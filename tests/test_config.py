"""Configurations: exact round trips, one way to set each value, and a clear sentence for every impossible one."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.config import Config, differences, from_dict, from_yaml, override, to_dict, to_yaml
from semmim_mini.errors import UserError

# The defaults are tuned now and then; these tests name the values they build on.
BASE = override(
    Config(),
    [
        *(
            "data.resolution=64",
            "data.batch_size=64",
            "image.patch=8",
            "image.width=128",
            "image.heads=4",
            "image.depth=4",
        ),
        *("image.inject_from=2", "text.width=128", "text.heads=4", "text.pretrained=''", "text.freeze=false"),
        *(
            "losses.queue=128",
            "losses.mim={weight: 1.0, start: 0.0}",
            "masking.ratio=0.3",
            "masking.relevance=caption",
            "losses.caption.weight=1.0",
            "optim.lr=0.002",
            "optim.lr_end=0.000001",
            "run.accumulate=1",
        ),
        *("run.seed=0", "run.steps=400", "space.shared=true"),
    ],
)
shares = st.floats(0.01, 1.0)


def pairs_of(values):
    return st.tuples(values, values).map(lambda x: tuple(sorted(x)))


@given(
    name=st.text(max_size=20),
    lr=st.floats(1e-5, 1e3),
    ratio=pairs_of(shares),
    hard=pairs_of(st.floats(0, 1)),
    shared=st.booleans(),
    prototypes=st.integers(2, 10**9),
    seed=st.integers(-(2**40), 2**40),
    weight=st.floats(0, 1e6),
    isolation=st.sampled_from(["none", "mask", "fork"]),
)
def test_yaml_round_trip_is_exact(name, lr, ratio, hard, shared, prototypes, seed, weight, isolation):
    base = BASE
    config = dataclasses.replace(
        base,
        preset=name,
        data=dataclasses.replace(base.data, source=name),
        image=dataclasses.replace(base.image, isolation=isolation),
        space=dataclasses.replace(base.space, shared=shared, prototypes=prototypes),
        masking=dataclasses.replace(base.masking, ratio=ratio),
        losses=dataclasses.replace(base.losses, hard_negatives=hard, mim=dataclasses.replace(base.losses.mim, weight=weight)),
        optim=dataclasses.replace(base.optim, lr=lr),
        run=dataclasses.replace(base.run, seed=seed),
    )
    assert from_yaml(to_yaml(config)) == config
    assert from_dict(to_dict(config)) == config
    assert differences(config, from_yaml(to_yaml(config))) == []


def test_a_file_may_name_only_what_it_changes():
    config = from_yaml("image: {width: 64}\nlosses: {mim: {start: 0.25}}")
    assert config == override(Config(), ["image.width=64", "losses.mim.start=0.25"])
    assert config.losses.mim.weight == Config().losses.mim.weight and config.data == Config().data


# --set ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optim.lr=1e-4", 1e-4),  # YAML 1.1 reads this as text
        ("optim.lr=1", 1.0),
        ("masking.ratio=[0.1, 0.5]", (0.1, 0.5)),
        ("masking.ratio=0.4", (0.4, 0.4)),
        ("space.shared=false", False),
        ("losses.mim.weight=0", 0.0),
        ("text.pretrained=/some/folder=with/equals", "/some/folder=with/equals"),
        ("data.source='karpathy:a.json:images'", "karpathy:a.json:images"),
        (" run.steps =7", 7),
    ],
)
def test_settings_mean_what_they_say(setting, value):
    config = override(BASE, [setting])
    node = config
    for name in setting.partition("=")[0].strip().split("."):
        node = getattr(node, name)
    assert node == value and type(node) is type(value)
    assert len(differences(BASE, config)) == 1


LAUGHS = ["&a [x, x]"] + [f"&{chr(c + 1)} [*{chr(c)}, *{chr(c)}]" for c in range(97, 121)]  # the last one stands for 2²⁵ words


@pytest.mark.parametrize("text", ["run: {seed: VALUE}", "masking: {ratio: VALUE}", "VALUE", "data: {source: VALUE}", "image: VALUE"])
@pytest.mark.parametrize("value", [f"[{', '.join(LAUGHS)}]", f"'{'x' * 100_000}'", "&a [*a]"])
def test_no_message_is_longer_than_a_screen(text, value):
    with pytest.raises(UserError) as caught:
        from_yaml(text.replace("VALUE", value)) and override(BASE, [f"preset={value}", "x=1"])
    assert len(str(caught.value)) < 1_000


def test_the_last_setting_wins_and_the_original_stays():
    before = Config()
    assert override(before, ["run.seed=1", "run.seed=2"]).run.seed == 2
    assert before == Config()


def test_differences_name_both_values():
    other = override(BASE, ["masking.ratio=0.4", "losses.mim.weight=0.5"])
    assert differences(BASE, other) == ["masking.ratio: (0.3, 0.3) → (0.4, 0.4)", "losses.mim.weight: 1.0 → 0.5"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("run.steps", "has no '='"),
        ("image.widht=64", "image.widht is no setting; did you mean width?"),
        ("imagr.width=64", "imagr is no group of settings; did you mean image?"),
        ("image.width.x=64", "image.width is no group of settings"),
        ("zzz=1", "zzz is no setting; valid are preset, data"),
        ("losses.mim=3", "losses.mim holds 3"),
        ("run.steps=many", "run.steps='many' is of type str; it needs int"),
        ("run.steps=1.5", "run.steps=1.5 is of type float; it needs int"),
        ("run.steps=true", "run.steps=True is of type bool; it needs int"),
        ("optim.lr=true", "optim.lr=True is of type bool; it needs float"),
        ("optim.lr=fast", "optim.lr='fast' is of type str; it needs float"),
        ("space.shared=1", "space.shared=1 is of type int; it needs bool"),
        ("text.pretrained=", "text.pretrained=None is of type NoneType; it needs str"),
        ("masking.ratio=[0.1, 0.2, 0.3]", "masking.ratio=[0.1, 0.2, 0.3] needs 2 values"),
        ("masking.ratio=[0.1, x]", "masking.ratio='x' is of type str"),
        ("masking.ratio=[0.1", "is not readable"),
        ("optim.lr=.inf", "optim.lr=inf is impossible: it needs a number that is finite"),
        ("losses.itc.weight=.nan", "losses.itc.weight=nan is impossible: it needs a number that is finite"),
        ("optim.lr=" + "9" * 400, "optim.lr=a number of 1329 bits is of type int; it needs float"),
        ("run.seed=9223372036854775808", "run.seed=a number of 64 bits is impossible: it needs a number that is finite"),
        ("run.seed=0x" + "f" * 5_000, "run.seed=a number of 20000 bits"),
        ("run.seed=" + "9" * 5_000, "is not readable: Exceeds the limit"),
        ("run.seed=2001-99-99", "is not readable: month must be in 1..12"),
        ("run.seed=2001-01-01", "run.seed=datetime.date(2001, 1, 1) is of type date"),
        ("run.seed=!!int ''", "is not readable: string index out of range"),
        ("run.seed=!!bool x", "is not readable"),
        ("run.seed=!!timestamp x", "is not readable"),
        ("run.seed=" + "[" * 1_000, "is not readable"),
        ("preset=!!python/object/apply:os.getcwd []", "is not readable"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(setting, words):
    with pytest.raises(UserError, match=re.escape(words)):
        override(BASE, [setting])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imgae: {width: 64}", "imgae is no setting; did you mean image?"),
        ("image: {wdith: 64}", "image.wdith is no setting; did you mean width?"),
        ("image: 64", "image holds 64; it needs a mapping"),
        ("", "the configuration holds None"),
        ("- 1", "the configuration holds [1]"),
        ("1: 2", "1 is no setting"),
        ("image: [", "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(text, words):
    with pytest.raises(UserError, match=re.escape(words)):
        from_yaml(text)


# Impossible values ----------------------------------------------------------------------------------------------------

# setting, and the name and value that the message must show where they are not the setting's own
IMPOSSIBLE = [
    ("data.batch_size=1", None),
    ("data.max_length=3", None),
    ("data.crop_scale=[0.0, 1.0]", "data.crop_scale=(0.0, 1.0)"),
    ("data.crop_scale=[0.9, 0.5]", "data.crop_scale=(0.9, 0.5)"),
    ("data.crop_scale=1.5", "data.crop_scale=(1.5, 1.5)"),
    ("data.mlm_share=0.0", None),
    ("data.mlm_share=1.0", None),
    ("data.max_bad_share=1.0", None),
    ("data.workers=-1", None),
    ("data.train_size=0", None),
    ("data.resolution=60", None),
    ("data.resolution=0", None),
    ("image.patch=0", "image.patch=0"),
    ("image.patch=7", "data.resolution=64"),
    ("image.width=126", None),
    ("image.heads=0", "image.heads=0"),
    ("image.heads=3", "image.width=128"),
    ("image.mlp_ratio=0.0", None),
    ("image.inject_from=4", None),
    ("image.inject_from=-1", None),
    ("image.depth=0", "image.inject_from=2"),
    ("image.injection='sideways'", None),
    ("image.isolation='perfect'", None),
    ("text.width=126", None),
    ("text.heads=0", None),
    ("text.depth=0", None),
    ("text.fusion_depth=0", None),
    ("text.decoder_depth=0", None),
    ("text.dropout=1.0", None),
    ("text.mlp_ratio=-1.0", None),
    ("text.freeze=true", "text.freeze=True"),
    ("image.remember=100", None),  # nothing is frozen
    ("image.remember=-1", None),
    ("image.readout=5", None),
    ("image.readout=-1", None),
    ("text.readout=3", None),
    ("text.readout=-1", None),
    ("space.prototypes=1", None),
    ("space.hidden=0", None),
    ("space.bottleneck=0", None),
    ("space.projection=0", None),
    ("space.init='luck'", None),
    ("space.freeze_share=1.0", None),
    ("teacher.momentum=1.1", None),
    ("teacher.momentum=-0.1", None),
    ("teacher.momentum_schedule='never'", None),
    ("teacher.balance='none'", None),
    ("teacher.temperature=0.0", None),
    ("teacher.temperature_start=-1.0", None),
    ("teacher.student_temperature=0.0", None),
    ("teacher.per_image=1.5", None),
    ("teacher.center_momentum=1.5", None),
    ("teacher.cls_queue=-1", None),
    ("masking.strategy='best'", None),
    ("masking.relevance='gut'", None),
    ("losses.temperature=[0.1, 0.05]", "losses.temperature=(0.1, 0.05)"),
    ("losses.temperature=0.0", "losses.temperature=(0.0, 0.0)"),
    ("losses.caption.weight=0.0", "masking.relevance='caption'"),
    ("optim.lr_end=0.1", None),
    ("masking.ratio=0.0", "masking.ratio=(0.0, 0.0)"),
    ("masking.ratio=[0.5, 0.1]", "masking.ratio=(0.5, 0.1)"),
    ("masking.ratio=1.5", "masking.ratio=(1.5, 1.5)"),
    ("masking.masked_share=0.0", None),
    ("masking.masked_share=1.5", None),
    ("masking.random_until=1.5", None),
    ("losses.itc.weight=-1.0", "weight=-1.0"),
    ("losses.mim.start=1.0", "start=1.0"),
    ("losses.mim.weight=.nan", "weight=nan"),
    ("losses.alpha=1.5", None),
    ("losses.itc_keys='both'", None),
    ("losses.mim_target='words'", None),
    ("losses.student_passes='four'", None),
    ("losses.hard_negatives=[0.5, 0.1]", "losses.hard_negatives=(0.5, 0.1)"),
    ("losses.queue=-1", None),
    ("losses.queue=63", None),
    ("losses.patch_tokens=1", None),
    ("losses.alpha_ramp=[0.5, 0.1]", "losses.alpha_ramp=(0.5, 0.1)"),
    ("teacher.temperature_warmup=2.0", None),
    ("optim.lr=0.0", None),
    ("optim.warmup=1.0", None),
    ("optim.lr_end=0.1", None),
    ("optim.lr_pretrained=0.0", None),
    ("optim.clip=0.0", None),
    ("optim.weight_decay=-0.1", None),
    ("optim.betas=[0.9, 1.0]", "optim.betas=(0.9, 1.0)"),
    ("run.steps=0", None),
    ("run.accumulate=0", None),
    ("run.accumulate=3", "data.batch_size=64"),
    ("run.precision='fp8'", None),
    ("run.parallel='tensor'", None),
    ("run.eval_every=0", None),
    ("run.save_every=0", None),
    ("run.log_every=0", None),
    ("run.eval_size=0", None),
    ("run.report_size=0", None),
]


@pytest.mark.parametrize(("setting", "shown"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_with_its_name_value_and_remedy(setting, shown):
    with pytest.raises(UserError) as caught:
        override(BASE, [setting])
    message = str(caught.value)
    named, _, remedy = message.partition(" is impossible: ")
    assert (shown or setting) in named
    assert len(remedy) > 5


def test_an_empty_queue_is_possible():
    assert override(BASE, ["losses.queue=0"]).losses.queue == 0


def test_n_counts_patches_without_cls():
    assert override(BASE, ["data.resolution=96", "image.patch=16"]).n_patches == 36
