"""D2RL: its sizes, defaults, rates and pictures, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from small_d2rl import (
    SMALL,
    TRANSLATION,
    Watcher,
    images,
    made,
    parts,
)

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.methods.d2rl import D2RL, D2RLConfig
from visir.nets.ranges import shown


@pytest.mark.parametrize(("unify", "channels", "inside"), [("both", 4, 2), ("visible", 3, 1), ("infrared", 3, 1)])
def test_the_encoder_has_what_searching_needs(unify: str, channels: int, inside: int) -> None:
    method = made(unify=unify)
    assert method.encoder.backbone.trunk.conv1.in_channels == channels
    assert set(method.encoder.translators) == ({"visible", "infrared"} if unify == "both" else {unify})
    assert len(method.aside) == 2 - inside
    assert set(method.translators) == {"visible", "infrared"}
    assert all("discriminators" not in key for key in method.encoder.state_dict())


@pytest.mark.parametrize("num_identities", [206, 395])
def test_parameters_of_the_sheet(num_identities: int) -> None:
    with torch.device("meta"):
        method = D2RL(D2RLConfig(), num_identities)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts(method).items()}
    assert counts == {
        "visible encoder": 5_385_856,
        "infrared encoder": 5_379_584,
        "visible decoder": 5_754_627,
        "infrared decoder": 5_748_353,
        "visible judge": 3 * 2_757_057,
        "infrared judge": 3 * 2_755_009,
        "network": 23_508_032 + 3_136,
        "classifier": 2048 * num_identities + num_identities,
    }
    assert sum(counts.values()) == sum(p.numel() for p in method.parameters())
    assert (method.encoder.dim, method.encoder.backbone.grid) == (2048, (8, 4))


def test_a_shared_block_is_counted_and_updated_once() -> None:
    with torch.device("meta"):
        apart, shared = (D2RL(D2RLConfig(share_latent=share), 3) for share in (False, True))
        groups = shared.optimizers()["translation"].optimizer.param_groups
    block = sum(p.numel() for p in apart.translators["visible"].encoder.blocks[-1].parameters())
    less = sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in shared.parameters())
    assert less == 2 * block
    updated = [p for group in groups for p in group["params"]]
    assert len(updated) == len({id(p) for p in updated})


def test_defaults_are_the_chosen_numbers() -> None:
    config = D2RLConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("resnet50", 256, 128)
    assert config.stream.draw == IdentityBalanced(4, 4)
    weights = (config.divergence, config.reconstruction, config.adversarial, config.cycle)
    assert weights == (0.01, 10, 1, 10)
    assert (config.identity, config.triplet, config.margin, config.cycle_divergence) == (1, 1, 0.3, 0)
    assert (config.translation_epochs, config.warmup_epochs, config.width) == (100, 10, 64)


def test_rates_fall_together_thirty_epochs_into_the_joint_phase() -> None:
    optims = made(recipe=D2RLConfig().recipe).optimizers()
    for name in ("translation", "discriminators"):
        (group,) = optims[name].optimizer.param_groups
        assert isinstance(optims[name].optimizer, torch.optim.Adam)
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 1e-4)
    slow, fast = optims["network"].optimizer.param_groups
    assert (slow["lr"], fast["lr"], slow["momentum"], slow["weight_decay"]) == (0.01, 0.1, 0.9, 5e-4)
    for optim in optims.values():
        assert [optim.schedule(epoch) for epoch in (0, 139.9, 140, 159)] == pytest.approx([1, 1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"cycle": -1}, "cycle must be a finite number of at least 0"),
        ({"triplet": math.nan}, "triplet must be a finite number"),
        ({"margin": -0.1}, "margin must be a finite number"),
        ({"warmup_epochs": math.inf}, "warmup_epochs must be a finite number"),
        ({"reconstruction": 0, "adversarial": 0, "cycle": 0}, "nothing to translate for"),
        ({"cycle": 0, "cycle_divergence": 0.01}, "cycle_divergence must be 0 where cycle is"),
        ({"unify": "thermal"}, "'both', 'visible' or 'infrared'"),
        ({"translation": {"momentum": 1}}, "momentum must be at least 0 and below 1"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(D2RLConfig, values, where="with")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(Unpaired(4), height=48, width=24), "with.stream.draw: .* 'unpaired'"),
        (Stream(IdentityBalanced(2, 2), height=50, width=24), "multiples of 4, got 50x24"),
        (Stream(IdentityBalanced(2, 2), height=24, width=12), "at least 32x16 pixels, got 24x12"),
    ],
)
def test_streams_that_do_not_fit_are_refused(stream: Stream, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        D2RL(dataclasses.replace(SMALL, stream=stream), 3)


def test_batches_of_another_order_are_refused() -> None:
    batch = images()
    order = [4, 5, 6, 7, 0, 1, 2, 3]
    mixed = Batch(batch.images[order], batch.identity[order], batch.camera[order], batch.modality[order])
    method = made()
    with pytest.raises(TrainingError, match="N visible images followed by N infrared"):
        method.train_step({"main": mixed}, Watcher(method, TRANSLATION))


@pytest.mark.parametrize("unify", ["both", "visible", "infrared"])
def test_pictures(unify: str) -> None:
    method, batch = made(unify=unify).eval(), images(20)
    with torch.no_grad():
        grids, again = (method.pictures({"main": batch}) for _ in range(2))
    assert list(grids) == ["translation", "unified"]
    assert all(torch.equal(grids[name].images, again[name].images) for name in grids)
    translation = grids["translation"]
    assert translation.images.shape == (8, 8, 3, 48, 24)
    assert translation.columns[:4] == ("visible", "made infrared", "and back", "reconstructed")
    torch.testing.assert_close(translation.images[:, 0], shown(batch.images[:20:2][:8]))
    torch.testing.assert_close(translation.images[:, 4], shown(batch.images[20::2][:8]), atol=1e-6, rtol=1e-5)
    assert translation.images.min() >= -1e-6
    assert translation.images.max() <= 1 + 1e-6
    for column in (1, 4, 6, 7):
        assert torch.equal(translation.images[:, column, 0], translation.images[:, column, 1]), "grey"
    read = {"both": [0, 1, 5, 4], "visible": [0, 5], "infrared": [1, 4]}[unify]
    assert torch.equal(grids["unified"].images, translation.images[:, read])
    assert len(grids["unified"].columns) == len(read)
