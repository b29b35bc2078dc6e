"""What users do to `generate` and `cot` by mistake: nothing is lost, and one line says what to do."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from openai_server import openai_server

from pipeline.__main__ import main
from pipeline.candidates.problem_words import problem_said
from pipeline.demo.build import DemoFolder

ROOT = Path(__file__).resolve().parent.parent
TEA = "First we boil the water. Then we add the tea leaves. Then we wait for four minutes. At last we pour it."
ALTERED = ("--strategy", "cut_short:n=2", "--strategy", "irrelevant_ending")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"How is tea number {n} made?", "output": f"{TEA} This was tea {n}."} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def generate(*argv: object) -> int:
    return main(["generate", *map(str, argv)])


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on standard error."""
    assert generate(*argv) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("pipeline: ") and told.err.count("\n") == 1, told.err
    return told.err


@pytest.mark.parametrize("suffix", ["", ".candidates.jsonl", ".progress.json", ".run.json"])
def test_no_file_of_a_run_takes_the_place_of_its_data(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    output = tmp_path / "out.jsonl"
    own = shutil.copy(data, tmp_path / f"out.jsonl{suffix}")
    for more in ((), ("--overwrite",), ("--resume",)):
        assert "would write into --data" in refused(capsys, "--data", own, "--output", output, *ALTERED, *more)
    assert Path(own).read_bytes() == data.read_bytes()


def test_places_where_no_run_can_work(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.jsonl.work").write_text("mine", encoding="utf-8")
    assert "out.jsonl.work" in refused(capsys, "--data", data, "--output", tmp_path / "out.jsonl", *ALTERED, "--overwrite")
    assert (tmp_path / "out.jsonl.work").read_text("utf-8") == "mine"
    long = tmp_path / f"{'x' * 245}.jsonl"  # its own name fits, the names of the files beside it don't
    assert "too long" in refused(capsys, "--data", data, "--output", long, *ALTERED)


def test_a_finished_run_with_another_policy(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--resume doesn't call it done as it was asked for, and says what does it."""
    output = tmp_path / "out.jsonl"
    options = ("--data", data, "--output", output, *ALTERED)
    assert generate(*options, "--choose", "varied") == 0
    assert generate(*options, "--choose", "varied", "--resume") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert "--choose-only" in refused(capsys, *options, "--choose", "hard", "--resume")
    assert generate(*options, "--choose", "hard", "--choose-only") == 0
    chosen = output.read_bytes()
    assert generate(*options, "--choose", "hard", "--resume") == 0
    capsys.readouterr()
    output.unlink()  # candidates are still there
    assert "--choose-only" in refused(capsys, *options, "--choose", "hard", "--resume")
    assert generate(*options, "--choose", "hard", "--choose-only") == 0 and output.read_bytes() == chosen


def test_every_checkpoint_is_looked_at_before_anything_is_made(
    demo: DemoFolder, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that can't fit is told of wherever it is named: a sparse file stands in for its weights."""
    giant = tmp_path / "giant"
    shutil.copytree(demo.cases["off_topic_t5"].checkpoint, giant, ignore=shutil.ignore_patterns("*.safetensors"))
    numbers = 60_000_000_000
    head = json.dumps({"shared.weight": {"dtype": "F32", "shape": [numbers // 64, 64], "data_offsets": [0, 4 * numbers]}}).encode()
    with open(giant / "model.safetensors", "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + 4 * numbers)
    options = ("--data", data, "--output", tmp_path / "out.jsonl", *ALTERED, "--device", "cpu")
    for more, says in (
        (["--model", giant], "vllm serve"), (["--reward", giant], f"--reward {giant}: needs"),
        (["--embedding-model", giant], f"--embedding-model {giant}: needs"),
        (["--strategy", f"greedy:model={giant}"], "vllm serve"), (["--weaker-model", giant], "no strategy of this run uses it"),
    ):  # fmt: skip
        assert says in refused(capsys, *options, *more)
    assert not list(tmp_path.glob("out.jsonl*"))


def test_every_problem_has_words() -> None:
    """Each id that a maker gives a candidate is an entry problem_* in both languages, and is said without its id."""
    named = re.compile(
        r'(?:RequestFailed|NotCorrected|(?<!\w)Problem)\(\s*"(\w+)"|_refuse\(\w+, "(\w+)"'
        r'|\.problem(?:, \w+\.problem_detail)? = (?:"", )?"(\w+)"|\.text, \w+\.problem = "", "(\w+)"'
    )
    source = "".join(path.read_text("utf-8") for path in (ROOT / "pipeline" / "candidates").glob("*.py"))
    found = {next(filter(None, groups)) for groups in named.findall(source)}
    assert {"prompt_too_long", "endpoint_failed", "only_thinking", "nothing_to_alter", "nothing_to_correct", "not_finite",
            "empty_answer", "generation_failed", "prompt_not_rendered", "correction_empty", "prompt_empty"} <= found  # fmt: skip
    for lang in ("en", "zh"):
        held = yaml.safe_load((ROOT / "configs" / "words" / lang / "candidates.yaml").read_text("utf-8"))
        assert not {f"problem_{one}" for one in found} - set(held)
        for one in found:
            said = problem_said(one, lang)
            assert "{" not in said and "_" not in said
            detailed = problem_said(one, lang, "odd detail")
            assert ("odd detail" in detailed) == ("{detail}" in held[f"problem_{one}"])
    assert problem_said("of_another_version", "zh") == "of another version"


def test_reasoning_says_problems_in_words(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    with openai_server(context=10) as server:
        options = ["cot", "--model", server.url, "--data", str(data), "--output", str(output), "--num-candidates", "2"]
        assert main([*options, "--lang", "zh"]) == 0
        told = capsys.readouterr()
        assert "超出了模型的上下文" in told.out and "prompt_too_long" not in told.out and told.err == ""
        assert main([*options, "--resume"]) == 0  # finished: the same account
        told = capsys.readouterr()
        assert "from 0 of the 8 rows" in told.out and "doesn't fit into the model's context: 16" in told.out
        assert "have no right answer" not in told.out


def test_reasoning_stopped_before_a_row_is_done(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out.json"
    with openai_server(delay=20) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "cot", "--model", server.url, "--data", str(data), "--output", str(output),
             "--hint", "failed"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not server.requests:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3 and out == "" and "Traceback" not in err
    assert "stopped before a row was finished" in err and not output.exists()
