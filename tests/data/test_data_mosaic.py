import numpy as np
import pytest
import torch

from visir.core.grid import Grid
from visir.data.images import decode, encode_png
from visir.data.mosaic import GAP, HEADING, mosaic


def grid(height=96, width=60, rows=()):
    images = torch.rand(2, 3, 3, height, width, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    return Grid(images, ("visible", "infrared", "back"), "what is seen", rows)


def test_every_image_is_in_its_place_and_cut_to_what_can_be_shown():
    given = grid()
    drawn = mosaic(given)
    assert drawn.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            top, left = HEADING + row * (96 + GAP), column * (60 + GAP)
            shown = drawn[top : top + 96, left : left + 60]
            wanted = (given.images[row, column].clamp(0, 1) * 255).round().permute(1, 2, 0).byte().numpy()
            assert np.array_equal(shown, wanted)


def test_headings_are_written_above_and_beside():
    plain, named = mosaic(grid()), mosaic(grid(rows=("first", "second")))
    assert (plain[:HEADING] < 128).any()
    assert named.shape[1] > plain.shape[1]
    beside = named[HEADING:, : named.shape[1] - plain.shape[1]]
    assert (beside < 128).any()


def test_small_images_are_enlarged_by_whole_pixels():
    drawn = mosaic(grid(48, 24))
    block = drawn[HEADING : HEADING + 96]
    assert np.array_equal(block[::2], block[1::2])


def test_png_gives_the_picture_back():
    drawn = mosaic(grid())
    assert np.array_equal(decode(encode_png(drawn)), drawn)


@pytest.mark.parametrize(
    ("shape", "columns", "rows"),
    [((2, 3, 3, 8, 8), ("a", "b"), ()), ((2, 3, 1, 8, 8), ("a", "b", "c"), ()), ((1, 1, 3, 8, 8), ("a",), ("b", "c"))],
)
def test_headings_must_fit(shape, columns, rows):
    with pytest.raises(ValueError, match="a heading for each column"):
        Grid(torch.zeros(shape), columns, "", rows)
