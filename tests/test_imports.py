"""Imports go one way, and what not every machine has is imported late and in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import rethink_fast

ROOT = Path(rethink_fast.__file__).parent
LAYERS = (
    (
        *("cgroup", "contention", "crash", "env", "errors", "files", "markdown", "output"),
        *("owned_folder", "plotting", "rng", "schema", "stderr", "stages", "terminal", "text"),
    ),
    ("kernels",),
    ("corruptions", "augment"),
    ("data",),
    ("pack",),
    ("models",),
    ("recipes",),
    ("config",),
    ("defaults",),
    ("theory",),
    ("train",),
    ("bench",),
    ("measures", "memorize"),
    ("experiments",),
    ("compare",),
    ("report",),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    parts = ("rethink_fast", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(module: str, is_package: bool, tree: ast.Module) -> Iterator[tuple[str, bool, int]]:
    """Each imported name in full, whether it is imported lazily (in a function, or for types only), and the line."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, lazy, child.lineno
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = module.split(".")
                    kept = parts[: len(parts) - child.level + (1 if is_package else 0)]
                    base = ".".join((*kept, base)) if base else ".".join(kept)
                for alias in child.names:
                    yield f"{base}.{alias.name}", lazy, child.lineno
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(child)
            yield from walk(child, lazy or inside)

    yield from walk(tree, False)


PATHS = sorted(ROOT.rglob("*.py"))
IMPORTS = [
    (path, *row)
    for path in PATHS
    for row in imports(module_name(path), path.name == "__init__.py", ast.parse(path.read_text()))
]


def area(module: str) -> str | None:
    """The part of the package a module belongs to; None for the package itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "rethink_fast" and len(parts) > 1 and parts[1] in RANK else None


def test_every_module_has_a_place() -> None:
    unknown = [str(path.relative_to(ROOT)) for path in PATHS if path.parent != ROOT or path.stem != "__init__"]
    unknown = [name for name in unknown if Path(name).parts[0].removesuffix(".py") not in RANK]
    assert not unknown, "name these in LAYERS"


def test_imports_go_one_way() -> None:
    """Nothing imports what stands further right, at the top of a file or inside a function.

    The package's own __init__ hands out names from anywhere, but only when they are asked for.
    """
    wrong = []
    for path, name, lazy, line in IMPORTS:
        here, there = area(module_name(path)), area(name)
        rank = RANK[here] if here is not None else len(LAYERS) if lazy else -1
        if path == ROOT / "bench/__main__.py":
            continue  # which is the command line, under the paper's benchmark's name
        if there is not None and RANK[there] > rank:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_relative_imports_are_resolved() -> None:
    """The walk itself: every form of import, of a module and of a package, lazy or not."""
    source = "from ..a import b\nfrom . import c\nimport d.e\ndef f():\n    from .g import h\n"
    tree = ast.parse(source)
    assert list(imports("p.q.r", False, tree)) == [
        ("p.a.b", False, 1),
        ("p.q.c", False, 2),
        ("d.e", False, 3),
        ("p.q.g.h", True, 5),
    ]
    assert [name for name, _, _ in imports("p.q", True, tree)] == ["p.a.b", "p.q.c", "d.e", "p.q.g.h"]


def files_importing(package: str, *, lazy: bool) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path, name, is_lazy, _ in IMPORTS
        if is_lazy == lazy and (name == package or name.startswith(f"{package}."))
    }


def test_triton_stays_in_its_kernels() -> None:
    """Only kernels/triton_*.py import it, and nothing but each other imports them by name: kernels/ loads them late."""
    kernels = {str(path.relative_to(ROOT)) for path in ROOT.glob("kernels/triton_*.py")}
    assert kernels
    assert files_importing("triton", lazy=False) | files_importing("triton", lazy=True) <= kernels
    importers = {
        str(path.relative_to(ROOT)) for path, name, _, _ in IMPORTS if name.startswith("rethink_fast.kernels.triton_")
    }
    assert importers <= kernels


def test_dali_stays_in_one_file_and_in_functions() -> None:
    assert files_importing("nvidia", lazy=False) == set()
    assert files_importing("nvidia.dali", lazy=True) == {"data/dali.py"}


def test_the_compiled_libraries_are_loaded_in_one_place() -> None:
    loading = {
        str(path.relative_to(ROOT))
        for path in PATHS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("load_library", "CDLL")
        and ast.unparse(node) != "ctypes.CDLL(None)"  # the process itself: nothing is loaded
    }
    assert loading == {"kernels/native.py"}


def test_every_module_imports_without_triton_and_dali() -> None:
    """In a fresh process; the Triton kernels themselves and the two __main__ are left out."""
    names = [module_name(path) for path in PATHS if path.stem != "__main__" and not path.stem.startswith("triton_")]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
print([name for name in sys.modules if name == "triton" or name.startswith("nvidia.dali")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
