"""Memory by formula against memory as followed tensor by tensor. Bytes are counted, not timed, so they may be asserted."""

import pytest

from semmim_mini.config import override
from semmim_mini.plan.activations import activations
from semmim_mini.plan.layers import Format, ImageLayer, Kept, TextLayer
from semmim_mini.plan.measured import measure, predict
from semmim_mini.plan.memory import gathered, logits, memory, rise, standing, tide
from semmim_mini.plan.parameters import outside_layers, parameters, trainable
from semmim_mini.plan.sizes import sizes_of
from semmim_mini.presets import preset

FP32, BF16 = Format.of("fp32"), Format.of("bf16")


def planned(name: str, *settings: str, gpus: int = 1):
    return sizes_of(override(preset(name), list(settings)), gpus)


# By hand ------------------------------------------------------------------------------------------------------------------


def test_formats():
    kept = Kept(product=1, full=10, again=100, drop=1000)
    assert kept.bytes(FP32) == 4 + 40 + 0 + 1000
    assert kept.bytes(BF16) == 2 + 40 + 200 + 1000
    assert kept.bytes(Format.of("fp32", cuda=False)) == 4 + 40 + 0 + 4000
    assert kept * 2 + kept == Kept(3, 30, 300, 3000)


def test_layers_by_hand():
    # s=2 tokens of width 3, hidden 5: 8 · 6 + 2 · 10 numbers, 12 of them in fp32 whatever happens.
    assert ImageLayer(3, 5).kept(1, 2) == Kept(product=36 + 20, full=12)
    # 4 words: keys and values of 6 tokens, the words, the mask.
    assert ImageLayer(3, 5).kept(1, 2, 4) == Kept(product=56 + 36 + 12 + 12, full=12)
    assert TextLayer(3, 5, heads=1).kept(7, 2) == Kept(product=56, full=12, again=12) * 7
    crossing = TextLayer(3, 5, heads=2, cross=True).kept(1, 2, 4)
    weights = 2 * 2 * (2 + 4)
    assert crossing == Kept(product=56 + 18 + 24, full=12 + 6 + weights, again=12 + weights)


def test_what_stands_by_hand():
    sizes = planned("tiny", "losses.queue=100", "data.batch_size=8")
    found, space = standing(sizes), sizes.config.space
    student = sum(parameters(sizes).values()) - parameters(sizes)["teacher"]
    assert found["weights"] == 4 * student == 4 * trainable(sizes)
    assert found["optimiser"] == 8 * trainable(sizes)
    assert found["queue, centres"] == 100 * (2 * 4 * space.projection + 8) + 4 * (1024 * space.bottleneck + 2 * space.prototypes)
    assert found["batch"] == 4 * 2 * 8 * 3 * 64 * 64
    assert "gradients again, for DDP" not in found


def test_several_gpus_by_hand():
    alone, two = planned("tiny", "data.batch_size=8"), planned("tiny", "data.batch_size=16", gpus=2)
    assert standing(two) == standing(alone) | {"gradients again, for DDP": 4 * trainable(alone)}
    # 16 images of 65 tokens and 16 captions of 24, all of width 128: twice while they are joined, and once as gradients.
    assert gathered(alone) == 0 and gathered(two) == 4 * 16 * (65 + 24) * 128
    (negatives,) = [part for part in tide(two, FP32) if part.name == "negatives of ITM"]
    assert (negatives.kept, negatives.forward_work, negatives.backward_work) == (0, 2 * gathered(two), gathered(two))


def test_shares_by_hand():
    whole, shared = planned("base", gpus=8), planned("base", "run.parallel=fsdp", gpus=8)
    for name in ("weights", "teacher", "optimiser"):
        assert standing(shared)[name] == pytest.approx(standing(whole)[name] / 8)
    assert standing(shared)["gathered weights"] == 4 * (2 * outside_layers(shared) + shared.cross_layer.parameters())
    assert standing(planned("tiny", "run.parallel=fsdp")) == standing(planned("tiny"))  # one process has nothing to share


def test_logits_by_hand():
    sizes = planned("base", gpus=8)
    assert logits(sizes) == {
        "ITC, 2 b · keys": 2 * 128 * (1024 + 65_536),
        "MIM, patches · k": 128 * 0.5 * (0.3 * 256 - 0.5) * 8192,
        "MLM, words · pieces": 128 * 4 * 30_522,
    }


def test_a_large_batch_peaks_at_its_crest_and_a_tiny_one_at_its_end():
    assert "forward" in rise(planned("base", gpus=8), BF16)[1]
    height, where = rise(planned("base", "data.batch_size=2", "run.checkpoint_activations=true"), FP32)
    assert where == "backward, text encoder"
    assert height > 4 * trainable(planned("base"))  # all gradients, and the words' twice more


def test_micro_batches_find_the_gradients_of_those_before():
    whole, split = planned("tiny", "data.batch_size=8"), planned("tiny", "data.batch_size=16", "run.accumulate=2")
    assert rise(split, FP32)[0] == pytest.approx(rise(whole, FP32)[0] + 4 * trainable(whole))


# Against what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tiny", ["data.batch_size=16"]),
        ("tiny", ["data.batch_size=16", "run.checkpoint_activations=true"]),
        ("tiny", ["data.batch_size=4", "run.precision=bf16"]),
        ("tiny", ["data.batch_size=8", "image.form=clip", "text.dropout=0.1", "losses.student_passes=two", "image.injection=gated"]),
        (
            "tiny",
            ["data.batch_size=8", "losses.queue=16384", "losses.itc_keys=teacher", "losses.mim.weight=0", "losses.consensus.weight=0"],
        ),
        ("tiny", ["data.batch_size=4", "space.prototypes=16384", "teacher.balance=center"]),
        ("tiny", ["data.batch_size=4", "data.vocab_size=20000", "text.width=192", "teacher.balance=center"]),  # peaks at its end
        ("mini", ["data.batch_size=4"]),
    ],
    ids=lambda x: x if isinstance(x, str) else " ".join(x),
)
def test_the_peak_is_within_15_percent(name, settings):
    config = override(preset(name), settings)
    found = measure(config)
    expected = predict(config, found["precision"], "cpu")
    assert expected["standing"] == pytest.approx(found["standing"], rel=1e-3)
    assert expected["peak"] == pytest.approx(found["peak"], rel=0.15)
    assert expected["standing"] + expected["peak"] == pytest.approx(found["standing"] + found["peak"], rel=0.15)


def test_activation_checkpointing_keeps_one_tensor_a_layer():
    kept = activations(planned("tiny", "data.batch_size=8", "run.checkpoint_activations=true"))["clean student"]
    tokens, weights = 2 * 8 * 65 * 128, parameters(planned("tiny"))["image encoder"]
    assert kept == Kept(full=tokens * (4 + 2), again=weights)


def test_everything_adds_up():
    sizes = planned("base", gpus=8)
    found = memory(sizes, BF16)
    assert found["total"] == sum(found["standing"].values()) + found["step_peak"]
    assert sum(found["activations"].values()) < found["step_peak"] < 1.2 * sum(found["activations"].values())
