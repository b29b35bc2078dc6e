"""Builds the demo in the user's cache folder, once: a finished stage is kept, a killed build goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config_files import CONFIGS, load_config
from pipeline.demo import cases
from pipeline.demo.cases import WEIGHTS_NAME, Workshop, open_workshop

MARKER = "demo.json"
# stage -> (its maker, the stages it reads). In building order.
STAGES: dict[str, tuple[Callable[[Workshop, Path], None], tuple[str, ...]]] = {
    "data": (cases.make_data, ()),
    "base_t5": (cases.make_base_t5, ()),
    "healthy_t5": (cases.make_healthy_t5, ("base_t5",)),
    "base_decoder": (cases.make_base_decoder, ()),
    "healthy_decoder": (cases.make_healthy_decoder, ("base_decoder",)),
    "literal_eos_t5": (cases.make_literal_eos_t5, ("base_t5",)),
    "undertrained_decoder": (cases.make_undertrained_decoder, ("base_decoder",)),
    "off_topic_t5": (cases.make_off_topic_t5, ("base_t5", "healthy_t5")),
    "template_mismatch_decoder": (cases.make_template_mismatch_decoder, ("healthy_decoder",)),
    "healthy_t5_state_dict": (cases.make_healthy_t5_state_dict, ("healthy_t5",)),
    "never_stops_decoder": (cases.make_never_stops_decoder, ("base_decoder",)),
    "healthy_decoder_lora": (cases.make_healthy_decoder_lora, ("base_decoder",)),
}


class DemoNotBuilt(Exception):
    """The demo can't be built there. Carries one line that says why and what to do."""


class _Stopped(Exception):
    """Ends a track after the other one failed or the user interrupted."""


@dataclass(frozen=True)
class DemoCase:
    """One case: what to give to `python -m diagnostics checkpoint`, and which cause is right (None: it is sound)."""

    name: str
    architecture: str  # encoder-decoder | decoder
    checkpoint: Path
    tokenizer: Path | None
    model_config: Path | None
    base: Path | None
    data_file: Path
    held_out_file: Path
    log_file: Path | None
    expected_cause: str | None
    title: Mapping[str, str]  # by language: en, zh
    description: Mapping[str, str]


@dataclass(frozen=True)
class DemoFolder:
    """A built demo. `cases` by name, the founding one first; `base_*` are the pre-trained models."""

    root: Path
    cases: Mapping[str, DemoCase]

    @property
    def base_t5(self) -> Path:
        """Folder of the pre-trained T5."""
        return self.root / "base_t5"

    @property
    def base_decoder(self) -> Path:
        """Folder of the pre-trained decoder."""
        return self.root / "base_decoder"


def default_root() -> Path:
    """`~/.cache/dpo-doctor/demo-HASH` ($XDG_CACHE_HOME respected). Another config or other code, another folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "dpo-doctor" / f"demo-{_fingerprint()}"


def build_demo(
    output: Path | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    only: Sequence[str] | None = None,
) -> DemoFolder:
    """Build what is not there yet, in `output` or the cache; about a minute on two cores, milliseconds when built.

    `only` names cases (or the two bases) and builds these with what they need; the result then lists these alone.
    Every stage appears by one rename, so a folder that is there is whole. Raises DemoNotBuilt.
    """
    known = list(load_config("demo.yaml")["cases"])
    unknown = [name for name in only or () if name not in STAGES]
    if unknown:
        raise DemoNotBuilt(f"no demo case is called {unknown[0]!r}; known: {', '.join(known)}")
    root = Path(output).absolute() if output is not None else default_root()
    say = progress or (lambda line: None)
    try:
        _open_root(root)
        missing = [name for name in _needed(only) if not (root / name).is_dir()]
        if missing:
            _build(root, missing, say)
        if only is None:
            _write_marker(root, finished=True)
    except OSError as error:
        raise DemoNotBuilt(f"the demo can't be written to {root}: {error.strerror or error}") from error
    return DemoFolder(root, {name: _case(root, name) for name in known if only is None or name in only})


def _needed(only: Sequence[str] | None) -> list[str]:
    if only is None:
        return list(STAGES)
    wanted = {"data", *only}
    for name in reversed(STAGES):
        if name in wanted:
            wanted.update(STAGES[name][1])
    return [name for name in STAGES if name in wanted]


def _build(root: Path, missing: Sequence[str], say: Callable[[str], None]) -> None:
    """The stages of T5 in one thread, those of the decoder in another, each on one core.

    With matrices this small a second core inside one operation gains little, and much is lost where the machine has
    other work: its threads wait for each other. One thread also adds numbers in one order, so a seed gives one file.
    """
    import torch
    from transformers.utils import logging

    stop = threading.Event()
    shop = open_workshop(root, load_config("demo.yaml"), say)

    def build_track(names: Sequence[str]) -> None:
        torch.set_num_threads(1)  # per thread
        for name in names:
            if not stop.is_set():
                _build_stage(name, shop, say, stop)

    threads, bars, level = torch.get_num_threads(), logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]), ThreadPoolExecutor(2) as pool:
            tracks = [pool.submit(build_track, [n for n in missing if _is_t5(n) == t5]) for t5 in (True, False)]
            try:
                for track in as_completed(tracks):
                    track.result()
            except BaseException:  # also an interrupt: the other track ends at its next line of progress
                stop.set()
                raise
    finally:
        torch.set_num_threads(threads)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _build_stage(name: str, shop: Workshop, say: Callable[[str], None], stop: threading.Event) -> None:
    def tell(line: str) -> None:
        if stop.is_set():
            raise _Stopped
        say(f"{name}: {line}")

    tell("started")
    making = shop.root / f".making-{os.getpid()}-{name}"
    making.mkdir()
    try:
        STAGES[name][0](replace(shop, progress=tell), making)
        if not (shop.root / name).is_dir():  # another process may have been faster
            making.rename(shop.root / name)
    except _Stopped:
        pass
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _open_root(root: Path) -> None:
    """Make `root`, or see that it is ours and of this version; sweep what killed builds left."""
    if root.exists() and not root.is_dir():
        raise DemoNotBuilt(f"{root} is a file; name a folder for the demo")
    root.mkdir(parents=True, exist_ok=True)
    marker = root / MARKER
    if marker.is_file():
        try:
            made_by = json.loads(marker.read_text(encoding="utf-8"))["fingerprint"]
        except (ValueError, KeyError, TypeError):
            made_by = None
        if made_by != _fingerprint():
            raise DemoNotBuilt(f"{root} holds a demo of another version; delete it or name another folder")
    elif any(root.iterdir()):
        raise DemoNotBuilt(f"{root} is not empty and holds no demo; name an empty folder")
    else:
        _write_marker(root, finished=False)
    for left in root.glob(".making-*"):
        if not _is_running(left.name.split("-")[1]):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _write_marker(root: Path, *, finished: bool) -> None:
    """In one step: a reader never sees half of it."""
    content = {"fingerprint": _fingerprint(), "finished": finished}
    draft = root / f".making-{os.getpid()}-{MARKER}"
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    draft.replace(root / MARKER)


def _fingerprint() -> str:
    """Of configs/demo.yaml and of the code that reads it: either changed, the models change."""
    digest = hashlib.sha256((CONFIGS / "demo.yaml").read_bytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _case(root: Path, name: str) -> DemoCase:
    words: Mapping[str, Any] = load_config("demo.yaml")["cases"][name]
    folder = root / name
    is_t5 = _is_t5(name)
    bare = folder / WEIGHTS_NAME if name in ("literal_eos_t5", "healthy_t5_state_dict") else None
    logs = {"literal_eos_t5": folder / "logs" / "chat_trainer_sft.log", "healthy_t5_state_dict": None}
    return DemoCase(
        name=name,
        architecture="encoder-decoder" if is_t5 else "decoder",
        checkpoint=bare or folder,
        tokenizer=folder / "my_tokenizer" if bare else None,
        model_config=folder / "t5_config.json" if bare else None,
        base=root / ("base_t5" if is_t5 else "base_decoder"),
        data_file=root / "data" / ("literal_eos.jsonl" if name == "literal_eos_t5" else "sft.jsonl"),
        held_out_file=root / "data" / "held_out.jsonl",
        log_file=logs.get(name, folder / "trainer_state.json"),
        expected_cause=words["cause"],
        title=words["title"],
        description=words["description"],
    )


def _is_t5(name: str) -> bool:
    return "t5" in name.split("_")
