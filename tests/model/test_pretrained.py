"""A text encoder from elsewhere: a BERT of the smallest size, saved to a folder."""

import pytest
import torch
from transformers import BertConfig, BertModel

from semmim_mini.errors import UserError
from semmim_mini.model.pretrained import load_pretrained_text

VOCAB = 30


@pytest.fixture
def bert(tmp_path):
    """`bert(num_hidden_layers=3)`: (model, folder)."""

    def make(**changes):
        shape = dict(vocab_size=VOCAB, hidden_size=12, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48)
        model = BertModel(BertConfig(**shape | dict(max_position_embeddings=80) | changes)).eval()
        model.save_pretrained(tmp_path / "bert")
        return model, str(tmp_path / "bert")

    return make


def test_the_first_layers_become_the_text_encoder(bert, make_model, make_batch):
    source, folder = bert()
    model = make_model("text.depth=2").eval()
    load_pretrained_text(model, folder)
    batch = make_batch(model.config)
    theirs = source(batch.input_ids, attention_mask=batch.attention_mask.long(), output_hidden_states=True).hidden_states[2]
    words = batch.attention_mask
    for encoders in (model.student, model.teacher):
        ours = encoders.text(batch.input_ids, words)
        torch.testing.assert_close(ours[words], theirs[words])


def test_the_following_layers_go_into_the_fusion_encoder(bert, make_model):
    source, folder = bert()
    model = make_model("text.depth=2", "text.fusion_depth=2")
    fresh = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in model.fusion.encoder.layer]
    load_pretrained_text(model, folder)
    first, second = model.fusion.encoder.layer
    for name, weight in source.encoder.layer[2].state_dict().items():
        assert torch.equal(first.state_dict()[name], weight), name
    # Cross-attention has no counterpart; the second fusion layer none either, as the source has only three layers.
    assert all(torch.equal(v, fresh[0][k]) for k, v in first.state_dict().items() if k.startswith("crossattention"))
    assert all(torch.equal(v, fresh[1][k]) for k, v in second.state_dict().items())


def test_the_masked_word_head_stays_tied(bert, make_model):
    source, folder = bert()
    model = make_model()
    load_pretrained_text(model, folder)
    assert torch.equal(model.mlm_head.head.predictions.decoder.weight, source.embeddings.word_embeddings.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(hidden_size=16), "hidden_size=16, this configuration 12"),
        (dict(vocab_size=31), "vocab_size=31, this configuration 30"),
        (dict(intermediate_size=24), "intermediate_size=24, this configuration 48"),
        (dict(num_attention_heads=4), "num_attention_heads=4, this configuration 2"),
        (dict(num_hidden_layers=1), "text.depth=2 exceeds the 1 layers"),
        (dict(max_position_embeddings=32), "32 positions"),
    ],
)
def test_what_does_not_fit_is_named(bert, make_model, change, message):
    _, folder = bert(**change)
    with pytest.raises(UserError, match=message):
        load_pretrained_text(make_model("text.depth=2"), folder)


def test_another_architecture_is_refused(tmp_path, make_model):
    from transformers import RobertaConfig, RobertaModel

    shape = dict(vocab_size=VOCAB, hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    RobertaModel(RobertaConfig(**shape)).save_pretrained(tmp_path / "roberta")
    with pytest.raises(UserError, match="is a roberta"):
        load_pretrained_text(make_model(), str(tmp_path / "roberta"))


@pytest.mark.parametrize("damage", ["empty folder", "no folder", "cut weights"])
def test_nothing_loadable_is_said_in_one_line(bert, tmp_path, make_model, damage):
    folder = tmp_path / "empty"
    if damage == "cut weights":
        folder = bert()[1]
        weights = tmp_path / "bert" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:200])
    elif damage == "empty folder":
        folder.mkdir()
    with pytest.raises(UserError, match=r"text.pretrained=.*cannot be loaded") as caught:
        load_pretrained_text(make_model(), str(folder))
    assert "\n" not in str(caught.value)
