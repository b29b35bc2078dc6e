"""The command line as a user meets it: exit status, one line for bad input, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text(encoding="utf-8"))


def run(*argv: str, timeout: float = 120, program: str = "diagnostics") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", program, *argv], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def report_of(done: subprocess.CompletedProcess[str]) -> dict:
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    return document


@pytest.mark.parametrize(
    "argv",
    [("--help",), ("checkpoint", "--help"), ("explain", "--help")],
    ids=lambda a: " ".join(a),
)
def test_help_shows_a_runnable_example(argv: tuple[str, ...]) -> None:
    done = run(*argv)
    assert done.returncode == 0 and "python -m diagnostics" in done.stdout.split("example")[-1]


@pytest.mark.parametrize(
    "argv",
    [
        ("checkpoint", "/no/such/path"),
        ("checkpoint", "no such path"),
        ("checkpoint", ""),
        ("checkpoint", ".", "--base", "/no/such/base"),
        ("checkpoint", ".", "--data", "/no/such/data"),
        ("checkpoint", ".", "--log", "/no/such/log"),
        ("checkpoint", ".", "--tokenizer", "/no/such/tokenizer"),
        ("checkpoint", ".", "--model-config", "/no/such/config"),
        ("checkpoint", ".", "--threshold", "stop_rate_mn=0.5"),
        ("checkpoint", ".", "--threshold", "causes_close=high"),
        ("checkpoint", ".", "--max-rows", "0"),
        ("checkpoint", ".", "--depth", "everything"),
        ("explain", "TOK999"),
        ("nonsense",),
    ],
    ids=lambda a: " ".join(a),
)
def test_wrong_arguments_exit_2_with_a_line(argv: tuple[str, ...]) -> None:
    done = run(*argv)
    assert done.returncode == 2 and done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("diagnostics:", "python -m diagnostics"))


def _png(folder: Path) -> Path:
    path = folder / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return path


def _empty(folder: Path) -> Path:
    path = folder / "empty"
    path.mkdir()
    return path


def _zero_byte(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(b"")
    return path


def _text(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("hello")
    return path


def _loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def _photos(folder: Path) -> Path:
    path = folder / "photos"
    path.mkdir()
    for n in range(10_000):
        (path / f"{n}.jpg").write_bytes(b"")
    return path


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize("make", [_png, _empty, _text, _loop, _photos, _fifo], ids=lambda f: f.__name__)
def test_what_is_no_checkpoint_is_said_in_a_report(make, tmp_path: Path) -> None:
    path = make(tmp_path)
    done = run("checkpoint", str(path), "--format", "json")
    document = report_of(done)
    assert done.returncode == 2
    assert document["verdict"] == "not_usable"
    assert document["causes"][0]["id"] == "not_a_checkpoint"


def test_empty_weight_file_is_incomplete(tmp_path: Path) -> None:
    done = run("checkpoint", str(_zero_byte(tmp_path)), "--format", "json")
    document = report_of(done)
    assert done.returncode in (1, 2)
    assert document["causes"][0]["id"] == "incomplete_checkpoint"


def test_no_permission_is_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    folder.chmod(0)
    try:
        if os.access(folder, os.R_OK):  # root reads everything: ask as nobody instead
            code = (  # the first run imports what the second needs: nobody may not read this installation
                "import contextlib, io, os, sys; import diagnostics.__main__ as m\n"
                "with contextlib.redirect_stdout(io.StringIO()): m.main(['checkpoint', sys.argv[2], '--format', 'json'])\n"
                "os.setgid(65534); os.setuid(65534)\n"
                "sys.exit(m.main(['checkpoint', sys.argv[1], '--format', 'json']))"
            )
            tmp_path.chmod(0o755)
            for parent in tmp_path.parents:
                if parent.stat().st_uid == os.getuid() and parent != Path("/") and parent.name.startswith("pytest"):
                    parent.chmod(0o755)
            done = subprocess.run(
                [sys.executable, "-c", code, str(folder), str(_png(tmp_path))], cwd=ROOT, capture_output=True, text=True,
                timeout=60,
            )
        else:
            done = run("checkpoint", str(folder), "--format", "json")
        assert report_of(done)["verdict"] == "not_usable"
        assert done.returncode == 2
    finally:
        folder.chmod(0o755)


def test_formats_and_output(tmp_path: Path) -> None:
    path = _png(tmp_path)
    for form, start in (("text", "picture.png"), ("md", "# DPO Doctor"), ("html", "<!doctype html>")):
        done = run("checkpoint", str(path), "--format", form)
        assert done.stdout.startswith(start)
    target = tmp_path / "report.json"
    done = run("checkpoint", str(path), "--format", "json", "--output", str(target), "--lang", "zh")
    assert done.stdout == "" and done.returncode == 2
    assert "检查点" in json.loads(target.read_text("utf-8"))["causes"][0]["title"]
    done = run("checkpoint", str(path), "--output", str(tmp_path / "no" / "folder"))
    assert done.returncode == 2 and "--output" in done.stderr and "Traceback" not in done.stderr


def test_files_depth_imports_nothing_heavy(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 10, "hidden_size": 4}')
    code = (
        "import sys; from diagnostics.__main__ import main; main(sys.argv[1:]); "
        "print([m for m in ('torch','transformers','gradio','numpy','huggingface_hub') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "checkpoint", str(folder), "--depth", "files", "--format", "json"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    report_of(done)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_explain_every_code_in_both_languages() -> None:
    for lang in ("en", "zh"):
        done = run("explain", "all", "--lang", lang, "--format", "md")
        assert done.returncode == 0 and "TOK004" in done.stdout and "undertrained" in done.stdout
    done = run("explain", "tok004")
    assert done.returncode == 0 and done.stdout.startswith("TOK004")


def test_checks_page_is_current() -> None:
    done = run("explain", "all", "--format", "md")
    assert (ROOT / "docs" / "checks.md").read_text(encoding="utf-8") == done.stdout, "run: make docs"
