"""Layer 2: decoding, augmenting, sampling and loading of images."""
