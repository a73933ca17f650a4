r"""A trained model on one's own pictures: describe one, find one, ask about one.

    model, tokenizer = open_model("runs/demo")
    caption_picture(model, tokenizer, "dog.jpg")                       "a brown dog on the grass"
    search_pictures(model, tokenizer, "a dog", "holiday/", top=3)      [(0.41, holiday/day1/dog.jpg), …]
    answer_question(model, tokenizer, "dog.jpg", "how many dogs?")     [(0.8, "one")]

A picture is seen as in evaluation: the square in its middle for captions and search, the whole, squeezed, for questions. Cosines tell
which picture of a folder fits *better*; how good a fit is they do not tell, and the best picture of a folder without dogs is no dog.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from semmim_mini.data.pairs import Pair
from semmim_mini.data.picture_files import UnreadablePicture, read_picture
from semmim_mini.data.question_loader import WholeView
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.experiment import load_run
from semmim_mini.hub import Pretrained
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.captioning import caption_images
from semmim_mini.tasks.decoding import Decoding
from semmim_mini.tasks.reranking import match_odds, require_matching
from semmim_mini.tasks.retrieval import text_features
from semmim_mini.tasks.vqa import generate_answers, rank_answers

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}

log = logging.getLogger(__name__)


def open_model(where: str | Path, which: str = "last"):
    """Model and tokenizer from a run's folder, a checkpoint's, one made by `save_pretrained`, or by name from the Hugging Face hub.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    if Path(where).exists():
        model, tokenizer = load_run(Path(where), which)
        return model.eval(), tokenizer
    loaded = Pretrained.from_pretrained(where)
    return loaded.model, loaded.tokenizer


def caption_picture(model: SemMIM, tokenizer, picture: str | Path, decoding: Decoding | None = None) -> str:
    """One caption of a picture file.

    Raises:
        UserError: no such file, no picture, or a model without a caption decoder.
    """
    pixels = open_picture(picture, CenterView(model.config.data.resolution))
    return caption_images(model, tokenizer, pixels[None], decoding)[0]


def search_pictures(
    model: SemMIM, tokenizer, text: str, folder: str | Path, top: int = 5, rerank: int = 0, batch: int = 64
) -> list[tuple[float, Path]]:
    """The pictures of a folder, and of the folders inside it, that fit `text` best, best first.

    Files that cannot be read are named in the log and passed over.

    Args:
        rerank: how many of the nearest are read together with the text by ITM and put in order anew; 0 for none.

    Returns:
        Scores and paths. The score is the cosine of text and picture; of re-ranked ones it is the log-odds of "matched" plus cosine / τ.

    Raises:
        UserError: empty text, no pictures there, top below 1, re-ranking without a trained matching head.
    """
    text = _text(text, "the text to search for")
    if top < 1 or rerank < 0:
        raise UserError(f"search needs top ≥ 1 and rerank ≥ 0; they are {top} and {rerank}")
    if rerank:
        require_matching(model)
    paths, found, device = list_pictures(folder), [], next(model.parameters()).device
    with _looking(model):
        query = text_features(model.student, tokenizer, [text], model.config.data.max_length)
        for start in range(0, len(paths), batch):
            readable, pixels = _readable(paths[start : start + batch], CenterView(model.config.data.resolution))
            if readable:
                features = model.student.project_image(model.student.image(pixels.to(device))[:, 0])
                found += zip((features @ query[0]).tolist(), readable, strict=True)
        if not found:
            raise UserError(f"none of the {len(paths)} picture files in {folder} can be read; the log says why for each")
        found.sort(key=lambda hit: (-hit[0], hit[1]))
        if rerank:
            found = _rematched(model, tokenizer, text, found[:rerank], batch) + found[rerank:]
    return found[:top]


def answer_question(
    model: SemMIM, tokenizer, picture: str | Path, question: str, answers: Sequence[str] | None = None, top: int = 5
) -> list[tuple[float, str]]:
    """Answers to a question about a picture file with their probabilities, likeliest first.

    Args:
        answers: to choose from; without them the decoder writes one of its own.
        top: at most so many answers.

    Raises:
        UserError: no such file, no picture, an empty question, no answers, or a model without an answer decoder.
    """
    question = _text(question, "the question")
    pixels = open_picture(picture, WholeView(model.config.data.resolution))[None]
    with _looking(model):
        if answers is None:
            answers = generate_answers(model, tokenizer, pixels, [question])
        ranked = rank_answers(model, tokenizer, pixels, [question], list(answers))
    probability, places = ranked.log_likelihood[0].exp().tolist(), ranked.candidates[0].tolist()
    hits = sorted(zip(probability, places, strict=True), key=lambda hit: (-hit[0], hit[1]))
    return [(p, answers[place]) for p, place in hits[:top]]


# Files --------------------------------------------------------------------------------------------------------------------


def open_picture(path: str | Path, view: CenterView) -> Float[Tensor, "3 r r"]:
    """Normalised pixels of a picture file, upright.

    Raises:
        UserError: not there, no picture, or far too large.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is no file; give the path of a picture")
    try:
        image = read_picture(Path(path), decode_size=view.resolution)
    except UnreadablePicture as error:
        raise UserError(f"{error} cannot be read as a picture; give a whole JPEG, PNG or WebP file") from error
    return view(Pair(image, (), 0, Path(path).name)).pixels


def list_pictures(folder: str | Path) -> list[Path]:
    """Files with a picture's suffix in a folder and those inside it, by name; hidden ones are left out."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is no folder; give one with pictures in it")
    paths = []
    for place, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        paths += [Path(place, name) for name in names if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")]
    if not paths:
        raise UserError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}); give another folder")
    return sorted(paths)


def _readable(paths: list[Path], view: CenterView) -> tuple[list[Path], Tensor | None]:
    """The paths that are pictures, and their pixels."""
    good, pixels = [], []
    for path in paths:
        try:
            pixels.append(open_picture(path, view))
            good.append(path)
        except UserError as error:
            log.warning("passed over: %s", error)
    return good, torch.stack(pixels) if pixels else None


def _rematched(model: SemMIM, tokenizer, text: str, found: list[tuple[float, Path]], batch: int) -> list[tuple[float, Path]]:
    """The same pictures in the order of ITM and ITC together; files are read again rather than kept."""
    device, view, tau = next(model.parameters()).device, CenterView(model.config.data.resolution), model.itc_temperature().item()
    ids, words = (x.to(device) for x in tokenize(tokenizer, [text], model.config.data.max_length))
    tokens, odds = model.student.text(ids, words), []
    for start in range(0, len(found), batch):
        pixels = torch.stack([open_picture(path, view) for _, path in found[start : start + batch]])
        b = len(pixels)
        seen = model.student.image(pixels.to(device))
        odds += match_odds(model, tokens.expand(b, -1, -1), words.expand(b, -1), seen).tolist()
    scored = [(o + cosine / tau, path) for o, (cosine, path) in zip(odds, found, strict=True)]
    return sorted(scored, key=lambda hit: (-hit[0], hit[1]))


def _text(text: str, name: str) -> str:
    if not text.strip():
        raise UserError(f"{name} is empty; write a few words")
    return text.strip()


@contextmanager
def _looking(model: SemMIM):
    """No gradients and no dropout meanwhile."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
