r"""Words: the text encoder, the fusion encoder and the caption decoder, all of BERT's own layers.

    caption ──► text encoder (first half of BERT) ──► text features ──► ITC, injection, masking
                                                        │
                     image features ──cross-attention──► fusion encoder (second half) ──► ITM, MLM

ALBEF's split of one BERT [F]: with 12 layers, six read text alone and six read text and image. transformers provides the layers;
this module decides what attends to what, and makes cross-attention visible, because it tells which patches a word is about.
"""

import inspect
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertConfig, BertModel, DynamicCache, EncoderDecoderCache
from transformers.models.bert.modeling_bert import BertEncoder, BertOnlyMLMHead

from semmim_mini.config import TextConfig
from semmim_mini.model.readout import Readout, note, replace_cls

# transformers 5 renamed this argument of BERT on its way; versions that know both names warn about the old one.
PAST = "cache" if "cache" in inspect.signature(BertModel.forward).parameters else "past_key_values"


def bert_config(config: TextConfig, vocab_size: int, depth: int, max_length: int, **extra) -> BertConfig:
    """One BERT configuration for all three stacks, so that their weights stay exchangeable."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.width,
        num_hidden_layers=depth,
        num_attention_heads=config.heads,
        intermediate_size=int(config.width * config.mlp_ratio),
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        max_position_embeddings=max(max_length, 64),
        pad_token_id=0,
        **extra,
    )


def additive(words: Bool[Tensor, "b s"]) -> Float[Tensor, "b 1 1 s"]:
    """A padding mask in the form BERT's layers add to their scores: 0 where attention may go, the lowest number elsewhere."""
    return torch.where(words, 0.0, torch.finfo(torch.float32).min)[:, None, None, :]


@contextmanager
def listening(module: nn.Module, encoder: BertEncoder):
    """While open, collects the cross-attention weights (b, h, l, s) of every layer of `encoder` that runs; eager attention only.

    `module`, of which the encoder is a part, drops nothing out meanwhile: embeddings have dropout of their own.
    """
    heard: list[Tensor] = []
    training = module.training
    module.eval()
    hooks = [
        layer.crossattention.self.register_forward_hook(lambda module, args, output: heard.append(output[1])) for layer in encoder.layer
    ]
    try:
        yield heard
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()


class TextEncoder(nn.Module):
    """The first layers of BERT [F: ALBEF]. Token ids (b, l) → features (b, l, width), [CLS] at position 0: BERT's own, or with `readout`
    a linear map of what several layers say of the whole text (`readout.py`)."""

    def __init__(self, config: TextConfig, vocab_size: int, max_length: int):
        super().__init__()
        self.bert = BertModel(bert_config(config, vocab_size, config.depth, max_length), add_pooling_layer=False)
        self.read_layers = config.readout
        self.readout = Readout(config.width, config.readout) if config.readout else None

    def forward(self, ids: Int[Tensor, "b l"], words: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        if self.readout is None:
            return self.bert(input_ids=ids, attention_mask=words.long()).last_hidden_state
        layers = self.bert(input_ids=ids, attention_mask=words.long(), output_hidden_states=True).hidden_states[-self.read_layers :]
        share = (words / words.sum(dim=1, keepdim=True))[..., None]  # [CLS] and [SEP] are words, too [F: sentence-transformers]
        notes = [note(x[:, 0], (share * x).sum(dim=1)) for x in layers]
        return replace_cls(layers[-1], self.readout(torch.cat(notes, dim=1)))


class FusionEncoder(nn.Module):
    """The last layers of BERT, each with cross-attention to the image [F: ALBEF]; bidirectional over the text.

    Eager attention: texts are short, and the cross-attention weights are wanted as numbers (`attention_to_patches`).
    """

    def __init__(self, config: TextConfig, vocab_size: int, image_width: int, max_length: int):
        super().__init__()
        # BERT's layers take cross-attention only as decoders; the masks below are explicit, so nothing is causal here.
        as_decoder = dict(is_decoder=True, add_cross_attention=True, attn_implementation="eager")
        self.encoder = BertEncoder(bert_config(config, vocab_size, config.fusion_depth, max_length, **as_decoder))
        self.image_map = nn.Linear(image_width, config.width) if image_width != config.width else nn.Identity()
        self.apply(_init_bert)

    def forward(self, text: Float[Tensor, "b l d"], words: Bool[Tensor, "b l"], image: Float[Tensor, "b s e"]) -> Float[Tensor, "b l d"]:
        return self.encoder(text, additive(words), self.image_map(image)).last_hidden_state

    @torch.no_grad()
    def attention_to_patches(self, text: Tensor, words: Tensor, image: Tensor) -> Float[Tensor, "layers b h l n"]:
        """Cross-attention of every layer from each token to each patch; [CLS] of the image is left out."""
        with listening(self, self.encoder) as heard:
            self(text, words, image)
        return torch.stack(heard)[..., 1:]


@dataclass
class Written:
    """What a decoder keeps of the words written so far, so that the next word costs one position and not all of them.

    The keys and values of the image are computed once; those of the words grow by one position a step.
    """

    image: Float[Tensor, "b s d"]  # mapped to the decoder's width
    seen: Float[Tensor, "b 1 1 s"] | None  # as `additive` makes it
    past: EncoderDecoderCache

    def repeat(self, times: int) -> None:
        """Every row `times` times, one below the other: an image for each of its beams."""
        self.image = self.image.repeat_interleave(times, dim=0)
        self.seen = None if self.seen is None else self.seen.repeat_interleave(times, dim=0)
        self.past.batch_repeat_interleave(times)

    def reorder(self, rows: Int[Tensor, "b"]) -> None:
        """Row i goes on from the words of row `rows[i]`, one of the same image: what the image gave stays where it is."""
        self.past.self_attention_cache.reorder_cache(rows)


class CaptionDecoder(nn.Module):
    """A causal BERT with cross-attention to the image that writes the caption word by word [F: mPLUG, BLIP].

    Its word embeddings and output layer are its own; they can be tied to the text encoder's by the caller. Whole captions go
    through `forward` (training, scoring), unfinished ones through `begin` and `step` (`tasks/decoding.py`).
    """

    def __init__(self, config: TextConfig, vocab_size: int, image_width: int, max_length: int):
        super().__init__()
        as_decoder = dict(is_decoder=True, add_cross_attention=True, attn_implementation="eager")
        bert = bert_config(config, vocab_size, config.decoder_depth, max_length, **as_decoder)
        self.bert = BertModel(bert, add_pooling_layer=False)
        self.head = BertOnlyMLMHead(bert)
        _tie(self.head, self.bert)
        self.image_map = nn.Linear(image_width, config.width) if image_width != config.width else nn.Identity()

    def forward(
        self,
        ids: Int[Tensor, "b l"],
        words: Bool[Tensor, "b l"],
        image: Float[Tensor, "b s e"],
        seen: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b l vocab"]:
        """Logits of the word after each position.

        `image` are the states that cross-attention reads, an image's tokens or a question's; `seen` says which of them are there
        to be looked at, all where it is None.
        """
        return self.head(self._states(ids, words, image, seen))

    def _states(self, ids, words, image, seen=None) -> Float[Tensor, "b l d"]:
        length = ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        allowed = rearrange(causal, "q s -> 1 1 q s") & rearrange(words, "b s -> b 1 1 s")
        hidden = self.bert(
            input_ids=ids,
            attention_mask=torch.where(allowed, 0.0, torch.finfo(torch.float32).min),
            encoder_hidden_states=self.image_map(image),
            encoder_attention_mask=None if seen is None else additive(seen),
            use_cache=False,
        )
        return hidden.last_hidden_state

    def begin(self, image: Float[Tensor, "b s e"], seen: Bool[Tensor, "b s"] | None = None) -> Written:
        """Nothing written yet about these states."""
        past = EncoderDecoderCache(DynamicCache(config=self.bert.config), DynamicCache(config=self.bert.config))
        return Written(self.image_map(image), None if seen is None else additive(seen), past)

    def step(self, ids: Int[Tensor, "b q"], written: Written) -> Float[Tensor, "b q vocab"]:
        """What `forward` says at the next q positions, given those that `written` holds; it holds them all afterwards."""
        hidden = self.bert(
            input_ids=ids,
            encoder_hidden_states=written.image,
            encoder_attention_mask=written.seen,
            use_cache=True,
            **{PAST: written.past},
        )
        return self.head(hidden.last_hidden_state)

    @torch.no_grad()
    def attention_to_patches(
        self, ids: Int[Tensor, "b l"], words: Bool[Tensor, "b l"], image: Float[Tensor, "b s e"]
    ) -> Float[Tensor, "layers b h l n"]:
        """Cross-attention of every layer from each word, given those before it, to each patch; [CLS] of the image is left out."""
        with listening(self, self.bert.encoder) as heard:
            self._states(ids, words, image)
        return torch.stack(heard)[..., 1:]


class WordHead(nn.Module):
    """BERT's masked-word head, tied to the text encoder's embeddings [F: BERT]. Features of masked tokens → vocabulary logits."""

    def __init__(self, text_encoder: TextEncoder):
        super().__init__()
        self.head = BertOnlyMLMHead(text_encoder.bert.config)
        self.head.apply(_init_bert)
        _tie(self.head, text_encoder.bert)

    def forward(self, features: Float[Tensor, "masked d"]) -> Float[Tensor, "masked vocab"]:
        return self.head(features)


def _tie(head: BertOnlyMLMHead, bert: BertModel) -> None:
    """Output weights are the word embeddings; and the head's two biases are one, or one would never be trained."""
    head.predictions.decoder.weight = bert.embeddings.word_embeddings.weight
    head.predictions.bias = head.predictions.decoder.bias


def _init_bert(module: nn.Module) -> None:
    """Normal weights with deviation 0.02, zero biases [F: BERT]."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
