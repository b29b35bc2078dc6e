"""Servers as models of a comparison: asked as models on disk are, kept when they die."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai_server import openai_server, prompt_of

from pipeline.__main__ import main

ROWS = [{"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "q 0"}], "label": "r"},
        *({"prompt": f"q {number}", "label": "r"} for number in range(1, 20))]  # fmt: skip


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    answers = [{**row, "response": "r"} for row in ROWS]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, answers)))
    return ["compare", "--before", str(tmp_path / "b.jsonl"), "--prompts", str(tmp_path / "p.jsonl"), "--output",
            str(tmp_path / "r.json"), "--concurrency", "2"]  # fmt: skip


def _run(capsys: pytest.CaptureFixture[str], argv: list[str]) -> tuple[int, Any, str]:
    status = main([*argv, "--format", "json"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else {}, err


def test_a_system_message_is_for_prompts_without_their_own(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with openai_server() as served:
        status, _, err = _run(capsys, [*argv, "--after", f"S={served.url}", "--system", "given"])
    assert status in (0, 1), err
    sent = {prompt_of(one) for one in served.requests}
    assert "system: own\nuser: q 0" in sent and "system: given\nuser: q 1" in sent and len(sent) == 20


def test_a_server_that_stops_answering_loses_nothing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    broken = [True]
    seen: list[int] = []

    def fault(key: str, attempt: int) -> str | None:
        seen.append(1)
        return "400" if broken[0] and len(seen) > 6 else None

    with openai_server(faults=fault) as served:
        line = [*argv, "--after", f"S={served.url}"]
        status, _, err = _run(capsys, line)
        lines = (Path(argv[6]).parent / "r.S.answers.jsonl").read_text().splitlines()
        kept = sum(json.loads(line)["problems"] == [""] for line in lines)
        assert status == 2 and 0 < kept < 20
        assert "run the same command again" in err and "--resume" not in err and "Traceback" not in err
        broken[0] = False
        before = len(served.requests)
        status, result, err = _run(capsys, line)
        assert len(served.requests) - before == 20 - kept  # a request that failed is asked again
    assert status == 1 and result["contests"][0]["n"] == 20, err


def test_drawn_answers_stand_beside_drawn_answers(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with openai_server() as served:
        more = ["--after", f"S={served.url}", "--samples", "3", "--temperature", "0.9"]
        argv[2] = f"B={served.url}"
        _, result, _ = _run(capsys, [*argv, *more])
        status, _, err = _run(capsys, [*argv, "--after", f"S={served.url}", "--num-beams", "2"])
        assert status == 2 and "--num-beams" in err
    assert result["prompts"]["matched"] == 20 and result["prompts"]["answers"] == 60
    assert result["contests"][0]["n"] == 20 and result["contests"][0]["ties"] == 20


def test_a_wrong_key_is_one_line(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-secret")
    with openai_server(api_key="right") as served:
        status, _, err = _run(capsys, [*argv, "--after", f"S={served.url}"])
    assert status == 2 and err.count("\n") == 1 and "wrong-secret" not in err
