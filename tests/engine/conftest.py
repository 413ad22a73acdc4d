import multiprocessing

import numpy as np
import pytest
from engine_toys import program
from PIL import Image


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Six identities with five visible and six infrared pictures each, learnable: an identity has its colour."""
    root = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    for identity in range(6):
        for modality, count in ((0, 5), (1, 6)):
            base = np.full((20, 12, 3), 30 * identity + 20)
            base[: 3 * identity + 2] += 60
            for k in range(count):
                picture = (base + rng.integers(0, 30, base.shape)).clip(0, 255).astype(np.uint8)
                Image.fromarray(picture).save(root / f"{identity * 7}_{modality}_{k}.png")
    return program.read(root)


@pytest.fixture(scope="session")
def launch(small):
    """Starts ``program.job`` in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "engine_toys.program"])

    def start(run, names, *, epochs, environment, **options):
        process = context.Process(target=program.job, args=(small.root, run, names, epochs, environment, options))
        process.start()
        return process

    return start
