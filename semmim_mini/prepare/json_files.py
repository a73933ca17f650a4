"""Annotation files in JSON, with errors that name the file and the entry."""

import json
from pathlib import Path

from semmim_mini.errors import UserError


def read_json(path: Path):
    """The content of a JSON file.

    Raises:
        UserError: missing, or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path, or fetch the file") from None
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or not UTF-8
        raise UserError(f"{path} is not valid JSON: {error}; fetch it again") from None


def require_list(content: object, path: Path, key: str | None, **wanted: type | tuple[type, ...]) -> list[dict]:
    """`content`, or `content[key]`, as a list of objects that have `wanted`.

    Raises:
        UserError: it is none; the message names the entry.
    """
    entries = content.get(key) if key and isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} has no list {key + ' ' if key else ''}with anything in it; it must have the official layout")
    for number, entry in enumerate(entries):
        for name, kind in wanted.items():
            value = entry.get(name) if isinstance(entry, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{path}: {key or ''}[{number}] has {name} {value!r:.80}; the official layout has {_names(kind)} there")
    return entries


def _names(kind: type | tuple[type, ...]) -> str:
    names = {str: "a text", int: "a number", list: "a list", type(None): "null"}
    return " or ".join(names[k] for k in (kind if isinstance(kind, tuple) else (kind,)))
