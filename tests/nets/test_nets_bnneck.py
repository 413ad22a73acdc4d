"""The neck, its classifier, and the encoder that ends with it."""

from __future__ import annotations

import torch

from visir.nets.bnneck import BNNeck, NeckEncoder, neck_classifier
from visir.nets.pooling import MeanPool
from visir.nets.stems import two_stems


def test_neck_normalises_and_never_shifts() -> None:
    torch.manual_seed(0)
    neck = BNNeck(64)
    out = neck(torch.randn(32, 64) * 3 + 5)
    torch.testing.assert_close(out.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(0, correction=0), neck.weight, atol=1e-3, rtol=0)
    assert (neck.weight - 1).abs().max() < 0.1
    assert not neck.bias.requires_grad
    assert neck.trainable() == [neck.weight]
    out.sum().backward()
    assert neck.bias.grad is None


def test_classifier_has_small_weights_and_no_bias() -> None:
    classifier = neck_classifier(512, 20)
    assert classifier.bias is None
    assert 0.0008 < classifier.weight.std() < 0.0012


def test_encoder_gives_the_neck_or_both() -> None:
    encoder = NeckEncoder(two_stems("tiny", weights="scratch", image_size=(48, 24)), MeanPool()).eval()
    images, modality = torch.randn(3, 3, 48, 24), torch.tensor([1, 0, 1])
    with torch.no_grad():
        pooled, embedded = encoder(images, modality, both=True)
        torch.testing.assert_close(encoder(images, modality), embedded)
        torch.testing.assert_close(encoder.neck(pooled), embedded)
        torch.testing.assert_close(pooled, encoder.network(images, modality).mean((2, 3)))
    assert pooled.shape == embedded.shape == (3, encoder.dim) == (3, 256)
