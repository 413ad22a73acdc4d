"""The contract of a method file: one published system, ending in ``METHOD = ...``, found by its presence.

A method owns its networks, losses and the order of its updates; the engine owns everything else (device, precision,
ranks, clipping, schedules, checkpoints, logs).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Stream
from visir.core.errors import TrainingError
from visir.core.grid import Grid
from visir.core.types import FloatArray, IntArray


@dataclass(frozen=True)
class MethodConfig:
    """What every method's configuration has; subclasses add the numbers of their paper.

    Attributes:
        backbone: any timm name.
        weights: "scratch", "imagenet" (downloaded through timm, only when asked for), or the path of a safetensors
            file.
        stream: size, sampling and augmentation of its main batches.
    """

    backbone: str = "resnet50"
    weights: str = "scratch"
    stream: Stream = field(default_factory=Stream)


C = TypeVar("C", bound=MethodConfig)


def constant(epoch: float) -> float:
    """The schedule that leaves the base rate alone."""
    return 1.0


def step_decay(*drops: float, factor: float = 0.1) -> Callable[[float], float]:
    """A schedule that multiplies the rate by ``factor`` at each of the given epochs.

    >>> step_decay(5, 10)(7.2)
    0.1
    """

    def schedule(epoch: float) -> float:
        return float(factor ** sum(epoch >= drop for drop in drops))

    return schedule


@dataclass
class Optim:
    """An optimizer with its schedule: fractional epoch -> factor on every base rate."""

    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float] = constant
    clip_norm: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How one optimizer goes: two base rates, a rise and drops, all in epochs.

    Attributes:
        optimizer: SGD with momentum, or Adam (which reads ``momentum`` as its first beta and is never nesterov).
        backbone_rate: base learning rate of what may start from pretrained weights.
        head_rate: base learning rate of everything that is new.
        momentum: of both groups, in [0, 1).
        weight_decay: of both groups.
        nesterov: look ahead along the momentum (SGD).
        warmup: epochs over which the rates rise linearly, epoch by epoch: (floor(epoch) + 1) / warmup; 0 for none.
        drops: epochs at which both rates are multiplied by ``factor``.
        factor: see ``drops``, in (0, 1].
        clip_norm: longest gradient; null for any.

    >>> schedule = Recipe(warmup=10, drops=(20, 50)).schedule()
    >>> [round(schedule(epoch), 3) for epoch in (0, 4.5, 12, 20, 60)]
    [0.1, 0.5, 1.0, 0.1, 0.01]
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    backbone_rate: float = 0.01
    head_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True
    warmup: int = 0
    drops: tuple[float, ...] = ()
    factor: float = 0.1
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("backbone_rate", "head_rate", "weight_decay", "warmup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not 0 <= self.momentum < 1:
            raise ValueError("momentum must be at least 0 and below 1")
        if not 0 < self.factor <= 1:
            raise ValueError("factor must be above 0 and at most 1")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError("clip_norm must be above 0, or null")
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0; set nesterov to false")

    def schedule(self) -> Callable[[float], float]:
        """Fractional epoch -> factor on both rates."""
        drop = step_decay(*self.drops, factor=self.factor)
        rise = self.warmup
        return lambda epoch: drop(epoch) * (min(1.0, (math.floor(epoch) + 1) / rise) if rise else 1.0)

    def optim(self, *, backbone: Iterable[nn.Parameter] = (), head: Iterable[nn.Parameter] = ()) -> Optim:
        """The optimizer of these parameters; a group without any is left out."""
        both = ((list(backbone), self.backbone_rate), (list(head), self.head_rate))
        groups = [{"params": parameters, "lr": rate} for parameters, rate in both if parameters]
        made: torch.optim.Optimizer
        if self.optimizer == "adam":
            made = torch.optim.Adam(groups, betas=(self.momentum, 0.999), weight_decay=self.weight_decay)
        else:
            made = torch.optim.SGD(
                groups, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
            )
        return Optim(made, self.schedule(), self.clip_norm)


class Step(Protocol):
    """All that a method sees of the engine."""

    @property
    def index(self) -> int:
        """Counts ``train_step`` calls from 0, never optimizer calls."""
        ...

    @property
    def epoch(self) -> float:
        """Fractional epoch, for phases."""
        ...

    @property
    def generator(self) -> torch.Generator:
        """CPU generator that depends on (seed, step) alone, for a method's own noise."""
        ...

    def minimize(self, loss: Tensor, *names: str) -> None:
        """Fill the gradients of the named optimizers' parameters only, average them over ranks, clip and step."""
        ...

    def gather(self, tensor: Tensor) -> Tensor:
        """(B, ...) -> (world * B, ...), differentiable; the identity on one rank."""
        ...

    def share(self, tensor: Tensor) -> Tensor:
        """(world * B, ...) -> (B, ...): this rank's part of what was drawn for the joint batch, in gathered order."""
        ...


class Method(nn.Module, ABC, Generic[C]):
    """A published system.

    ``encoder`` is the only part that is evaluated, exported and searched with:
    ``encoder(images (B, 3, H, W), modality (B,)) -> (B, D)``, with the attribute ``dim`` = D. Vectors are compared by
    angle, unless the encoder has the attribute ``distance``, "euclidean" or "manhattan".

    ``pretrained`` says whether the publication starts from ImageNet weights, which visir never does unasked.
    """

    Config: ClassVar[type[Any]]
    pretrained: ClassVar[bool] = True
    encoder: nn.Module

    def __init__(self, config: C, num_identities: int) -> None:
        super().__init__()
        self.config = config
        self.num_identities = num_identities

    def streams(self) -> Mapping[str, Stream]:
        """The batches it asks for, by name."""
        return {"main": self.config.stream}

    @abstractmethod
    def optimizers(self) -> Mapping[str, Optim]:
        """Named optimizers; made once, after the method is on its device. None: there are no steps."""

    def wanted(self, epoch: float) -> Collection[str]:
        """Names of the streams whose batches this epoch's steps need; others are not loaded and not handed over.

        All of them, as here, unless phases look at different batches.
        """
        return self.streams().keys()

    def pictures(self, batches: Mapping[str, Batch]) -> Mapping[str, Grid]:
        """What people look at while it trains, by name: translations, reconstructions, swaps. None, as here, for most.

        Called in eval mode without gradients, every time with the same batches, of every stream; it draws nothing.
        """
        return {}

    def raw(self) -> nn.Module | None:
        """The network (with ``dim``) whose features of all training images :meth:`fit` wants after the last step.

        None, as here, for the many methods without a closed-form stage.
        """
        return None

    def fit(self, sample: Sample) -> Mapping[str, float]:
        """The closed-form stage, once, after the last step: set what the encoder needs, and give figures for the log.

        Deterministic: the same sample gives the same bits.
        """
        return {}

    @abstractmethod
    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """One step: compute, call ``step.minimize``, return the named loss terms (logged as they are)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What a closed-form stage learns from: every training image once, in the order of the table.

    Attributes:
        features: (n, D) float32, as :meth:`Method.raw` gives them; may be memory-mapped and larger than the memory.
        identity: (n,) int64.
        camera: (n,) int64.
        modality: (n,) int64, values of :class:`visir.core.types.Modality`.
    """

    features: FloatArray
    identity: IntArray
    camera: IntArray
    modality: IntArray


class FittedMethod(Method[C]):
    """A system without gradient steps: features that are given, and a closed-form stage over all training images."""

    pretrained = False

    def optimizers(self) -> Mapping[str, Optim]:
        """None: nothing is trained step by step."""
        return {}

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """Never called.

        Raises:
            TrainingError: always.
        """
        raise TrainingError(f"{type(self).__name__} has no training steps; it is fitted once to all training images.")


class ConversionMethod(Method[C]):
    """A system that makes pictures of the other modality, and no vectors.

    Its ``encoder`` gives pictures: ``encoder(images (B, 3, H, W), modality (B,)) -> (B, 3, H, W)``, each image
    converted to the other modality, ImageNet-normalised as it came; what is infrared has three equal channels. It is
    saved and exported like any encoder; ``visir convert`` writes what it makes.
    """

    pretrained = False


class EmbeddingMethod(Method[C]):
    """The common case: one optimizer, the sum of the named terms."""

    @abstractmethod
    def optimizer(self) -> Optim:
        """The one optimizer."""

    @abstractmethod
    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Named, already weighted terms; their sum is minimized."""

    def optimizers(self) -> Mapping[str, Optim]:
        """``{"main": self.optimizer()}``."""
        return {"main": self.optimizer()}

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """Minimize the sum of the terms."""
        terms = self.losses(batches["main"], step)
        step.minimize(torch.stack(list(terms.values())).sum(), "main")
        return terms
