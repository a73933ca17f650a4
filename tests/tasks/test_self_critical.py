"""Self-critical training: CIDEr-D against pycocoevalcap's, the loss by hand, and a gradient that praises the better caption."""

import math

import numpy as np
import pytest
import torch

from semmim_mini.data.text import tokenize as token_ids
from semmim_mini.data.text import train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.tasks import self_critical
from semmim_mini.tasks.decoding import Decoded
from semmim_mini.tasks.self_critical import Cider, SelfCritical, self_critical_loss

WORDS = ["a", "red", "blue", "dog", "cat", "bus", "on", "the", "road", "runs", "big"]


def random_sentences(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(1, 10))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocoevalcap_on_the_same_corpus(seed):
    theirs = pytest.importorskip("pycocoevalcap.cider.cider")
    captions, references = random_sentences(12, seed), [random_sentences(1 + i % 4, 100 * seed + i) for i in range(12)]
    captions[0], captions[1] = references[0][0], ""  # a perfect one and an empty one
    captions[2] = "unheard words " + references[2][0]
    _, expected = theirs.Cider().compute_score(dict(enumerate(references)), {i: [caption] for i, caption in enumerate(captions)})
    cider = Cider(references)
    found = [cider(caption, several) for caption, several in zip(captions, references, strict=True)]
    assert found == pytest.approx(expected.tolist()) and max(found) > 1 and found[1] == 0


def test_by_hand():
    # Four images; "red" is in two of them, "dog" and "red dog" in one, "a" in all and worth nothing.
    cider = Cider([["a red dog"], ["a red"], ["a"], ["a"]])
    dog, red = math.log(4), math.log(2)
    unigrams = dog * dog / (dog * math.sqrt(dog**2 + red**2))  # of "dog" with "a red dog"
    expected = 10 * (unigrams + 0 + 0 + 0) / 4 * math.exp(-(2**2) / (2 * 36))  # 0 bigrams against 2
    assert cider("dog", ["a red dog"]) == pytest.approx(expected)
    assert cider("a", ["a red dog"]) == 0


def test_a_reward_does_not_depend_on_the_batch():
    cider = Cider([["a red dog"], ["a blue bus"], ["the cat"]])
    alone = cider("a red dog", ["a red dog", "dog"])
    cider("a red dog", ["a red dog"])
    assert cider("a red dog", ["a red dog", "dog"]) == alone > 0


def test_the_loss_by_hand():
    log_probs = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -4.0, -5.0]], requires_grad=True)
    words = torch.tensor([[True, True, False], [True, True, True]])
    rewards, baseline = torch.tensor([2.0, 1.0], requires_grad=True), torch.tensor([1.5, 3.0], requires_grad=True)
    loss = self_critical_loss(log_probs, words, rewards, baseline)
    assert loss.item() == pytest.approx(-(0.5 * (-1 - 2) - 2.0 * (-3 - 4 - 5)) / 5)
    loss.backward()
    assert log_probs.grad.flatten().tolist() == pytest.approx([-0.1, -0.1, 0.0, 0.4, 0.4, 0.4])
    assert rewards.grad is None and baseline.grad is None


def test_a_caption_as_good_as_the_greedy_one_teaches_nothing():
    loss = self_critical_loss(torch.full((2, 3), -1.0), torch.ones(2, 3, dtype=torch.bool), torch.ones(2), torch.ones(2))
    assert loss.item() == 0


# With a model -----------------------------------------------------------------------------------------------------------

CORPUS = [["a red dog", "the dog runs"], ["a blue bus"], ["the big cat on the road"], ["a red bus"]]


@pytest.fixture
def tokenizer():
    return train_wordpiece([caption for several in CORPUS for caption in several], 120)


@pytest.fixture
def model(tiny, tokenizer):
    from semmim_mini.model.semmim import SemMIM

    return SemMIM(tiny("data.max_length=9"), len(tokenizer))


def log_probability(model, tokenizer, images, caption: str) -> float:
    ids, words = token_ids(tokenizer, [caption] * len(images), 9)
    with torch.no_grad():
        log_probs = model.decoder(ids, words, model.student.image(images)).log_softmax(dim=-1)
    return log_probs[:, :-1].gather(2, ids[:, 1:, None]).sum().item()


@pytest.mark.parametrize(("sampled", "greedy", "raised"), [("a red dog", "a blue bus", True), ("a blue bus", "a red dog", False)])
def test_a_step_praises_what_beats_the_greedy_caption(model, tokenizer, monkeypatch, sampled, greedy, raised):
    # Both captions are given, so that which one is better is known; everything else is as in training.
    def written(decoder, image, tokenizer, decoding, generator=None):
        text = sampled if decoding.method == "nucleus" else greedy
        ids, _ = token_ids(tokenizer, [text] * len(image), 9)
        return Decoded(ids, torch.zeros(len(image)), [text] * len(image))

    monkeypatch.setattr(self_critical, "generate", written)
    images, train = torch.randn(2, 3, 16, 16), SelfCritical(model, tokenizer, CORPUS)
    before = [log_probability(model, tokenizer, images, text) for text in (sampled, greedy)]
    loss, facts = train(images, [["a red dog"], ["a red dog"]])
    assert (facts["cider_sampled"] > facts["cider_greedy"]) == raised
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.05).step()
    after = [log_probability(model, tokenizer, images, text) for text in (sampled, greedy)]
    assert (after[0] > before[0]) == raised
    assert model.student.image.patchify.weight.grad.abs().sum() > 0


def test_training_finds_the_rewarded_caption(model, tokenizer):
    # One wish for every picture: mean reward of samples rises from near nothing.
    draw, images, train = torch.Generator().manual_seed(0), torch.randn(16, 3, 16, 16), SelfCritical(model, tokenizer, CORPUS)
    optimizer = torch.optim.Adam(model.decoder.parameters(), lr=0.02)
    rewards = []
    for _ in range(30):
        loss, facts = train(images, [["a red dog", "a dog", "the dog runs"]] * 16, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(facts["cider_sampled"])
    assert np.mean(rewards[-5:]) > 3 * np.mean(rewards[:3]) > 0


def test_the_same_seed_gives_the_same_loss(model, tokenizer):
    images, train = torch.randn(2, 3, 16, 16), SelfCritical(model.eval(), tokenizer, CORPUS)
    one, same, other = (train(images, CORPUS[:2], torch.Generator().manual_seed(seed))[0].item() for seed in (1, 1, 5))
    assert one == same != other


def test_errors(tiny, tokenizer):
    from semmim_mini.model.semmim import SemMIM

    with pytest.raises(UserError, match=r"captions of at least 2 images .* the corpus has 1"):
        Cider([["a dog"]])
    bare = SemMIM(tiny("losses.caption.weight=0"), len(tokenizer))
    with pytest.raises(UserError, match="no caption decoder"):
        SelfCritical(bare, tokenizer, CORPUS)
