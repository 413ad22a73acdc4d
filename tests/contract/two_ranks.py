"""One of two ranks: trains every method named on the command line for a few steps and saves what rank 0 has."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from toys import made, trained

from visir.engine.runtime import start

STEPS = 3


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    with start("cpu") as runtime:
        for name in names:
            state, _ = trained(made(name, epochs=1).double(), epochs=1, steps_per_epoch=STEPS, runtime=runtime)
            if runtime.main:
                save_file(state.model(), out / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
