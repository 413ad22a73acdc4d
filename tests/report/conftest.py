"""A synthetic run folder with real scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_run import CONFIG, clustered, log_lines, write_features, write_pictures

from visir.benchmarks import catalog
from visir.core.types import ImageTable
from visir.evaluation.evaluate import evaluate


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the ``folder`` layout; read only."""
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root)
    return root


@pytest.fixture(scope="session")
def table(pictures: Path) -> ImageTable:
    """Its test table."""
    return catalog.find("folder").read(pictures, "test", 1)


@pytest.fixture(scope="session")
def features(table: ImageTable) -> np.ndarray:
    """Features that find most people."""
    return clustered(table, noise=1.0, gap=0.5)


@pytest.fixture(scope="session")
def make_run(table: ImageTable, features: np.ndarray) -> Callable[[Path], Path]:
    """Writes a complete run folder."""

    def make(run: Path) -> Path:
        run.mkdir(parents=True)
        untrained = clustered(table, noise=3.0, gap=3.0)
        protocols = catalog.find("folder").protocols(1).values()
        scores = {
            "reports": [evaluate(features, table, protocol).as_dict() for protocol in protocols],
            "comparisons": {"untrained": [evaluate(untrained, table, protocol).as_dict() for protocol in protocols]},
            "epoch": 4,
        }
        (run / "scores.json").write_text(json.dumps(scores))
        (run / "experiment.yaml").write_text(CONFIG)
        (run / "log.jsonl").write_text("\n".join(log_lines()) + "\n")
        write_features(run / "features.npz", features, table)
        write_features(run / "features-untrained.npz", untrained, table)
        return run

    return make


@pytest.fixture
def tiny_table() -> ImageTable:
    """Eleven pictures without files: identities of one and of both modalities, one unknown."""
    return ImageTable(
        root=Path("nowhere"),
        paths=tuple(f"{i}.png" for i in range(11)),
        identity=np.array([1, 1, 2, 3, 1, 1, 1, 2, 4, -1, -1]),
        camera=np.arange(11),
        modality=np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1]),
    )
