"""Approach 1: the first phase trains the two-stream network as BDTR does."""

from __future__ import annotations

import dataclasses

import torch
from one_rank import OneRank
from small_approach1 import NETWORK_STREAM, Recorder, drawn, made, moved

from visir.core.batch import Batch
from visir.methods.approach1 import Approach1
from visir.methods.bdtr import BDTR, BDTRConfig


def both() -> tuple[Approach1, BDTR, Batch]:
    """Equal weights, BDTR with its published numbers, and people who look so alike that every term counts."""
    method = made(people=8, dropout=0.0).eval()
    alone = BDTR(BDTRConfig(backbone="tiny", stream=NETWORK_STREAM, dim=12, dropout=0.0), 8).eval()
    alone.encoder.load_state_dict(method.encoder.network.state_dict())  # a given embedding is such an encoder
    alone.classifier.load_state_dict(method.embedding_classifier.state_dict())
    batch = drawn(8, 1)
    return method, alone, dataclasses.replace(batch, images=batch.images[:1] + 0.1 * batch.images)


def test_terms_are_those_of_bdtr() -> None:
    method, alone, batch = both()
    terms, expected = method._bdtr(batch, OneRank()), alone.losses(batch, OneRank())
    assert list(terms) == [f"embedding_{name}" for name in expected]
    for name, value in expected.items():
        assert value.item() > 0
        torch.testing.assert_close(terms[f"embedding_{name}"], value)


def test_terms_teach_network_and_classifier() -> None:
    method, _, batch = both()
    network = {"streams": method.encoder.network.streams, "embedding": method.encoder.network.embedding}
    parts = {**network, "classifier": method.embedding_classifier}
    terms = method._bdtr(batch, OneRank())
    assert moved(terms["embedding_identity"], parts) == set(parts)
    assert moved(terms["embedding_ranking"], parts) == set(network)
    assert moved(terms["embedding_intra"], parts) == set(network)


def test_ranking_sees_the_images_of_all_ranks() -> None:
    method, alone, batch = both()
    terms, expected = method._bdtr(batch, Recorder()), alone.losses(batch, Recorder())
    single = method._bdtr(batch, OneRank())
    for name in ("ranking", "intra"):
        torch.testing.assert_close(terms[f"embedding_{name}"], expected[name])
        assert not torch.isclose(terms[f"embedding_{name}"], single[f"embedding_{name}"], rtol=1e-3)


def test_features_are_dropped_in_front_of_both_layers() -> None:
    method, batch = made(dropout=0.5).train(), drawn(8, 1)
    assert not torch.equal(*(method.encoder.network(batch.images, batch.modality) for _ in range(2)))
    assert not torch.equal(*(method.embedding_classifier(torch.ones(8, 12)) for _ in range(2)))
