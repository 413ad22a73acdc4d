"""What the user asks for, and the parts of it that can be judged before anything is read or made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visir.core.errors import ConfigError
from visir.engine.runtime import choose_device
from visir.experiment.config import overlaid
from visir.reproduce.budget import BUDGETS

FIXED = {  # keys that --set cannot give, because something else decides them, and what does
    "seed": "give --seeds",
    "method": "the rows name their methods; choose rows with --system or --row",
    "published": "printed figures are looked up, never set",
    "benchmark.name": "choose with --benchmark",
    "benchmark.root": "give --root",
    "benchmark.draw": "give --draws",
    "benchmark.protocols": "the tables name the protocols, in an ablation its base does",
}
SECTIONS = ("benchmark", "with", "train")


@dataclass(frozen=True)
class Request:
    """What the user asks for; see the options of ``visir reproduce``."""

    roots: tuple[Path, ...] = ()
    twin: str | None = None
    benchmarks: tuple[str, ...] = ()
    draws: int | None = None
    seeds: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    pretrained: bool = False
    devices: tuple[str, ...] = ()
    parallel: int = 1
    finished: bool = False
    output: Path | None = None
    document: Path | None = None

    def words(self) -> list[str]:
        """The options that a reader of the results needs to make them again, as they are typed."""
        roots = [word for _ in self.roots for word in ("--root", "DIR")]
        words = ["--twin", self.twin] if self.twin else roots
        words += [word for benchmark in self.benchmarks for word in ("--benchmark", benchmark)]
        words += ["--draws", str(self.draws)] if self.draws else []
        words += ["--seeds", ",".join(map(str, self.seeds))] if self.seeds else []
        words += [word for setting in self.settings for word in ("--set", setting)]
        words += ["--pretrained"] if self.pretrained else []
        return words + (["--finished"] if self.finished else [])

    def check(self) -> None:
        """Raise ConfigError for settings, devices and combinations that no row could run with."""
        for setting in self.settings:
            _check_setting(setting, pretrained=self.pretrained)
        if self.twin and self.roots:
            raise ConfigError("--root and --twin: give one of them; a twin is made in the output folder.")
        if self.twin in BUDGETS and self.pretrained:
            raise ConfigError(
                f"--pretrained and --twin {self.twin}: the small network of this twin's budget has no ImageNet "
                "weights; leave --pretrained out, or give --twin full."
            )
        if not self.finished:
            for device in self.devices:
                _check_device(device)


def _check_setting(setting: str, *, pretrained: bool) -> None:
    overlaid({}, [setting])  # raises unless it is key=value
    key = setting.partition("=")[0].strip()
    if not all(key.split(".")):
        raise ConfigError(f"--set {setting}: expected dotted.key=value, for instance train.epochs=3.")
    if key in FIXED:
        raise ConfigError(f"--set {setting}: {key} cannot be set; {FIXED[key]}.")
    if key in SECTIONS:
        raise ConfigError(f"--set {setting}: '{key}' is a whole section; set its keys one by one, such as with.dim=8.")
    if key == "with.weights" and pretrained:
        raise ConfigError(f"--set {setting} and --pretrained: give one of them.")


def _check_device(device: str) -> None:
    try:
        choose_device(device)
    except ConfigError as error:
        raise ConfigError(f"--device {device}: {error}") from error


def shortened(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence, not too many of them.

    >>> shortened(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest} more"
