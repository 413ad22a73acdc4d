"""HOG and LOMO against loops over pixels in exact arithmetic, and what must not matter to them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from skimage.feature import hog
from torch import Tensor

from visir.core.errors import ConfigError
from visir.data.images import Preprocess, normalise
from visir.nets.handcrafted import Hog, Lomo, bytes_of, hsv_bin, luma_of, siltp

BOTH = pytest.mark.parametrize("kind", [Hog, Lomo])


def pictures(count: int, height: int, width: int, *, grey: bool = False, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8: soft stripes and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    soft = 110 + 90 * np.sin(0.3 * y + 0.2 * x * rng.random((count, 1, 1)))
    found = (
        soft[..., None] * rng.uniform(0.4, 1, (count, 1, 1, 3)) + rng.integers(0, 40, (count, height, width, 3))
    ).astype(np.uint8)
    return np.repeat(found[..., :1], 3, axis=3) if grey else found


def network_input(pixels: np.ndarray) -> Tensor:
    return normalise(pixels, Preprocess(*pixels.shape[1:3]))


def slow_luma(pixel: np.ndarray) -> Fraction:
    return Fraction(299 * int(pixel[0]) + 587 * int(pixel[1]) + 114 * int(pixel[2]), 1000)


def slow_hog(picture: np.ndarray) -> list[float]:
    height, width = picture.shape[:2]
    grey = [[float(slow_luma(picture[i, j])) / 255 for j in range(width)] for i in range(height)]
    cells = np.zeros((height // 8, width // 8, 9))
    for i in range(height // 8 * 8):
        for j in range(width // 8 * 8):
            down = grey[i + 1][j] - grey[i - 1][j] if 0 < i < height - 1 else 0.0
            across = grey[i][j + 1] - grey[i][j - 1] if 0 < j < width - 1 else 0.0
            angle = math.degrees(math.atan2(down, across)) % 180
            cells[i // 8, j // 8, min(int(angle // 20), 8)] += math.hypot(down, across) / 64
    values: list[float] = []
    for i in range(len(cells) - 1):
        for j in range(cells.shape[1] - 1):
            block = cells[i : i + 2, j : j + 2].ravel()
            block = np.minimum(block / math.sqrt((block**2).sum() + 1e-10), 0.2)
            values.extend(block / math.sqrt((block**2).sum() + 1e-10))
    return values


def slow_retinex(picture: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    height, width = picture.shape[:2]
    ratio, picture = np.zeros(picture.shape), picture.astype(float)
    for sigma in sigmas:
        reach = math.ceil(3 * sigma)
        weights = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(-reach, reach + 1)]
        weights = [weight / sum(weights) for weight in weights]
        for channel in range(3):
            plane = np.pad(picture[..., channel], reach, mode="edge")
            rows = np.stack([np.convolve(row, weights, "valid") for row in plane])
            blurred = np.stack([np.convolve(column, weights, "valid") for column in rows.T]).T
            assert blurred.shape == (height, width)
            ratio[..., channel] += np.log(1 + picture[..., channel]) - np.log(1 + blurred)
    ratio /= len(sigmas)
    return np.round((ratio - ratio.min()) / (ratio.max() - ratio.min()) * 255)


def slow_hsv(red: Fraction, green: Fraction, blue: Fraction) -> int:
    value, low = max(red, green, blue), min(red, green, blue)
    hue, chroma = Fraction(0), value - low
    if chroma:
        if value == red:
            hue = (green - blue) / chroma % 6
        elif value == green:
            hue = (blue - red) / chroma + 2
        else:
            hue = (red - green) / chroma + 4
    saturation = chroma / value if value else Fraction(0)
    steps = [min(7, math.floor(8 * part)) for part in (hue / 6, saturation, value / 255)]
    return 64 * steps[0] + 8 * steps[1] + steps[2]


def slow_siltp(grey: list[list[Fraction]], i: int, j: int, radius: int) -> int:
    code = 0
    for k, (down, across) in enumerate(((0, radius), (-radius, 0), (0, -radius), (radius, 0))):
        row = min(max(i + down, 0), len(grey) - 1)
        other = grey[row][min(max(j + across, 0), len(grey[0]) - 1)]
        digit = 1 if other > grey[i][j] * Fraction(13, 10) else 2 if other < grey[i][j] * Fraction(7, 10) else 0
        code += digit * 3**k
    return code


def slow_halved(plane: list[list[Fraction]]) -> list[list[Fraction]]:
    return [
        [
            sum((plane[2 * i + a][2 * j + b] for a in (0, 1) for b in (0, 1)), Fraction(0)) / 4
            for j in range(len(plane[0]) // 2)
        ]
        for i in range(len(plane) // 2)
    ]


def slow_maxima(codes: list[list[int]], bins: int) -> np.ndarray:
    height, width = len(codes), len(codes[0])
    tall, broad = min(10, height // 5 * 5), min(10, width // 5 * 5)
    found = []
    for top in range(0, height - tall + 1, 5):
        largest = np.zeros(bins)
        for left in range(0, width - broad + 1, 5):
            window = [codes[i][j] for i in range(top, top + tall) for j in range(left, left + broad)]
            largest = np.maximum(largest, np.bincount(window, minlength=bins))
        found.append(largest)
    return np.concatenate(found)


def slow_lomo(picture: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    lit = slow_retinex(picture, sigmas)
    planes = [[[Fraction(int(value)) for value in row] for row in lit[..., c]] for c in range(3)]
    grey = [[slow_luma(pixel) for pixel in row] for row in picture]
    colour, texture = [], []
    for scale in range(3):
        if scale:
            planes, grey = [slow_halved(plane) for plane in planes], slow_halved(grey)
        height, width = len(grey), len(grey[0])
        hsv = [[slow_hsv(*(plane[i][j] for plane in planes)) for j in range(width)] for i in range(height)]
        colour.append(slow_maxima(hsv, 512))
        for radius in (3, 5):
            codes = [[slow_siltp(grey, i, j, radius) for j in range(width)] for i in range(height)]
            texture.append(slow_maxima(codes, 81))
    parts = [np.log(1 + np.concatenate(part)) for part in (colour, texture)]
    return np.concatenate([part / np.linalg.norm(part) for part in parts])


def test_bytes_are_those_that_were_normalised() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    assert torch.equal(bytes_of(network_input(ramp)), torch.from_numpy(ramp).permute(0, 3, 1, 2).double())
    assert torch.equal(luma_of(bytes_of(network_input(ramp))), 1000 * torch.from_numpy(ramp[..., 0]).double())
    assert bytes_of(torch.full((1, 3, 2, 2), 99.0)).max() == 255


@pytest.mark.parametrize("grey", [False, True])
def test_hog_is_the_loop(grey: bool) -> None:
    pixels = pictures(2, 40, 27, grey=grey)
    found = Hog(40, 27)(network_input(pixels))
    assert found.shape == (2, Hog(40, 27).dim)
    for row, picture in zip(found, pixels, strict=True):
        np.testing.assert_allclose(row.numpy(), slow_hog(picture), atol=1e-6)


@pytest.mark.parametrize("size", [(128, 64), (45, 30)])
@pytest.mark.parametrize("grey", [False, True])
def test_hog_is_that_of_scikit_image(size: tuple[int, int], grey: bool) -> None:
    pixels = pictures(3, *size, grey=grey, seed=4)
    luma = luma_of(bytes_of(network_input(pixels))).numpy() / 255_000
    for row, picture in zip(Hog(*size)(network_input(pixels)), luma, strict=True):
        peer = hog(picture, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys")
        np.testing.assert_allclose(row.numpy(), peer, atol=1e-6)


@pytest.mark.parametrize(
    ("angle", "place"), [(0, 0), (10, 0), (30, 1), (50, 2), (90, 4), (150, 7), (170, 8), (190, 0), (350, 8)]
)
def test_hog_of_a_ramp_has_one_direction(angle: int, place: int) -> None:
    y, x = np.mgrid[:32, :32]
    ramp = 128 + 3 * (math.cos(math.radians(angle)) * (x - 16) + math.sin(math.radians(angle)) * (y - 16))
    images = torch.from_numpy(np.repeat(ramp[None, None], 3, axis=1) / 255)
    votes = Hog(32, 32)._votes(images[:, 0])
    assert votes.sum((0, 2, 3))[place] > 0.8 * votes.sum()


def test_hog_of_nothing_is_zero() -> None:
    assert not Hog(32, 32)(network_input(np.full((1, 32, 32, 3), 90, np.uint8))).any()


@pytest.mark.parametrize("sigmas", [(5.0, 20.0), (2.0,)])
def test_retinex_is_the_convolution(sigmas: tuple[float, ...]) -> None:
    pixels = pictures(2, 24, 20)
    found = Lomo(24, 20, sigmas=sigmas).retinex(bytes_of(network_input(pixels)))
    for planes, picture in zip(found, pixels, strict=True):
        np.testing.assert_array_equal(planes.permute(1, 2, 0).numpy(), slow_retinex(picture, sigmas))
    assert found.amin((1, 2, 3)).tolist() == [0, 0]
    assert found.amax((1, 2, 3)).tolist() == [255, 255]


def test_hsv_bins_are_exact() -> None:
    levels = [0, 31, 32, 64, 96, 127, 128, 191, 192, 223, 254, 255]
    colours = [(r, g, b) for r in levels for g in levels for b in levels]
    pixels = torch.tensor(colours, dtype=torch.float64).T.reshape(1, 3, -1, 1)
    expected = [slow_hsv(*map(Fraction, colour)) for colour in colours]
    assert hsv_bin(pixels).flatten().tolist() == expected


def test_siltp_worked() -> None:
    """Centre 100; right 131 is above 130, above it 130 is not, left 69 is below 70, below it 70 is not: 1 + 2 * 9."""
    grey = torch.tensor([[[0.0, 130, 0], [69, 100, 131], [0, 70, 0]]], dtype=torch.float64)
    assert siltp(grey, 1, 0.3)[0, 1, 1] == 1 + 2 * 9


@pytest.mark.parametrize(("height", "width"), [(44, 30), (25, 23)])
def test_lomo_is_the_loop(height: int, width: int) -> None:
    pixels = np.concatenate([pictures(1, height, width), pictures(1, height, width, grey=True, seed=1)])
    lomo = Lomo(height, width)
    found = lomo(network_input(pixels))
    assert found.shape == (2, lomo.dim)
    for row, picture in zip(found, pixels, strict=True):
        np.testing.assert_allclose(row.numpy(), slow_lomo(picture, (5.0, 20.0)), atol=1e-6)


def test_siltp_of_coloured_pixels_exactly_at_the_tolerance_is_no_difference() -> None:
    """A neighbour of 1.3 or 0.7 times the centre is neither above nor below, for every colour that has one."""
    tens = torch.cartesian_prod(*[torch.arange(1, 20)] * 3).double()
    for scale in (1.0, 1 / 4, 1 / 16):  # bytes, and means of four and of sixteen
        centre, more, less = (luma_of((times * scale * tens)[:, :, None, None]) for times in (10, 13, 7))
        for neighbour in (more, less):
            assert not siltp(torch.cat([centre, neighbour], 2), 1, 0.3)[:, 0, 0].any()


def test_published_lengths() -> None:
    assert Hog().dim == 15 * 7 * 36 == 3780
    assert Lomo().dim == (8 * 8 * 8 + 2 * 3**4) * (24 + 11 + 5) == 26_960
    assert Hog()(network_input(pictures(1, 128, 64))).shape == (1, 3780)
    vector = Lomo()(network_input(pictures(1, 128, 48)))
    assert vector.shape == (1, 26_960)
    assert vector.norm().item() == pytest.approx(2**0.5, abs=1e-6)


def test_infrared_images_have_no_colour() -> None:
    vectors = Lomo()(network_input(pictures(3, 128, 48, grey=True)))
    filled = vectors[:, : 512 * 40].view(3, 40, 512).amax((0, 1)).nonzero().flatten()
    assert filled.max() < 8
    coloured = Lomo()(network_input(pictures(3, 128, 48)))
    assert coloured[:, : 512 * 40].view(3, 40, 512).amax((0, 1))[8:].max() > 0


def test_lomo_hardly_sees_how_much_light_there_is() -> None:
    pixels = pictures(1, 128, 48)
    bright, dark, other = (
        Lomo()(network_input(p))[0] for p in (pixels, (pixels * 0.5).astype(np.uint8), pictures(1, 128, 48, seed=5))
    )
    assert (bright - dark).norm() < 0.6 * (bright - other).norm()


@BOTH
class TestBoth:
    def test_vector_of_an_image_does_not_depend_on_the_others(self, kind: type[Hog] | type[Lomo]) -> None:
        network, images = kind(64, 32), network_input(pictures(9, 64, 32))
        whole = network(images)
        for rows in ([4], [8, 4, 0], [4, 4]):
            assert torch.equal(network(images[rows]), whole[rows])
        assert torch.equal(network(images.contiguous(memory_format=torch.channels_last)), whole)
        assert torch.equal(network(images.clone(), torch.ones(9, dtype=torch.int64)), whole)

    def test_rounding_of_the_input_does_not_matter(self, kind: type[Hog] | type[Lomo]) -> None:
        network, images = kind(64, 32), network_input(pictures(3, 64, 32))
        noise = torch.empty_like(images).uniform_(-1e-3, 1e-3, generator=torch.Generator().manual_seed(0))
        assert torch.equal(network(images + noise), network(images))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(network(images), network(images))
            assert network(images).dtype == torch.float32

    def test_has_no_parameters_and_nothing_to_save(self, kind: type[Hog] | type[Lomo]) -> None:
        assert not list(kind(64, 32).parameters())
        assert not kind(64, 32).state_dict()

    def test_constant_and_extreme_images_stay_finite(self, kind: type[Hog] | type[Lomo]) -> None:
        flat = np.stack([np.full((64, 32, 3), value, np.uint8) for value in (0, 128, 255)])
        half = flat.copy()
        half[:, 32:] = 255 - half[:, 32:]
        assert torch.isfinite(kind(64, 32)(network_input(np.concatenate([flat, half])))).all()

    def test_too_small_is_refused(self, kind: type[Hog] | type[Lomo]) -> None:
        with pytest.raises(ConfigError, match=r"at least (16x16|20x20) pixels, got 64x15"):
            kind(64, 15)

    def test_sizes_of_the_tests_work(self, kind: type[Hog] | type[Lomo]) -> None:
        network = kind(48, 24)
        assert network(network_input(pictures(2, 48, 24))).shape == (2, network.dim)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_gpu_gives_the_same(self, kind: type[Hog] | type[Lomo]) -> None:
        network, images = kind(), network_input(pictures(4, *kind().size))
        found = kind().cuda()(images.cuda()).cpu()
        torch.testing.assert_close(found, network(images), atol=1e-6, rtol=0)
