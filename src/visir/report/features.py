"""Features as numbers to draw: unit length, pairs of pictures, correlation matrices. No drawing here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visir.core.errors import EvaluationError
from visir.core.seeds import generator
from visir.core.types import BoolArray, FloatArray, ImageTable, IntArray, Modality
from visir.evaluation.product import Features

Doubles = npt.NDArray[np.float64]


def unit_length(features: Features, table: ImageTable) -> FloatArray:
    """(n, D) float32 rows of unit length; an all-zero row stays zero.

    Raises:
        EvaluationError: not one finite row for each image of the table.
    """
    if features.ndim != 2 or len(features) != len(table) or not features.shape[1]:
        raise EvaluationError(
            f"features: expected shape ({len(table)}, D), one row for each image, got {features.shape}; "
            "make them again with 'visir evaluate'."
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        worst = int(np.flatnonzero(~finite)[0])
        raise EvaluationError(
            f"features: expected finite numbers, got NaN or infinity in {int((~finite).sum())} of {len(features)} "
            f"rows, first for {table.paths[worst]}; the network has diverged or the picture is damaged."
        )
    values = features.astype(np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit: FloatArray = values / np.maximum(norms, np.float32(1e-12))
    return unit


def pairs(
    table: ImageTable, first: Modality, second: Modality, *, same: bool, most: int, seed: int = 0
) -> tuple[IntArray, IntArray]:
    """Rows of picture pairs across or inside modalities, of the same or of different identities.

    All ordered pairs of distinct pictures if there are at most ``most``, otherwise ``most`` of them drawn uniformly
    with replacement: memory does not grow with the number of pairs. Pictures of unknown identity (-1) are left out.

    Args:
        table: n images.
        first: modality of the first picture of a pair.
        second: modality of the second one.
        same: pairs of one identity, or of two different ones.
        most: bound of the number of pairs.
        seed: of the draw.

    Returns:
        (p,) int64 rows of the first pictures and (p,) int64 rows of the second ones.
    """
    known = table.identity >= 0
    left = np.flatnonzero((table.modality == first) & known)
    right = np.flatnonzero((table.modality == second) & known)
    right = right[np.argsort(table.identity[right], kind="stable")]
    sorted_identity = table.identity[right]
    begin = np.searchsorted(sorted_identity, table.identity[left], "left")
    own = np.searchsorted(sorted_identity, table.identity[left], "right") - begin
    alone = int(first == second)  # a picture is no partner of itself
    partners = own - alone if same else len(right) - own
    ends = np.cumsum(partners)
    total = int(ends[-1]) if len(ends) else 0
    if total <= most:
        number = np.arange(total)
    else:
        draw = generator(seed, "report.pairs", int(first), int(second), int(same))
        number = draw.integers(0, total, most)
    place = np.searchsorted(ends, number, "right")
    offset = number - (ends[place] - partners[place])
    if same:
        position = np.empty(len(table), np.int64)
        position[right] = np.arange(len(right))
        partner = begin[place] + offset
        if alone:
            partner += partner >= position[left[place]]
    else:
        partner = offset + np.where(offset >= begin[place], own[place], 0)
    return left[place], right[partner]


def cosine_distances(features: FloatArray, rows: IntArray, others: IntArray, *, block: int = 8192) -> FloatArray:
    """(p,) float32 cosine distances 1 - <a, b> in [0, 2] of pairs of rows of unit length, by blocks of pairs."""
    distances = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        distances[part] = 1.0 - np.einsum("pd,pd->p", features[rows[part]], features[others[part]])
    return np.clip(distances, 0.0, 2.0)


def overlap(first: FloatArray, second: FloatArray, bins: Doubles) -> float:
    """Overlap coefficient of two histograms over the same bins: 0 apart, 1 equal.

    >>> float(overlap(np.float32([0.1, 0.6]), np.float32([0.6, 0.7]), np.array([0, 0.5, 1])))
    0.5
    """
    if not len(first) or not len(second):
        return float("nan")
    one = np.histogram(first, bins)[0] / len(first)
    two = np.histogram(second, bins)[0] / len(second)
    return float(np.minimum(one, two).sum())


def aligned_rows(table: ImageTable, most: int, *, seed: int = 0) -> tuple[IntArray, IntArray]:
    """One visible and one infrared picture of each of at most ``most`` identities that have both.

    Returns:
        (N,) rows of visible and (N,) rows of infrared pictures; places j show the same identity, identities ascending.
    """
    visible, infrared = (np.unique(table.identity[table.modality == modality]) for modality in Modality)
    both = np.intersect1d(visible, infrared)
    both = both[both >= 0]
    draw = generator(seed, "report.aligned")
    chosen = np.sort(draw.choice(both, min(most, len(both)), replace=False))
    rows = [
        [
            int(draw.choice(np.flatnonzero((table.identity == identity) & (table.modality == modality))))
            for identity in chosen
        ]
        for modality in Modality
    ]
    return np.array(rows[0], np.int64), np.array(rows[1], np.int64)


@dataclass(frozen=True, eq=False)
class Correlations:
    """Pearson correlations inside each modality, place j of both showing the same identity.

    Attributes:
        visible: (N, N) float64, C_V of DFE's equations 9 and 10.
        infrared: (N, N) float64, C_I of its equation 11.
    """

    visible: Doubles
    infrared: Doubles

    @classmethod
    def of(cls, features: FloatArray, visible: IntArray, infrared: IntArray) -> Correlations:
        """Of the rows ``visible`` and ``infrared`` of (n, D) features."""
        return cls(pearson(features[visible]), pearson(features[infrared]))

    def difference(self) -> Doubles:
        """(N,) squared differences ||C_V[:, j] - C_I[:, j]||^2 of each sample."""
        squared: Doubles = ((self.visible - self.infrared) ** 2).sum(axis=0)
        return squared

    def loss(self) -> float:
        """DFE's L_c (equation 12): the mean of :meth:`difference` over the samples."""
        return float(self.difference().mean())


def pearson(features: FloatArray) -> Doubles:
    """(N, D) -> (N, N) float64 Pearson correlations of the rows; a constant row correlates 0 with every row.

    >>> pearson(np.float32([[1, 2, 3], [3, 2, 1]])).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    values = features.astype(np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    matrix: Doubles = unit @ unit.T
    return matrix


def sample_for_map(table: ImageTable, *, identities: int, images: int, seed: int = 0) -> IntArray:
    """Rows of at most ``images`` pictures of each modality for at most ``identities`` people, ascending.

    People with both modalities come before those with one; inside these the draw is uniform.
    """
    draw = generator(seed, "report.map")
    people = table.identities()
    people = people[people >= 0]
    draw.shuffle(people)
    modalities = [len(np.unique(table.modality[table.identity == person])) for person in people]
    people = people[np.argsort([-count for count in modalities], kind="stable")][:identities]
    rows: list[int] = []
    for person in people:
        for modality in Modality:
            own = np.flatnonzero((table.identity == person) & (table.modality == modality))
            rows.extend(draw.choice(own, min(images, len(own)), replace=False).tolist())
    return np.array(sorted(rows), np.int64)


def project(features: FloatArray, *, seed: int = 0) -> tuple[Doubles, str]:
    """(n, D) features of unit length -> (n, 2) places on a plane and the name of the method.

    t-SNE with cosine distances' equivalent (Euclidean distance of unit vectors), started from the principal components;
    the principal components alone for fewer than ten pictures or features without any spread.
    """
    from sklearn.manifold import TSNE

    values = features.astype(np.float64)
    count = len(values)
    centred = values - values.mean(axis=0)
    if count < 10 or np.linalg.norm(centred, axis=1).max() < 1e-6:
        return _principal(centred), "principal components"
    perplexity = float(min(30.0, (count - 1) / 3))
    start = _principal(centred)
    spread = float(start[:, 0].std())
    model = TSNE(2, init=start / max(spread, 1e-12) * 1e-4, perplexity=perplexity, random_state=seed % 2**32, n_jobs=1)
    places: Doubles = model.fit_transform(values)
    return places, f"t-SNE, perplexity {perplexity:.0f}"


def _principal(centred: Doubles) -> Doubles:
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(centred), 2))
    width = min(2, u.shape[1])
    # the sign of a principal component is arbitrary: fix it by its largest entry
    signs = np.sign(u[np.abs(u[:, :width]).argmax(axis=0), np.arange(width)])
    places[:, :width] = u[:, :width] * s[:width] * signs
    return places


def mask_of(table: ImageTable, modality: Modality, identity: int) -> BoolArray:
    """(n,) bool: the pictures of one person in one modality."""
    mask: BoolArray = (table.modality == modality) & (table.identity == identity)
    return mask
