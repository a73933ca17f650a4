"""The members of a tar, found without reading what they hold and without trusting what they claim."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from semmim_mini.errors import UserError

LONGEST_HEADER = 2**20  # bytes; a header that extends another holds a name or two
END = 1024  # bytes of zeros that end every whole tar


class _Headers:
    """A file as tarfile walks it from header to header; nothing else has a reason to be read."""

    def __init__(self, file: BinaryIO):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self.file.read(size)


def members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every file in a tar. Names are text from a stranger: good for comparing, never as paths.

    Raises:
        UserError: no tar, cut off, or with headers that cannot be.
    """
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=_Headers(file), mode="r:") as tar:
            for member in tar:
                if member.size < 0:
                    raise tarfile.ReadError(f"a member claims {member.size} bytes")
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
    except (tarfile.TarError, ValueError, EOFError, OSError, OverflowError, RecursionError) as error:
        raise _not_whole(path, error) from None


def require_whole(path: Path) -> None:
    """Refuses a tar without its end, which costs one small read: asked of all tars before the first is worked on."""
    try:
        with open(path, "rb") as file:
            file.seek(-min(END, path.stat().st_size), os.SEEK_END)
            whole = file.read() == bytes(END)
    except OSError as error:
        raise _not_whole(path, error) from None
    if not whole:
        raise _not_whole(path, "its end is missing")


def _not_whole(path: Path, reason: object) -> UserError:
    return UserError(f"{path} is not a whole tar file ({reason}); fetch it again, or take it out of the folder")
