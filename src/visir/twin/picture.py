"""One picture of one person: pose, solids, rays, light, camera. The same moment can be rendered in every spectrum."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from visir.core.seeds import generator
from visir.core.types import BoolArray, ByteArray, FloatArray
from visir.twin import cameras as camera_module
from visir.twin.cameras import Camera, Layout, Spectrum
from visir.twin.capture import develop, occlude
from visir.twin.figure import Figure, figure
from visir.twin.people import Person, person
from visir.twin.pose import Sighting, joints, sighting
from visir.twin.render import Surfaces, View, outline, packed, surfaces
from visir.twin.scenes import scene
from visir.twin.spectra import radiance

SPECTRA: tuple[Spectrum, ...] = ("visible", "near-infrared", "thermal")


@dataclass(frozen=True)
class World:
    """Persistent people before persistent cameras.

    Attributes:
        seed, layout: which world. height, width: of the pictures, pixels. supersampling: rays along a pixel's side.
    """

    seed: int = 0
    layout: Layout = "sysu_mm01"
    height: int = 128
    width: int = 64
    supersampling: int = 2
    cameras: dict[int, Camera] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", camera_module.cameras(self.seed, self.layout))

    def person(self, identity: int) -> Person:
        """The person with this number."""
        return person(self.seed, identity)

    def sighting(self, identity: int, camera: int, number: int) -> Sighting:
        """Moment ``number`` of the person in the camera."""
        return sighting(self.seed, identity, camera, number)


@dataclass(frozen=True, eq=False)
class Moment:
    """A sighting traced once, to be shaded in any spectrum."""

    person: Person
    seen: Sighting
    camera: Camera
    figure: Figure
    table: FloatArray
    view: View
    surfaces: Surfaces


def _view(world: World, camera: Camera, seen: Sighting) -> View:
    rng = generator(world.seed, "stand", *seen.step)
    position = np.array([camera.aside + rng.normal(0, 0.3), camera.height, -camera.distance * rng.uniform(0.85, 1.2)])
    forward = np.array([0, 0.95, 0]) - position
    forward /= np.linalg.norm(forward)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    return View(position.astype(np.float32), axes, (-1.0, 1.0, -1.0, 1.0))


def _crop(world: World, seen: Sighting, table: FloatArray) -> tuple[float, float, float, float]:
    """A detector's box: a margin around the outline, shaken a little, never much wider than the person is tall."""
    rng = generator(world.seed, "crop", *seen.step)
    left, right, bottom, top = outline(table)
    tall = (top - bottom) * 1.07 * math.exp(rng.normal(0, 0.025))
    wide = max((right - left) * 1.04, tall * 0.44 * math.exp(rng.normal(0, 0.04)))
    wide = min(wide, 0.66 * tall)
    x = 0.5 * (left + right) + 0.035 * wide * rng.normal()
    y = 0.5 * (bottom + top) + 0.012 * tall * rng.normal()
    return x - wide / 2, x + wide / 2, y - tall / 2, y + tall / 2


def moment(world: World, who: Person, camera: Camera, seen: Sighting) -> Moment:
    """Pose, build and trace."""
    solids = figure(who, joints(who, seen))
    view = _view(world, camera, seen)
    table = packed(solids, view, seen.heading)
    view = View(view.position, view.axes, _crop(world, seen, table))
    fine = world.supersampling
    found = surfaces(table, view, world.height * fine, world.width * fine)
    return Moment(who, seen, camera, solids, table, view, found)


def shoot(world: World, at: Moment, spectrum: Spectrum, optics: Spectrum | None = None) -> ByteArray:
    """Shade a traced moment: (height, width, 3) uint8; ``optics`` as in :func:`picture`."""
    place = scene(world.seed, at.camera.kind, at.camera.place)
    shape = (world.height, world.width)
    light = radiance(at.person, at.figure, at.table, at.surfaces, at.view, place, spectrum, at.seen.place, shape)
    light = occlude(world.seed, at.seen, light, place, spectrum)
    own = at.camera.spectra
    return develop(world.seed, at.seen, light, at.camera, spectrum, optics or (spectrum if spectrum in own else own[0]))


def picture(
    world: World,
    identity: int,
    camera: int,
    number: int,
    *,
    spectrum: Spectrum | None = None,
    optics: Spectrum | None = None,
) -> ByteArray:
    """Picture ``number`` of a person by a camera: (height, width, 3) uint8 RGB.

    Args:
        spectrum: the camera's first by default; any other shows the same moment as that spectrum would: the same pose,
            place, box and occlusion under that spectrum's light, with that sensor's exposure and noise.
        optics: the spectrum of the picture whose motion blur and sharpness it shares; by default its own where the
            camera records it, else the camera's first.
    """
    eye = world.cameras[camera]
    at = moment(world, world.person(identity), eye, world.sighting(identity, camera, number))
    return shoot(world, at, spectrum or eye.spectra[0], optics)


def render_pair(
    world: World, identity: int, camera: int, number: int, *, spectra: Iterable[Spectrum] = SPECTRA
) -> dict[Spectrum, ByteArray]:
    """The same person, pose, place, box and blur in several spectra: the paired truth that no real camera gives."""
    eye = world.cameras[camera]
    at = moment(world, world.person(identity), eye, world.sighting(identity, camera, number))
    return {spectrum: shoot(world, at, spectrum, eye.spectra[0]) for spectrum in spectra}


def silhouette(world: World, identity: int, camera: int, number: int) -> BoolArray:
    """(height, width) bool: where the person covers at least half of a pixel."""
    at = moment(world, world.person(identity), world.cameras[camera], world.sighting(identity, camera, number))
    fine = world.supersampling
    covered = (at.surfaces.solid >= 0).reshape(world.height, fine, world.width, fine).mean((1, 3))
    return np.asarray(covered >= 0.5, np.bool_)


def encoded(pixels: ByteArray, kind: str, quality: int = 90) -> bytes:
    """The bytes of an image file; ``kind`` is ``jpg``, ``bmp`` or ``png``; ``quality`` is that of JPEG."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if kind == "jpg":
        image.save(buffer, "JPEG", quality=quality)
    else:
        image.save(buffer, kind.upper())
    return buffer.getvalue()
