r"""Files that claim to be huge, or unfold to it: none takes the machine's memory.

Each is read in a child process that may take one gigabyte more than it was born with, and tells how much it took.
"""

import multiprocessing
import os
import resource
import struct
import zlib
from pathlib import Path

import pytest
import torch
from fuzz_engine import MEGABYTE, write
from fuzz_files import chunk, picture, tar, tensor_file, with_checksum
from safetensors.torch import save_file

from semmim_mini.config import from_yaml, override
from semmim_mini.data.picture_files import UnreadablePicture, read_picture
from semmim_mini.errors import UserError
from semmim_mini.experiment import load_run
from semmim_mini.prepare.img2dataset import img2dataset
from semmim_mini.prepare.job import Settings, prepare
from semmim_mini.training import checkpoint
from semmim_mini.training.fitting import require_fitting

GIGABYTE = 1024 * MEGABYTE
REFUSED = (UserError, UnreadablePicture)


def in_child(function, most: int = GIGABYTE) -> tuple[str, int]:
    """What becomes of `function` in a process that may take `most` bytes more; and by how many its peak rose."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_limited, args=(function, most, sender))
    process.start()
    told = receiver.recv() if receiver.poll(120) else ("nothing came back", 0)
    process.join(10)
    return told


def _limited(function, most: int, sender) -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + most, now + most))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        function()
        told = "result"
    except REFUSED as error:
        told = f"refused: {error}"
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    sender.send((told[:500], 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
    sender.close()
    os._exit(0)


needs_fork = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


def claims_size(kind: str, width: int, height: int) -> bytes:
    """A picture of a few bytes that says it is large."""
    data = bytearray(picture(kind, "RGB", (9, 7)))
    if kind == "PNG":
        head = struct.pack(">II", width, height) + bytes(data[24:29])
        return bytes(data[:8]) + chunk(b"IHDR", head) + bytes(data[33:])
    form, at = {"JPEG": (">HH", data.find(b"\xff\xc0") + 5), "GIF": ("<HH", 6), "BMP": ("<ii", 18)}[kind]
    first, second = (height, width) if kind == "JPEG" else (width, height)
    struct.pack_into(form, data, at, first, second)
    return bytes(data)


def zeros_png(width: int, height: int) -> bytes:
    """Black, whole, and a thousandth of what it unfolds to."""
    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@needs_fork
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_picture_that_claims_to_be_huge_takes_no_memory(tmp_path, kind):
    path = write(tmp_path / "photo.jpg", claims_size(kind, 60_000, 60_000))
    told, grew = in_child(lambda: read_picture(path))
    assert told.startswith("refused") and "pixels" in told and grew < 100 * MEGABYTE


@needs_fork
def test_a_picture_that_unfolds_to_gigabytes_takes_no_memory(tmp_path):
    path = write(tmp_path / "photo.png", zeros_png(60_000, 60_000))
    told, grew = in_child(lambda: read_picture(path))
    assert told.startswith("refused") and "far too many pixels" in told and grew < 100 * MEGABYTE


@needs_fork
@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_picture_with_a_packed_gigabyte_beside_it_takes_no_memory(tmp_path, kind):
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(1024)) + packer.flush()
    content = (b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0") + packed
    good = picture("PNG", "RGB", (9, 7))
    path = write(tmp_path / "photo.png", good[:33] + chunk(kind, content) + good[33:])
    told, grew = in_child(lambda: read_picture(path))
    assert told.split(":")[0] in ("result", "refused") and grew < 200 * MEGABYTE


HEADS = {
    "length 2⁶³": tensor_file({}, length=2**63),
    "length 100 GB": tensor_file({}, length=100 * 10**9),
    "a tensor of 8 TB": tensor_file({"x": {"dtype": "F32", "shape": [2**41], "data_offsets": [0, 2**43]}}, b"1234"),
    "a product that overflows": tensor_file({"x": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 4]}}, b"1234"),
    "nested names": tensor_file(b"[" * 1_000_000),
}


@needs_fork
@pytest.mark.parametrize("head", HEADS)
def test_weights_that_claim_to_be_huge_take_no_memory(folder, head):
    write(folder / "model.safetensors", HEADS[head])
    for read in (load_run, checkpoint.load_tensors):
        told, grew = in_child(lambda read=read: read(folder))
        assert told.startswith("refused") and "model.safetensors" in told and grew < 100 * MEGABYTE


HUGE = (
    "image.width=1000000",
    "image.depth=1000000000",
    "space.prototypes=100000000000",
    "losses.queue=1000000000000",
    "text.width=9999999999",
)


@needs_fork
@pytest.mark.parametrize("setting", HUGE)
def test_a_configuration_of_terabytes_beside_small_weights_takes_no_memory(folder, setting):
    group, _, rest = setting.partition(".")
    name, _, value = rest.partition("=")
    text = (folder / "config.yaml").read_text().splitlines()
    at = text.index(f"{group}:")
    place = next(i for i, line in enumerate(text) if i > at and line.startswith(f"  {name}:"))
    write(folder / "config.yaml", "\n".join([*text[:place], f"  {name}: {value}", *text[place + 1 :]]))
    told, grew = in_child(lambda: load_run(folder))
    assert told.startswith("refused") and "model.safetensors" in told and grew < 100 * MEGABYTE


@needs_fork
def test_a_tar_that_claims_ten_terabytes_takes_no_memory(tmp_path):
    head = bytearray(tar({"000000001.jpg": b""})[:512])
    head[124:136] = b"\x80" + (10 * 2**40).to_bytes(11, "big")
    path = write(tmp_path / "00000.tar", with_checksum(head) + bytes(1024))

    def read() -> None:
        prepare("cc3m", {"train": img2dataset(path, "cc3m")}, tmp_path / "out", Settings(size=64))

    told, grew = in_child(read)
    assert told.startswith("refused") and grew < 100 * MEGABYTE


LAUGHS = "[&a [x, x], " + ", ".join(f"&{chr(c + 1)} [*{chr(c)}, *{chr(c)}]" for c in range(97, 121)) + "]"


@needs_fork
@pytest.mark.parametrize("text", [f"preset: {LAUGHS}", f"masking: {{ratio: {LAUGHS}}}", LAUGHS, f"{{{LAUGHS}: 1}}", "a: " + "[" * 100_000])
def test_yaml_that_unfolds_to_gigabytes_takes_no_memory(text):
    told, grew = in_child(lambda: from_yaml(text))
    assert told.startswith("refused") and len(told) < 500 and grew < 200 * MEGABYTE


def test_weights_of_another_kind_are_not_bent_to_fit(folder):
    tensors = checkpoint.load_tensors(folder)
    for change in (torch.Tensor.long, lambda x: x.to(torch.complex64)):
        save_file(tensors | {"itm_head.weight": change(tensors["itm_head.weight"])}, str(folder / "model.safetensors"))
        with pytest.raises(UserError, match=r"itm_head\.weight is of another type than torch\.float32"):
            load_run(folder)
    save_file({name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}, str(folder / "model.safetensors"))
    load_run(folder)  # shorter floats are: the model that ships is stored so


def test_a_configuration_and_weights_that_belong_together_fit(folder, tiny):
    config = checkpoint.read_config(folder)
    require_fitting(config, folder)
    with pytest.raises(UserError, match=r"memory\.cls_queue is \(2, 2\) in the file and \(3, 2\) in the configuration"):
        require_fitting(override(config, ["teacher.cls_queue=3"]), folder)
    with pytest.raises(UserError, match=r"is missing in the file|is \(.*\) in the file and missing"):
        require_fitting(override(config, ["losses.caption.weight=0", "masking.relevance=cross"]), folder)
