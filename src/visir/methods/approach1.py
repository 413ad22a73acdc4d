"""Approach 1: small perceptrons split the embedding of a frozen BDTR network into who is seen and everything else.

Jambigi, slides on disentanglement for RGB-infrared person re-identification, 25 May 2020. The first epochs train the
two-stream network of BDTR (Ye, Wang, Lan and Yuen, IJCAI 2018) with its own losses; then it stays as it is. Embeddings
are rebuilt from their codes, also across the spectra, and a classifier names mixtures of two people by their identity
code.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.types import Modality
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.ranking import intra_ranking_loss, top_ranking_loss
from visir.losses.reconstruction import absolute_error
from visir.losses.triples import hardest_manhattan_loss, manhattan_triplet_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods._triples import check_neighbours, of_neighbour, require_neighbours
from visir.methods.base import Method, MethodConfig, Optim, Recipe, Step
from visir.nets.backbones import load_weights
from visir.nets.disentangling import CodeDecoder, CodeEncoder, code_classifier
from visir.nets.routing import by_modality
from visir.nets.two_streams import TwoStreamEncoder, shared_classifier

MARGIN, INTRA, INTRA_MARGIN = 0.5, 0.1, 0.1  # of BDTR, as its authors' code has them


@dataclass(frozen=True)
class Approach1Config(MethodConfig):
    """The slides give the losses, their equal weights and the perceptrons; all other numbers are choices.

    Attributes:
        stream: what the perceptrons learn from: pictures as they are.
        embedding_stream: what the two-stream network learns from, of the same size in pixels.
        embedding_epochs: how long the two-stream network trains; from then on it is frozen and the perceptrons train.
        embedding: a safetensors file with a trained two-stream network, such as the encoder of a run of BDTR with this
            backbone and ``embedding_dim``; it is read before the first step, and ``embedding_epochs`` must be 0.
        embedding_dim: length of the embedding, which is at least 0, as BDTR's is, and not normalised.
        dropout: of the two-stream network while it trains.
        reconstruction: weight of the absolute error of embeddings rebuilt from their own codes.
        cross: weight of that with the identity code of the other spectrum; 0 leaves it out.
        mixture: weight of the identity loss of mixtures; 0 leaves it out.
        triplet: weight of the triplet loss of identity codes; 0 leaves it out.
        mining: triplets of fixed places of the batch, or the hardest ones in it.
        anchors: of the triplets: visible ones, as printed, or those of both spectra.
        margin: of the triplets, between sums of absolute differences.
        classify_real: whether the classifier also learns from the embeddings themselves.
        dim: length of a code; hidden layers are in the published proportion to it.
        last_relu: whether decoders end with a ReLU, as printed; the embedding is never below 0.
        distance: of identity codes at test; the Manhattan distance is the one that they are trained with.
        recipe: of the two-stream network: that of the two-stream baseline.
        disentangling: of the perceptrons; its epochs count from the end of ``embedding_epochs``.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(IdentityBalanced(16, 4), height=288, width=144, augment=Augment(flip=0.0))
    )
    embedding_stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(64, 1), height=288, width=144, augment=Augment(flip=0.5, pad=10)
        )
    )
    embedding_epochs: float = 80.0
    embedding: str = ""
    embedding_dim: int = 512
    dropout: float = 0.5
    reconstruction: float = 1.0
    cross: float = 1.0
    mixture: float = 1.0
    triplet: float = 1.0
    mining: Literal["random", "hard"] = "hard"
    anchors: Literal["visible", "both"] = "visible"
    margin: float = 1.0
    classify_real: bool = False
    dim: int = 256
    last_relu: bool = True
    distance: Literal["manhattan", "euclidean", "cosine"] = "manhattan"
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.001, head_rate=0.01, nesterov=True, drops=(30.0, 60.0))
    )
    disentangling: Recipe = field(
        default_factory=lambda: Recipe(
            optimizer="adam",
            backbone_rate=1e-4,
            head_rate=1e-4,
            weight_decay=0.0,
            nesterov=False,
            drops=(60.0,),
        )
    )

    def __post_init__(self) -> None:
        for name in ("dim", "embedding_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("embedding_epochs", "cross", "mixture", "triplet", "margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not 0 < self.reconstruction < math.inf:
            raise ValueError("reconstruction must be a finite number above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")
        sizes = [(stream.height, stream.width) for stream in (self.stream, self.embedding_stream)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"stream and embedding_stream must have one size in pixels; they have {sizes}")
        if self.embedding and self.embedding_epochs:
            raise ValueError("embedding_epochs must be 0 where an embedding is given: nothing of it is trained")


class IdentityCodes(nn.Module):
    """Images -> the embedding of the two-stream network -> its identity code, by perceptrons of each spectrum.

    Attributes:
        dim: K, length of a code.
        distance: how codes are compared.
    """

    def __init__(
        self,
        network: TwoStreamEncoder,
        *,
        code: int,
        distance: Literal["manhattan", "euclidean", "cosine"] = "manhattan",
    ) -> None:
        super().__init__()
        self.network, self.dim, self.distance = network, code, distance
        self.visible, self.infrared = (CodeEncoder(network.dim, code) for _ in Modality)

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities -> (B, K), at least 0."""
        embedded = self.network(images, modality)
        return by_modality(self.visible, self.infrared, embedded, modality, training=self.training)


class Half(NamedTuple):
    """Embeddings of one spectrum, (N, D), with their codes, (N, K), and identities, (N,)."""

    embedded: Tensor
    rest: Tensor
    identity: Tensor
    people: Tensor


class Approach1(Method[Approach1Config]):
    """Disentangled codes of a frozen embedding; see :class:`Approach1Config`.

    The third image of a triple is the infrared one of the person next in the batch, so every infrared image is the
    second of one triple and the third of another.

    Raises:
        ConfigError: streams that do not draw the same people in both spectra, and for triples an even number of them.
    """

    Config = Approach1Config
    encoder: IdentityCodes

    def __init__(self, config: Approach1Config, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self.images = require_neighbours("Approach 1", config.stream)
        require_pairs("Approach 1", config.embedding_stream)
        network = TwoStreamEncoder(
            config.backbone,
            weights=config.weights,
            image_size=(config.stream.height, config.stream.width),
            dim=config.embedding_dim,
            dropout=config.dropout,
            normalise=True,
        )
        self.embedding_classifier = shared_classifier(config.embedding_dim, num_identities, dropout=config.dropout)
        self.encoder = IdentityCodes(network, code=config.dim, distance=config.distance)
        self.rest = nn.ModuleList(CodeEncoder(config.embedding_dim, config.dim) for _ in Modality)
        self.decoders = nn.ModuleList(
            CodeDecoder(config.embedding_dim, config.dim, last_relu=config.last_relu) for _ in Modality
        )
        self.classifier = code_classifier(config.embedding_dim, num_identities)
        self._checked: set[str] = set()  # streams of which a batch was looked at

    def streams(self) -> Mapping[str, Stream]:
        """``embedding`` for the two-stream network, ``main`` for what is built on it."""
        return {"embedding": self.config.embedding_stream, "main": self.config.stream}

    def wanted(self, epoch: float) -> Collection[str]:
        """The stream of the phase."""
        return ("embedding",) if epoch < self.config.embedding_epochs else ("main",)

    def optimizers(self) -> Mapping[str, Optim]:
        """``embedding`` for the two-stream network, ``main`` for the perceptrons, whose epochs begin at 0."""
        config, encoder = self.config, self.encoder
        new = [*encoder.network.embedding.parameters(), *self.embedding_classifier.parameters()]
        perceptrons = (encoder.visible, encoder.infrared, self.rest, self.decoders, self.classifier)
        made = config.disentangling.optim(head=[p for network in perceptrons for p in network.parameters()])
        began = config.embedding_epochs
        return {
            "embedding": config.recipe.optim(backbone=encoder.network.streams.parameters(), head=new),
            "main": replace(made, schedule=lambda epoch: made.schedule(max(0.0, epoch - began))),
        }

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """BDTR during the first epochs, then the codes of what it has become.

        Raises:
            TrainingError: at the first step of a stream, a batch of another order.
            CheckpointError: at the first step, an ``embedding`` that is not there or does not fit.
        """
        if step.index == 0 and self.config.embedding:
            load_weights(self.encoder.network, "this two-stream network", Path(self.config.embedding))
        if step.epoch < self.config.embedding_epochs:
            terms, trained = self._bdtr(batches["embedding"], step), "embedding"
        else:
            batch, trained = batches["main"], "main"
            if self._first("main"):
                check_neighbours("Approach 1", batch, self.images)
            terms = self.losses(self.embedded(batch), batch.identity, step)
        step.minimize(torch.stack(list(terms.values())).sum(), trained)
        return terms

    def _first(self, stream: str) -> bool:
        seen = stream in self._checked
        self._checked.add(stream)
        return not seen

    def _bdtr(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        if self._first("embedding"):
            check_halves("Approach 1", batch)
        features = self.encoder.network(batch.images, batch.modality)
        with torch.autocast(features.device.type, enabled=False):
            features = full(features)
            named = identity_loss(self.embedding_classifier(features), batch.identity)
            visible, infrared = (step.gather(half) for half in features.chunk(2))
            people = step.gather(batch.identity.chunk(2)[0])
            return {
                "embedding_identity": named,
                "embedding_ranking": top_ranking_loss(visible, infrared, people, people, margin=MARGIN),
                "embedding_intra": INTRA * intra_ranking_loss(visible, infrared, people, people, margin=INTRA_MARGIN),
            }

    @torch.no_grad()
    def embedded(self, batch: Batch) -> Tensor:
        """(2N, D) by the two-stream network as it is: nothing dropped, and the statistics of its training."""
        self.encoder.network.eval()  # every step, as the engine puts the whole method into training mode
        found: Tensor = self.encoder.network(batch.images, batch.modality, len(batch) // 2)
        return full(found)

    def losses(self, embedded: Tensor, identities: Tensor, step: Step) -> dict[str, Tensor]:
        """The terms of the second phase.

        Args:
            embedded: (2N, D) embeddings, N visible ones, then N infrared ones.
            identities: (2N,) int64, K in a row of each of P people, twice.
            step: this step.
        """
        config, (seen, unseen) = self.config, self.decoders
        visible, infrared = self._halves(embedded, identities)
        third = Half(*(of_neighbour(tensor, self.images) for tensor in infrared))
        own = (seen(visible.rest, visible.identity), unseen(infrared.rest, infrared.identity))
        errors = _errors((visible, infrared), own)
        # the third images of the triples are the second ones in another order
        terms = {"reconstruction": config.reconstruction * (errors[0] + 2 * errors[1])}
        if config.cross:
            swapped = (seen(visible.rest, infrared.identity), unseen(infrared.rest, visible.identity))
            terms["cross"] = config.cross * torch.stack(_errors((visible, infrared), swapped)).sum()
        if config.mixture:  # who a mixture shows is decided by its identity code
            mixed = (
                (seen(visible.rest, third.identity), third.people),
                (unseen(third.rest, visible.identity), visible.people),
            )
            costs = [identity_loss(full(self.classifier(made)), people) for made, people in mixed]
            terms["mixture"] = config.mixture * torch.stack(costs).sum()
        if config.classify_real:
            terms["real"] = identity_loss(full(self.classifier(embedded)), identities)
        if config.triplet:
            terms["triplet"] = config.triplet * self._triplet(visible, infrared, step)
        return terms

    def _halves(self, embedded: Tensor, identities: Tensor) -> tuple[Half, Half]:
        visible, infrared = (
            Half(half, rest(half), full(identity(half)), people)
            for half, rest, identity, people in zip(
                embedded.chunk(2),
                self.rest,
                (self.encoder.visible, self.encoder.infrared),
                identities.chunk(2),
                strict=True,
            )
        )
        return visible, infrared

    def _triplet(self, visible: Half, infrared: Half, step: Step) -> Tensor:
        """Of visible anchors, or the mean of both spectra's."""
        pairs = [(visible, infrared), (infrared, visible)][: 2 if self.config.anchors == "both" else 1]
        with torch.autocast(visible.identity.device.type, enabled=False):
            return torch.stack([self._anchored(anchors, others, step) for anchors, others in pairs]).mean()

    def _anchored(self, anchors: Half, others: Half, step: Step) -> Tensor:
        margin = self.config.margin
        if self.config.mining == "random":
            negatives = of_neighbour(others.identity, self.images)
            return manhattan_triplet_loss(anchors.identity, others.identity, negatives, margin=margin)
        codes = (step.gather(half.identity) for half in (anchors, others))
        people = (step.gather(half.people) for half in (anchors, others))
        return hardest_manhattan_loss(*codes, *people, margin=margin)


def _errors(wanted: Sequence[Half], made: Sequence[Tensor]) -> list[Tensor]:
    return [absolute_error(half.embedded, full(other)) for half, other in zip(wanted, made, strict=True)]


METHOD = Approach1
