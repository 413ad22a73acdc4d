"""Streams come and go with the phases of a method; what nobody wants is not loaded."""

import pytest
import torch

from visir.core.batch import Batch
from visir.core.errors import TrainingError
from visir.engine.incoming import Incoming
from visir.engine.runtime import Runtime


class Recorded:
    """A source that notes what is asked of it."""

    def __init__(self, name, said):
        self.name, self.said, self.steps_per_epoch = name, said, 2

    def batches(self, first, last, device):
        self.said.append(f"open {self.name} {first}..{last}")
        try:
            for step in range(first, last):
                self.said.append(f"{self.name} {step}")
                yield Batch(torch.zeros(2, 3, 4, 2), *(torch.full((2,), step) for _ in range(3)))
        finally:
            self.said.append(f"close {self.name}")


class Phased:
    """Wants ``one``, then both, then ``two``."""

    def wanted(self, epoch):
        return {0: {"one"}, 1: {"one", "two"}, 2: {"two"}}[int(epoch)]


def incoming(said, method=None):
    sources = {name: Recorded(name, said) for name in ("one", "two")}
    return Incoming(method or Phased(), sources, Runtime(), 6)


def test_only_wanted_streams_are_loaded():
    said = []
    batches = incoming(said)
    names = []
    for index in range(6):
        found = batches.at(index, index / 2)
        assert {int(batch.identity[0]) for batch in found.values()} == {index}
        names.append(sorted(found))
    assert names == [["one"]] * 2 + [["one", "two"]] * 2 + [["two"]] * 2
    batches.close()
    assert said.index("open two 2..6") > said.index("one 1")
    assert "one 4" not in said
    assert "two 1" not in said
    assert said[-1] == "close two"
    assert said.index("close one") < said.index("two 4")


def test_resumed_in_the_middle_it_opens_where_it_is():
    said = []
    batches = incoming(said)
    batches.at(3, 1.5)
    batches.close()
    assert {line for line in said if line.startswith("open")} == {"open one 3..6", "open two 3..6"}


def test_an_unknown_stream_is_named():
    class Wrong:
        def wanted(self, epoch):
            return {"onee"}

    with pytest.raises(TrainingError, match="'onee'.*Did you mean 'one'"):
        incoming([], Wrong()).at(0, 0.0)
