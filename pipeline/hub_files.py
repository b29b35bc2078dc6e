"""Files of a Hub repository: one request for the list, then only the bytes that are asked for.

Weight files are read by HTTP ranges (headers cost a few hundred kilobytes whatever the size of the model). Whole
files go through the library's cache: small ones when a local path is needed, weights only by `HubRepo.fetch`.
Endpoint, proxies, cache folder, login and offline mode are the library's: HF_ENDPOINT, HTTPS_PROXY, HF_HOME,
HF_TOKEN or `hf auth login`, HF_HUB_OFFLINE.
https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
"""

from __future__ import annotations

import errno
import io
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.checkpoint import WEIGHT_SUFFIXES, Checkpoint, PathNotFound
from pipeline.file_store import LocalFolder
from pipeline.refusal import Sentence

TIMEOUT_SECONDS = 10.0  # without any byte; the library's own default
DEADLINE_SECONDS = 60.0  # for one range, however steadily it drips
# 97 of 100 safetensors headers fit (https://github.com/huggingface/huggingface_hub/pull/1855); a zip's directory too.
BLOCK_BYTES = 128 * 1024
# No sound header needs more; the library's own limit is 25 MB. Ends the reading of a hostile or lying file.
MAX_RANGED_BYTES = 32 * 2**20
# Larger files without a weight's suffix are fetched only when asked for: real tokenizers stay below 40 MB.
MAX_SMALL_BYTES = 64 * 2**20
# A name that could leave the folder it is written to, on any system.
HOSTILE_NAME = re.compile(r"(^|/)\.{0,2}(/|$)|[\\:\x00-\x1f]")


@dataclass
class _Shared:
    """What all folders of one repository have in common."""

    repo_id: str
    revision: str  # the commit, so that a push in between can't mix two versions
    sizes: Mapping[str, int]
    blocks: dict[str, dict[int, bytes]] = field(default_factory=dict)
    down: str = ""  # why the last request got no answer; asking again would cost the same wait for every file


@dataclass(frozen=True)
class HubRepo:
    """One folder of a repository at one commit, as a `FileStore`."""

    shared: _Shared
    folder: str = ""  # "" or "sub/"

    @property
    def label(self) -> str:
        return f"{self.shared.repo_id}/{self.folder}".rstrip("/")

    @property
    def revision(self) -> str:
        """The commit all bytes come from."""
        return self.shared.revision

    def _inside(self) -> list[str]:
        return [path[len(self.folder) :] for path in self.shared.sizes if path.startswith(self.folder)]

    def names(self) -> list[str]:
        return sorted(name for name in self._inside() if "/" not in name)

    def folders(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._inside() if "/" in name})

    def size(self, name: str) -> int:
        try:
            return self.shared.sizes[self.folder + name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file in the repository", name) from None

    def modified(self, name: str) -> float | None:
        return None

    def open(self, name: str) -> BinaryIO:
        """Cached copy if there is one, else the file's ranges as they are read."""
        size = self.size(name)
        cached = self._cached(name)
        if cached is not None:
            return open(cached, "rb")
        # The buffer only joins the readers' many tiny reads; what a request fetches is decided in blocks.
        return cast(BinaryIO, io.BufferedReader(_RangedFile(self.shared, self.folder + name, size), 8192))

    def local_path(self, name: str) -> Path | None:
        """The cached copy, downloading it first if it is small. Raises OSError with one line."""
        cached = self._cached(name)
        if cached is not None:
            return cached
        if name.endswith(WEIGHT_SUFFIXES) or self.size(name) > MAX_SMALL_BYTES:
            return None
        return self._download(name)

    def sub(self, folder: str) -> HubRepo:
        return HubRepo(self.shared, f"{self.folder}{folder}/")

    def fetch(self, names: Sequence[str], note: Callable[[str], None] = lambda text: None) -> Path:
        """Download whole files, however large, into the library's cache; return the folder they then lie in.

        note: called with one line of progress per file and every five percent. Raises OSError with one line.
        """
        missing = [name for name in names if self._cached(name) is None]
        total = sum(self.size(name) for name in missing)
        if missing:
            free = shutil.disk_usage(_existing(_cache_folder())).free
            if total > free:
                reason = f"{self.label} needs {total / 1e9:.1f} GB in {_cache_folder()}, {free / 1e9:.1f} GB are free"
                raise OSError(errno.ENOSPC, reason)
        for number, name in enumerate(missing, 1):
            head = f"{self.label}: {name} ({number} of {len(missing)}, {self.size(name) / 1e6:,.0f} MB)"
            note(head)
            self._download(name, lambda percent, head=head: note(f"{head} {percent}%"))  # type: ignore[misc]
        return _cache_folder() / self._snapshot() / self.folder

    def _snapshot(self) -> Path:
        # The documented layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
        return Path(f"models--{self.shared.repo_id.replace('/', '--')}") / "snapshots" / self.revision

    def _cached(self, name: str) -> Path | None:
        path = _cache_folder() / self._snapshot() / (self.folder + name)
        try:
            return path if path.stat().st_size == self.size(name) else None
        except OSError:
            return None

    def _download(self, name: str, percent: Callable[[int], None] | None = None) -> Path:
        from huggingface_hub import hf_hub_download

        if self.shared.down:
            raise OSError(errno.EIO, self.shared.down)
        try:
            path = hf_hub_download(
                self.shared.repo_id, self.folder + name, revision=self.revision, etag_timeout=TIMEOUT_SECONDS,
                tqdm_class=_progress(percent),
            )  # fmt: skip
        except Exception as failed:  # whatever the transport raises, the reader above knows OSError
            raise OSError(errno.EIO, f"{self.folder}{name}: {why_no_answer(failed)}") from failed
        return Path(path)


class _RangedFile(io.RawIOBase):
    """A remote file that fetches what is read, in blocks that are kept."""

    def __init__(self, shared: _Shared, path: str, size: int) -> None:
        super().__init__()
        self.shared, self.path, self.size_ = shared, path, size
        self.blocks = shared.blocks.setdefault(path, {})
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size_}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "seek before the start")
        self.position = start + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self.size_ - self.position))
        if not wanted:
            return 0
        first, last = self.position // BLOCK_BYTES, (self.position + wanted - 1) // BLOCK_BYTES
        self._have(first, last)
        joined = b"".join(self.blocks[i] for i in range(first, last + 1))
        start = self.position - first * BLOCK_BYTES
        part = joined[start : start + wanted]
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)

    def _have(self, first: int, last: int) -> None:
        """Fetch the blocks from `first` to `last` that are not here yet, in one request."""
        missing = [i for i in range(first, last + 1) if i not in self.blocks]
        if not missing:
            return
        low, high = missing[0], missing[-1]
        final = (self.size_ - 1) // BLOCK_BYTES
        if high == final and low == final and final > 0 and final - 1 not in self.blocks:
            low -= 1  # a zip's directory ends the file, and the last block may hold only a few bytes of it
        held = sum(len(b) for b in self.blocks.values())
        if held + (high - low + 1) * BLOCK_BYTES > MAX_RANGED_BYTES + BLOCK_BYTES:
            raise OSError(errno.EFBIG, f"reading it takes more than {MAX_RANGED_BYTES // 2**20} MiB of ranges")
        start, end = low * BLOCK_BYTES, min((high + 1) * BLOCK_BYTES, self.size_)
        data = _fetch_range(self.shared, self.path, start, end)
        for i in range(low, high + 1):
            self.blocks[i] = data[i * BLOCK_BYTES - start : (i + 1) * BLOCK_BYTES - start]


def _fetch_range(shared: _Shared, path: str, start: int, end: int) -> bytes:
    """Bytes `start` to `end` of one file. Raises OSError with one line. Never reads on when a server sends more."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    if shared.down:
        raise OSError(errno.EIO, shared.down)
    url = hf_hub_url(shared.repo_id, path, revision=shared.revision)
    # identity: a compressed answer has other offsets than the file
    headers = {**build_hf_headers(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    data = bytearray()
    started = time.monotonic()
    try:
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as answer:
            hf_raise_for_status(answer)
            skip = 0
            if answer.status_code != 206:  # the server ignores ranges: the wanted bytes come after all before them
                if end > MAX_RANGED_BYTES:
                    raise OSError(errno.EOPNOTSUPP, "the server ignores range requests; download the folder instead")
                skip = start
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise OSError(errno.EIO, "the server sent another range than asked for")
            for chunk in answer.iter_raw():
                data += chunk
                if len(data) >= skip + end - start:
                    break
                if time.monotonic() - started > DEADLINE_SECONDS:
                    raise TimeoutError(f"{end - start:,} bytes did not arrive within {DEADLINE_SECONDS:g} s")
    except TimeoutError as failed:
        shared.down = str(failed)
        raise OSError(errno.ETIMEDOUT, shared.down) from failed
    except OSError as failed:
        if failed.strerror:
            raise
        raise OSError(errno.EIO, f"{path}: {why_no_answer(failed)}") from failed
    except Exception as failed:  # the transport's own classes; it is not a direct dependency
        shared.down = str(why_no_answer(failed))
        raise OSError(errno.EIO, shared.down) from failed
    if len(data) < skip + end - start:
        raise OSError(errno.EIO, f"{path}: the server closed the connection early")
    return bytes(data[skip : skip + end - start])


def open_hub_repo(given: str) -> HubRepo:
    """The repository `owner/name` or `owner/name@revision`, at the commit it stands at now.

    Raises `PathNotFound` with one line that says what to do: no such repository, gated, private, offline, no
    answer in time.
    """
    from huggingface_hub import HfApi

    repo_id, _, revision = given.partition("@")
    try:
        info = HfApi().model_info(repo_id, revision=revision or None, files_metadata=True, timeout=TIMEOUT_SECONDS)
        sizes = {s.rfilename: int(s.size or 0) for s in info.siblings or () if not HOSTILE_NAME.search(s.rfilename)}
        commit = str(info.sha)
    except Exception as failed:  # transport errors, the library's own, and answers that are no Hub's
        raise _what_to_do(given, failed) from failed
    repo = HubRepo(_Shared(repo_id, commit, sizes))
    # The list of a gated repository is public, its files are not; ask for one that is needed anyway.
    for name in ("config.json", "adapter_config.json", *repo.names()[:1]):
        if repo.shared.sizes.get(name):
            try:
                with repo.open(name) as file:
                    file.read(1)
            except OSError as failed:
                raise _what_to_do(given, failed.__cause__ or failed) from failed
            break
    return repo


def downloaded(checkpoint: Checkpoint, note: Callable[[str], None] = lambda text: None) -> Checkpoint:
    """The same checkpoint with every file that loading it needs on this machine; a local one comes back as it is.

    Only for depths that read the weights themselves. Raises OSError with one line.
    """
    tokenizer = checkpoint.tokenizer
    if isinstance(tokenizer.store, HubRepo):
        folder = LocalFolder(tokenizer.store.fetch(tokenizer.names, note))
        checkpoint = replace(checkpoint, tokenizer=replace(tokenizer, store=folder))
    if not isinstance(checkpoint.store, HubRepo):
        return checkpoint
    files = (checkpoint.config, checkpoint.generation_config, checkpoint.adapter_config, checkpoint.trainer_state)
    small = [f.name for f in (*files, checkpoint.index) if f is not None and f.present]
    present = set(checkpoint.store.names())
    wanted = [n for n in (*small, *checkpoint.tokenizer.names, *checkpoint.weight_names) if n in present]
    return replace(checkpoint, store=LocalFolder(checkpoint.store.fetch(wanted, note)))


def _what_to_do(given: str, failed: BaseException) -> PathNotFound:
    """One line for a repository that can't be read."""
    from huggingface_hub import constants, errors

    repo_id, _, revision = given.partition("@")
    hub = constants.ENDPOINT
    status = failed.response.status_code if isinstance(failed, errors.HfHubHTTPError) else 0
    named = {"given": given, "hub": hub, "repo": repo_id}
    if isinstance(failed, errors.GatedRepoError):
        return PathNotFound("hub_gated", **named)
    if isinstance(failed, errors.RevisionNotFoundError):
        return PathNotFound("hub_no_revision", revision=revision or "main", **named)
    if isinstance(failed, errors.DisabledRepoError):
        return PathNotFound("hub_disabled", **named)
    if isinstance(failed, (errors.RepositoryNotFoundError, errors.HFValidationError)) or status in (401, 404):
        return PathNotFound("hub_no_model", **named)
    if status == 403:
        return PathNotFound("hub_forbidden", **named)
    offline = isinstance(failed, errors.OfflineModeIsEnabled)
    return PathNotFound(
        "hub_offline" if offline else "hub_no_answer", reason=why_no_answer(failed), copies=_copies(repo_id), **named
    )


def _copies(repo_id: str) -> Sentence | str:
    """Where the library's cache holds the repository, as the end of a sentence."""
    folder = _cache_folder() / f"models--{repo_id.replace('/', '--')}" / "snapshots"
    try:
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    except (OSError, ValueError):
        return ""
    return Sentence("hub_copies", {"folder": newest})


def why_no_answer(failed: BaseException) -> Sentence | str:
    """What went wrong, in a few words on one line."""
    from huggingface_hub import errors

    if isinstance(failed, errors.OfflineModeIsEnabled):
        return Sentence("reason_offline")
    if isinstance(failed, errors.HfHubHTTPError):
        said = (failed.server_message or "").strip().splitlines()
        status = failed.response.status_code
        if said:
            return Sentence("reason_status_said", {"status": status, "detail": said[0][:120]})
        return Sentence("reason_status", {"status": status})
    kinds = " ".join(cls.__name__ for cls in type(failed).__mro__)
    if "Timeout" in kinds and not isinstance(failed, TimeoutError):
        return Sentence("reason_timeout", {"seconds": f"{TIMEOUT_SECONDS:g}"})
    if "ProxyError" in kinds:
        return Sentence("reason_proxy", {"detail": str(failed).replace("\n", " ")[:180]})
    if isinstance(failed, errors.LocalEntryNotFoundError) and failed.__cause__ is not None:
        return why_no_answer(failed.__cause__)
    if isinstance(failed, (ValueError, KeyError, TypeError)):
        return Sentence("reason_no_hub")
    text = str(failed).strip().splitlines()
    return (text[0] if text else type(failed).__name__)[:200]


def _cache_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _progress(percent: Callable[[int], None] | None) -> Any:
    """A silent progress bar class for the library that passes every fifth percent on."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.seen, self.said = int(kwargs.get("initial") or 0), 0
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)
            self.whole = kwargs.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            self.seen += int(n or 0)
            if percent is not None and self.whole:
                now = 100 * self.seen // int(self.whole) // 5 * 5
                if now > self.said:
                    self.said = now
                    percent(now)
            return None

    return Silent
