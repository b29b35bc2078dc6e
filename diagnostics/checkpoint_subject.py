"""What the checks of a checkpoint look at. Everything costly is measured once, on first use, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diagnostics.run_checks import NotMeasured
from pipeline.checkpoint import Checkpoint, PathNotFound, open_checkpoint

if TYPE_CHECKING:
    from pipeline.probe import Probe


@dataclass
class CheckpointSubject:
    """One checkpoint with what the user gave beside it.

    metrics, curves, samples: filled by the checks; they end up in the report under the same names.
    note: called with one line of progress for long work.
    """

    checkpoint: Checkpoint
    base_path: str | None = None
    data_paths: tuple[str, ...] = ()
    log_paths: tuple[str, ...] = ()
    prompts_path: str | None = None
    max_rows: int = 64
    seed: int = 0
    device: str = "cpu"
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    note: Callable[[str], None] = lambda text: None

    @cached_property
    def base(self) -> Checkpoint | None:
        """`--base`, or for an adapter the base its configuration names, when that leads somewhere."""
        named = self.base_path
        if named is None and self.checkpoint.kind == "adapter":
            declared = self.checkpoint.adapter_config.get("base_model_name_or_path")
            named = declared if isinstance(declared, str) and declared else None
        if named is None:
            return None
        try:
            opened = open_checkpoint(named)
        except PathNotFound:
            if self.base_path is None:  # a path relative to the adapter's own folder is common after a move
                folder = self.checkpoint.local_folder()
                if folder is not None:
                    try:
                        return open_checkpoint(str(folder / named))
                    except PathNotFound:
                        return None
                return None
            raise
        return opened

    @property
    def model_files(self) -> Checkpoint:
        """Whose configuration and generation settings count: the base's for an adapter, else its own."""
        if self.checkpoint.kind == "adapter" and not self.checkpoint.config.present and self.base is not None:
            return self.base
        return self.checkpoint

    @property
    def tokenizer_files(self) -> Checkpoint:
        """The checkpoint whose tokenizer is used: its own if it has one, else the base's."""
        if self.checkpoint.tokenizer.store is None and self.checkpoint.kind == "adapter" and self.base is not None:
            return self.base
        return self.checkpoint

    @cached_property
    def probe(self) -> Probe:
        """Tokenizer and template in a limited process of their own. Raises NotMeasured without a tokenizer."""
        from pipeline.probe import open_probe

        tokenizer = self.tokenizer_files.tokenizer
        if tokenizer.store is None:
            raise NotMeasured("no_tokenizer")
        return open_probe(tokenizer)

    def close(self) -> None:
        """End the probe's process, drop the models."""
        if "probe" in self.__dict__:
            self.probe.close()
        for kept in ("probe", "loaded", "loaded_base", "weight_scan", "base_weight_scan"):
            self.__dict__.pop(kept, None)
