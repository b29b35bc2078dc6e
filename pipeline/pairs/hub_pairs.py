"""Pairs of a data set of the Hub, streamed: `owner/name`, `owner/name:config`, `owner/name@revision`, or both.

Only data files are read; a data set that needs code of its own is refused by the library. Endpoint, proxies, cache,
login and offline mode are the library's: HF_ENDPOINT, HTTPS_PROXY, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.hub_files import TIMEOUT_SECONDS, why_no_answer
from pipeline.pairs.read_pairs import PairSource
from pipeline.record_files import Record
from pipeline.refusal import Refused

_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w .+/-]+))?(?:@([\w./-]+))?")
_LISTED = 20  # splits or configurations named in one line


@dataclass(frozen=True)
class HubId:
    """config, revision: None where the default is meant."""

    repo: str
    config: str | None = None
    revision: str | None = None


def hub_id(given: str) -> HubId | None:
    """What a text names on the Hub; None where it has another form."""
    found = _ID.fullmatch(given)
    return HubId(*found.groups()) if found else None


class HubPairs(PairSource):
    """Pairs of one split, nothing stored. The other options are those of PairSource; a row's number is its line.

    folder: of the repository, whose files are meant. Raises Refused when looked at or iterated: no network, gated, no
    such repository, revision, configuration or split, files that can't be read as rows.
    """

    def __init__(
        self,
        given: str,
        *,
        split: str = "train",
        folder: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        axis: str | None = None,
        prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.given, self.split, self.folder = given, split, folder
        found = hub_id(given)
        if found is None:
            raise Refused("dataset_id_wrong", given=given)
        self._id = found
        self._dataset: Any = None
        super().__init__(given, self._rows, format=format, columns=columns, axis=axis, prepare=prepare)

    def _rows(self) -> Iterator[Record]:
        row = 0
        try:
            with _quiet():
                if self._dataset is None:
                    self._dataset = self._loaded()
                rows = iter(self._dataset)
            while True:
                with _quiet():
                    value = next(rows, None)
                if value is None:
                    return
                row += 1
                yield Record(row, value)
        except (Refused, GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as failed:  # the builders', the transport's and pyarrow's own classes
            why = _first_line(str(failed.__cause__ or failed))
            raise self._refused("dataset_unreadable", row=row + 1, why=why) from failed

    def _loaded(self) -> Any:
        from huggingface_hub import HfApi

        try:
            # one question first: the library asks six times, for half a minute, before it says that nobody answers
            HfApi().dataset_info(self._id.repo, revision=self._id.revision, timeout=TIMEOUT_SECONDS)
        except Exception as failed:  # transport errors, the library's own, and answers that are no Hub's
            raise self._unreachable(failed) from failed
        from datasets import load_dataset

        try:
            loaded = load_dataset(
                self._id.repo, self._id.config, split=self.split, revision=self._id.revision, data_dir=self.folder,
                streaming=True,
            )  # fmt: skip
        except Exception as failed:  # of half a dozen classes, most of them ValueError or FileNotFoundError
            raise self._unusable(failed) from failed
        # pictures and sounds stay the bytes they are
        return loaded.decode(False) if any(_is_media(kind) for kind in (loaded.features or {}).values()) else loaded

    def _refused(self, entry: str, **params: Any) -> Refused:
        from huggingface_hub import constants

        return Refused(entry, given=self.given, hub=constants.ENDPOINT, repo=self._id.repo, **params)

    def _unreachable(self, failed: Exception) -> Refused:
        from huggingface_hub import errors

        status = failed.response.status_code if isinstance(failed, errors.HfHubHTTPError) else 0
        if isinstance(failed, errors.GatedRepoError):
            return self._refused("dataset_gated")
        if isinstance(failed, errors.RevisionNotFoundError):
            return self._refused("dataset_no_revision", revision=self._id.revision or "main")
        if isinstance(failed, (errors.RepositoryNotFoundError, errors.HFValidationError)) or status in (401, 404):
            return self._refused("dataset_not_found")
        if status == 403:
            return self._refused("hub_forbidden")
        offline = isinstance(failed, errors.OfflineModeIsEnabled)
        return self._refused("dataset_offline" if offline else "dataset_no_answer", reason=why_no_answer(failed))

    def _unusable(self, failed: Exception) -> Refused:
        text = str(failed)
        if "is a gated dataset" in text:  # its list of files is public, the files are not
            return self._refused("dataset_gated")
        if "scripts are no longer supported" in text:
            return self._refused("dataset_needs_code")
        if isinstance(failed, ConnectionError):
            return self._refused("dataset_no_answer", reason=why_no_answer(failed))
        if isinstance(failed, FileNotFoundError):
            return self._refused("dataset_without_files")
        return self._wrong_part() or self._refused("dataset_unreadable", row=1, why=_first_line(text))

    def _wrong_part(self) -> Refused | None:
        """A configuration or a split that isn't there, which the library tells in a sentence only."""
        from datasets import get_dataset_config_names, get_dataset_split_names

        revision = self._id.revision
        try:
            configs = get_dataset_config_names(self._id.repo, revision=revision)
            if self._id.config is not None and self._id.config not in configs:
                return self._refused("dataset_no_config", config=self._id.config, configs=_named(configs))
            if self._id.config is None and len(configs) > 1 and "default" not in configs:
                return self._refused("dataset_config_needed", configs=_named(configs), config=configs[0])
            splits = get_dataset_split_names(self._id.repo, self._id.config, revision=revision)
        except Exception:  # then something else is wrong
            return None
        if self.split not in splits:
            return self._refused("dataset_no_split", split=self.split, splits=_named(splits))
        return None


def _is_media(kind: Any) -> bool:
    return type(kind).__name__ in ("Audio", "Image", "Video", "Pdf")


def _named(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["?"])[0][:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and warnings, which are no answer to what was asked."""
    import datasets
    from huggingface_hub import utils

    level, bars = datasets.logging.get_verbosity(), datasets.is_progress_bar_enabled()
    hub_bars = not utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # its errors come as exceptions too
    datasets.disable_progress_bars()
    utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
        if hub_bars:
            utils.enable_progress_bars()  # type: ignore[attr-defined]
