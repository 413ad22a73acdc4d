"""What batches a method asks for: plain data, understood by ``data.sampling`` and put into configuration files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from visir.core.types import Modality

OneWay = Literal["ir2v", "v2ir"]


@dataclass(frozen=True)
class Pairs:
    """Cross-modal pairs of one identity: ``pairs`` visible images first, then their ``pairs`` infrared partners.

    Places j and j + pairs share the identity. ``over="visible"`` walks all visible images once an epoch and draws each
    a partner of its identity without replacement until that identity's infrared images are used up (DFE, SYSU-MM01);
    ``"matched"`` pairs the two image lists of every identity by a random permutation (DFE, RegDB).
    """

    pairs: int = 32
    over: Literal["visible", "matched"] = "visible"
    kind: Literal["pairs"] = "pairs"


@dataclass(frozen=True)
class IdentityBalanced:
    """P x K sampling: ``identities`` people with ``images`` visible and ``images`` infrared pictures each.

    All visible first, then all infrared; places i and i + P*K share the identity. ``order="permuted"`` shows every
    identity once an epoch, ``"independent"`` draws anew for each batch (the published two-stream baselines).
    """

    identities: int = 8
    images: int = 4
    order: Literal["independent", "permuted"] = "independent"
    kind: Literal["identity_balanced"] = "identity_balanced"


@dataclass(frozen=True)
class Unpaired:
    """``images`` visible and ``images`` infrared pictures, each modality shuffled by itself (translation networks).

    ``cameras``: only pictures of these cameras, such as one visible and one infrared camera; empty for all.
    """

    images: int = 8
    cameras: tuple[int, ...] = ()
    kind: Literal["unpaired"] = "unpaired"


Draw = Pairs | IdentityBalanced | Unpaired


@dataclass(frozen=True)
class Augment:
    """Training-time changes of a picture, drawn for each picture apart.

    ``flip``: probability of mirroring. ``pad``: border in pixels before a random crop back to size. ``erase``:
    probability of random erasing. ``channels``: visible pictures get one channel replicated (CAJ) with this
    probability. ``jitter``: strength of brightness and contrast changes, 0 for none. ``grey``: visible pictures that
    keep their channels become grey with this probability. ``enlarge``: pixels by which a picture is read higher and
    wider than the stream's size, before the same crop. ``border``: what ``pad`` puts there, zeros or the pixels of
    the edge.
    """

    flip: float = 0.5
    pad: int = 0
    erase: float = 0.0
    channels: float = 0.0
    jitter: float = 0.0
    grey: float = 0.0
    enlarge: int = 0
    border: Literal["zeros", "edge"] = "zeros"


@dataclass(frozen=True)
class Stream:
    """One kind of batch: how images are drawn, at which size, with which augmentation.

    ``converted`` asks for images also as they were converted to the other modality beforehand (``benchmark.converted``
    says where these are; they are augmented apart): true for all, ``"ir2v"`` for infrared ones made visible alone,
    ``"v2ir"`` for visible ones made infrared.
    """

    draw: Draw = field(default_factory=Pairs)
    height: int = 288
    width: int = 144
    augment: Augment = field(default_factory=Augment)
    converted: bool | OneWay = False

    @property
    def converts(self) -> tuple[Modality, ...]:
        """The modalities whose images are wanted converted, too.

        >>> Stream(converted="ir2v").converts, Stream().converts
        ((<Modality.INFRARED: 1>,), ())
        """
        if isinstance(self.converted, bool):
            return tuple(Modality) if self.converted else ()
        return (Modality.INFRARED,) if self.converted == "ir2v" else (Modality.VISIBLE,)
