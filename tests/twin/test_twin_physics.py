"""What makes the twin honest: colour finds people within the visible and not across spectra, shape a little."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visir.core.types import ByteArray, FloatArray
from visir.twin.cameras import Spectrum
from visir.twin.people import Pattern, Person, Slot, person
from visir.twin.picture import World, moment, picture, render_pair, shoot, silhouette

WORLD = World(3)
PEOPLE = range(1, 29)


def brightness(material_of: Slot, who: Person) -> tuple[float, float]:
    material = who.materials[material_of]
    return sum(material.colour) / 3, material.near


@pytest.mark.parametrize("slot", [Slot.TOP, Slot.BOTTOM, Slot.SHOES, Slot.BAG])
def test_near_infrared_brightness_of_cloth_does_not_follow_its_visible_brightness(slot: Slot) -> None:
    pairs = np.array([brightness(slot, person(0, identity)) for identity in range(600)])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.12  # the deviation of a zero correlation of 600 pairs is 0.04


def test_rendered_garments_are_uncorrelated_too_and_skin_is_bright_in_both_infrared_bands() -> None:
    values = []
    for identity in range(48):
        at = moment(WORLD, WORLD.person(identity), WORLD.cameras[1], WORLD.sighting(identity, 1, 1))
        fine = WORLD.supersampling
        solids = at.surfaces.solid[fine // 2 :: fine, fine // 2 :: fine]
        top = (solids >= 0) & (at.figure.slot[solids] == Slot.TOP)
        values.append([float(shoot(WORLD, at, spectrum)[top].mean()) for spectrum in ("visible", "near-infrared")])
    assert abs(np.corrcoef(np.array(values).T)[0, 1]) < 0.35  # deviation 0.13


def test_skin_is_the_warmest_and_a_bag_the_coldest() -> None:
    carriers = [person(0, i) for i in range(80)]
    for who in carriers:
        warmth = {slot: who.materials[slot].warmth for slot in Slot}
        assert max(warmth, key=warmth.__getitem__) == Slot.SKIN
        assert warmth[Slot.BAG] < min(warmth[Slot.TOP], warmth[Slot.BOTTOM])


def test_a_moment_has_one_silhouette_in_every_spectrum() -> None:
    world = World(3, height=128, width=64)
    overlaps = []
    for identity in range(1, 13):
        mask = silhouette(world, identity, 1, 2)
        seen = render_pair(world, identity, 1, 2)
        edges = {spectrum: outline_strength(image) for spectrum, image in seen.items()}
        border = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) - cv2.erode(mask.astype(np.uint8), np.ones((3, 3)))
        inside, outside = border == 1, cv2.dilate(mask.astype(np.uint8), np.ones((15, 15))) == 0
        overlaps.append([edges[spectrum][inside].mean() / edges[spectrum][outside].mean() for spectrum in seen])
    assert np.median(overlaps, axis=0).min() > 1.3  # edges lie on the silhouette in all three


def test_silhouettes_of_a_pair_overlap() -> None:
    """Thermal contrast segments the person without knowing her: that mask is the traced one."""
    world, scores = World(3, "regdb"), []
    for identity in range(1, 25):
        image = render_pair(world, identity, 1, 1, spectra=("thermal",))["thermal"][..., 0]
        _, warm = cv2.threshold(cv2.GaussianBlur(image, (0, 0), 1), 0, 1, cv2.THRESH_OTSU)
        mask = silhouette(world, identity, 1, 1)
        scores.append((mask & (warm > 0)).sum() / (mask | (warm > 0)).sum())
    assert np.median(scores) > 0.8


def outline_strength(image: ByteArray) -> FloatArray:
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.8)
    return np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))


def colour_histogram(image: ByteArray) -> FloatArray:
    """Joint colour histograms of six stripes of the middle of the picture, after grey-world balance."""
    middle = image[10:122, 18:46].astype(np.float32)
    middle = np.clip(middle * (110.0 / image.reshape(-1, 3).mean(0)), 0, 255).astype(np.uint8)
    parts = np.array_split(middle, 6)
    stripes = [cv2.calcHist([np.ascontiguousarray(part)], [0, 1, 2], None, [6] * 3, [0, 256] * 3) for part in parts]
    return np.concatenate([np.sqrt(cv2.GaussianBlur(s.reshape(6, 36), (3, 1), 0).ravel() / s.sum()) for s in stripes])


def gradient_histogram(image: ByteArray) -> FloatArray:
    """HOG: 9 unsigned orientations in cells of 8 x 8, each cell normalised with its neighbours."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    size, turn = np.hypot(dx, dy), np.minimum((np.arctan2(dy, dx) % np.pi) / np.pi * 9, 8.999).astype(int)
    cells = np.zeros((16, 8, 9), np.float32)
    rows, columns = np.indices(grey.shape) // 8
    np.add.at(cells, (rows, columns, turn), size)
    energy = cv2.blur((cells**2).sum(-1), (3, 3)) * 9
    return (cells / np.sqrt(energy + 100.0)[..., None]).ravel()


def rank1(queries: list[FloatArray], gallery: list[FloatArray]) -> float:
    """Queries and gallery in the order of identities, equally many of each."""
    a, b = (np.stack(features) for features in (queries, gallery))
    a, b = a - a.mean(0), b - b.mean(0)  # what a camera and a spectrum add to everything
    a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    who = np.arange(len(a)) // (len(a) // len(PEOPLE))
    other = np.arange(len(b)) // (len(b) // len(PEOPLE))
    return float((other[(a @ b.T).argmax(1)] == who).mean())


@pytest.fixture(scope="module")
def shown() -> dict[tuple[int, Spectrum], list[ByteArray]]:
    kinds: list[tuple[int, Spectrum]] = [(1, "visible"), (2, "visible"), (3, "near-infrared"), (6, "near-infrared")]
    return {
        (camera, spectrum): [picture(WORLD, i, camera, n, spectrum=spectrum) for i in PEOPLE for n in (1, 2, 3)]
        for camera, spectrum in kinds
    }


def test_colour_finds_people_within_the_visible_and_not_across(
    shown: dict[tuple[int, Spectrum], list[ByteArray]],
) -> None:
    features = {key: [colour_histogram(image) for image in images] for key, images in shown.items()}
    chance = 1 / len(PEOPLE)
    assert rank1(features[1, "visible"], features[2, "visible"]) > 0.5
    across = [rank1(features[c, "near-infrared"], features[1, "visible"]) for c in (3, 6)]
    assert np.mean(across) < 3.5 * chance


def test_shape_finds_people_across_spectra_poorly_but_above_chance(
    shown: dict[tuple[int, Spectrum], list[ByteArray]],
) -> None:
    features = {key: [gradient_histogram(image) for image in images] for key, images in shown.items()}
    pairs = [(q, g) for q in (3, 6) for g in (1, 2)]
    across = np.mean([rank1(features[q, "near-infrared"], features[g, "visible"]) for q, g in pairs])
    assert 1.6 / len(PEOPLE) < across < 0.4


def test_people_differ_and_some_share_a_whole_wardrobe() -> None:
    people = [person(0, i) for i in range(400)]
    assert len({who.body for who in people}) == 400
    tops = [who.materials[Slot.TOP] for who in people]
    shared = sum(tops[i] == tops[i + 1] for i in range(0, 400, 2))
    assert 15 < shared < 60
    dark = np.mean([sum(material.colour) < 0.35 for material in tops])
    assert 0.35 < dark < 0.75  # most of what people wear is dark or neutral


def test_some_patterns_vanish_in_the_near_infrared_and_others_stay() -> None:
    patterned = [m for i in range(400) for m in person(0, i).materials if m.pattern != Pattern.PLAIN]
    kept = [abs(material.second_near - material.near) for material in patterned]
    assert 0.1 < np.mean(np.array(kept) == 0.0) < 0.45
    assert np.mean(np.array(kept) > 0.1) > 0.5
