"""What the checks of a checkpoint look at. Everything costly is measured once, on first use, and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diagnostics.run_checks import NotMeasured
from pipeline.checkpoint import Checkpoint, PathNotFound, open_checkpoint

if TYPE_CHECKING:
    from diagnostics.files.names_wrapped import Wrapping
    from pipeline.answer_grid import AnswerGrid
    from pipeline.answer_level import AnswerScores
    from pipeline.architecture import Architecture, Landing
    from pipeline.base_level import BaseComparison
    from pipeline.format_autopsy import Autopsy
    from pipeline.instruction_rows import InstructionRow, InstructionRows
    from pipeline.last_loss import LossCurve
    from pipeline.load_model import LoadedModel, ModelNotLoaded
    from pipeline.probe import Probe
    from pipeline.weight_distance import Distance
    from pipeline.weight_scan import WeightScan


@dataclass
class LogCurves:
    """The loss curves of log files by their place. A long log costs seconds, so none is read before it is needed."""

    paths: tuple[str, ...]
    _read: dict[int, LossCurve] = field(default_factory=dict)

    def __getitem__(self, place: int) -> LossCurve:
        from pipeline.last_loss import read_loss_curve

        if place not in self._read:
            self._read[place] = read_loss_curve(self.paths[place])
        return self._read[place]


@dataclass
class CheckpointSubject:
    """One checkpoint with what the user gave beside it.

    metrics, curves, samples: filled by the checks; they end up in the report under the same names.
    note: called with one line of progress for long work. cancel: when set, long work stops as soon as it can.
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
    cancel: threading.Event | None = None
    _scanning: Future[WeightScan] | None = None
    _probing: Future[Probe] | None = None
    _restore_threads: Callable[[], None] | None = None
    _closed: threading.Event = field(default_factory=threading.Event)

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
    def architecture(self) -> Architecture:
        """What config.json makes. Raises NotMeasured for an adapter, without config.json, or where it is unknown."""
        from pipeline.architecture import UnknownArchitecture, expected_architecture

        if self.checkpoint.kind == "adapter":
            raise NotMeasured("is_an_adapter")
        config = self.checkpoint.config.value
        if config is None:
            raise NotMeasured("no_config")
        try:
            return expected_architecture(config, self.checkpoint.tensors)
        except UnknownArchitecture as unknown:
            raise NotMeasured(unknown.reason_id, detail=unknown.detail) from None

    @cached_property
    def landing(self) -> Landing:
        """How the tensors of the files meet those that config.json makes. Raises NotMeasured like `architecture`."""
        from pipeline.architecture import land_tensors

        return land_tensors(self.architecture, {name: t.shape for name, t in self.checkpoint.tensors.items()})

    @cached_property
    def wrapping(self) -> Wrapping | None:
        """What a trainer put before the names of the tensors, None where they land as they are."""
        from diagnostics.files.names_wrapped import find_wrapping

        return find_wrapping(self)

    @cached_property
    def probe(self) -> Probe:
        """Tokenizer and template in a limited process of their own. Raises NotMeasured without a tokenizer."""
        if self._probing is not None:
            return self._probing.result()
        return self._open_probe()

    def start_probe(self) -> None:
        """Begin to load a local tokenizer in its process while the checks of files run; `probe` waits for the rest."""
        if self.checkpoint.local_folder() is not None:
            pool = ThreadPoolExecutor(1)
            self._probing = pool.submit(self._open_probe)
            pool.shutdown(wait=False)

    def _open_probe(self) -> Probe:
        from pipeline.probe import open_probe

        tokenizer = self.tokenizer_files.tokenizer
        if tokenizer.store is None:
            raise NotMeasured("no_tokenizer")
        return open_probe(tokenizer)

    @cached_property
    def weight_scan(self) -> WeightScan:
        """Every byte of the weights, read once. Raises NotMeasured without weights."""
        if self._scanning is not None:
            return self._scanning.result()
        return self._scan(self.local_checkpoint, "no_weights")

    def start_weight_scan(self) -> None:
        """Begin to read local weights while cheaper checks wait for the tokenizer; `weight_scan` waits for the rest."""
        if self.checkpoint.local_folder() is not None and self.checkpoint.tensors:
            pool = ThreadPoolExecutor(1)
            self._scanning = pool.submit(self._scan, self.checkpoint, "no_weights")
            pool.shutdown(wait=False)

    @cached_property
    def base_weight_scan(self) -> WeightScan:
        """The same of the base. Raises NotMeasured without one."""
        if self.local_base is None:
            raise NotMeasured("no_base")
        return self._scan(self.local_base, "base_without_weights")

    @cached_property
    def distance_to_base(self) -> Distance:
        """Every tensor beside its counterpart in the base. Raises NotMeasured where that means nothing."""
        from pipeline.weight_distance import distance_to_base

        if self.checkpoint.kind == "adapter":
            raise NotMeasured("adapter_not_compared")
        if self.local_base is None:
            raise NotMeasured("no_base")
        folders = [c.local_folder() for c in (self.local_checkpoint, self.local_base)]
        if len({f.resolve() for f in folders if f}) == 1 and (
            self.local_base.weight_names == self.local_checkpoint.weight_names
        ):
            raise NotMeasured("base_is_this")
        found = distance_to_base(
            self.local_checkpoint, self.weight_scan, self.local_base, self.base_weight_scan, self.note
        )
        if not found.pairs:
            raise NotMeasured("no_shared_tensors" if found.elements else "quantised_weights")
        return found

    @cached_property
    def rows(self) -> InstructionRows:
        """All rows of --data. Raises NotMeasured without data or when no row of it can be used."""
        from pipeline.instruction_rows import together

        if not self.data_paths:
            raise NotMeasured("no_data")
        found = together(self.data_read)
        if found.problem is not None:
            raise NotMeasured("data_not_read", problem=found.problem, detail=found.detail)
        return found

    @cached_property
    def data_read(self) -> tuple[InstructionRows, ...]:
        """What each file of --data holds, or why nothing; read once."""
        from pipeline.instruction_rows import read_rows

        return tuple(read_rows(path) for path in self.data_paths)

    @cached_property
    def log_curves(self) -> LogCurves:
        """The losses of each file of --log, read when asked for and once."""
        return LogCurves(self.log_paths)

    @cached_property
    def load_outcome(self) -> LoadedModel | ModelNotLoaded:
        """The model with its tokenizer, or why there is none; an adapter comes on its base."""
        base = self.local_base if self.checkpoint.kind == "adapter" else None
        loaded = self._load(self.local_checkpoint, base)
        # A tokenizer that crashes or never ends in the probe's process would do so in this one.
        if self.checkpoint.tokenizer.store is None or isinstance(loaded, Exception) or not self.probe.cannot_encode:
            return loaded
        return replace(loaded, tokenizer=None, tokenizer_problem=self.probe.problem or "")

    @property
    def loaded(self) -> LoadedModel:
        """The model with its tokenizer, ready to run. Raises NotMeasured with the loader's reason."""
        if isinstance(self.load_outcome, Exception):
            raise NotMeasured(self.load_outcome.reason_id, detail=self.load_outcome.detail)
        return self.load_outcome

    @cached_property
    def base_load_outcome(self) -> LoadedModel | ModelNotLoaded:
        """The same for the base alone."""
        if self.local_base is None:
            raise NotMeasured("no_base")
        return self._load(self.local_base, None)

    @property
    def loaded_base(self) -> LoadedModel:
        """The base alone, ready to run. Raises NotMeasured without one, or with the loader's reason."""
        if isinstance(self.base_load_outcome, Exception):
            raise NotMeasured(self.base_load_outcome.reason_id, detail=self.base_load_outcome.detail)
        return self.base_load_outcome

    @cached_property
    def asked_rows(self) -> tuple[tuple[InstructionRow, ...], str]:
        """Rows whose answers the model is measured on, and where they come from: `data`, else `probes`."""
        if self.data_paths:
            return self.rows.rows, "data"
        from pipeline.instruction_rows import probe_rows

        return probe_rows(), "probes"

    @property
    def autopsy(self) -> Autopsy:
        """The answers scored under every prompt format. Raises NotMeasured."""
        if isinstance(self.autopsy_outcome, NotMeasured):
            raise self.autopsy_outcome
        return self.autopsy_outcome

    @cached_property
    def autopsy_outcome(self) -> Autopsy | NotMeasured:
        """The same, or why there is none."""
        from pipeline.format_autopsy import format_autopsy
        from pipeline.score_answers import NotScored

        try:
            loaded = self.loaded
            if loaded.random_parts:
                return NotMeasured("parts_stay_random", n=len(loaded.random_parts))
            if loaded.tokenizer is None:
                return NotMeasured("tokenizer_not_loaded", problem=loaded.tokenizer_problem)
            rows, _ = self.asked_rows
            probe = self.probe
            found = format_autopsy(
                loaded, rows, template=probe.template, max_rows=self.max_rows, note=self.note, cancel=self.cancel,
                render=lambda messages, prompt, variables: probe.render(
                    [dict(m) for m in messages], add_generation_prompt=prompt, variables=variables
                ).text,
            )  # fmt: skip
            return found if found is not None else NotMeasured("rows_too_long")
        except NotScored as reason:
            return NotMeasured(reason.reason, detail=reason.detail)
        except NotMeasured as reason:
            return reason

    @cached_property
    def beside_base(self) -> BaseComparison:
        """The same answers under the base; an adapter is switched off for it. Raises NotMeasured."""
        from pipeline.base_level import answers_under_base
        from pipeline.score_answers import NotScored

        base = self.loaded if self.loaded.adapter else self.loaded_base
        if base.random_parts:
            raise NotMeasured("parts_stay_random", n=len(base.random_parts))
        try:
            found = answers_under_base(self.loaded, base, self.autopsy)
        except NotScored as reason:
            raise NotMeasured(reason.reason, detail=reason.detail) from None
        if found is None or found.difference is None or found.same_format is None:
            raise NotMeasured("base_not_comparable")
        return found

    @cached_property
    def answer_scores(self) -> AnswerScores:
        """Whole answers under the best format, with what would follow them. Raises NotMeasured."""
        from pipeline.answer_level import answer_scores
        from pipeline.score_answers import NotScored

        try:
            return answer_scores(self.loaded, self.autopsy)
        except NotScored as reason:
            raise NotMeasured(reason.reason, detail=reason.detail) from None

    def _load(self, checkpoint: Checkpoint, base: Checkpoint | None) -> LoadedModel | ModelNotLoaded:
        from pipeline.cpu_threads import suit_threads
        from pipeline.load_model import ModelNotLoaded, load_model

        try:
            loaded = load_model(checkpoint, base=base, device=self.device, note=self.note)
        except ModelNotLoaded as reason:
            return reason
        restore = suit_threads(sum(p.numel() for p in loaded.model.parameters()))
        self._restore_threads = self._restore_threads or restore
        return loaded

    @cached_property
    def generation_outcome(self) -> AnswerGrid | NotMeasured:
        """Answers under every strategy, or why there are none. The report's samples are taken from them."""
        from diagnostics.generation.questions import ask
        from pipeline.answer_grid import sample_table

        try:
            grid = ask(self)
        except NotMeasured as reason:
            return reason
        self.samples.extend(sample_table(grid))
        return grid

    @property
    def generations(self) -> AnswerGrid:
        """Answers under every strategy. Raises NotMeasured where none could be made."""
        if isinstance(self.generation_outcome, NotMeasured):
            raise NotMeasured(self.generation_outcome.reason_id, **self.generation_outcome.params)
        return self.generation_outcome

    @cached_property
    def local_checkpoint(self) -> Checkpoint:
        """The checkpoint with its weights on this machine (downloaded when it is a Hub repository)."""
        return self._local(self.checkpoint)

    @cached_property
    def local_base(self) -> Checkpoint | None:
        """The base with its weights on this machine, None without a base."""
        return None if self.base is None else self._local(self.base)

    def _local(self, checkpoint: Checkpoint) -> Checkpoint:
        if checkpoint.local_folder() is not None or checkpoint.problem is not None:
            return checkpoint
        from pipeline.hub_files import downloaded

        try:
            return downloaded(checkpoint, self.note)
        except OSError as failed:
            raise NotMeasured("download_failed", detail=str(failed)) from failed

    def _scan(self, checkpoint: Checkpoint, nothing: str) -> WeightScan:
        from pipeline.weight_scan import scan_weights

        scan = scan_weights(checkpoint, self.note, self._closed) if checkpoint.tensors else None
        if scan is None or not scan.tensors:
            raise NotMeasured(nothing)
        return scan

    def close(self) -> None:
        """End the probe's process and the reading of weights, drop the models."""
        self._closed.set()
        if self._restore_threads is not None:
            self._restore_threads()
            self._restore_threads = None
        self._scanning = None
        if self._probing is not None and "probe" not in self.__dict__ and self._probing.exception() is None:
            self._probing.result().close()  # opened, and never asked
        self._probing = None
        if "probe" in self.__dict__:
            self.probe.close()
        costly = (
            "load_outcome", "base_load_outcome", "autopsy_outcome", "answer_scores", "weight_scan",
            "base_weight_scan", "distance_to_base",
        )  # fmt: skip
        for kept in ("probe", *costly):
            self.__dict__.pop(kept, None)
