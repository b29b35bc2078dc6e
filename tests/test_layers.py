"""The layers of the house: imports go app.py -> ui -> diagnostics -> pipeline, and no other way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"ui": {"ui", "diagnostics", "pipeline"}, "diagnostics": {"diagnostics", "pipeline"}, "pipeline": {"pipeline"}}
HEAVY = {"torch", "transformers", "trl", "deepspeed", "peft", "accelerate", "datasets"}
STARTERS = {"subprocess", "multiprocessing", "pty"}
START_CALLS = re.compile(r"\bos\.(system|popen|spawn\w*|exec\w*|fork|forkpty|posix_spawn\w*)\(|Popen\(|create_subprocess")


def _files(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def _imports(path: Path, *, module_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed_only = {
        node for branch in ast.walk(tree) if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }  # fmt: skip
    inside = {
        node for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }  # fmt: skip
    found = set()
    for node in ast.walk(tree):
        if module_level_only and (node in typed_only or node in inside):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_imports_go_one_way(layer: str) -> None:
    ours = {"app", "ui", "diagnostics", "pipeline", "configs", "tests", "benchmarks"}
    assert _files(layer)
    for path in _files(layer):
        wrong = (_imports(path) & ours) - ALLOWED[layer]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_gradio_only_in_ui() -> None:
    for path in _files("diagnostics") + _files("pipeline"):
        assert "gradio" not in _imports(path), path


def test_heavy_libraries_are_imported_inside_functions() -> None:
    for path in [*_files("ui"), *_files("diagnostics"), ROOT / "app.py"]:
        assert not _imports(path, module_level_only=True) & HEAVY, path


def test_one_module_starts_processes() -> None:
    starters = [
        path.relative_to(ROOT).as_posix()
        for layer in ("ui", "diagnostics", "pipeline")
        for path in _files(layer)
        if _imports(path) & STARTERS or START_CALLS.search(path.read_text(encoding="utf-8"))
    ]
    assert starters == ["pipeline/processes.py"]


def test_configs_hold_no_code() -> None:
    assert not list((ROOT / "configs").rglob("*.py"))


def test_app_is_thin() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 100


def test_no_vague_module_names() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    for layer in ALLOWED:
        for path in _files(layer):
            assert not vague & set(path.stem.split("_")), path


@pytest.mark.parametrize("module", ["diagnostics.diagnose_checkpoint", "diagnostics.explain", "pipeline.demo.build", "app"])
def test_importing_stays_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
