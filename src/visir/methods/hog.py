"""HOG: histograms of oriented gradients, alone or with a learnt metric, as the publications compare with them.

Features of Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005; metrics CCA, LFDA
(Sugiyama, JMLR 2007), XQDA (Liao et al., CVPR 2015) and KISSME (Koestinger et al., CVPR 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from visir.core.draws import Augment, Pairs, Stream
from visir.methods._handcrafted import Handcrafted, HandcraftedConfig
from visir.nets.handcrafted import Hog


@dataclass(frozen=True)
class HOGConfig(HandcraftedConfig):
    """Grey images of 128x64, 3,780 dimensions; see :class:`visir.methods._handcrafted.HandcraftedConfig`."""

    stream: Stream = field(default_factory=lambda: Stream(Pairs(1), height=128, width=64, augment=Augment(flip=0.0)))


class HOG(Handcrafted[HOGConfig]):
    """HOG features and a metric; nothing is trained step by step.

    Raises:
        ConfigError: images of less than 16x16 pixels.
    """

    Config = HOGConfig

    def __init__(self, config: HOGConfig, num_identities: int) -> None:
        super().__init__(config, num_identities, Hog(config.stream.height, config.stream.width))


METHOD = HOG
