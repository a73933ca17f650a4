r"""Captions in the official files of COCO Caption.

results      [{"image_id": 391895, "caption": "a man on a moped"}, …]                      what its server takes
annotations  {"annotations": [{"image_id": 391895, "id": 1, "caption": "A man on …"}, …]}  captions_val2014.json
"""

import json
from collections.abc import Mapping
from pathlib import Path

from semmim_mini.data.picture_files import whole_letters
from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown
from semmim_mini.training.checkpoint import write_text


def write_results(path: str | Path, captions: Mapping[int, str]) -> None:
    """Write captions, one for each image; the file is complete or not there.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    entries = [{"image_id": int(image), "caption": caption} for image, caption in captions.items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(entries, ensure_ascii=False, indent=0) + "\n")
    except OSError as error:
        raise UserError(f"the results file {path} cannot be written ({error}); choose another place") from error


def read_results(path: str | Path) -> dict[int, str]:
    """Captions by image.

    Raises:
        UserError: missing, malformed, or two captions for one image.
    """
    entries, captions = _load(path), {}
    if not isinstance(entries, list):
        raise UserError(f'{path} is no results file: it needs a list of {{"image_id": number, "caption": text}}')
    for place, entry in enumerate(entries):
        image, caption = _pair(entry, f"{path}, entry {place}")
        if image in captions:
            raise UserError(f"{path} has two captions for image {shown(image)}; the format allows one")
        captions[image] = caption
    return captions


def read_annotations(path: str | Path) -> dict[int, list[str]]:
    """References by image, from an annotation file such as captions_val2014.json.

    Raises:
        UserError: missing or malformed.
    """
    content, references = _load(path), {}
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise UserError(f'{path} is no annotation file: it needs {{"annotations": [{{"image_id": number, "caption": text}}, …]}}')
    for place, entry in enumerate(content["annotations"]):
        image, caption = _pair(entry, f"{path}, annotation {place}")
        references.setdefault(image, []).append(caption)
    return references


def _load(path: str | Path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch or write it anew") from error


def _pair(entry, where: str) -> tuple[int, str]:
    image, caption = (entry.get("image_id"), entry.get("caption")) if isinstance(entry, dict) else (None, None)
    if type(image) is not int or not isinstance(caption, str):
        raise UserError(f'{where} is {str(entry)[:80]!r}; it needs {{"image_id": number, "caption": text}}')
    return image, whole_letters(caption)
