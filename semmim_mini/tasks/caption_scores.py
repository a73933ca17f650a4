r"""How good captions are, by the field's scores; the arithmetic is pycocoevalcap's, the COCO caption server's own.

| score          | asks                                                                          | range            |
| -------------- | ----------------------------------------------------------------------------- | ---------------- |
| `bleu1`–`bleu4`| which share of the caption's n-grams stands in a reference; too short costs   | 0–1              |
| `rouge_l`      | how long a common subsequence with a reference is                              | 0–1              |
| `cider`        | cosine of n-gram vectors in which rare n-grams weigh more, over references [1] | 0–10             |
| `meteor`       | words matched also by stem and synonym                                         | 0–1, needs Java  |
| `spice`        | objects, attributes and relations matched                                      | 0–1, needs Java  |

[1] What everybody calls CIDEr is CIDEr-D: clipped counts and a penalty on length. Its rarity is counted among the references at
hand, so values from different sets of images cannot be compared, and of one image alone it is 0.

**Tokens.** Before scoring, the field puts captions through Stanford's PTB tokenizer, a Java program: lower case, "man 's" and "is
n't" apart, punctuation left out. `tokenize` follows its rules without Java, so that numbers are the same on every machine; it gave
the same tokens for each of Flickr8k's 35,000 captions of training and development. It can differ on addresses, formulas, rare
abbreviations and emoticons. `tokenizer="java"` takes the original instead. Every result says which one was used.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from semmim_mini.errors import UserError

TOKENIZERS = ("python", "java")
_APART = re.compile(r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(lem|gim)(me)\b")
_TOKEN = re.compile(
    r"(?:\b[a-z]\.)+(?:[a-z]\b)?|\b(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|inc|co|ft)\.|\bno\.(?=\s*\d)"  # the full stop is a part of it
    r"|\d+(?:[.,:/]\d+)+"  # 3.5, 1,000, 3:30, 1/2
    r"|o'clock|[^\W_]+?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m|n)\b'?"  # is n't, man 's
    r"|(?:#(?=[a-z]))?[^\W_]+(?:(?:[-/]|\.(?=[^\W\d_]))[^\W_]+)*"  # words, also black-and-white and cat/dog
    r"|[?!]+|[^\s\w]|_+"
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}  # the original's names, lower-cased
_DROPPED = frozenset("'\"`.?!,:;-–—…“”‘’")  # "?!" stays, as in the original: its list has single signs

Captions = Mapping[int, Sequence[str]]  # by image


def tokenize(caption: str) -> str:
    """Tokens with spaces between: "A man's dog, running." → "a man 's dog running"."""
    text = _APART.sub(lambda match: " ".join(filter(None, match.groups())), caption.lower().replace("’", "'"))
    return " ".join(_BRACKETS.get(token, token) for token in _TOKEN.findall(text) if token not in _DROPPED)


def score_captions(captions: Mapping[int, str], references: Captions, tokenizer: str = "python", with_java: bool = False) -> dict:
    """BLEU-1 to 4, ROUGE-L and CIDEr of one caption for each image.

    Args:
        captions: by image.
        references: by image, for the same images.
        tokenizer: python, or java for Stanford's own.
        with_java: METEOR and SPICE too. Where one cannot be had, `notes` says why.

    Returns:
        The scores, `n_images`, `n_references` and `tokenizer`.

    Raises:
        UserError: pycocoevalcap or, with tokenizer=java, Java is not installed; images without a caption or without a reference.
    """
    require_pycocoevalcap()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    check_images(captions, references)
    written = tokenize_all({image: [captions[image]] for image in references}, tokenizer)
    right = tokenize_all(references, tokenizer)
    bleu = Bleu(4).compute_score(right, written, verbose=0)[0]
    found = {f"bleu{n}": float(score) for n, score in enumerate(bleu, start=1)}
    found |= {"rouge_l": float(Rouge().compute_score(right, written)[0]), "cider": float(Cider().compute_score(right, written)[0])}
    if with_java:
        found |= java_scores(written, right)
    return found | {"n_images": len(right), "n_references": sum(map(len, right.values())), "tokenizer": tokenizer}


def check_images(captions: Mapping[int, str], references: Captions) -> None:
    """Every image has a caption and a reference, or none of the scores would mean what it says."""
    if not references:
        raise UserError("there are no references to score captions against; check the annotations")
    missing, extra = [i for i in references if i not in captions], [i for i in captions if i not in references]
    if missing or extra:
        which, lacks = (missing, "caption") if missing else (extra, "reference")
        raise UserError(f"{len(which)} images have no {lacks}, image {which[0]} first; captions and references must be of the same images")
    if bare := [image for image, texts in references.items() if not texts]:
        raise UserError(f"image {bare[0]} has an empty list of references; leave it out or give it one")


def tokenize_all(captions: Captions, tokenizer: str) -> dict[int, list[str]]:
    """The captions of every image as tokens with spaces between."""
    if tokenizer not in TOKENIZERS:
        raise UserError(f"tokenizer={tokenizer!r} is unknown; choose one of {', '.join(TOKENIZERS)}")
    if tokenizer == "python":
        return {image: [tokenize(caption) for caption in texts] for image, texts in captions.items()}
    if not shutil.which("java"):
        raise UserError("tokenizer='java' needs Java, and none was found; install a Java runtime, or take tokenizer='python'")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    return PTBTokenizer().tokenize({image: [{"caption": caption} for caption in texts] for image, texts in captions.items()})


def require_pycocoevalcap() -> None:
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        raise UserError('caption scores need pycocoevalcap, which is not installed: pip install "semmim-mini[eval]"') from None


# Scores that are Java programs ----------------------------------------------------------------------------------------


def java_scores(written: dict[int, list[str]], right: dict[int, list[str]]) -> dict:
    """METEOR and SPICE of tokenised captions, as far as this machine can compute them; the rest as sentences under `notes`."""
    if not shutil.which("java"):
        return {"notes": ["METEOR and SPICE are Java programs and no Java was found; all other scores are complete without it"]}
    found, notes = {}, []
    for name, score, lacks in (("meteor", _meteor, None), ("spice", _spice, _spice_lacks())):
        try:
            if lacks is None:
                found[name] = score(written, right)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            lacks = f"{name.upper()} failed in Java ({type(error).__name__}: {error}); all other scores are complete without it"
        notes += [lacks] if lacks else []
    return found | ({"notes": notes} if notes else {})


def _meteor(written: dict[int, list[str]], right: dict[int, list[str]]) -> float:
    from pycocoevalcap.meteor.meteor import Meteor

    return float(Meteor().compute_score(right, written)[0])


def _spice(written: dict[int, list[str]], right: dict[int, list[str]]) -> float:
    from pycocoevalcap.spice.spice import Spice

    return float(Spice().compute_score(right, written)[0])


def _spice_lacks() -> str | None:
    """SPICE would fetch Stanford's models, 400 MB, without asking; here a person decides."""
    import pycocoevalcap.spice as spice

    if any((Path(spice.__file__).parent / "lib").glob("stanford-corenlp-*-models.jar")):
        return None
    return "SPICE needs Stanford's models, about 400 MB; fetch them once with python -m pycocoevalcap.spice.get_stanford_models"
