"""Speed of the twin: pictures a second by size and number of threads, and where the time of one picture goes.

    python benchmarks/bench_twin.py [--pictures 120]

Wall seconds depend on what else the machine does, so the processor seconds of a picture stand beside them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from visir.twin import Size, World, write
from visir.twin.figure import figure
from visir.twin.picture import encoded, moment, shoot
from visir.twin.pose import joints
from visir.twin.world import plan


def rate(size: Size, workers: int) -> tuple[float, float]:
    """Pictures a wall second, and processor milliseconds a picture."""
    with tempfile.TemporaryDirectory() as folder:
        count = len(plan(0, "sysu_mm01", size).shots)
        wall, processor = time.perf_counter(), time.process_time()
        write(Path(folder) / "twin", size=size, workers=workers, show_progress=False)
        return count / (time.perf_counter() - wall), 1e3 * (time.process_time() - processor) / count


def milliseconds(action: Callable[[], object], repeats: int = 20) -> float:
    """Median processor milliseconds of ``action``."""
    took = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        took.append(time.process_time() - start)
    return 1e3 * sorted(took)[repeats // 2]


def parts(height: int, width: int) -> None:
    """Where the time of one picture goes."""
    world = World(0, "sysu_mm01", height, width)
    who, camera, seen = world.person(3), world.cameras[1], world.sighting(3, 1, 1)
    at = moment(world, who, camera, seen)
    pixels = shoot(world, at, "visible")
    rows = {
        "person and pose": lambda: figure(world.person(3), joints(who, seen)),
        "pose and tracing": lambda: moment(world, who, camera, seen),
        "visible light and camera": lambda: shoot(world, at, "visible"),
        "near-infrared": lambda: shoot(world, at, "near-infrared"),
        "thermal": lambda: shoot(world, at, "thermal"),
        "JPEG": lambda: encoded(pixels, "jpg", 88),
    }
    for name, action in rows.items():
        print(f"  {name:<26}{milliseconds(action):7.2f} ms")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=240, help="about how many pictures each row makes")
    each = max(1, parser.parse_args().pictures // 40)
    rate(Size(2, 0, 2, ((1, 1),), 32, 16), 1)  # compile
    print(f"{'size':>10} {'rays':>5} {'threads':>8} {'pictures/s':>11} {'CPU ms each':>12}")
    for height, width, fine in ((128, 64, 1), (128, 64, 2), (128, 64, 4), (288, 144, 2)):
        for workers in (1, 2):
            count = each if height == 128 else max(1, each // 3)
            size = Size(5, 0, 4, ((count, count),), height, width, fine)
            speed, cost = rate(size, workers)
            print(f"{height:>6}x{width:<3} {fine}x{fine:<3} {workers:>8} {speed:>11.1f} {cost:>12.1f}")
    for height, width in ((128, 64), (288, 144)):
        print(f"one picture of {height}x{width}, 2x2 rays a pixel, processor time:")
        parts(height, width)


if __name__ == "__main__":
    main()
