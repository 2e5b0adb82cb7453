"""No file that is read runs code: every reader of pickles, and what the package may not call."""

from __future__ import annotations

import ast
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rethink_fast
from rethink_fast.data import pack_format
from rethink_fast.errors import UserError
from rethink_fast.pack import write

SOURCES = sorted(Path(rethink_fast.__file__).parent.rglob("*.py"))


class Evil:
    """Unpickled, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return (open, (str(self.marker), "w"))


def calls(tree: ast.AST) -> list[tuple[str, dict[str, object]]]:
    return [
        (ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg})
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_reader_can_run_code(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for name, words in calls(tree):
        if name == "torch.load":
            assert words.get("weights_only") == "True"
        if name.endswith("np.load"):
            assert words.get("allow_pickle", "False") == "False"
        assert name not in ("eval", "exec", "pickle.load", "pickle.loads", "os.system", "yaml.load", "marshal.loads")
        assert words.get("shell", "False") == "False"
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "pickle" not in imported or path.name == "unpickle.py"


def test_a_checkpoint_of_torch_s_form_cannot_run_code(tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save({"state": Evil(tmp_path / "marker")}, content)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(content.getvalue()), weights_only=True)
    assert not (tmp_path / "marker").exists()


def test_the_index_of_a_pack_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of objects, with checksums that agree."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for k in range(4):
        file = tmp_path / "src" / "train" / f"class{k % 2}" / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), 9 * k, np.uint8)).save(file)
    pack = tmp_path / "pack"
    write.write(write.plan(tmp_path / "src", pack, format="jpeg", size=14), workers=1, progress=None)
    evil = io.BytesIO()
    np.save(evil, np.array([Evil(tmp_path / "marker")], dtype=object), allow_pickle=True)
    np.load(io.BytesIO(evil.getvalue()), allow_pickle=True)[0].close()
    assert (tmp_path / "marker").exists(), "the array is harmless: the test shows nothing"
    (tmp_path / "marker").unlink()
    (pack / "train.index.npy").write_bytes(evil.getvalue())
    manifest = pack / pack_format.MANIFEST
    values = json.loads(manifest.read_text())
    values["splits"]["train"]["index"] = pack_format.digest(evil.getvalue())
    values["sha256"] = pack_format.checksum(values)
    manifest.write_text(json.dumps(values))
    with pytest.raises((UserError, ValueError)):
        pack_format.read_pack(pack)
    assert not (tmp_path / "marker").exists()
