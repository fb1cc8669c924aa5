"""Foreign image files: damaged, hostile and merely unusual ones."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from napari_embed.errors import ImageDecodeError
from napari_embed.sources import images
from napari_embed.sources.images import decode_image, letterbox, to_uint8

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
MUTANTS = int(os.environ.get("NAPARI_EMBED_MUTANTS", "1000"))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(rng, height: int = 40, width: int = 56) -> Image.Image:
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(params=["simplejpeg", "pillow"])
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    else:
        pytest.importorskip("simplejpeg")


def mutate(rng, data: bytes) -> bytes:
    """Flip, cut, repeat, drop or overwrite a piece of a file."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if len(out) < 4:
            break
        at = int(rng.integers(0, len(out)))
        size = int(rng.integers(1, 1 + min(64, len(out) - at)))
        kind = rng.integers(0, 5)
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        elif kind == 3:
            del out[at : at + size]
        else:
            out[at : at + size] = rng.bytes(size)
    return bytes(out)


def test_mutants_give_an_image_or_a_reason(decoder, rng):
    originals = [encoded(smooth(rng), kind) for kind in FORMATS]
    exif = Image.Exif()
    exif[0x0112] = 6
    originals.append(encoded(smooth(rng), "JPEG", exif=exif))
    originals.append(encoded(smooth(rng), "TIFF", compression="tiff_lzw"))
    decoded, reasons, slowest_s = 0, [], 0.0
    for number in range(MUTANTS // 2):  # the other half for the other decoder
        data = mutate(rng, originals[number % len(originals)])
        started = time.thread_time()
        try:
            image = decode_image(data, shrink_to=16)
        except ImageDecodeError as error:
            reasons.append(str(error))
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            decoded += 1
        slowest_s = max(slowest_s, time.thread_time() - started)
    figures = {"decoded": decoded, "refused": len(reasons), "slowest_s": slowest_s}
    print(json.dumps(figures))
    assert decoded
    assert reasons
    assert all(reason and "\n" not in reason for reason in reasons)


@pytest.mark.parametrize("data", [
    b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.7\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"8BPS\0\1" + b"\0" * 40,
    b"SIMPLE  =                    T" + b" " * 2850, b"\0\0\1\0\1\0" + b"\0" * 60,
    b"PK\x03\x04", b"\x80\x04]q\x00.", b"qoif" + b"\0" * 20,
    b"P6 9 9 255\n" + b"a" * 243,
])  # fmt: skip
def test_other_formats_are_not_even_tried(decoder, data):
    with pytest.raises(ImageDecodeError):
        decode_image(data)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def bomb(width: int, height: int, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra
        + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("size", [
    (8001, 8000), (9500, 9500), (13_000, 13_000), (20_000, 20_000),
    (2**31 - 1, 1), (0, 5),
])  # fmt: skip
def test_too_many_pixels_are_refused_before_decoding(size):
    with pytest.raises(ImageDecodeError):
        decode_image(bomb(*size))


def test_a_jpeg_header_that_lies_about_its_size(decoder, rng):
    data = bytearray(encoded(smooth(rng), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(ImageDecodeError, match=r"million|exceeds"):
        decode_image(bytes(data))


def test_compressed_text_bombs_are_refused():
    text = b"comment\0\0" + zlib.compress(b"a" * (200 << 20))
    with pytest.raises(ImageDecodeError):
        decode_image(bomb(8, 8, png_chunk(b"zTXt", text) * 3))


def test_exif_rotation_is_applied(decoder, rng):
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation in range(1, 9):
            image = smooth(rng, 16, 32)
            exif = Image.Exif()
            exif[0x0112] = orientation
            options = {"lossless": True} if kind == "WEBP" else {}
            plain = decode_image(encoded(image, kind, **options)).astype(int)
            turned = decode_image(encoded(image, kind, exif=exif, **options)).astype(
                int
            )
            expected = {
                1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1],
                5: plain.transpose(1, 0, 2), 6: np.rot90(plain, -1),
                7: plain[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(plain),
            }[orientation]  # fmt: skip
            assert turned.shape == expected.shape, (kind, orientation)
            assert np.abs(turned - expected).max() <= 2, (kind, orientation)


def test_both_jpeg_decoders_agree(rng, monkeypatch):
    pytest.importorskip("simplejpeg")
    cases = [
        (encoded(smooth(rng, h, w), "JPEG", quality=q, subsampling=s), shrink)
        for (h, w), q, s in [
            ((40, 56), 95, 0),
            ((401, 301), 80, 2),
            ((640, 900), 60, 1),
        ]
        for shrink in (None, 100, 30)
    ]
    cases.append((encoded(smooth(rng).convert("L"), "JPEG"), None))
    cases.append((encoded(smooth(rng), "JPEG", progressive=True), None))
    fast = [decode_image(data, shrink_to=s).astype(int) for data, s in cases]
    monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    slow = [decode_image(data, shrink_to=s).astype(int) for data, s in cases]
    for a, b in zip(fast, slow, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 3


def test_every_mode_becomes_rgb(decoder, rng):
    grey = rng.integers(0, 256, (9, 7), dtype=np.uint8)
    rgb = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    as_rgb = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(
        decode_image(encoded(Image.fromarray(grey), "PNG")), as_rgb
    )
    palette = Image.fromarray(rgb).quantize(16)
    np.testing.assert_array_equal(
        decode_image(encoded(palette, "PNG")), np.array(palette.convert("RGB"))
    )
    alpha = np.full((9, 7), 255, np.uint8)
    alpha[0] = 0
    for layers, flat in (
        ((*np.moveaxis(rgb, -1, 0), alpha), rgb),
        ((grey, alpha), as_rgb),
    ):
        image = Image.fromarray(np.dstack(layers))
        expected = flat.copy()
        expected[0] = 255
        np.testing.assert_array_equal(decode_image(encoded(image, "PNG")), expected)
    bits = Image.fromarray(grey > 99)
    np.testing.assert_array_equal(
        decode_image(encoded(bits, "PNG"))[..., 0], (grey > 99) * 255
    )
    cmyk = Image.fromarray(rgb).convert("CMYK")
    for kind in ("TIFF", "JPEG"):
        got = decode_image(
            encoded(cmyk, kind, **({"quality": 100} if kind == "JPEG" else {}))
        )
        assert got.shape == (9, 7, 3)
        if kind == "TIFF":
            np.testing.assert_array_equal(got, np.array(cmyk.convert("RGB")))


def test_sixteen_bit_and_float_grey_are_stretched(rng):
    ramp = np.linspace(200, 3000, 64 * 64).reshape(64, 64)
    expected = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    for dtype, kind in (("u2", "PNG"), ("u2", "TIFF"), ("i4", "TIFF"), ("f4", "TIFF")):
        data = encoded(Image.fromarray(ramp.astype(dtype)), kind)
        got = decode_image(data)[..., 1]
        assert np.abs(got - expected).max() < 3, (dtype, kind)
    hot = ramp.copy()
    hot[3, 3] = 60_000
    assert decode_image(encoded(Image.fromarray(hot.astype("u2")), "PNG")).mean() > 100
    constant = encoded(Image.fromarray(np.full((9, 9), 700, "u2")), "PNG")
    assert not decode_image(constant).any()
    nan = encoded(Image.fromarray(np.full((9, 9), np.nan, "f4")), "TIFF")
    with pytest.raises(ImageDecodeError, match="finite"):
        decode_image(nan)


def test_first_frame_only(rng):
    frames = [smooth(rng) for _ in range(3)]
    for kind, options in (("GIF", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        data = encoded(
            frames[0], kind, save_all=True, append_images=frames[1:], **options
        )
        single = encoded(frames[0], kind, **options)
        difference = decode_image(data).astype(int) - decode_image(single)
        assert np.abs(difference).mean() < 8, kind


def test_to_uint8_refuses_what_is_no_number():
    with pytest.raises(ImageDecodeError):
        to_uint8(np.zeros((2, 2), complex))


@pytest.mark.parametrize(
    "shape", [(32, 32), (10, 40), (40, 10), (500, 3), (1, 1), (64, 63)]
)
def test_letterbox(rng, shape):
    image = rng.integers(1, 256, (*shape, 3), dtype=np.uint8)
    got = letterbox(image, 32)
    assert got.shape == (32, 32, 3)
    rows = np.flatnonzero(got.any(axis=(1, 2)))
    columns = np.flatnonzero(got.any(axis=(0, 2)))
    longest = max(shape)
    assert len(rows) == max(1, round(32 * shape[0] / longest))
    assert len(columns) == max(1, round(32 * shape[1] / longest))
    assert abs((rows[0] + rows[-1]) / 2 - 15.5) <= 0.5
    if shape == (32, 32):
        np.testing.assert_array_equal(got, image)
