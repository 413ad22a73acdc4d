"""The perceptrons of table 5: layers, parameters, and that a made embedding is the sum of two branches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.nets.disentangling import CodeDecoder, CodeEncoder, code_classifier, perceptron


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def layers(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_table_5() -> None:
    with torch.device("meta"):
        encoder, decoder = CodeEncoder(512, 256), CodeDecoder(512, 256, last_relu=True)
        classifier = code_classifier(512, 395)
    assert layers(encoder) == [(512, 1024), (1024, 2048), (2048, 512), (512, 256)]
    assert layers(decoder) == 2 * [(256, 512), (512, 2048), (2048, 512)]
    assert layers(classifier) == [(512, 512), (512, 395)]
    assert (count(encoder), count(decoder.rest), count(decoder.identity)) == (3_804_928, 2_231_296, 2_231_296)
    assert count(classifier) == 465_291


def test_relus() -> None:
    kinds = [type(layer) for layer in perceptron(3, 2, 2)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU]
    assert [type(layer) for layer in code_classifier(4, 3)] == kinds[:3]
    torch.manual_seed(0)
    embedded = torch.randn(32, 8)
    assert (CodeEncoder(8, 4)(embedded) >= 0).all()
    codes = CodeEncoder(8, 4)(embedded), CodeEncoder(8, 4)(embedded)
    assert (CodeDecoder(8, 4, last_relu=True)(*codes) >= 0).all()
    assert (CodeDecoder(8, 4, last_relu=False)(*codes) < 0).any()


def test_an_embedding_is_the_sum_of_its_branches() -> None:
    torch.manual_seed(0)
    decoder = CodeDecoder(6, 4, last_relu=True)
    rest, identity = torch.rand(3, 4), torch.rand(3, 4)
    torch.testing.assert_close(decoder(rest, identity), decoder.rest(rest) + decoder.identity(identity))
    assert not torch.allclose(decoder(rest, identity), decoder(identity, rest))


def test_initial_weights() -> None:
    torch.manual_seed(0)
    first = CodeEncoder(512, 64).layers[0]
    assert first.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert float(first.bias.detach().abs().sum()) == 0
