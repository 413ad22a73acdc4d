import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from visir.core.errors import ImageError
from visir.data.images import Preprocess, decode, is_image, normalise, prepare, resize


def encoded(array, form="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def picture(height=12, width=8):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def huge_png(side):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_decode_exactly(tmp_path, form):
    (tmp_path / "a").write_bytes(encoded(picture(), form))
    assert np.array_equal(decode(tmp_path / "a"), picture())
    assert np.array_equal(decode(encoded(picture(), form)), picture())


def test_one_channel_is_replicated():
    grey = picture()[..., 0]
    assert np.array_equal(decode(encoded(grey)), np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_thermal_uses_its_own_range():
    raw = np.array([[7000, 8000], [9000, 11000]], np.uint16)
    assert decode(encoded(raw))[..., 0].tolist() == [[0, 64], [128, 255]]


def test_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(picture(12, 8), "JPEG", exif=exif)).shape == (8, 12, 3)


def test_bad_files_are_sentences(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        decode(tmp_path / "missing.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="empty file"):
        decode(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="not a whole, readable image"):
        decode(b"GIF? no, text")
    for form in ("JPEG", "PNG", "BMP"):
        whole = encoded(picture(64, 64), form)
        with pytest.raises(ImageError, match="not a whole, readable image"):
            decode(whole[: len(whole) * 2 // 3])


@pytest.mark.parametrize("side", [9_000, 50_000])
def test_a_huge_header_is_refused_before_decoding(side):
    with pytest.raises(ImageError, match="pixels"):
        decode(huge_png(side))


def test_resize_averages_areas_when_shrinking():
    checker = np.zeros((4, 4, 3), np.uint8)
    checker[::2, ::2] = checker[1::2, 1::2] = 200
    assert (resize(checker, 2, 2) == 100).all()
    assert resize(checker, 8, 8).shape == (8, 8, 3)
    assert resize(checker, 4, 4) is checker


def test_normalise_is_the_textbook_formula():
    preprocess = Preprocess(height=12, width=8)
    got = normalise(picture()[None], preprocess)
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    wanted = ((picture() / 255.0 - mean) / std).transpose(2, 0, 1)[None]
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)
    assert torch.equal(prepare([picture()], preprocess), got)


def test_hidden_and_foreign_files_are_not_images(tmp_path):
    assert is_image(tmp_path / "0001.JPG")
    assert not is_image(tmp_path / "._0001.jpg")
    assert not is_image(tmp_path / "Thumbs.db")
