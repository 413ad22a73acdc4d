"""LOMO: local maximal occurrence of colours and textures, alone or with a learnt metric.

Features and XQDA of Liao, Hu, Zhu and Li, Person Re-identification by Local Maximal Occurrence Representation and
Metric Learning, CVPR 2015; other metrics CCA, LFDA (Sugiyama, JMLR 2007) and KISSME (Koestinger et al., CVPR 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from visir.core.draws import Augment, Pairs, Stream
from visir.methods._handcrafted import Handcrafted, HandcraftedConfig
from visir.nets.handcrafted import Lomo


@dataclass(frozen=True)
class LOMOConfig(HandcraftedConfig):
    """Images of 128x48, 26,960 dimensions; see :class:`visir.methods._handcrafted.HandcraftedConfig`."""

    stream: Stream = field(default_factory=lambda: Stream(Pairs(1), height=128, width=48, augment=Augment(flip=0.0)))


class LOMO(Handcrafted[LOMOConfig]):
    """LOMO features and a metric; nothing is trained step by step.

    Raises:
        ConfigError: images of less than 20x20 pixels.
    """

    Config = LOMOConfig

    def __init__(self, config: LOMOConfig, num_identities: int) -> None:
        super().__init__(config, num_identities, Lomo(config.stream.height, config.stream.width))


METHOD = LOMO
