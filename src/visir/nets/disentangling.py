"""Small perceptrons that split an embedding in two codes and put it together again: table 5 of Approach 1.

Slides of 25 May 2020 on disentanglement for RGB-infrared person re-identification. Hidden layers are in the published
proportions to the length of a code: 1024, 2048 and 512 for 256.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from visir.nets.image_blocks import start_weights


def perceptron(*sizes: int, last_relu: bool = True) -> nn.Sequential:
    """Linear layers from size to size with a ReLU behind each, the last one's only if wanted; He's initial weights.

    >>> [type(layer).__name__ for layer in perceptron(8, 4, 2, last_relu=False)]
    ['Linear', 'ReLU', 'Linear']
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    made = nn.Sequential(*(layers if last_relu else layers[:-1]))
    start_weights(made)
    return made


class CodeEncoder(nn.Module):
    """An embedding -> one of its codes, at least 0.

    Args:
        dim: D, length of the embedding.
        code: K, length of the code.
    """

    def __init__(self, dim: int, code: int) -> None:
        super().__init__()
        self.layers = perceptron(dim, 4 * code, 8 * code, 2 * code, code)

    def forward(self, embedded: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        found: Tensor = self.layers(embedded)
        return found


class CodeDecoder(nn.Module):
    """Two codes -> an embedding: the sum of what each gives by a branch of its own.

    Args:
        dim: D, length of the embedding.
        code: K, length of a code.
        last_relu: whether a branch ends with a ReLU, as printed, so that no embedding is below 0.
    """

    def __init__(self, dim: int, code: int, *, last_relu: bool) -> None:
        super().__init__()
        self.rest, self.identity = (perceptron(code, 2 * code, 8 * code, dim, last_relu=last_relu) for _ in range(2))

    def forward(self, rest: Tensor, identity: Tensor) -> Tensor:
        """(B, K), (B, K) -> (B, D); the slides name the codes in this order."""
        made: Tensor = self.rest(rest) + self.identity(identity)
        return made


def code_classifier(dim: int, num_identities: int) -> nn.Sequential:
    """Made embeddings -> logits: (B, D) -> (B, D) -> (B, C), with a ReLU between."""
    return perceptron(dim, dim, num_identities, last_relu=False)
