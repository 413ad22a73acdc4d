"""CAJ: its three sets of images, its losses over all of them, mirror images in evaluation, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.experiment.ablation import systems
from visir.losses.squared_difference import squared_difference_loss
from visir.losses.triplet import weighted_triplet_loss
from visir.methods.caj import CAJ, CAJConfig

SMALL = CAJConfig(backbone="tiny", stream=Stream(IdentityBalanced(3, 2), height=48, width=24))


@dataclasses.dataclass
class Ranks:
    """The engine as the given one of ``world`` ranks sees it; the others hold the same images."""

    world: int = 1
    rank: int = 0
    index: int = 0
    epoch: float = 0.0
    generator: torch.Generator = dataclasses.field(default_factory=lambda: torch.Generator().manual_seed(7))

    def minimize(self, loss: Tensor, *names: str) -> None:
        raise AssertionError("losses() does not minimize")

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor] * self.world)

    def share(self, tensor: Tensor) -> Tensor:
        return tensor.chunk(self.world)[self.rank]


def batch(count: int = 6) -> Batch:
    images = torch.randn(2 * count, 3, 48, 24, generator=torch.Generator().manual_seed(0))
    images[count:] = images[count:, :1]
    return Batch(
        images=images,
        identity=(torch.arange(count) // 2).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def seen_by(method: CAJ, step: Ranks) -> Tensor:
    """The images that the encoder gets in one step."""
    seen: list[Tensor] = []
    handle = method.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.losses(batch(), step)
    handle.remove()
    return seen[0]


def test_copies_of_the_visible_images_stand_between_the_two_sets() -> None:
    torch.manual_seed(0)
    method, given = CAJ(dataclasses.replace(SMALL, grey=0.5), 3), batch().images
    images = seen_by(method, Ranks())
    torch.testing.assert_close(images[:6], given[:6])
    torch.testing.assert_close(images[12:], given[6:])
    kinds = set()
    for copy, image in zip(images[6:12], given[:6], strict=True):
        possible = method.exchange(image.expand(4, 3, 48, 24), torch.arange(4))
        found = [kind for kind in range(4) if torch.allclose(copy, possible[kind], atol=1e-5)]
        assert len(found) == 1
        kinds.update(found)
    assert len(kinds) > 1


def test_share_of_grey_copies_and_equal_chance_of_the_channels() -> None:
    method = CAJ(SMALL, 3)
    choices = method._choices(4000, torch.Generator().manual_seed(0)).bincount(minlength=4)
    assert all(900 < count < 1100 for count in choices.tolist())
    none = CAJ(dataclasses.replace(SMALL, grey=0.0), 3)._choices(100, torch.Generator().manual_seed(0))
    assert none.max() == 2


def test_copies_of_two_ranks_are_those_of_the_joint_batch() -> None:
    method = CAJ(SMALL, 3)
    joint = method._choices(12, Ranks().generator)
    for rank in range(2):
        images = seen_by(method, Ranks(world=2, rank=rank))
        expected = method.exchange(images[:6], joint[6 * rank : 6 * rank + 6])
        torch.testing.assert_close(images[6:12], expected)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("triplet", ["squared", "weighted"])
def test_losses_are_over_all_sets(triplet: str, joint: bool) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, triplet=triplet, joint=joint, sharpness=2.0, gain=0.5)  # type: ignore[arg-type]
    method = CAJ(config, 3).eval()
    images, sets = seen_by(method, Ranks()), 3 if joint else 2
    assert len(images) == 6 * sets
    terms = method.losses(batch(), Ranks())
    encoder = method.encoder
    with torch.no_grad():
        kinds = torch.tensor([0] * (len(images) - 6) + [1] * 6)
        pooled = encoder.pool(encoder.network(images, kinds))
        identity = torch.tensor([0, 0, 1, 1, 2, 2]).repeat(sets)
        logits = method.classifier(encoder.neck(pooled)).double().tolist()
        named = [math.log(sum(map(math.exp, row))) - row[y] for row, y in zip(logits, identity.tolist(), strict=True)]
        if triplet == "squared":
            expected = squared_difference_loss(pooled, identity, sharpness=2.0, gain=0.5)
        else:
            expected = weighted_triplet_loss(pooled, identity)
    assert list(terms) == ["identity", "triplet"]
    assert terms["identity"].item() == pytest.approx(sum(named) / len(named), rel=1e-4)
    assert terms["triplet"].item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("mirror", [True, False])
def test_embedding_counts_the_mirror_image(mirror: bool) -> None:
    torch.manual_seed(0)
    method = CAJ(dataclasses.replace(SMALL, mirror=mirror), 3).eval()
    images, modality = batch().images, batch().modality
    with torch.no_grad():
        found, mirrored = method.encoder(images, modality), method.encoder(images.flip(3), modality)
        plain = method.encoder.neck(method.encoder.pool(method.encoder.network(images, modality)))
    assert torch.allclose(found, mirrored, atol=1e-5) == mirror
    assert torch.allclose(found, plain, atol=1e-5) != mirror


def test_copies_go_through_the_visible_stem() -> None:
    method, rows = CAJ(SMALL, 3), []
    for stem in (method.encoder.network.visible, method.encoder.network.infrared):
        stem.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    method.losses(batch(), Ranks())
    assert rows == [12, 6]


def test_every_parameter_that_learns_gets_a_gradient() -> None:
    method = CAJ(SMALL, 3)
    torch.stack(list(method.losses(batch(), Ranks()).values())).sum().backward()
    learning = [p for group in method.optimizer().optimizer.param_groups for p in group["params"]]
    assert all(p.grad is not None for p in learning)
    assert len(learning) == len(list(method.parameters())) - 1  # all but the neck's bias, which stays 0


def test_defaults_are_the_published_numbers() -> None:
    config = CAJConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("resnet50", 288, 144)
    assert config.stream.draw == IdentityBalanced(8, 4)
    assert (config.stream.augment.erase, config.sharpness, config.gain, config.mirror) == (0.5, 1, 1, True)
    optim = CAJ(SMALL, 3).optimizer()
    assert [group["lr"] for group in optim.optimizer.param_groups] == [0.01, 0.1]
    factors = [optim.schedule(epoch) for epoch in (0, 9, 19, 20, 50, 99)]
    assert factors == pytest.approx([0.1, 1, 1, 0.1, 0.01, 0.01])


def test_parameters_with_a_resnet_50() -> None:
    with torch.device("meta"):
        method = CAJ(CAJConfig(non_local=False), 395)
        with_attention = CAJ(CAJConfig(), 395)
    trunk, stem, neck, classifier = 23_508_032, 9_408 + 128, 2 * 2048, 2048 * 395
    assert sum(p.numel() for p in method.parameters()) == trunk + stem + neck + classifier
    blocks = sum(p.numel() for p in with_attention.parameters()) - sum(p.numel() for p in method.parameters())
    assert blocks == sum(number * (6 * channels + 3) for number, channels in ((2, 512), (3, 1024)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grey": 1.5}, "grey must be from 0 to 1"),
        ({"sharpness": 0.0}, "sharpness must be a finite number above 0"),
        ({"gain": math.inf}, "gain must be a finite number above 0"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(CAJConfig, values, where="with")


def test_streams_and_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="CAJ .* 'unpaired'"):
        CAJ(dataclasses.replace(SMALL, stream=Stream(Unpaired(4), height=48, width=24)), 3)
    with pytest.raises(ConfigError, match="set with.non_local to false"):
        CAJ(dataclasses.replace(SMALL, backbone="test_vit", stream=dataclasses.replace(SMALL.stream, width=32)), 3)


def test_batches_of_another_order_are_refused() -> None:
    turned = batch()
    with pytest.raises(TrainingError, match="N visible images followed by N infrared"):
        CAJ(SMALL, 3).losses(dataclasses.replace(turned, modality=turned.modality.flip(0)), Ranks())


ROWS = {  # row -> joint, triplet, erase, channels
    "base": (False, "weighted", 0.0, 0.0),
    "exchange": (False, "weighted", 0.0, 0.75),
    "exchange-erasing": (False, "weighted", 0.5, 0.75),
    "exchange-erasing-squared": (False, "squared", 0.5, 0.75),
    "full": (True, "squared", 0.5, 0.0),
}


def test_rows_of_the_ablation() -> None:
    found = {name.removeprefix("caj/"): system for name, system in systems().items() if name.startswith("caj/")}
    assert list(found) == list(ROWS)
    for name, (ablation, row) in found.items():
        benchmarks = ablation.benchmarks(row)
        assert benchmarks == ["sysu_mm01", "regdb", "llcm"][: 3 if name == "full" else 2]
        for benchmark in benchmarks:
            experiment = ablation.experiment(row, benchmark)
            options, augment = experiment.options, experiment.options.stream.augment
            assert isinstance(options, CAJConfig)
            assert (options.joint, options.triplet, augment.erase, augment.channels) == ROWS[name]
            assert (options.weights, experiment.train.epochs) == ("scratch", 100)
