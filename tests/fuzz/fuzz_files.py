r"""Binary files, valid ones and such as their formats allow but nobody writes.

tar           header fields replaced, check sum made right again      safetensors   header as JSON, length made right again
npy           header text replaced, padded to its length              PNG           chunks replaced, crc made right again
JPEG, GIF, BMP, WebP, TIFF: the numbers that say how large the picture is
"""

import io
import json
import random
import struct
import tarfile
import zlib
from functools import lru_cache

import numpy as np
from fuzz_mutations import BYTES, blind, json_values
from PIL import Image

BLOCK = 512
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


@lru_cache
def picture(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (70, 66), **options) -> bytes:
    """A small picture of gentle gradients."""
    width, height = size
    grey = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).convert(mode).save(file, kind, **options)
    return file.getvalue()


@lru_cache
def pictures() -> tuple[bytes, ...]:
    """One of every kind that photos come in, and some odd ones."""
    plain = [picture(kind, "RGB", (9, 7)) for kind in FORMATS]
    odd = [picture("PNG", mode, (9, 7)) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")] + [
        picture("JPEG", mode, (9, 7)) for mode in ("L", "CMYK")
    ]
    odd += [picture("TIFF", mode, (9, 7)) for mode in ("F", "I", "CMYK")] + [picture("TIFF", "RGB", (9, 7), compression="tiff_lzw")]
    odd += [picture("PNG", "RGB", (9, 7), exif=_upside_down()), picture("JPEG", "RGB", (9, 7), exif=_upside_down(), progressive=True)]
    return (*plain, *odd, moving("GIF"), moving("WEBP"), moving("PNG"))


def _upside_down() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif.tobytes()


def moving(kind: str) -> bytes:
    """Three frames."""
    file, frames = io.BytesIO(), [Image.new("RGB", (9, 7), (80 * i, 0, 0)) for i in range(3)]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def hostile_picture(draw: random.Random, data: bytes) -> bytes:
    """Another size or chunk, as far as the format is known; else blind."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(draw, data)
    starts = {b"GIF8": ("<HH", 6), b"BM": ("<ii", 18), b"RIFF": ("<HH", 26)}
    form, at = next((found for magic, found in starts.items() if data.startswith(magic)), ("<HH", draw.randrange(max(len(data), 1))))
    if data[:2] == b"\xff\xd8":
        form, at = ">HH", max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    sizes = (0, 1, 7, 4_000, 32_767) + ((65_535,) if form[1:] == "HH" else (2**31 - 1, -1, -(2**31), 100_000))
    if at < 0 or at + struct.calcsize(form) > len(data):
        return blind(draw, data)
    return data[:at] + struct.pack(form, draw.choice(sizes), draw.choice(sizes)) + data[at + struct.calcsize(form) :]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@lru_cache
def bomb(size: int = 50_000_000) -> bytes:
    """Zeros, packed a thousandfold."""
    return zlib.compress(bytes(size), 9)


def _png(draw: random.Random, data: bytes) -> bytes:
    """One chunk changed, doubled, moved or added, with a check sum that is right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return blind(draw, data)
    kind, content = chunks[place := draw.randrange(len(chunks))]
    if kind == b"IHDR" and draw.random() < 0.7:
        side = (0, 1, 9, 5_000, 2**31 - 1, 2**32 - 1, 1_000_000)
        content = struct.pack(
            ">IIBBBBB", draw.choice(side), draw.choice(side), draw.choice((1, 8, 16, 3)), draw.choice((0, 2, 3, 4, 6, 7)), 0, 0, 0
        )
        chunks[place] = (kind, content)
    elif draw.random() < 0.4:
        packed = bomb() if draw.random() < 0.3 else zlib.compress(b"x")
        added = {
            b"zTXt": b"a\0\0" + packed,
            b"iCCP": b"a\0\0" + packed,
            b"iTXt": b"a\0\1\0\0\0" + packed,
            b"eXIf": b"MM\0*\0\0\0\x08\xff\xff" * 20,
        }
        added |= {b"tEXt": b"a\0" + b"x" * 100_000, b"acTL": b"\0\0\0\x01\0\0\0\0", b"fcTL": bytes(26), b"tRNS": b"\0\0", b"IDAT": packed}
        chunks.insert(draw.randrange(len(chunks) + 1), draw.choice(list(added.items())))
    else:
        chunks[place] = (kind, blind(draw, content)[:200_000])
    return data[:8] + b"".join(chunk(*one) for one in chunks)


# Archives and tensors -------------------------------------------------------------------------------------------------


def tar(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


NAMES = (
    b"../../escaped.jpg",
    b"/tmp/escaped.jpg",
    b"a" * 100,
    b"",
    b"\xff\xfe.jpg",
    b"./x.jpg",
    b".jpg",
    b"000000012",
    b"a.b.c.d",
    b"x/../y.txt",
)
SIZES = (
    b"77777777777\0",
    b"00000000000\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\x80" + bytes(10) + b"\x01",
    b"           \0",
    b"-0000000001\0",
)
PAX = (
    b"size=99999999999999",
    b"size=-1",
    b"path=../../x.jpg",
    b"GNU.sparse.major=1",
    b"GNU.sparse.map=0,1,2",
    b"GNU.sparse.size=9",
    b"mtime=nan",
)


def tar_headers(draw: random.Random, data: bytes) -> bytes:
    """A header with another name, size or kind, or one more before it, and a check sum that is right."""
    at = [place for place in range(0, len(data) - BLOCK + 1, BLOCK) if data[place + 257 : place + 262] == b"ustar"]
    if not at:
        return blind(draw, data)
    place = draw.choice(at)
    if draw.random() < 0.3:
        return data[:place] + _extended(draw) + data[place:]
    offset, values, width = draw.choice(
        (
            (0, NAMES, 100),
            (124, SIZES, 12),
            (156, [bytes([c]) for c in b"01234567gxLKDMNSVX\0\xff"], 1),
            (157, NAMES, 100),
            (345, NAMES, 155),
            (482, (b"\1",), 1),
        )
    )
    header = bytearray(data[place : place + BLOCK])
    header[offset : offset + width] = draw.choice(values).ljust(width, b"\0")[:width]
    return data[:place] + with_checksum(header) + data[place + BLOCK :]


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _extended(draw: random.Random) -> bytes:
    """A header that says something about the next one: pax, or a long name."""
    kind = draw.choice(b"xgLKS")
    content = b"".join(
        draw.choice((b"%d %s\n" % (len(p) + 4, p), b"99999 %s\n" % p, b"0 %s\n" % p, b"-5 %s\n" % p)) for p in draw.choices(PAX, k=2)
    )
    if kind in b"LK":
        content = draw.choice((*NAMES, b"n" * 70_000)) + b"\0"
    header = bytearray(tarfile.TarInfo("header").tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = bytes([kind])
    header[124:136] = draw.choice((b"%011o\0" % len(content), *SIZES)) if draw.random() < 0.2 else b"%011o\0" % len(content)
    return with_checksum(header) + content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")


DTYPES = ('"F16"', '"F64"', '"I64"', '"BOOL"', '"U8"', '"BF16"', '"F8_E4M3"', '"C64"', '"F4"', '"x"')
SHAPES = (
    "[0]",
    "[1]",
    "[-1]",
    "[4294967296, 4294967296]",
    "[9223372036854775807]",
    "[18446744073709551616]",
    "[1, 1, 1, 1, 1, 1, 1, 1, 1]",
    "[0, 99999]",
)
OFFSETS = ("[0, 0]", "[0, 18446744073709551615]", "[4, 0]", "[-4, 4]", "[0, 1]", "[8, 1000000000000]", "[0]", "[0, 4, 8]")
_header_values = json_values((*DTYPES, *SHAPES, *OFFSETS, *DTYPES, *SHAPES, *OFFSETS))
LENGTHS = (0, 1, 7, 2**16, 100_000_001, 2**31, 2**32, 2**63, 2**64 - 1)


def safetensors_header(draw: random.Random, data: bytes) -> bytes:
    """The JSON before the numbers changed, mostly with a length that is right; or another length."""
    if len(data) < 8:
        return blind(draw, data)
    size = min(struct.unpack("<Q", data[:8])[0], len(data) - 8)
    if draw.random() < 0.15:
        return struct.pack("<Q", draw.choice((*LENGTHS, size - 1 if size else 0, size + 1))) + data[8:]
    header = _header_values(draw, data[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def npy_header(draw: random.Random, data: bytes) -> bytes:
    """Another description of the numbers in a .npy, of the old length where it fits."""
    size = struct.unpack_from("<H", data, 8)[0] if data[:6] == b"\x93NUMPY" and len(data) > 10 else 0
    descr = draw.choice(
        ("'|O'", "'<f8'", "'<u8'", "'V20'", "[('a', '|O')]", "[]", "None", "'<U9999999'", "'" + "x" * 50 + "'", "(" * 90 + ")" * 90)
    )
    shape = draw.choice(("()", "(0,)", "(-1,)", "(4,)", "(99999999999,)", "(2**70,)", "(9223372036854775807, 8)", "None", "(1.5,)"))
    header = f"{{'descr': {descr}, 'fortran_order': {draw.choice(('False', 'True', '7'))}, 'shape': {shape}, }}".encode()
    if not size or draw.random() < 0.1:
        return draw.choice((blind(draw, data), b"PK\x03\x04" + data, b"\x80\x04N.", b"", data[:5], b"PK\x05\x06" + bytes(18)))
    return data[:10] + header.ljust(size - 1)[: size - 1] + b"\n" + data[10 + size :]


def tensor_file(header: dict | bytes, content: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


__all__ = [
    "BYTES",
    "bomb",
    "chunk",
    "hostile_picture",
    "moving",
    "npy_header",
    "picture",
    "pictures",
    "safetensors_header",
    "tar",
    "tar_headers",
]
