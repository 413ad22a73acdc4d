"""Layer 3: runs any method: device, precision, ranks, checkpoints, embedding."""
