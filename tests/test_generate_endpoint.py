"""`generate` with a server's model, end to end: on a server that fails as servers do, killed, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai_server import Faults, openai_server, prompt_of

from pipeline.__main__ import main
from pipeline.candidates import endpoint

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-never-written-0123456789"
SHOWN_KEY = KEY[3:16]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of hundredths of a second, no keys and no proxies of whoever runs the tests."""
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    limits = replace(endpoint.Limits.configured(), base=0.01, most=0.05, connect=2.0, first=3.0, between=3.0,
                     gone_after=0.5, most_retry_after=5.0)  # fmt: skip
    monkeypatch.setattr(endpoint.Limits, "configured", classmethod(lambda cls: limits))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"问题 {n}: name {n} things.", "output": f"thing {n}, stone, 河流"} for n in range(25)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def generate(*argv: object) -> int:
    return main(["generate", *map(str, argv)])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files(output: Path, url: str) -> list[str]:
    """What was written, without the server's port."""
    both = (output, output.with_name(f"{output.name}.candidates.jsonl"))
    return [path.read_text("utf-8").replace(url, "URL") for path in both]


def test_faults_cost_no_row_and_double_none(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = []
    strategies = ("--strategy", "endpoint:n=2", "--strategy", "greedy", "--strategy", "cut_short")
    for faults in (None, Faults(0.4)):
        output = tmp_path / f"{faults is None}.json"
        with openai_server(faults=faults) as server:
            assert generate("--model", server.url, "--data", data, "--output", output, *strategies) == 0
            assert (len(server.faults) >= 8) == (faults is not None)
            written.append(files(output, server.url))
    assert written[0] == written[1]
    kept = lines(tmp_path / "False.json.candidates.jsonl")
    assert [(one["row"], one["number"]) for one in kept] == [(row, number) for row in range(25) for number in range(4)]
    assert all(one["problem"] is None for one in kept if one["strategy"] != "cut_short")
    assert capsys.readouterr().err == ""


def test_killed_and_resumed_asks_nothing_twice_that_was_kept(tmp_path: Path, data: Path) -> None:
    def command(url: str, name: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "pipeline", "generate", "--model", url, "--data", str(data), "--output",
                str(tmp_path / name), "--strategy", "endpoint:n=2", "--choose", "varied", *more]  # fmt: skip

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with openai_server() as server:
        subprocess.run(command(server.url, "whole.json"), cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        whole = files(tmp_path / "whole.json", server.url)
    with openai_server(delay=0.1, faults=Faults(0.1, kinds=("cut", "500", "json"))) as server:
        part = tmp_path / "out.json.work" / "main-0.rows"
        for size in (1, 5_000):
            process = subprocess.Popen(
                command(server.url, "out.json", "--resume"), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 60
            while not (part.exists() and part.stat().st_size > size):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        kept = part.read_bytes().count(b"\n")
        before = len(server.requests)
        subprocess.run(
            command(server.url, "out.json", "--resume"), cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        assert files(tmp_path / "out.json", server.url) == whole
        asked = {request["key"] for request in server.requests[before:]}
        assert 0 < kept < 25 and len(asked) == 2 * (25 - kept)


def test_a_server_that_goes_away_leaves_a_run_to_resume(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    gone = False

    def fault(key: str, attempt: int) -> str | None:
        nonlocal gone
        gone = gone or len(server.requests) > 20
        return "reset" if gone else None

    with openai_server(faults=fault) as server:
        options = ("--model", server.url, "--data", data, "--output", output, "--strategy", "endpoint:n=2")
        assert generate(*options) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1 and "--resume" in told.err
        assert not output.exists()
        server.fault = lambda key, attempt: None
        before = len(server.requests)
        assert generate(*options, "--resume") == 0
        assert 0 < len(server.requests) - before < 50
    assert [(one["row"], one["number"]) for one in lines(tmp_path / "out.jsonl.candidates.jsonl")] == [
        (row, number) for row in range(25) for number in range(2)
    ]


def test_rows_that_the_server_refuses_are_told_of(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = {"instruction": "A very long question. " * 40, "output": "yes"}
    with open(data, "a", encoding="utf-8") as file:
        file.write(json.dumps(long) + "\n")
    with openai_server(context=300) as server:
        options = ("--model", server.url, "--data", data, "--output", tmp_path / "out.jsonl", "--strategy", "endpoint")
        assert generate(*options, "--lang", "zh") == 0
    told = capsys.readouterr()
    assert told.err == "" and "超出了模型的上下文" in told.out and "{detail}" not in told.out
    assert [one["problem"] for one in lines(tmp_path / "out.jsonl.candidates.jsonl")] == [None] * 25 + ["prompt_too_long"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--model", "http://127.0.0.1:9/v1"], "no server answers there"),
        (["--model", "SERVER/v2"], "nothing of the OpenAI protocol at this path"),
        (["--model", "SERVER"], "give SERVER/v1"),
        (["--model", "SERVER/v1", "--endpoint-model", "demi"], "nearest: demo"),
        (["--model", "http://me:secret@127.0.0.1:9/v1"], "a user name, password or query"),
        (["--model", "SERVER/v1", "--strategy", "beam"], "a server only samples"),
        (["--model", "SERVER/v1", "--strategy", "endpoint:url=http://127.0.0.1:9/v1"], "no server answers there"),
        (["--model", "SERVER/v1", "--api-key-env", "NO_SUCH_KEY"], "empty or not set"),
        (["--model", "SERVER/v1", "--adapter", "lora"], "--endpoint-model"),
        (["--model", "SERVER/v1", "--price-in", "cheap"], "a million tokens"),
        (["--model", "SERVER/v1", "--corrector", "ftp://127.0.0.1"], "not the address of a server"),
        (["--model", "SERVER/v1", "--corrector", "SERVER/v1", "--replace", "a=b"], "give one of both"),
        (["--model", "SERVER/v1", "--num-candidates", "1001"], "at most 1,000"),
    ],
)  # fmt: skip
def test_what_can_not_be_asked_is_one_line(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    with openai_server() as server:
        place = server.url.removesuffix("/v1")
        words = [word.replace("SERVER", place) for word in more]
        assert generate("--data", data, "--output", tmp_path / "out.jsonl", *words) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and says.replace("SERVER", place) in told.err
    assert "secret" not in told.err and not (tmp_path / "out.jsonl").exists()
    assert not (tmp_path / "out.jsonl.work").exists()


def test_the_key_is_used_and_written_nowhere(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--data", data, "--output", tmp_path / "out.jsonl", "--strategy", "endpoint", "--format", "json")
    with openai_server(api_key=KEY, faults=Faults(0.2)) as server:
        assert generate("--model", server.url, *options) == 2
        assert "needs a key" in capsys.readouterr().err
        monkeypatch.setenv("OWN_KEY", f"{KEY}-old")
        assert generate("--model", server.url, *options, "--api-key-env", "OWN_KEY") == 2
        refused = capsys.readouterr().err
        assert "refuses the key in OWN_KEY" in refused and SHOWN_KEY not in refused
        monkeypatch.setenv("OWN_KEY", KEY)
        prices = ("--price-in", "1000", "--price-out", "2000")
        assert generate("--model", server.url, *options, "--api-key-env", "OWN_KEY", *prices) == 0
        told = capsys.readouterr()
        answered = [request for request in server.requests if request["fault"] is None]
    account = json.loads(told.out)
    assert account["candidates"] == 25 and account["tokens"] > 0 and account["cost"] > 0 and len(answered) == 25
    assert SHOWN_KEY not in told.out + told.err
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(everything) == 5 and not any(SHOWN_KEY.encode() in path.read_bytes() for path in everything)


def test_another_server_corrects(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model's own answer is rejected, what the corrector made of it chosen; faults of either lose nothing."""

    def corrected(body: Any) -> str:
        return "Corrected: a thing, a stone and a river."

    def own(body: Any) -> str:
        return f"thing, river and {prompt_of(body)[-30:]}"

    with (
        openai_server(faults=Faults(0.3), answer=own) as server,
        openai_server(faults=Faults(0.3), answer=corrected) as corrector,
    ):
        output = tmp_path / "out.jsonl"
        options = ("--model", server.url, "--corrector", corrector.url, "--data", data, "--output", output)
        assert generate(*options, "--choose", "correction", "--to", "llamafactory-alpaca") == 0
    pairs = lines(output)
    assert {pair["chosen"] for pair in pairs} == {corrected({})} and len(pairs) == 25
    assert len({pair["rejected"] for pair in pairs}) > 20 and capsys.readouterr().err == ""
