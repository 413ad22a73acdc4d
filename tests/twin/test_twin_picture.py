"""Single pictures: one person in every spectrum and size, and a tracer checked against analytic shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visir.core.errors import ConfigError
from visir.core.types import FloatArray
from visir.twin import LAYOUTS, SPECTRA, World, contact_sheet, picture, render_pair, silhouette
from visir.twin.cameras import cameras, check_layout
from visir.twin.figure import Figure, figure
from visir.twin.people import Slot, person
from visir.twin.picture import moment
from visir.twin.pose import joints, sighting
from visir.twin.render import View, packed, surfaces

EYE = View(np.array([0, 0, -5], np.float32), np.eye(3, dtype=np.float32), (-0.3, 0.3, -0.3, 0.3))


def solid(radii: tuple[float, float], end: tuple[float, float, float], stretch: float = 1.0, box: int = 0) -> Figure:
    """One solid that starts at the origin, seen from five metres."""

    def column(*values: float) -> FloatArray:
        return np.array([values], np.float32)

    one = np.zeros(1, np.float32)
    size = column(*radii, 0.3, 0.0) if box else column(*radii, 0.0, 0.0)
    kind = [np.array([value], np.int64) for value in (0, int(Slot.TOP), 0, box)]
    start, across = column(0, 0, 0), column(1, 0, 0)
    stretched = np.array([stretch], np.float32)
    return Figure(
        start, column(*end), across, stretched, size, np.zeros((1, 4), np.float32), one + 0.01, one, one, *kind
    )


def traced(shape: Figure, pixels: int = 120) -> tuple[FloatArray, FloatArray]:
    """Cover and normals; heading pi leaves the axes as they are."""
    seen = surfaces(packed(shape, EYE, float(np.pi)), EYE, pixels, pixels)
    return (seen.solid >= 0).astype(np.float32), seen.normal


def test_a_sphere_covers_its_disc_and_faces_outwards() -> None:
    cover, normal = traced(solid((0.8, 0.8), (0, 1e-4, 0)))
    radius = 0.8 / np.sqrt(25 - 0.64)  # outline of a sphere in the plane at distance one
    assert cover.mean() == pytest.approx(np.pi * radius**2 / 0.36, rel=0.02)
    x = (np.arange(120) + 0.5) / 120 * 0.6 - 0.3
    dx, dy = np.meshgrid(x, -x)
    inside = np.hypot(dx, dy) < 0.8 * radius
    assert cover[inside].all()
    ray = np.stack([dx, dy, np.ones_like(dx)], -1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    along = 5 * ray[..., 2] - np.sqrt(np.maximum((5 * ray[..., 2]) ** 2 - 25 + 0.64, 0))
    expected = (ray * along[..., None] - np.array([0, 0, 5])) / 0.8
    assert np.abs(normal - expected)[inside].max() < 0.03


def test_stretched_solids_and_boxes_have_the_right_width_and_height() -> None:
    cover, _ = traced(solid((0.5, 0.5), (0, 1e-4, 0), stretch=2.0))
    wide, tall = cover.any(0).sum(), cover.any(1).sum()
    assert wide / tall == pytest.approx(2.0, rel=0.08)
    cover, _ = traced(solid((1.0, 0.5), (0, 1, 0), box=1))
    assert cover.any(0).sum() / cover.any(1).sum() == pytest.approx(2.0, rel=0.05)
    assert cover.any(0).sum() * 0.6 / 120 == pytest.approx(2.0 / 4.7, rel=0.05)


def test_people_stand_on_the_ground_with_sane_proportions() -> None:
    for identity in range(40):
        who = person(0, identity)
        seen = sighting(0, identity, 1, 1)
        at = joints(who, seen)
        soles = [at[f"{end} {side}"][1] for end in ("heel", "toe") for side in ("left", "right")]
        assert 0.0 < min(soles) < 0.03
        assert 0.80 < at["skull"][1] / who.body.height < 0.99
        top = max(float(p[1]) for name, p in at.items() if name not in ("up", "ahead", "side"))
        assert top < 1.05 * who.body.height
        assert np.isfinite(figure(who, at).start).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_moment_shows_a_whole_person_in_every_spectrum(layout: str) -> None:
    world = World(2, check_layout(layout), 64, 32)
    for identity in range(1, 9):
        camera = sorted(world.cameras)[identity % len(world.cameras)]
        cover = silhouette(world, identity, camera, 1)
        assert 0.12 < cover.mean() < 0.7
        rows = np.flatnonzero(cover.any(1))
        assert rows[0] < 0.25 * 64
        assert rows[-1] > 0.75 * 64
        pair = render_pair(world, identity, camera, 1)
        assert list(pair) == list(SPECTRA)
        for spectrum, image in pair.items():
            assert image.shape == (64, 32, 3)
            assert image.dtype == np.uint8
            assert 8 < image.mean() < 235
            assert image.std() > 8
            assert spectrum == "visible" or (image == image[..., :1]).all()


def test_a_picture_depends_on_its_arguments_alone() -> None:
    world = World(7, "sysu_mm01", 64, 32)
    first = picture(world, 4, 3, 2)
    picture(world, 9, 1, 1)
    np.testing.assert_array_equal(first, picture(World(7, "sysu_mm01", 64, 32), 4, 3, 2))
    np.testing.assert_array_equal(first, render_pair(world, 4, 3, 2)["near-infrared"])
    others = [picture(world, 5, 3, 2), picture(world, 4, 6, 2), picture(world, 4, 3, 3)]
    others.append(picture(World(8, "sysu_mm01", 64, 32), 4, 3, 2))
    assert all((first != other).any() for other in others)


def test_any_size_shows_the_same_picture() -> None:
    small = picture(World(1, "sysu_mm01", 72, 36), 5, 1, 1).astype(np.float32)
    large = picture(World(1, "sysu_mm01", 288, 144), 5, 1, 1).astype(np.float32)
    shrunk = large.reshape(72, 4, 36, 4, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.93


def test_cameras_two_and_three_of_sysu_share_a_place() -> None:
    eyes = cameras(0, "sysu_mm01")
    assert (eyes[2].kind, eyes[2].place) == (eyes[3].kind, eyes[3].place)
    assert len({eye.place for eye in eyes.values()}) == 5
    with pytest.raises(ConfigError, match="regdb"):
        check_layout("regbd")


def test_solids_are_ordered_by_group() -> None:
    world = World(0)
    for identity in range(1, 30):
        at = moment(
            World(0, height=16, width=8), world.person(identity), world.cameras[1], world.sighting(identity, 1, 1)
        )
        assert (np.diff(at.figure.group) >= 0).all()


def test_the_contact_sheet_is_a_picture(tmp_path: Path) -> None:
    path = contact_sheet(tmp_path / "sheet.png", identities=(1, 2, 3), height=32, width=16)
    with Image.open(path) as image:
        assert image.size == (3 * 18 - 2, 8 * 34 - 2)
