"""A repository id as a checkpoint: what is fetched, what is refused, and what the user is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, Repo

from pipeline import hub_files
from pipeline.checkpoint import PathNotFound, open_checkpoint

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30


def sparse_safetensors(path: Path, tensors: int, rows: int) -> list[str]:
    """A whole weight file of `tensors` F16 matrices (rows x 1024) whose data takes no room on the disk."""
    size = rows * 1024 * 2
    names = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(tensors)]
    header = json.dumps(
        {n: {"dtype": "F16", "shape": [rows, 1024], "data_offsets": [i * size, (i + 1) * size]}
         for i, n in enumerate(names)}
    ).encode()  # fmt: skip
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + tensors * size)
    return names


def model_folder(folder: Path, shards: int = 3) -> Path:
    """A checkpoint of `shards` files of 2 GiB each, with the small files around it."""
    folder.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    for i in range(1, shards + 1):
        name = f"model-{i:05d}-of-{shards:05d}.safetensors"
        names = sparse_safetensors(folder / name, 64, 16384)
        weight_map |= {f"{i}.{n}" if i > 1 else n: name for n in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 100, "tie": str(folder)}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "chat_template": "{{ messages }}"}))
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "pad": "x" * 300_000}))
    (folder / "flax_model.msgpack").write_bytes(b"x" * 500_000)
    return folder


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., LoopbackHub]]:
    """Start a hub and point the library at it, as HF_ENDPOINT and HF_HOME would."""
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(hub_files, "TIMEOUT_SECONDS", 0.5)
    with ExitStack() as stack:

        def start(repos: dict[str, Repo], **how: object) -> LoopbackHub:
            hub = stack.enter_context(LoopbackHub(repos, **how))  # type: ignore[arg-type]
            monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
            template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            return hub

        yield start


def test_headers_of_a_large_model_cost_few_bytes(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    hub = serve({"some/model": Repo({"main": folder})})
    found = open_checkpoint("some/model")
    assert found.kind == "folder" and found.problem is None
    assert found.name == "some/model"
    assert found.revision == hub.repos["some/model"].commit("main")
    assert [(f.name, f.problem, len(f.tensors)) for f in found.weight_files] == [
        (f"model-{i:05d}-of-00003.safetensors", None, 64) for i in (1, 2, 3)
    ]
    assert sum(f.size for f in found.weight_files) > 6 * GIB
    assert found.tokenizer.config.get("eos_token") == "</s>"
    assert hub.body_bytes < 600_000
    assert not hub.asked("flax_model") and not hub.asked("tokenizer.json")
    requests = len(hub.requests)
    assert found.weight_files == open_checkpoint("some/model@main").weight_files
    assert len(hub.asked("config.json")) <= 6 and requests < 20


def test_the_same_checkpoint_reads_the_same_from_the_hub_and_the_disk(
    serve: Callable[..., LoopbackHub], tmp_path: Path
) -> None:
    import torch

    folder = tmp_path / "model"
    folder.mkdir()
    state = {f"decoder.block.{i}.weight": torch.full((256, 300 + i), float(i)) for i in range(90)}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text('{"model_type": "t5"}')
    size = (folder / "pytorch_model.bin").stat().st_size
    hub = serve({"some/bins": Repo({"main": folder})})
    remote, local = open_checkpoint("some/bins"), open_checkpoint(str(folder))
    assert size > 25_000_000
    assert remote.weight_files == local.weight_files and len(remote.tensors) == 90
    content = (folder / "pytorch_model.bin").read_bytes()
    assert {n: array("f", content[t.start : t.end]).tolist()[::999] for n, t in remote.tensors.items()} == {
        n: v.flatten()[::999].tolist() for n, v in state.items()
    }
    # the directory at the end, the pickle at the start, and not one request per tensor
    assert hub.body_bytes < 400_000 and len(hub.asked("/cdn/")) <= 3


def test_old_torch_files_and_cut_files(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "model"
    folder.mkdir()
    torch.save({"a": torch.ones(3, 4)}, folder / "old.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(3, 4), "b": torch.zeros(5)}, folder / "whole.bin")
    with zipfile.ZipFile(folder / "whole.bin") as whole, zipfile.ZipFile(folder / "repacked.bin", "w") as repacked:
        for info in whole.infolist():  # by another program, without torch's alignment
            repacked.writestr(info.filename, whole.read(info))
    sparse_safetensors(folder / "cut.safetensors", 8, 1024)
    with open(folder / "cut.safetensors", "r+b") as file:
        file.truncate(9_000_000)
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (folder / "zero.safetensors").write_bytes(b"")
    hub = serve({"some/odd": Repo({"main": folder})})
    store = hub_files.open_hub_repo("some/odd")
    from pipeline.weight_file import read_weight_file

    read = {name: read_weight_file(store, name) for name in store.names()}
    assert [t.shape for t in read["old.bin"].tensors] == [(3, 4)]
    start = read["repacked.bin"].tensors[0].start
    assert (folder / "repacked.bin").read_bytes()[start : start + 48] == array("f", [1.0] * 12).tobytes()
    assert read["cut.safetensors"].problem == "truncated" and read["cut.safetensors"].missing_bytes > 7_000_000
    assert read["pointer.safetensors"].problem == "lfs_pointer"
    assert read["zero.safetensors"].problem == "empty"
    assert hub.body_bytes < 300_000


def test_a_folder_of_checkpoints_and_an_adapter_with_its_base(
    serve: Callable[..., LoopbackHub], tmp_path: Path
) -> None:
    from diagnostics.checkpoint_subject import CheckpointSubject

    base = model_folder(tmp_path / "base", shards=1)
    run = tmp_path / "run"
    for step in (100, 900, 1000):
        adapter = run / f"checkpoint-{step}"
        adapter.mkdir(parents=True)
        sparse_safetensors(adapter / "adapter_model.safetensors", 4, 8)
        (adapter / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": "some/base", "peft_type": "LORA", "r": 8})
        )
    serve({"some/run": Repo({"main": run}), "some/base": Repo({"main": base})})
    found = open_checkpoint("some/run")
    assert (found.kind, found.chosen_folder) == ("adapter", "checkpoint-1000")
    assert found.store.label == "some/run/checkpoint-1000"
    named = CheckpointSubject(found).base
    assert named is not None and named.name == "some/base" and len(named.tensors) == 64


def test_a_revision_is_pinned_to_its_commit(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    old, new = model_folder(tmp_path / "old", 1), model_folder(tmp_path / "new", 1)
    repo = Repo({"main": new, "v1.0": old, "refs/pr/3": old})
    hub = serve({"some/model": repo})
    for revision, folder in (("", new), ("@v1.0", old), ("@refs/pr/3", old), (f"@{repo.commit('v1.0')}", old)):
        found = open_checkpoint("some/model" + revision)
        assert found.config.get("tie") == str(folder)
        assert found.revision == repo.commit(revision[1:] or "main")
    contents = {path for _, path, _, _ in hub.requests if "/resolve/" in path}
    assert all("/resolve/main/" not in p and "/resolve/v1.0/" not in p for p in contents)
    with pytest.raises(PathNotFound, match="no branch, tag or commit 'v9'"):
        open_checkpoint("some/model@v9")


@pytest.mark.parametrize(
    ("access", "says"),
    [
        ("gated", r"gated\. Accept its terms at http://127.*/some/model, then log in: hf auth login"),
        ("private", "shows this login no model of that name.*hf auth login"),
        ("forbidden", "the token in use may not read it"),
        ("disabled", "has disabled access"),
        (None, "no such file or folder here"),
    ],
)
def test_no_access_is_one_line_that_says_what_to_do(
    serve: Callable[..., LoopbackHub], tmp_path: Path, access: str | None, says: str
) -> None:
    folder = model_folder(tmp_path / "model", 1)
    serve({"some/model": Repo({"main": folder}, access)} if access else {})
    with pytest.raises(PathNotFound, match=says) as caught:
        open_checkpoint("some/model")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("some/model: ")


def test_a_login_opens_a_private_repository_and_stays_with_the_hub(
    serve: Callable[..., LoopbackHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = serve({"some/model": Repo({"main": model_folder(tmp_path / "model", 1)}, "private")})
    monkeypatch.setenv("HF_TOKEN", "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    assert len(open_checkpoint("some/model").tensors) == 64
    assert hub.asked("/cdn/") and not any(token for *_, token in hub.asked("/cdn/"))
    assert all(token for *_, token in hub.asked("/resolve/"))


def test_hostile_names_are_not_listed(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    up = ("../config.json", "a/../../b.json", "..", "a/.", "x\\..\\y")
    names = (*up, "/etc/passwd", "a//b", "C:\\x.json", "n\x00.bin")
    folder = model_folder(tmp_path / "model", 1)
    (folder / "..data").write_text("an odd but harmless name")
    serve({"some/model": Repo({"main": folder}, extra_names=names)})
    store = hub_files.open_hub_repo("some/model")
    assert sorted(store.names()) == sorted(p.name for p in folder.iterdir())
    assert store.folders() == []


def test_a_server_without_ranges_is_not_read_to_the_end(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", 1)
    hub = serve({"some/model": Repo({"main": folder})}, honours_ranges=False)
    found = open_checkpoint("some/model")
    assert len(found.tensors) == 64  # the header lies at the start, where no range is needed
    # a zip's directory lies at the end of 128 MB of it
    with open(folder / "model.bin", "wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**27)
    from pipeline.weight_file import read_weight_file

    read = read_weight_file(hub_files.open_hub_repo("some/model"), "model.bin")
    assert (read.problem, "ignores range requests" in read.detail) == ("unreadable", True)
    time.sleep(0.2)
    assert hub.body_bytes < 20_000_000  # what the sockets' buffers took before the connection closed


def test_a_lying_header_ends_at_the_limit(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.write((90_000_000).to_bytes(8, "little") + b"{")
        file.truncate(GIB)
    hub = serve({"some/model": Repo({"main": folder})})
    file = open_checkpoint("some/model").weight_files[0]
    assert (file.problem, "32 MiB" in file.detail) == ("unreadable", True)
    assert hub.body_bytes < 1_000_000


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"delay": 3.0}, "no answer within 0.5 s"),
        ({"stall_resolve": 3.0}, "no answer within 0.5 s"),
        ({"drip": True}, "did not arrive within 0.8 s"),
        ({"no_hub": True}, "does not answer like a Hub"),
    ],
)
def test_a_hub_that_does_not_answer(
    serve: Callable[..., LoopbackHub],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, object],
    says: str,
) -> None:
    monkeypatch.setattr(hub_files, "DEADLINE_SECONDS", 0.8)
    serve({"some/model": Repo({"main": model_folder(tmp_path / "model", 1)})}, **how)
    started = time.monotonic()
    with pytest.raises(PathNotFound, match=says) as caught:
        open_checkpoint("some/model")
    assert time.monotonic() - started < 2.5
    assert "\n" not in str(caught.value)


def test_a_hub_that_goes_away_costs_one_wait(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    hub = serve({"some/model": Repo({"main": model_folder(tmp_path / "model")})})
    found = open_checkpoint("some/model")
    hub.stall_resolve = 5.0
    started = time.monotonic()
    assert {f.problem for f in found.weight_files} == {"unreadable"}
    assert time.monotonic() - started < 1.5
    assert found.weight_files[0].detail == "no answer within 0.5 s"


def test_nobody_listens(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    hub = serve({})
    hub.server.server_close()
    with pytest.raises(PathNotFound, match=r"asking http://127\S+ failed: .*Check network and proxy"):
        open_checkpoint("some/model")


def test_for_deeper_checks_the_checkpoint_is_downloaded(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    sparse_safetensors(folder / "model.safetensors", 2, 64)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("not needed")
    serve({"some/model": Repo({"main": folder})})
    remote = open_checkpoint("some/model")
    local = hub_files.downloaded(remote)
    assert local.local_folder() is not None and local.weight_files == remote.weight_files
    assert local.store.names() == ["config.json", "model.safetensors", "tokenizer.json"]
    assert local.tokenizer.store is not None and local.tokenizer.store.local_path("tokenizer.json")
    assert (local.name, local.revision) == ("some/model", remote.revision)


def test_fetch_downloads_what_is_asked_for(serve: Callable[..., LoopbackHub], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    sparse_safetensors(folder / "model.safetensors", 8, 1024)
    (folder / "config.json").write_text("{}")
    hub = serve({"some/model": Repo({"main": folder})})
    store = hub_files.open_hub_repo("some/model")
    assert store.local_path("model.safetensors") is None
    notes: list[str] = []
    here = store.fetch(["model.safetensors", "config.json"], notes.append)
    assert (here / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert store.local_path("model.safetensors") == here / "model.safetensors"
    assert any(n.endswith(" 100%") for n in notes)
    sent = hub.body_bytes
    with store.open("model.safetensors") as file:
        assert len(file.read()) == store.size("model.safetensors")
    store.fetch(["model.safetensors"])
    assert hub.body_bytes == sent  # from the cache


def test_offline_names_the_copy_in_the_cache(
    serve: Callable[..., LoopbackHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    folder = model_folder(tmp_path / "model", 1)
    serve({"some/model": Repo({"main": folder})})
    local = hub_files.open_hub_repo("some/model").local_path("tokenizer.json")
    assert local is not None and local.read_bytes() == (folder / "tokenizer.json").read_bytes()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PathNotFound, match="offline mode is on.*Unset HF_HUB_OFFLINE") as caught:
        open_checkpoint("some/model")
    assert str(caught.value).endswith(str(local.parent))


def test_ids_that_no_hub_can_have_are_refused_without_asking(serve: Callable[..., LoopbackHub]) -> None:
    hub = serve({})
    for name in ("a/b--c", "a/b..c", f"a/{'x' * 120}"):
        with pytest.raises(PathNotFound, match="no such file or folder"):
            open_checkpoint(name)
    assert hub.requests == []


PROGRAM = """
import json, sys
from pipeline.checkpoint import open_checkpoint
before = "huggingface_hub" in sys.modules
found = open_checkpoint(sys.argv[1])
heavy = [m for m in ("torch", "transformers", "numpy", "gradio") if m in sys.modules]
print(json.dumps([before, found.kind, len(found.tensors), heavy]))
"""


def test_the_users_environment_decides_and_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """In a process of its own, as a user runs it: HF_ENDPOINT, HF_HOME, no token."""
    folder = model_folder(tmp_path / "model", 1)
    with LoopbackHub({"some/model": Repo({"main": folder})}) as hub:
        env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
        env |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "some/model"], env=env, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, "folder", 64, []]
    assert done.stderr == ""
