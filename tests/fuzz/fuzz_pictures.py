"""The reader of photos, alone and through everything that opens a picture somebody gives it."""

from pathlib import Path

from fuzz_engine import Target, write
from fuzz_files import hostile_picture, picture, pictures
from fuzz_mutations import blind, mixed

from semmim_mini.data.picture_files import UnreadablePicture, read_picture
from semmim_mini.data.question_loader import WholeView
from semmim_mini.data.views import CenterView
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.shard_writer import LeftOut, make_sample
from semmim_mini.use import open_picture

MOST = 2_000_000  # pixels: small, so that a hundred thousand pictures take minutes


def photos(folder: Path) -> list[Target]:
    file, both, errors = folder / "photo.jpg", mixed(blind, hostile_picture), (UnreadablePicture,)

    def read(data: bytes) -> None:
        image = read_picture(write(file, data), decode_size=64, max_pixels=MOST)
        assert image.shape[0] == 3 and image.shape[1] * image.shape[2] <= MOST

    def seen(data: bytes) -> None:
        for view in (CenterView(16), WholeView(16)):
            assert open_picture(write(file, data), view).isfinite().all()

    def prepared(data: bytes) -> None:
        entry = Entry(("x/1",), "1", Bytes(str(write(file, data))), ("a dog",))
        jpeg, _ = make_sample(entry, 64)
        assert jpeg[:2] == b"\xff\xd8"

    from semmim_mini.errors import UserError

    return [
        Target("read", pictures(), both, read, (UserError, *errors)),
        Target("seen", pictures(), both, seen),
        Target("prepared", (picture(), picture("PNG"), picture("WEBP")), both, prepared, (LeftOut,)),
    ]


GROUPS = (photos,)
