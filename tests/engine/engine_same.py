"""Comparing states and watching trainings, for the tests of this folder."""

import torch

from visir.engine.fit import Stepped


def same_bits(one, other):
    assert one.step == other.step
    assert one.values == other.values
    assert one.about == other.about
    assert one.tensors.keys() == other.tensors.keys()
    different = [name for name in one.tensors if not torch.equal(one.tensors[name], other.tensors[name])]
    assert not different


def distance(one, other):
    assert one.tensors.keys() == other.tensors.keys()
    return max((one.tensors[name].double() - other.tensors[name].double()).abs().max().item() for name in one.tensors)


def finish(events):
    """All Stepped events, and the state at the end."""
    stepped = []
    for event in events:
        if isinstance(event, Stepped):
            stepped.append(event)
            last = event.state()
    return stepped, last
