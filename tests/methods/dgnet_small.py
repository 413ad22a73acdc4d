"""A small DG-Net, a batch that it takes, and which of its parts a term reaches."""

from __future__ import annotations

import dataclasses

import torch
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.methods._partners import Exchange
from visir.methods.dgnet import DGNet, DGNetConfig
from visir.nets.dgnet_identity import AppearanceEncoder

PEOPLE = 6
SMALL = DGNetConfig(
    backbone="tiny",
    stream=Stream(IdentityBalanced(4, 2), height=32, width=16),
    width=2,
    dropout=0.0,
    fine_dropout=0.0,
    teacher_epochs=2.0,
    feeding_epochs=1.0,
    rising_epochs=2.0,
)
OFFICIAL = dataclasses.replace(SMALL, fine=0.2, cycle=2.0)
STRUCTURE = dataclasses.replace(SMALL, identity="structure", cycle=2.0)


def groups(images: int = 2) -> Batch:
    """Four people with ``images`` pictures each of both modalities, two people at a time."""
    identity = torch.tensor([3, 0, 4, 1]).repeat_interleave(images)
    count = len(identity)
    noise = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randn(2 * count, 3, 32, 16, generator=noise),
        identity=identity.repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def made(config: DGNetConfig) -> DGNet:
    torch.manual_seed(0)
    return DGNet(config, PEOPLE).train()


def exchanged(config: DGNetConfig, *, tunes: bool = False) -> tuple[DGNet, Exchange]:
    """The method in training mode and a batch taken apart and put together; nothing is erased unless asked for."""
    method = made(config)
    found = method._exchange(groups(), OneRank())
    return method, dataclasses.replace(found, tunes=tunes)


def parts(method: DGNet) -> dict[str, list[nn.Parameter]]:
    encoder = method.encoder
    heads = [encoder.prime, encoder.fine] if isinstance(encoder, AppearanceEncoder) else [encoder.deepen]
    networks: dict[str, list[nn.Module | None]] = {
        "appearance": [method.appearance],
        "structure": [method.structure],
        "heads": [*heads, method.classifier, method.fine_classifier],
        "generator": [method.generator],
        "discriminator": [method.discriminator],
        "teacher": [method.teacher],
    }
    return {k: [p for network in v if network is not None for p in network.parameters()] for k, v in networks.items()}


def reached(method: DGNet, term: Tensor) -> set[str]:
    """The parts that get a gradient of this term."""
    found = set()
    for name, everything in parts(method).items():
        parameters = [parameter for parameter in everything if parameter.requires_grad]
        if parameters:
            gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            if any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients):
                found.add(name)
    return found


def all_terms(method: DGNet, exchange: Exchange) -> dict[str, Tensor]:
    config = method.config
    return {
        **method._judge(exchange),
        **method._painted(exchange),
        **method._recognised(exchange, config.teaching),
        **method._found_again(exchange, config.code, config.cycle),
    }
