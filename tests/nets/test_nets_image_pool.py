"""The pool of made images: like the plain loop, kept in the state, without gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visir.core.errors import TrainingError
from visir.nets.image_pool import ImagePool


class PlainPool:
    """One image after the other, as the published code does it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, images: Tensor, generator: torch.Generator) -> Tensor:
        lucky = torch.rand(len(images), generator=generator).tolist()
        drawn = torch.randint(self.size, (len(images),), generator=generator).tolist()
        out = []
        for image, chance, place in zip(images, lucky, drawn, strict=True):
            if len(self.images) < self.size:
                self.images.append(image)
                out.append(image)
            elif chance < 0.5:
                out.append(self.images[place])
                self.images[place] = image
            else:
                out.append(image)
        return torch.stack(out)


def numbered(first: int, count: int) -> Tensor:
    """(count, 3, 2, 1) images that are their own number."""
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 1)


def drawing(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [1, 2, 5, 50])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_like_the_plain_loop(size: int, count: int) -> None:
    pool, plain = ImagePool(size, (3, 2, 1)), PlainPool(size)
    for step in range(60):
        images = numbered(1 + step * count, count)
        given, expected = (one.exchange(images, drawing(step)) for one in (pool, plain))
        assert torch.equal(given, expected)
        assert int(pool.count) == len(plain.images)
        assert torch.equal(pool.images[: len(plain.images)], torch.stack(plain.images))


def test_half_of_the_images_are_old_once_it_is_full() -> None:
    pool = ImagePool(50, (3, 2, 1))
    assert torch.equal(pool.exchange(numbered(0, 50), drawing(0)), numbered(0, 50))
    before = pool.images.clone()
    images = numbered(50, 1000)
    given = pool.exchange(images, drawing(1))
    old = (given != images).flatten(1).any(1)
    assert 450 < int(old.sum()) < 550
    assert not torch.equal(pool.images, before)
    ages = (images - given)[old, 0, 0, 0]
    assert ages.min() > 0
    assert 60 < ages.mean() < 140  # an image stays for about two rounds of 50


def test_goes_on_from_its_state() -> None:
    whole, half = ImagePool(4, (3, 2, 1)), ImagePool(4, (3, 2, 1))
    for step in range(3):
        whole.exchange(numbered(3 * step, 3), drawing(step))
    half.load_state_dict(whole.state_dict())
    assert set(half.state_dict()) == {"images", "count"}
    for step in range(3, 9):
        images = numbered(3 * step, 3)
        assert torch.equal(whole.exchange(images, drawing(step)), half.exchange(images, drawing(step)))
    assert torch.equal(whole.images, half.images)


def test_draws_as_much_whatever_it_does_with_it() -> None:
    empty, full = ImagePool(4, (3, 2, 1)), ImagePool(4, (3, 2, 1))
    full.exchange(numbered(0, 4), drawing(0))
    generators = drawing(1), drawing(1)
    for pool, generator in zip((empty, full), generators, strict=True):
        pool.exchange(numbered(9, 2), generator)
    assert torch.equal(*(generator.get_state() for generator in generators))


def test_holds_copies_without_gradient_in_its_own_type() -> None:
    pool = ImagePool(2, (3, 2, 1)).double()
    made = numbered(1, 2).clone().requires_grad_()
    given = pool.exchange(made * 1, drawing(0))
    assert not given.requires_grad
    assert not pool.images.requires_grad
    assert given.dtype == torch.float64
    given.zero_()
    assert pool.images.all()
    assert ImagePool(2, (3, 2, 1)).exchange(made.bfloat16(), drawing(0)).dtype == torch.float32


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="room for at least 1 image, got 0"):
        ImagePool(0, (3, 2, 1))
    with pytest.raises(TrainingError, match=r"expected images of shape \(3, 2, 1\), got \(3, 1, 1\)"):
        ImagePool(2, (3, 2, 1)).exchange(torch.zeros(1, 3, 1, 1), drawing(0))
