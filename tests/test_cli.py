"""The command line as a user meets it: exit status, one line for bad input, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import pytest
import torch
from judged_files import made
from tokenizer_folders import chat_folder

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
                if parent.stat().st_uid == os.getuid() and parent != Path("/") and parent.name.startswith(("pytest", "popen")):
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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound checkpoint; nobody may change it."""
    folder = tmp_path_factory.mktemp("sound") / "model"
    rows = json.loads((chat_folder(folder) / "config.json").read_text())["vocab_size"]
    end, text = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    apart = folder.parent / "apart"
    made("qwen2", vocab_size=rows, eos_token_id=end, pad_token_id=text, bos_token_id=None).save_pretrained(apart)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(apart / name, folder / name)
    return folder


def refused(*argv: str) -> str:
    """The one line of a refusal."""
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("diagnostics: "), done.stderr
    return done.stderr.strip()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_output_never_goes_into_what_was_given(sound: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Q", "output": "A"}\n')
    (tmp_path / "link").symlink_to(sound / "config.json")
    os.link(sound / "tokenizer.json", tmp_path / "other_name.json")
    before = contents(sound)
    for target in (sound / "model.safetensors", sound / "report.txt", tmp_path / "link", tmp_path / "other_name.json"):
        assert str(sound) in refused("checkpoint", str(sound), "--depth", "files", "--output", str(target))
    for option in ("--tokenizer", "--base", "--model-config"):
        line = refused("checkpoint", str(_png(tmp_path)), option, str(sound), "--output", str(sound / "x"))
        assert option in line
    for option in ("--data", "--log", "--prompts"):
        assert option in refused("checkpoint", str(sound), option, str(rows), "--output", f"{tmp_path}/./rows.jsonl")
    assert contents(sound) == before and rows.read_text().startswith('{"instruction"')
    assert run("checkpoint", str(sound), "--depth", "files", "--output", str(tmp_path / "r.txt")).returncode == 0


def test_what_is_given_apart_has_to_be_what_it_is_given_as(sound: Path, tmp_path: Path) -> None:
    png, empty = str(_png(tmp_path)), str(_empty(tmp_path))
    common = ("checkpoint", str(sound), "--depth", "files")
    for option in ("--tokenizer", "--base", "--model-config"):
        for wrong in (png, empty, "/dev/zero"):
            assert refused(*common, option, wrong).startswith(f"diagnostics: {option} {wrong}: ")
    assert "not a text file" in refused(*common, "--prompts", png)
    assert "a folder" in refused(*common, "--data", empty) and "device" in refused(*common, "--data", "/dev/zero")
    assert "downloaded first" in refused(*common, "--data", "owner/name")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_where_it_would_be_used(sound: Path) -> None:
    assert "CUDA" in refused("checkpoint", str(sound), "--depth", "forward", "--device", "cuda")
    assert run("checkpoint", str(sound), "--depth", "files", "--device", "cuda").returncode == 0


def test_data_and_logs_that_can_not_be_used_are_a_finding(sound: Path, tmp_path: Path) -> None:
    assert report_of(run("checkpoint", str(sound), "--depth", "files", "--format", "json"))["verdict"] == "healthy"
    wrong = {"a.jsonl": b"", "b.jsonl": b'{"c": 1}\n', "c.json": b'[{"instruction": "a",\n "output"', "d.png": bytes(99)}
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "gbk.jsonl").write_bytes('{"instruction": "你好吗", "output": "很好"}'.encode("gbk"))
    (tmp_path / "no_loss.log").write_text("hello\n")
    data = [word for name in (*wrong, "gbk.jsonl") for word in ("--data", str(tmp_path / name))]
    log = ("--log", str(tmp_path / "no_loss.log"))
    done = run("checkpoint", str(sound), "--depth", "files", "--format", "json", *data, *log)
    document = report_of(done)
    assert (done.returncode, document["verdict"]) == (0, "warnings")
    said = [(f["severity"], f["outcome"]) for f in document["findings"] if f["code"] == "CKP015"]
    assert said == [
        ("warning", "data_empty"), ("warning", "data_no_known_columns"), ("warning", "data_not_json"),
        ("warning", "data_not_text"), ("ok", "data_read"), ("warning", "log_no_loss"),
    ]  # fmt: skip


def test_a_full_or_closed_output_is_one_line(sound: Path) -> None:
    for words in ("explain all", "--help", f"checkpoint {sound} --depth files --format json"):
        for redirect in (">/dev/full", ">&-"):
            done = subprocess.run(
                ["bash", "-c", f"{sys.executable} -m diagnostics {words} {redirect}"], cwd=ROOT, capture_output=True,
                text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 2 and done.stderr.startswith("diagnostics: standard output"), (words, redirect)
            assert done.stderr.count("\n") == 1, done.stderr
    piped = f"set -o pipefail; {sys.executable} -m diagnostics explain all | head -1"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_it_starts_is_one_line(sound: Path) -> None:
    code = (  # as if the key were pressed while the checks are imported
        "import builtins, os, runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job would ignore the key
        "real = builtins.__import__\n"
        "def slow(name, *rest, **named):\n"
        "    if name == 'diagnostics.check_table': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest, **named)\n"
        "builtins.__import__ = slow\n"
        "sys.argv[0] = 'diagnostics'\n"
        "runpy.run_module('diagnostics', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, "checkpoint", str(sound)], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "diagnostics: interrupted before anything was measured\n"


def test_ctrl_c_while_checks_run_is_no_good_verdict(sound: Path) -> None:
    from diagnostics.diagnose_checkpoint import diagnose_checkpoint
    from diagnostics.judge import Interrupted
    from diagnostics.render import to_html, to_markdown, to_text
    from diagnostics.words import say

    def stop(event: object) -> None:
        if getattr(event, "code", "") == "CKP005":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        diagnose_checkpoint(str(sound), on_event=stop)
    report = caught.value.report
    assert (report.verdict, report.interrupted) == ("warnings", True)
    document = json.loads(report.dumps())
    jsonschema.validate(document, SCHEMA)
    assert document["interrupted"] is True
    for lang, word in (("en", "interrupted"), ("zh", "中断")):
        for render in (to_text, to_markdown, to_html):
            assert word in (shown := render(say(report, lang))) and "TOK006" in shown
    cancel = threading.Event()
    cancel.set()
    assert diagnose_checkpoint(str(sound), cancel=cancel).verdict == "warnings"


def test_a_bare_state_dict_is_not_called_fine_as_a_whole(sound: Path, tmp_path: Path) -> None:
    shutil.copy(sound / "model.safetensors", tmp_path / "best.safetensors")
    done = run("checkpoint", str(tmp_path / "best.safetensors"), "--depth", "files")
    assert "in what could be measured" in done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--seed", "99999999999999999999"), "64"), (("--seed", "x"), "--seed x"), (("--max-rows", "0.5"), "1"),
        (("--threshold", "gen_stop_rate_min=nan"), "有限"), (("--threshold", "gen_stop_rate_min=inf"), "有限"),
        (("--threshold", "gen_stop_rate_min"), "gen_stop_rate_min=0.5"), (("--threshold", "xx"), "NAME=VALUE"),
        (("--threshold", "stop_rate=1"), "gen_stop_rate_min"), (("--depth", "all"), "samples"), (("--depth",), "--depth"),
        (("--wrong",), "--wrong"), (("--base", "gpt2"), "owner/name"), (("--data", "/no/such"), "没有这个文件"),
        (("--tokenizer", "x" * 5000), "…"),
    ],
    ids=lambda a: " ".join(a)[:40] if isinstance(a, tuple) else "",
)  # fmt: skip
def test_wrong_arguments_are_said_in_chinese(sound: Path, argv: tuple[str, ...], says: str) -> None:
    line = refused("checkpoint", str(sound), "--lang", "zh", *argv)
    assert says in line and re.search("[\u4e00-\u9fff]", line) and len(line) < 700 and "_" not in line.split("：")[0][:20]


def test_paths_that_lead_nowhere() -> None:
    assert r"a\b c" in refused("checkpoint", r"a\b c") and r"\\" not in refused("checkpoint", r"a\b c")
    assert "owner/name" in refused("checkpoint", "gpt2") and "\\n" in refused("checkpoint", "a\nb")
    assert "找不到" in refused("checkpoint", "gpt2", "--lang", "zh")
    assert "离线" in refused("checkpoint", "some/model", "--lang=zh")
    assert len(refused("checkpoint", "x" * 5000)) < 700


def test_explanations() -> None:
    assert run("explain", " tok006 ").stdout.startswith("TOK006")
    page = run("explain", "all", "--format", "html").stdout
    assert page.startswith("<!doctype html>") and "<pre>" not in page and page.count("<section") > 80
    assert "default-src 'none'" in page and "**" not in page
    assert "made by" not in run("explain", "all", "--lang", "zh").stdout
    assert "没有叫 TOK06 的" in refused("explain", "TOK06", "--lang", "zh")
