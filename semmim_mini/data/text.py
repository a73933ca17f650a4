r"""Captions as tokens, and tokens hidden for masked language modelling.

    "a red bus"  ─►  [CLS] a red bus [SEP]  ─►  [CLS] a [MASK] bus [SEP]   labels  −100 −100 red −100 −100

The tokenizer is BERT's WordPiece [F], either a published one or one trained on the captions at hand: two thousand
pieces are enough for the sample's captions, and a vocabulary of thirty thousand would be most of a small model.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from semmim_mini.errors import UserError
from semmim_mini.plain_values import first_line

# Tokenizer threads and forked data workers do not go together; one caption is too short to gain from threads anyway.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

IGNORE = -100  # label of a token that no loss reads
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # ids 0 to 4
SPECIAL_TOKENS = ("pad_token", "cls_token", "sep_token", "mask_token")  # that a tokenizer has to have, as transformers names them
LONGEST_TOKEN = 200  # characters of a token that stands beside the vocabulary, such as [MASK]


# The tokenizer --------------------------------------------------------------------------------------


def train_wordpiece(captions: Iterable[str], vocab_size: int = 2_000) -> PreTrainedTokenizerFast:
    """A lower-case WordPiece tokenizer of at most `vocab_size` pieces; the same captions always give the same one.

    Raises:
        UserError: no captions, or fewer pieces allowed than the captions have characters.
    """
    captions = list(captions)
    words = _bert(models.WordPiece(unk_token="[UNK]"))
    letters = _letters(words, captions)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # The trainer numbers the pieces of one letter in the order of a hash table, and breaks ties by these numbers: another
        # vocabulary in every run. As special tokens they are numbered as given.
        special_tokens=SPECIAL + [f"##{letter}" for letter in letters if _can_continue_a_word(words, letter)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    words.train_from_iterator(captions, trainer)
    vocabulary = words.get_vocab(with_added_tokens=False)
    if not letters:
        raise UserError("there are no captions to train a vocabulary on; check data.source")
    if len(vocabulary) > vocab_size:
        raise UserError(f"data.vocab_size={vocab_size} is too small: the letters alone need {len(vocabulary)}; set it higher")
    words = _bert(models.WordPiece(vocabulary, unk_token="[UNK]"))  # anew, as here only [PAD] to [MASK] are special
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def _bert(model: models.WordPiece) -> Tokenizer:
    """A tokenizer with BERT's rules around `model`: lower case, words and punctuation apart, [CLS] … [SEP]."""
    words = Tokenizer(model)
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    words.post_processor = processors.BertProcessing(*((name, SPECIAL.index(name)) for name in ("[SEP]", "[CLS]")))
    return words


def _letters(words: Tokenizer, captions: list[str], limit: int = 1_000) -> list[str]:
    """The characters of the captions, at most the `limit` most frequent ones; the rest becomes [UNK]."""
    count = Counter()
    for start in range(0, len(captions), 100):  # a hundred at once: a call each would take longer than the training
        count.update(words.normalizer.normalize_str("\n".join(captions[start : start + 100])))
    count = {letter: n for letter, n in count.items() if not letter.isspace()}
    return sorted(sorted(count, key=lambda letter: (-count[letter], letter))[:limit])


def _can_continue_a_word(words: Tokenizer, letter: str) -> bool:
    """Not punctuation, which is always a word by itself."""
    return len(words.pre_tokenizer.pre_tokenize_str(f"a{letter}")) == 1


def _require_short_tokens(folder: Path) -> None:
    """A token of a hundred thousand characters beside the vocabulary keeps tokenizers before 0.23 busy for ten minutes when it is added."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        try:
            stored = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # not there, or nothing that transformers will read either, which says so itself
        if not isinstance(stored, dict):
            continue
        tokens = {key: value for key, value in stored.items() if key.endswith(("_token", "_tokens", "_tokens_decoder"))}
        longest = max(_strings(stored if name == "added_tokens.json" else tokens), key=len, default="")
        if len(longest) > LONGEST_TOKEN:
            told = f"{len(longest):,} characters; take one whose tokens have at most {LONGEST_TOKEN}, such as BERT's"
            raise UserError(f"data.tokenizer={str(folder)!r} adds in {name} a token of {told}")


def _strings(stored) -> Iterator[str]:
    """All texts of a JSON value, names of fields among them."""
    waiting = [stored]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            waiting += [*value, *value.values()] if isinstance(value, dict) else value


def load_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder, the local cache or the Hugging Face hub.

    Raises:
        UserError: not there, not reachable, or without the special tokens of a BERT.
    """
    name = str(name_or_folder)
    _require_short_tokens(Path(name))
    try:
        # Asked for nothing, a folder with code of its own would have transformers ask on the terminal whether to run it.
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        tokenizer("\N{NAZAR AMULET}")  # hardly a vocabulary holds it: a piece for the unknown may be named that is not there
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # what transformers and the hub raise changes; what tokenizers' Rust code panics with is no Exception
        reason = first_line(error)
        raise UserError(
            f"data.tokenizer={name!r} cannot be loaded ({reason}); give 'train', a folder with tokenizer.json, or the "
            "name of a BERT on the Hugging Face hub while there is a network connection"
        ) from error
    missing = [token for token in SPECIAL_TOKENS if not getattr(tokenizer, token, None)]
    if missing:
        raise UserError(f"data.tokenizer={name!r} has no {', '.join(missing)}; choose one of the BERT family")
    if not tokenizer.is_fast:
        raise UserError(f"data.tokenizer={name!r} knows no character positions; choose one with a tokenizer.json")
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write the files of a tokenizer into `folder`, each complete or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenizer-") as draft:
        tokenizer.save_pretrained(draft)
        for file in sorted(Path(draft).iterdir()):
            os.replace(file, folder / file.name)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, captions: Sequence[str], max_length: int
) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
    """Token ids and attention mask, padded to the longest of `captions`, at most `max_length` with [CLS] and [SEP]."""
    encoded = tokenizer(list(captions), padding="longest", truncation=True, max_length=max_length, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"].bool()


def token_mask_of_spans(
    tokenizer: PreTrainedTokenizerBase, caption: str, spans: Iterable[tuple[int, int]], max_length: int
) -> Bool[Tensor, "l"]:
    """Which tokens of `caption` belong to the characters of `spans` (start, end): the tokens that name an object, say.

    A token counts when it shares a character with a span. l is the length that `tokenize` gives this caption alone.
    """
    wanted = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    encoded = tokenizer(caption, truncation=True, max_length=max_length, **wanted)
    spans = list(spans)
    inside = [any(start < right and left < end for left, right in spans) for start, end in encoded["offset_mapping"]]
    return torch.tensor(inside) & ~torch.tensor(encoded["special_tokens_mask"]).bool()


# Masked words ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """The facts about a tokenizer that masking needs."""

    size: int
    mask: int  # id of [MASK]
    special: tuple[int, ...]  # ids that are never hidden and never put in place of a word

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Vocabulary":
        return cls(len(tokenizer), tokenizer.mask_token_id, tuple(sorted(set(tokenizer.all_special_ids))))


def mask_tokens(
    ids: Int[Tensor, "b l"],
    attention: Bool[Tensor, "b l"],
    vocabulary: Vocabulary,
    share: float = 0.15,
    generator: torch.Generator | None = None,
    uniform: Float[Tensor, "b 3 _"] | None = None,
) -> tuple[Int[Tensor, "b l"], Int[Tensor, "b l"]]:
    """Hide words [F: BERT]: max(1, round(share · words)) of each caption.

    Of the hidden, 80 % become [MASK], 10 % any piece, 10 % stay what they are: if only [MASK] were ever asked for, the
    model could stop reading all other words.

    Args:
        uniform: random numbers in [0, 1) to use in place of `generator`, at least l per row: which words, which of the
            three fates, which piece. Numbers drawn per caption make its mask independent of the batch it is in.

    Returns:
        The ids with words hidden, and the labels: the true id at hidden positions, `IGNORE` elsewhere. A caption of
        special tokens only has nothing to hide.
    """
    length = ids.shape[1]
    uniform = torch.rand(len(ids), 3, length, generator=generator) if uniform is None else uniform[..., :length]
    order, fate, piece = uniform.to(ids.device).unbind(dim=1)
    special = torch.tensor(vocabulary.special, device=ids.device)

    word = attention & ~torch.isin(ids, special)
    count = (word.sum(dim=1) * share).round().clamp_min(1)
    # Words in random order, everything else behind them; the first `count` places are hidden.
    place = order.masked_fill(~word, 2.0).argsort(dim=1).argsort(dim=1)
    hidden = word & (place < count[:, None])

    pieces = torch.ones(vocabulary.size, dtype=torch.bool, device=ids.device)
    pieces[special] = False
    pieces = pieces.nonzero().squeeze(1)
    other = pieces[(piece * len(pieces)).long().clamp_max(len(pieces) - 1)]
    masked = torch.where(hidden & (fate < 0.8), vocabulary.mask, ids)
    masked = torch.where(hidden & (fate >= 0.8) & (fate < 0.9), other, masked)
    return masked, torch.where(hidden, ids, IGNORE)
