"""Layer 1: small networks and the one door to backbones (timm)."""
