"""What stands in for ImageNet on a twin: a small network that has learnt to tell other people apart in visible light.

The publications start from networks that know visible pictures and have never seen an infrared one. So does every
trained row of a budget: one network is trained once, by identity, on visible pictures of people who are in no test and
no training set of the rows, and its weights are every row's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Stream, Unpaired
from visir.core.errors import CheckpointError
from visir.core.files import write_bytes
from visir.engine.encoders import load_encoder
from visir.experiment.config import build
from visir.experiment.train import train
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.backbones import Backbone, backbone
from visir.twin import Size, write

SEED = 1000  # no seed of a twin that rows are trained or tested on
AUGMENT = Augment(flip=0.5, pad=6, erase=0.3, channels=0.5, jitter=0.3)


@dataclass(frozen=True)
class PretrainingConfig(MethodConfig):
    """A plain classifier of people; ``recipe`` as usual."""

    stream: Stream = field(default_factory=lambda: Stream(Unpaired(64), height=96, width=48, augment=AUGMENT))
    recipe: Recipe = field(default_factory=lambda: Recipe(backbone_rate=0.1, head_rate=0.1))


class AveragedBackbone(nn.Module):
    """A backbone, averaged over the image."""

    def __init__(self, trunk: Backbone) -> None:
        super().__init__()
        self.backbone, self.dim = trunk, trunk.channels
        self.normalise = nn.BatchNorm1d(self.dim)

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W), (B,) -> (B, D)."""
        features: Tensor = self.normalise(self.backbone(images).mean((2, 3)))
        return features


class Pretraining(EmbeddingMethod[PretrainingConfig]):
    """Identity loss of the visible half of each batch."""

    Config = PretrainingConfig
    encoder: AveragedBackbone

    def __init__(self, config: PretrainingConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        size = (config.stream.height, config.stream.width)
        self.encoder = AveragedBackbone(backbone(config.backbone, weights=config.weights, image_size=size))
        self.classifier = nn.Linear(self.encoder.dim, num_identities, bias=False)

    def optimizer(self) -> Optim:
        """One recipe for everything."""
        return self.config.recipe.optim(backbone=self.encoder.parameters(), head=self.classifier.parameters())

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Cross-entropy of the visible images; infrared ones are not looked at."""
        visible = len(batch) // 2
        features = full(self.encoder(batch.images[:visible], batch.modality[:visible]))
        return {"identity": identity_loss(self.classifier(features), batch.identity[:visible])}


METHOD = Pretraining


def pretrained(folder: Path, *, name: str, height: int, width: int, images: int, steps: int, size: Size) -> Path:
    """The file of pretrained weights, made first if it is missing or damaged; interrupted, it goes on where it stopped.

    Args:
        folder: for the twin, the run and the file.
        name: of the backbone.
        height: pixels.
        width: pixels.
        images: visible ones of a step.
        steps: of the training.
        size: of the twin of other people.

    Returns:
        a safetensors file with timm's names, as ``with.weights`` takes it.
    """
    file = folder / f"{name}.safetensors"
    if _whole(file):
        return file
    data = write(folder / "twin", layout="sysu_mm01", size=size, seed=SEED)
    epochs = min(10, steps)
    values = {
        "benchmark": {"name": "sysu_mm01", "root": str(data), "split": "trainval"},
        "method": "visir.reproduce.pretraining",
        "with": {
            "backbone": name,
            "stream": {"height": height, "width": width, "draw": {"kind": "unpaired", "images": images}},
            "recipe": {"drops": [0.6 * epochs, 0.85 * epochs]},
        },
        "train": {"epochs": epochs, "steps_per_epoch": max(1, steps // epochs), "workers": 1, "validate_every": 0},
    }
    try:
        train(build(values), folder / "run")
    except CheckpointError as error:  # of a single training, which has other options
        said = str(error).replace(", or begin again with --fresh", "")
        raise CheckpointError(f"{said} Remove {folder / 'run'} to begin it again.") from error
    network = load_encoder(folder / "run").network
    assert isinstance(network, AveragedBackbone)
    weights = {key: value.contiguous() for key, value in network.backbone.trunk.state_dict().items()}
    write_bytes(file, save(weights))
    return file


def _whole(file: Path) -> bool:
    """Whether the file is there and can be read to its end."""
    try:
        return bool(load_file(file))
    except (OSError, SafetensorError):
        return False
