"""Who the people are: build, proportions, hair, garments, and what each material looks like in three spectra.

Every trait is constant for an identity. A dye is seen by a visible camera only: near-infrared reflectance and warmth
are drawn apart from it, so that colour says nothing across spectra while cut, pattern, hair, bag and build do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from visir.core.seeds import generator

Colour = tuple[float, float, float]  # linear light, 0..1


class Slot(IntEnum):
    """Rows of a person's material table."""

    SKIN = 0
    HAIR = 1
    TOP = 2
    INNER = 3
    BOTTOM = 4
    SHOES = 5
    HAT = 6
    BAG = 7
    TRIM = 8


class Pattern(IntEnum):
    """How the second colour of a material is laid over the first."""

    PLAIN = 0
    HOOPS = 1
    PINSTRIPES = 2
    CHECKS = 3
    BLOCK = 4
    DOTS = 5
    CAMOUFLAGE = 6


@dataclass(frozen=True)
class Material:
    """One material in three spectra.

    Attributes:
        colour, second: diffuse reflectance in linear RGB of the ground and of the pattern.
        near, second_near: diffuse reflectance at 850 nm. They are equal where the pattern's dye is transparent there.
        warmth: surface temperature as a share of the way from the surroundings to bare skin, 0..1.
        pattern, scale: the pattern and its period in metres.
        gloss: share of mirror-like reflection. folds: depth of creases, 0..1.
    """

    colour: Colour
    near: float
    warmth: float
    second: Colour = (0.0, 0.0, 0.0)
    second_near: float = 0.0
    pattern: Pattern = Pattern.PLAIN
    scale: float = 0.1
    gloss: float = 0.0
    folds: float = 0.0


@dataclass(frozen=True)
class Body:
    """Shape and gait. Lengths in metres; the rest are factors around one.

    ``slope`` is the fall of the shoulders, ``leg`` the share of the height below the hip joint.
    """

    height: float
    build: float
    shoulders: float
    hips: float
    belly: float
    chest: float
    leg: float
    head: float
    stride: float
    swing: float
    lean: float
    knees: float


@dataclass(frozen=True)
class Clothes:
    """The cut of everything worn; names are keys of the tables in :mod:`visir.twin.figure`."""

    hair: str
    hat: str
    top: str
    sleeve: float  # share of the arm covered, 0..1
    ease: float  # cloth's distance from the body, metres
    hem: float  # lower edge of the top as a share of the height
    opening: float  # half width of the open front, metres
    logo: float  # half width of a chest print, metres
    collar: bool
    bottom: str
    bottom_hem: float  # lower edge of skirt, shorts or trousers as a share of the height
    bottom_ease: float
    shoes: str
    bag: str
    bag_size: float


@dataclass(frozen=True)
class Person:
    """An identity: everything that stays the same from one sighting to the next."""

    identity: int
    body: Body
    clothes: Clothes
    materials: tuple[Material, ...]  # by Slot


# Share of wardrobes, then the sRGB colour around which a garment is drawn. Most of what people wear is dark or neutral.
_PALETTE: tuple[tuple[float, tuple[int, int, int]], ...] = (
    (17, (28, 28, 31)),
    (10, (56, 58, 62)),
    (9, (34, 40, 62)),
    (7, (116, 118, 121)),
    (5, (166, 167, 166)),
    (8, (222, 221, 216)),
    (5, (190, 174, 146)),
    (4, (110, 86, 64)),
    (4, (92, 95, 68)),
    (5, (98, 114, 146)),
    (4, (106, 38, 46)),
    (3, (164, 52, 50)),
    (4, (62, 90, 146)),
    (3, (150, 178, 204)),
    (3, (206, 158, 164)),
    (3, (58, 98, 74)),
    (2, (204, 166, 76)),
    (2, (52, 116, 122)),
    (2, (98, 74, 122)),
    (1, (198, 112, 66)),
)
_DENIM = ((44, 58, 92), (66, 86, 124), (110, 134, 168), (30, 34, 48))
_SKIN = ((238, 202, 178), (226, 182, 152), (208, 160, 128), (178, 128, 96), (136, 92, 66), (92, 62, 46))
_HAIR = (
    (22, 19, 18),
    (24, 20, 18),
    (44, 31, 24),
    (74, 50, 34),
    (112, 78, 48),
    (168, 138, 98),
    (104, 60, 42),
    (142, 140, 138),
)


def linear(colour: tuple[float, float, float]) -> Colour:
    """sRGB in 0..255 to linear light in 0..1.

    >>> linear((255, 0, 255))
    (1.0, 0.0, 1.0)
    """
    part = np.asarray(colour, np.float64) / 255.0
    out = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(out[0]), float(out[1]), float(out[2])


def _jitter(rng: np.random.Generator, colour: tuple[int, int, int], spread: float = 0.05) -> Colour:
    """A colour near ``colour`` (sRGB): another shade of it, in each channel by about ``spread``."""
    shade = np.asarray(colour) * rng.normal(1.0, 2.4 * spread) * (1 + rng.normal(0, spread, 3))
    red, green, blue = np.clip(shade + rng.normal(0, 2, 3), 8, 245)
    return linear((float(red), float(green), float(blue)))


def _cloth_colour(rng: np.random.Generator) -> Colour:
    weights = np.array([weight for weight, _ in _PALETTE])
    return _jitter(rng, _PALETTE[int(rng.choice(len(_PALETTE), p=weights / weights.sum()))][1])


def _near(rng: np.random.Generator) -> float:
    """Reflectance of a fabric at 850 nm: anything from dark to bright, whatever its colour."""
    return float(0.08 + 0.80 * rng.beta(1.15, 1.05))


def _cloth(rng: np.random.Generator, colour: Colour, warmth: float, patterns: bool, folds: float) -> Material:
    """A fabric. Its pattern, if any, is kept in the near-infrared to a drawn share, sometimes not at all."""
    near = _near(rng)
    if not patterns or rng.random() < 0.42:
        return Material(colour, near, warmth, colour, near, folds=folds)
    pattern = Pattern(int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.32, 0.10, 0.20, 0.20, 0.08, 0.10])))
    second = _cloth_colour(rng)
    while abs(sum(second) - sum(colour)) < 0.35:  # a pattern is there to be seen
        second = _cloth_colour(rng)
    kept = 0.0 if rng.random() < 0.17 else float(rng.uniform(0.5, 1.0))
    contrast = 0.45 if near < 0.48 else -0.38
    scale = {
        Pattern.HOOPS: rng.uniform(0.07, 0.16),
        Pattern.PINSTRIPES: rng.uniform(0.05, 0.09),
        Pattern.CHECKS: rng.uniform(0.08, 0.15),
        Pattern.BLOCK: rng.uniform(0.18, 0.36),
        Pattern.DOTS: rng.uniform(0.07, 0.12),
        Pattern.CAMOUFLAGE: rng.uniform(0.10, 0.18),
    }[pattern]
    return Material(colour, near, warmth, second, near + kept * contrast, pattern, float(scale), folds=folds)


def _body(rng: np.random.Generator, feminine: bool) -> Body:
    height = float(np.clip(rng.normal(1.64 if feminine else 1.76, 0.075), 1.46, 1.98))
    build = float(np.clip(np.exp(rng.normal(0.02, 0.18)), 0.80, 1.42))
    return Body(
        height=height,
        build=build,
        shoulders=float(rng.normal(0.93 if feminine else 1.04, 0.055)),
        hips=float(rng.normal(1.06 if feminine else 0.96, 0.05)),
        belly=float(np.clip((build - 1.05) * 2.2 + rng.normal(0, 0.25), 0, 1)),
        chest=float(rng.uniform(0.5, 1.0)) if feminine else 0.0,
        leg=float(np.clip(rng.normal(0.522, 0.016), 0.49, 0.55)),
        head=float(rng.normal(1.0, 0.04)),
        stride=float(rng.uniform(0.7, 1.15)),
        swing=float(rng.uniform(0.5, 1.25)),
        lean=float(rng.normal(0.045, 0.03)),
        knees=float(rng.normal(0.0, 0.012)),
    )


def _pick(rng: np.random.Generator, table: dict[str, float]) -> str:
    weights = np.array(list(table.values()))
    return list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]


_TOPS: dict[str, dict[str, tuple[float, ...]]] = {
    # sleeve, ease, hem: ranges; warmth: how much body heat comes through
    "t-shirt": {"sleeve": (0.24, 0.40), "ease": (0.010, 0.022), "hem": (0.475, 0.50), "warmth": (0.55, 0.72)},
    "vest": {"sleeve": (0.0, 0.02), "ease": (0.006, 0.014), "hem": (0.48, 0.51), "warmth": (0.60, 0.75)},
    "shirt": {"sleeve": (0.92, 1.0), "ease": (0.012, 0.024), "hem": (0.455, 0.49), "warmth": (0.50, 0.66)},
    "sweater": {"sleeve": (0.95, 1.0), "ease": (0.022, 0.036), "hem": (0.465, 0.50), "warmth": (0.36, 0.52)},
    "hoodie": {"sleeve": (0.95, 1.0), "ease": (0.028, 0.042), "hem": (0.46, 0.49), "warmth": (0.33, 0.48)},
    "jacket": {"sleeve": (0.96, 1.0), "ease": (0.028, 0.046), "hem": (0.44, 0.50), "warmth": (0.22, 0.38)},
    "coat": {"sleeve": (0.96, 1.0), "ease": (0.032, 0.050), "hem": (0.28, 0.40), "warmth": (0.14, 0.28)},
}
_BOTTOMS: dict[str, dict[str, tuple[float, ...]]] = {
    "slim": {"hem": (0.055, 0.085), "ease": (0.004, 0.010), "warmth": (0.52, 0.66)},
    "trousers": {"hem": (0.035, 0.055), "ease": (0.014, 0.026), "warmth": (0.42, 0.58)},
    "wide": {"hem": (0.035, 0.06), "ease": (0.034, 0.050), "warmth": (0.36, 0.50)},
    "cropped": {"hem": (0.14, 0.20), "ease": (0.012, 0.024), "warmth": (0.46, 0.60)},
    "shorts": {"hem": (0.28, 0.37), "ease": (0.018, 0.034), "warmth": (0.46, 0.60)},
    "skirt": {"hem": (0.28, 0.34), "ease": (0.020, 0.050), "warmth": (0.42, 0.55)},
    "long skirt": {"hem": (0.11, 0.17), "ease": (0.040, 0.080), "warmth": (0.34, 0.48)},
}


def _between(rng: np.random.Generator, limits: tuple[float, ...]) -> float:
    return float(rng.uniform(limits[0], limits[1]))


def _clothes(rng: np.random.Generator, feminine: bool) -> tuple[Clothes, float, float]:
    """The cut, and how much warmth comes through the top and the bottom."""
    names = {"t-shirt": 25.0, "vest": 5, "shirt": 15, "sweater": 13, "hoodie": 13, "jacket": 17, "coat": 12}
    top = _pick(rng, names)
    legs = {"slim": 24.0, "trousers": 28, "wide": 9, "cropped": 9, "shorts": 16}
    if feminine:
        legs |= {"skirt": 22, "long skirt": 13}
    bottom = _pick(rng, {**legs, "shorts": 2} if top in ("coat", "jacket") else legs)
    hair = {"short": 12.0, "bob": 24, "long": 34, "ponytail": 18, "bun": 12}
    if not feminine:
        hair = {"bald": 10.0, "cropped": 26, "short": 34, "full": 16, "long": 6, "afro": 6}
    style, lower = _TOPS[top], _BOTTOMS[bottom]
    opens = {"jacket": 0.75, "coat": 0.5, "shirt": 0.25}.get(top, 0.0)
    opening = _between(rng, (0.025, 0.06)) if rng.random() < opens else 0.0
    prints = top in ("t-shirt", "sweater", "hoodie") and rng.random() < 0.3
    cut = Clothes(
        hair=_pick(rng, hair),
        hat=_pick(
            rng, {"none": 74.0, "cap": 11, "beanie": 7, "bucket": 4, "hood": 9 if top in ("hoodie", "coat") else 0}
        ),
        top=top,
        sleeve=_between(rng, style["sleeve"]),
        ease=_between(rng, style["ease"]),
        hem=_between(rng, style["hem"]),
        opening=opening,
        logo=_between(rng, (0.05, 0.10)) if prints else 0.0,
        collar=top in ("shirt", "jacket", "coat", "hoodie"),
        bottom=bottom,
        bottom_hem=_between(rng, lower["hem"]),
        bottom_ease=_between(rng, lower["ease"]),
        shoes=_pick(rng, {"shoes": 60.0, "boots": 16, "high boots": 10 if feminine else 2}),
        bag="none",
        bag_size=1.0,
    )
    return cut, _between(rng, style["warmth"]), _between(rng, lower["warmth"])


def _garment_materials(rng: np.random.Generator, clothes: Clothes, warmth: tuple[float, float]) -> dict[Slot, Material]:
    thick = clothes.top in ("jacket", "coat", "hoodie")
    top = _cloth(rng, _cloth_colour(rng), warmth[0], clothes.top != "coat", folds=0.5 if thick else 0.8)
    trousers = clothes.bottom in ("slim", "trousers", "wide", "cropped", "shorts")
    denim = trousers and rng.random() < 0.4
    colour = _jitter(rng, _DENIM[int(rng.integers(len(_DENIM)))]) if denim else _cloth_colour(rng)
    bottom = _cloth(rng, colour, warmth[1], not denim and rng.random() < 0.42, folds=0.9)
    inner = _cloth(rng, _cloth_colour(rng), 0.62, False, folds=0.4)
    trim_near = float(np.clip(top.near + rng.choice([0.0, 0.3, -0.3]), 0.06, 0.9))
    trim = Material(_cloth_colour(rng) if rng.random() < 0.35 else top.colour, trim_near, warmth[0])
    shoes = (_PALETTE[i][1] for i in rng.choice([0, 0, 0, 1, 3, 5, 5, 6, 7, 7, 2, 10], 1))
    hat = _cloth(rng, _cloth_colour(rng), float(rng.uniform(0.25, 0.45)), False, folds=0.2)
    return {
        Slot.TOP: top,
        Slot.BOTTOM: bottom,
        Slot.INNER: inner,
        Slot.TRIM: trim,
        Slot.HAT: top if clothes.hat == "hood" else hat,
        Slot.SHOES: Material(_jitter(rng, next(shoes)), _near(rng), float(rng.uniform(0.15, 0.35)), gloss=0.25),
    }


def person(seed: int, identity: int) -> Person:
    """Draw the person ``identity`` of the world ``seed``.

    About one pair of neighbouring numbers in eight shares its whole wardrobe: near-duplicates that only build, gait,
    hair and bag tell apart.

    >>> person(0, 7) == person(0, 7), person(0, 7) == person(0, 8)
    (True, False)
    """
    rng = generator(seed, "person", identity)
    pair = generator(seed, "wardrobe", identity // 2)
    alike = pair.random() < 0.12
    feminine = bool((pair if alike else rng).random() < 0.48)
    wardrobe = pair if alike else generator(seed, "garments", identity)
    clothes, *warmth = _clothes(wardrobe, feminine)
    garments = _garment_materials(wardrobe, clothes, (warmth[0], warmth[1]))
    bag = _pick(rng, {"none": 46.0, "backpack": 24, "handbag": 12, "tote": 6, "crossbody": 12})
    hair = clothes.hair if not alike else _clothes(rng, feminine)[0].hair
    worn = Clothes(**{**vars(clothes), "bag": bag, "bag_size": float(rng.uniform(0.82, 1.2)), "hair": hair})
    skin = _jitter(rng, _SKIN[int(rng.choice(len(_SKIN), p=[0.2, 0.26, 0.22, 0.14, 0.1, 0.08]))], 0.02)
    dark = _jitter(rng, _HAIR[int(rng.integers(len(_HAIR)))], 0.02)
    materials = {
        **garments,
        Slot.SKIN: Material(skin, float(rng.uniform(0.50, 0.66)), 1.0, gloss=0.08),
        Slot.HAIR: Material(dark, float(rng.uniform(0.10, 0.45)), float(rng.uniform(0.45, 0.6)), gloss=0.15, folds=0.6),
        Slot.BAG: Material(_cloth_colour(rng), _near(rng), float(rng.uniform(0.0, 0.12)), gloss=0.12, folds=0.3),
    }
    return Person(identity, _body(rng, feminine), worn, tuple(materials[slot] for slot in Slot))
