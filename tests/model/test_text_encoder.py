"""Words: what attends to what, in the text encoder, the fusion encoder and the caption decoder."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from semmim_mini.model.text_encoder import CaptionDecoder, FusionEncoder, TextEncoder, WordHead, additive, listening

VOCAB, IMAGE_WIDTH = 30, 16


@pytest.fixture
def config(tiny):
    return tiny("text.depth=2", "text.fusion_depth=2", "text.decoder_depth=2").text


def loud(module: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every path shows in the output."""
    for parameter in module.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.4)
    return module.eval()


@pytest.fixture
def fusion(config):
    return loud(FusionEncoder(config, VOCAB, IMAGE_WIDTH, 8))


@pytest.fixture
def decoder(config):
    return loud(CaptionDecoder(config, VOCAB, IMAGE_WIDTH, 8))


def some_words(b: int = 2):
    """Ids of captions of six and four tokens, and which of them are words."""
    return torch.randint(5, VOCAB, (b, 6)), torch.arange(6) < torch.tensor([[6], [4]])[:b]


def test_the_additive_mask():
    mask = additive(torch.tensor([[True, False]]))
    assert mask.shape == (1, 1, 1, 2) and mask[0, 0, 0, 0] == 0 and mask[0, 0, 0, 1] < -1e38


# Text encoder ---------------------------------------------------------------------------------------------------------


def test_padding_of_a_caption_has_no_influence(config):
    encoder, (ids, words) = loud(TextEncoder(config, VOCAB, 8)), some_words()
    garbage = torch.where(words, ids, 7)
    before, after = encoder(torch.where(words, ids, 0), words), encoder(garbage, words)
    torch.testing.assert_close(before[words], after[words])
    alone = encoder(ids[1:, :4], words[1:, :4])  # the short caption without its padding
    torch.testing.assert_close(before[1, :4], alone[0])


def test_text_features_read_both_ways(config):
    encoder, (ids, words) = loud(TextEncoder(config, VOCAB, 8)), some_words(b=1)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] - 4) % 25 + 5
    assert (encoder(ids, words)[0, 0] - encoder(other, words)[0, 0]).abs().max() > 1e-4


# Fusion encoder -------------------------------------------------------------------------------------------------------


def naive_attention(block, x, context, words=None):
    """One post-norm attention block of BERT, written out with the weights of `block`."""
    project = lambda linear, y: rearrange(linear(y), "b n (h c) -> b h n c", h=2)  # noqa: E731
    query, key, value = (
        project(block.self.query, x),
        project(block.self.key, context),
        project(block.self.value, context),
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if words is not None:
        scores = scores.masked_fill(~words[:, None, None, :], float("-inf"))
    mixed = rearrange(scores.softmax(dim=-1) @ value, "b h n c -> b n (h c)")
    return block.output.LayerNorm(x + block.output.dense(mixed))


def naive_layer(layer, text, words, image):
    x = naive_attention(layer.attention, text, text, words)
    x = naive_attention(layer.crossattention, x, image)
    return layer.output.LayerNorm(x + layer.output.dense(F.gelu(layer.intermediate.dense(x))))


def test_fusion_equals_layers_composed_by_hand(fusion):
    text, (_, words), image = torch.randn(2, 6, 12), some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    x, mapped = text, F.linear(image, fusion.image_map.weight, fusion.image_map.bias)
    for layer in fusion.encoder.layer:
        x = naive_layer(layer, x, words, mapped)
    torch.testing.assert_close(fusion(text, words, image), x, atol=1e-5, rtol=1e-5)


def test_fusion_equals_transformers_layers_in_a_row(fusion):
    text, (_, words), image = torch.randn(2, 6, 12), some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    x = text
    for layer in fusion.encoder.layer:
        x = layer(x, additive(words), encoder_hidden_states=fusion.image_map(image))
    assert torch.equal(fusion(text, words, image), x)


def test_fusion_is_bidirectional(fusion):
    # The layers call themselves decoders; nothing may be causal: the last word changes what the first one becomes.
    text, words, image = torch.randn(1, 6, 12), torch.ones(1, 6, dtype=torch.bool), torch.randn(1, 5, IMAGE_WIDTH)
    other = text.clone()
    other[0, -1] += 1
    assert (fusion(text, words, image)[0, 0] - fusion(other, words, image)[0, 0]).abs().max() > 1e-4


def test_fusion_reads_the_image(fusion):
    text, (_, words) = torch.randn(2, 6, 12), some_words()
    one, other = (fusion(text, words, torch.randn(2, 5, IMAGE_WIDTH)) for _ in range(2))
    assert (one - other).abs().max() > 1e-4


def test_fusion_ignores_padding(fusion):
    text, (_, words), image = torch.randn(2, 6, 12), some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    garbage = torch.where(words[..., None], text, 50.0)
    assert torch.equal(fusion(text, words, image)[words], fusion(garbage, words, image)[words])


def test_attention_to_patches_is_the_attention_in_use(fusion):
    text, (_, words), image = torch.randn(2, 6, 12), some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    weights = fusion.attention_to_patches(text, words, image)
    assert weights.shape == (2, 2, 2, 6, 4)  # layers, b, heads, l, n: without [CLS]
    # The first layer's, written out from its own weights; with the column of [CLS], rows sum to one.
    block, mapped = fusion.encoder.layer[0].crossattention.self, fusion.image_map(image)
    x = naive_attention(fusion.encoder.layer[0].attention, text, text, words)
    query, key = (rearrange(linear(y), "b n (h c) -> b h n c", h=2) for linear, y in ((block.query, x), (block.key, mapped)))
    expected = (query @ key.transpose(-1, -2) / math.sqrt(6)).softmax(dim=-1)
    torch.testing.assert_close(weights[0], expected[..., 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights[0].sum(dim=-1) + expected[..., 0], torch.ones(2, 2, 6))


def test_listening_leaves_no_hook_behind(fusion):
    fusion.attention_to_patches(torch.randn(2, 6, 12), some_words()[1], torch.randn(2, 5, IMAGE_WIDTH))
    assert all(not layer.crossattention.self._forward_hooks for layer in fusion.encoder.layer)


def test_listening_is_without_dropout_and_restores_the_mode(fusion):
    for module in fusion.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    text, (_, words), image = torch.randn(2, 6, 12), some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    for mode in (True, False):
        fusion.train(mode)
        one, other = (fusion.attention_to_patches(text, words, image) for _ in range(2))
        assert torch.equal(one, other)
        assert all(module.training is mode for module in fusion.modules())


def test_listening_ends_even_when_something_goes_wrong(fusion):
    fusion.train()
    with pytest.raises(RuntimeError, match="interrupted"), listening(fusion, fusion.encoder):
        raise RuntimeError("interrupted")
    assert fusion.encoder.training and all(not layer.crossattention.self._forward_hooks for layer in fusion.encoder.layer)


# Decoder and word head ------------------------------------------------------------------------------------------------


def test_the_decoder_never_sees_the_words_to_come(decoder):
    (ids, _), words, image = some_words(b=1), torch.ones(1, 6, dtype=torch.bool), torch.randn(1, 5, IMAGE_WIDTH)
    before = decoder(ids, words, image)
    for place in range(1, 6):
        other = ids.clone()
        other[0, place] = (ids[0, place] - 4) % 25 + 5
        after = decoder(other, words, image)
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert (after[:, place] - before[:, place]).abs().max() > 1e-4


def test_the_decoder_reads_the_image(decoder):
    ids, words = some_words()
    one, other = (decoder(ids, words, torch.randn(2, 5, IMAGE_WIDTH)) for _ in range(2))
    assert (one[:, 0] - other[:, 0]).abs().max() > 1e-4


def test_the_decoder_ignores_padding(decoder):
    (ids, words), image = some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    padded = decoder(torch.where(words, ids, 0), words, image)
    torch.testing.assert_close(padded[1, :4], decoder(ids[1:, :4], words[1:, :4], image[1:])[0])
    assert padded.isfinite().all()


def test_the_decoder_reads_only_the_states_that_are_there(decoder):
    (ids, words), image = some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    seen = torch.arange(5) < torch.tensor([[5], [3]])
    found = decoder(ids, words, image, seen)
    torch.testing.assert_close(found[1], decoder(ids[1:], words[1:], image[1:, :3])[0])
    torch.testing.assert_close(found, decoder(ids, words, torch.where(seen[..., None], image, 50.0), seen))
    torch.testing.assert_close(found[0], decoder(ids, words, image)[0])  # all there is the same as no mask
    assert (found - decoder(ids, words, image))[1].abs().max() > 1e-3


# Word by word ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pieces", [[1] * 6, [6], [2, 1, 3]])
def test_written_word_by_word_equals_the_whole_sequence(decoder, masked, pieces):
    ids, words, image = some_words()[0], torch.ones(2, 6, dtype=torch.bool), torch.randn(2, 5, IMAGE_WIDTH)
    seen = (torch.arange(5) < torch.tensor([[5], [3]])) if masked else None
    written = decoder.begin(image, seen)
    logits = torch.cat([decoder.step(piece, written) for piece in ids.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(logits, decoder(ids, words, image, seen), atol=1e-5, rtol=1e-5)


def test_writing_warns_of_nothing(decoder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # transformers warns about names of arguments that it is about to drop
        decoder.step(some_words()[0][:, :1], decoder.begin(torch.randn(2, 5, IMAGE_WIDTH)))


def test_the_image_is_read_once(decoder):
    reads = []
    decoder.bert.encoder.layer[0].crossattention.self.key.register_forward_hook(lambda *_: reads.append(1))
    written, ids = decoder.begin(torch.randn(2, 5, IMAGE_WIDTH)), some_words()[0]
    for place in range(6):
        decoder.step(ids[:, place : place + 1], written)
    assert len(reads) == 1


@pytest.mark.parametrize("masked", [False, True])
def test_beams_go_on_from_the_words_they_are_told(decoder, masked):
    # Three beams for each of two images; after two words they go on from the words of others.
    ids, image = torch.randint(5, VOCAB, (6, 4)), torch.randn(2, 5, IMAGE_WIDTH)
    seen = (torch.arange(5) < torch.tensor([[5], [3]])) if masked else None
    written, rows = decoder.begin(image, seen), torch.tensor([2, 2, 0, 4, 5, 3])
    ids[:, 0] = 2
    decoder.step(ids[::3, :1], written)
    written.repeat(3)
    decoder.step(ids[:, 1:2], written)
    written.reorder(rows)
    found = decoder.step(ids[:, 2:], written)
    whole = torch.cat([ids[rows, :2], ids[:, 2:]], dim=1)
    spread = lambda x: None if x is None else x.repeat_interleave(3, dim=0)  # noqa: E731
    expected = decoder(whole, torch.ones(6, 4, dtype=torch.bool), spread(image), spread(seen))[:, 2:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_decoders_attention_to_patches_is_the_attention_in_use(decoder):
    ids, image = some_words(b=1)[0], torch.randn(1, 5, IMAGE_WIDTH)
    words = torch.ones(1, 6, dtype=torch.bool)
    weights = decoder.attention_to_patches(ids, words, image)
    assert weights.shape == (2, 1, 2, 6, 4)  # layers, b, heads, l, n: without [CLS]
    assert (weights > 0).all() and (weights.sum(dim=-1) < 1).all()  # the rest of each row is what [CLS] received
    # The first layer's, from its own queries: causal self-attention, then the words ask the patches.
    layer = decoder.bert.encoder.layer[0]
    causal = torch.where(torch.ones(6, 6, dtype=torch.bool).tril(), 0.0, torch.finfo(torch.float32).min)[None, None]
    x = layer.attention(decoder.bert.embeddings(ids), causal)[0]
    block = layer.crossattention.self
    query, key = (
        rearrange(linear(y), "b n (h c) -> b h n c", h=2) for linear, y in ((block.query, x), (block.key, decoder.image_map(image)))
    )
    expected = (query @ key.transpose(-1, -2) / math.sqrt(6)).softmax(dim=-1)
    torch.testing.assert_close(weights[0], expected[..., 1:], atol=1e-5, rtol=1e-5)


def test_a_words_attention_does_not_know_the_words_to_come(decoder):
    (ids, _), words, image = some_words(b=1), torch.ones(1, 6, dtype=torch.bool), torch.randn(1, 5, IMAGE_WIDTH)
    other = ids.clone()
    other[0, 3] = (ids[0, 3] - 4) % 25 + 5
    before, after = (decoder.attention_to_patches(x, words, image) for x in (ids, other))
    torch.testing.assert_close(after[..., :3, :], before[..., :3, :])
    assert (after[..., 3, :] - before[..., 3, :]).abs().max() > 1e-4


def test_the_decoder_listens_without_dropout(tiny):
    # Word embeddings have dropout of their own, outside of the layers that are listened to.
    config = tiny("text.dropout=0.5").text
    decoder, (ids, words), image = CaptionDecoder(config, VOCAB, IMAGE_WIDTH, 8).train(), some_words(), torch.randn(2, 5, IMAGE_WIDTH)
    one, other = (decoder.attention_to_patches(ids, words, image) for _ in range(2))
    assert torch.equal(one, other) and all(module.training for module in decoder.modules())
    assert not torch.equal(decoder(ids, words, image), decoder(ids, words, image))


def test_the_word_head_is_tied_to_the_embeddings(config):
    encoder = TextEncoder(config, VOCAB, 8)
    head = WordHead(encoder)
    assert head.head.predictions.decoder.weight is encoder.bert.embeddings.word_embeddings.weight
    assert head(torch.randn(3, 12)).shape == (3, VOCAB)
    assert head(torch.randn(0, 12)).shape == (0, VOCAB)


def test_a_map_is_built_only_between_different_widths(config):
    assert isinstance(FusionEncoder(config, VOCAB, config.width, 8).image_map, torch.nn.Identity)
    assert isinstance(FusionEncoder(config, VOCAB, IMAGE_WIDTH, 8).image_map, torch.nn.Linear)
