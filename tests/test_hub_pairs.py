"""Data sets of the Hub as sources of pairs: streamed over real HTTP from this machine, and every refusal in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, Repo

from pipeline.pairs.hub_pairs import HubId, HubPairs, hub_id
from pipeline.refusal import Refused

ROOT = Path(__file__).resolve().parent.parent
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("me/rows", HubId("me/rows")), ("me/rows:en", HubId("me/rows", "en")), ("me/rows@v2", HubId("me/rows", None, "v2")),
        ("me/rows:2023.en@refs/pr/1", HubId("me/rows", "2023.en", "refs/pr/1")), ("rows", None), ("a/b/c", None),
        ("../b", None), ("me/rows:", None), ("/a/b", None), ("", None), ("hf://a/b", None),
    ],
)  # fmt: skip
def test_ids(given: str, found: HubId | None) -> None:
    assert hub_id(given) == found
    if found is None:
        with pytest.raises(Refused):
            HubPairs(given)


def pair_lines(folder: Path, split: str, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"prompt": f"q{n}", "chosen": f"好 {n}", "rejected": f"bad {n}"}) for n in range(rows))
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    root = tmp_path_factory.mktemp("hub")
    pair_lines(root / "open" / "data", "train", 450)
    pair_lines(root / "open" / "data", "test", 3)
    pair_lines(root / "second" / "data", "train", 2)
    pair_lines(root / "configs" / "easy", "train", 4)
    pair_lines(root / "configs" / "hard", "train", 5)
    configs = [{"config_name": name, "data_files": [{"split": "train", "path": f"{name}/*"}]} for name in ("easy", "hard")]
    (root / "configs" / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    (root / "empty").mkdir()
    (root / "empty" / "notes.md").write_text("nothing")
    (root / "code").mkdir()
    (root / "code" / "code.py").write_text("raise SystemExit('was run')")
    (root / "broken" / "data").mkdir(parents=True)
    (root / "broken" / "data" / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3 + "{broken\n")
    (root / "odd" / "data").mkdir(parents=True)
    (root / "odd" / "data" / "train.jsonl").write_text('{"a": 1, "b": 2}\n' * 3)
    repos = {f"me/{name}": Repo({"main": root / name}) for name in ("configs", "empty", "code", "broken", "odd")}
    repos |= {
        "me/open": Repo({"main": root / "open", "v2": root / "second"}),
        "me/gated": Repo({"main": root / "open"}, access="gated"),
        "me/private": Repo({"main": root / "open"}, access="private"),
    }
    with LoopbackHub(repos) as served:
        yield served


MANY = """
import contextlib, io, json, sys
from pipeline.__main__ import main
told = []
for argv in json.loads(sys.stdin.read()):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(argv)
    told.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


def environment(endpoint: str, folder: Path) -> dict[str, str]:
    """Of a process of its own: the libraries read HF_ENDPOINT when they are imported."""
    env = {name: value for name, value in os.environ.items() if name not in PROXIES}
    return env | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home")}


def convert(endpoint: str, folder: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "convert", *argv, "--to", "trl", "--output", str(folder / "out.jsonl")],
        cwd=ROOT, env=environment(endpoint, folder) | more, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def convert_many(endpoint: str, folder: Path, cases: list[tuple[str, ...]]) -> list[tuple[int, str, str]]:
    """Exit status, standard output and error of each, all in one process; case N writes N.jsonl."""
    argvs = [
        ["convert", *argv, "--to", "trl", "--output", str(folder / f"{number}.jsonl")]
        for number, argv in enumerate(cases)
    ]
    done = subprocess.run(
        [sys.executable, "-c", MANY], input=json.dumps(argvs), cwd=ROOT, env=environment(endpoint, folder),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [(status, out, err) for status, out, err in json.loads(done.stdout)]


def test_rows_are_streamed(hub: LoopbackHub, tmp_path: Path) -> None:
    done = convert(hub.endpoint, tmp_path, "me/open", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    account = json.loads(done.stdout)
    assert (account["sources"][0]["rows"], account["sources"][0]["format"]) == (450, "trl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[449] == {"prompt": "q449", "chosen": "好 449", "rejected": "bad 449"}
    assert not list((tmp_path / "home").rglob("*.arrow")) and not list((tmp_path / "home").rglob("train.jsonl"))


def test_split_revision_configuration_and_entries_of_a_dataset_info(hub: LoopbackHub, tmp_path: Path) -> None:
    sides = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    entry = {"hf_hub_url": "me/configs", "subset": "easy", "ranking": True, "columns": sides}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    cases: dict[tuple[str, ...], int] = {
        ("me/open", "--split", "test"): 3, ("me/open@v2",): 2, ("me/configs:hard",): 5,
        (f"{tmp_path / 'dataset_info.json'}:mine",): 4,
    }  # fmt: skip
    for number, (status, _, err) in enumerate(convert_many(hub.endpoint, tmp_path, list(cases))):
        assert (status, err) == (0, "")
        assert len((tmp_path / f"{number}.jsonl").read_text().splitlines()) == list(cases.values())[number]


REFUSED: dict[tuple[str, ...], str] = {
    ("me/open", "--split", "valid"): "no split valid; there are train, test. Give one with --split",
    ("me/open:other",): "no configuration other; there are default",
    ("me/configs",): "name one, as in me/configs:easy. There are easy, hard",
    ("me/open@v9",): "has no branch, tag or commit 'v9'",
    ("me/gated",): "gated. Accept its terms at {hub}/datasets/me/gated, then log in: hf auth login",
    ("me/private",): "shows this login no data set of that name",
    ("me/none",): "shows this login no data set of that name",
    ("me/empty",): "no data file in {hub}/datasets/me/empty",
    ("me/code",): "needs code of its own to be read, which is never run here",
    ("me/odd",): "its columns are of no format known here (a, b)",
    ("me/broken",): "me/broken row 1: can't be read (JSON parse error",
}


def test_every_failure_is_one_line(hub: LoopbackHub, tmp_path: Path) -> None:
    told = convert_many(hub.endpoint, tmp_path, list(REFUSED))
    for (argv, said), (status, out, err) in zip(REFUSED.items(), told, strict=True):
        assert (status, out, len(err.strip().splitlines())) == (2, "", 1), argv
        assert err.startswith("pipeline: me/") and said.format(hub=hub.endpoint) in err, argv
    assert not list(tmp_path.glob("*.jsonl"))


def test_no_network_is_said_at_once(tmp_path: Path) -> None:
    done = convert("http://127.0.0.1:9", tmp_path, "me/open", "--lang", "zh")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "访问 http://127.0.0.1:9 也失败了" in done.stderr
    done = convert("http://127.0.0.1:9", tmp_path, "me/open", HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "offline mode is on. Unset HF_HUB_OFFLINE" in done.stderr


def test_an_answer_that_is_no_hub(tmp_path: Path) -> None:
    with LoopbackHub({}, no_hub=True) as portal:
        done = convert(portal.endpoint, tmp_path, "me/open")
    assert done.returncode == 2 and "it does not answer like a Hub" in done.stderr
