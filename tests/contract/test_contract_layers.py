"""Imports go downwards only, packages of one layer never import each other, and ``import visir`` stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "visir"
LAYERS = (
    {"core"},
    {"losses", "nets", "evaluation", "projections"},
    {"data", "benchmarks", "methods", "twin", "publications"},
    {"engine", "gallery"},
    {"experiment", "report"},
    {"demo", "reproduce"},
    {"cli"},  # a skin over everything
)
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)  # the package's own door is lazy


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of the visir modules that are imported anywhere in ``tree``, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "visir")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield f"visir.{package}"  # a relative import; none may leave its package
                assert node.level == 1, "relative import out of the package"
            elif node.module == "visir":
                yield from (f"visir.{name.name}" for name in node.names)
            elif node.module and node.module.startswith("visir."):
                yield node.module


def wrong(text: str, package: str) -> list[str]:
    """The imports of a file of ``package`` that do not go downwards."""
    found = []
    for name in imported(ast.parse(text), package):
        parts = name.split(".")
        target = parts[1] if len(parts) > 1 else ""
        if target in LEVEL and target != package and LEVEL[target] >= LEVEL[package]:
            found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downwards(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0]
    assert package in LEVEL, f"{package}: a new package; give it a layer"
    assert wrong(path.read_text(encoding="utf-8"), package) == []


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("core", "from visir.losses.identity import identity_loss"),
        ("losses", "import visir.nets.parts"),
        ("methods", "from visir import data"),
        ("benchmarks", "def f():\n    from visir.data.images import decode"),
        ("engine", "from visir.gallery.embedder import Embedder"),
        ("experiment", "if True:\n    import visir.cli.app as app"),
    ],
)
def test_an_import_upwards_or_sideways_is_seen(package: str, line: str) -> None:
    assert len(wrong(line, package)) == 1


def test_a_package_may_import_itself_and_what_is_below() -> None:
    assert (
        wrong("from visir.methods.base import Step\nfrom visir.core.batch import Batch\nimport torch", "methods") == []
    )


def test_only_the_batch_of_the_core_needs_torch() -> None:
    def at_run_time(path: Path) -> Iterator[ast.AST]:
        for top in ast.parse(path.read_text(encoding="utf-8")).body:
            if not (isinstance(top, ast.If) and ast.unparse(top.test) == "TYPE_CHECKING"):
                yield from ast.walk(top)

    needing = {
        path.name
        for path in (SOURCE / "core").glob("*.py")
        for node in at_run_time(path)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name and name.split(".")[0] == "torch"
    }
    assert needing == {"batch.py"}


def test_import_of_visir_loads_nothing_heavy() -> None:
    code = "import sys, visir; print(sorted({'torch', 'timm', 'lancedb', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
