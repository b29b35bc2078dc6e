"""What the checks before a training run look at: a recipe, how it is spread, its rows, its model, this machine.

Everything costly is measured once, on first use. No torch, unless the model itself is to be asked (depth `forward`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.pair_model import PairModel
from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Finding
from diagnostics.run_checks import NotMeasured
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.refusal import Refused
from pipeline.training import environment
from pipeline.training.accelerate_files import AccelerateFile
from pipeline.training.job_folder import EVAL_ROWS, TRAIN_ROWS
from pipeline.training.recipe import Recipe
from pipeline.training.row_columns import ONLINE, PREFERENCE
from pipeline.training.token_preview import SampledRows

if TYPE_CHECKING:
    from pipeline.pair_token_counts import PairTokens
    from pipeline.training.memory_needed import MemoryNeeded, TrainingSettings
    from pipeline.training.model_shape import ModelShape

REFERENCED = ("dpo", "kto")  # methods that compare with a reference
_TRIAL = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]


@dataclass
class RecipeSubject:
    """recipe: settled, paths absolute; None where it can't be read, and `problem` says why. spread: the accelerate
    file, None with `spread_problem` where it can't be used. rows_folder: holds data/train.jsonl as the trainer reads
    it; rows_whole: it is all the rows, not only the first ones. at: where the job's own files are, which don't count
    as what lies in the output folder. metrics, curves, samples: end up in the report under the same names; findings:
    those so far."""

    name: str
    limits: Thresholds
    recipe: Recipe | None = None
    problem: Refused | None = None
    spread: AccelerateFile | None = None
    spread_problem: Refused | None = None
    rows_folder: Path | None = None
    rows_whole: bool = True
    rows_problem: Refused | None = None
    at: Path | None = None
    device: str = "cpu"
    cancel: threading.Event | None = None
    note: Callable[[str], None] = lambda text: None
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def asked(self) -> Recipe:
        """Raises NotMeasured where the recipe can't be read."""
        if self.recipe is None:
            raise NotMeasured("no_recipe")
        return self.recipe

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value as it will be used."""
        return self.asked.get(name, default)

    @property
    def method(self) -> str:
        return self.asked.method

    @property
    def lora(self) -> bool:
        return bool(self.get("use_peft", False))

    # --- the model ---

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model that is trained, with the tokenizer it is trained with. Raises NotMeasured."""
        model = str(self.get("model_name_or_path") or "")
        adapter, named = self.get("adapter_name_or_path"), self.get("tokenizer_name_or_path")
        if named is None and adapter and os.path.isfile(os.path.join(adapter, "tokenizer_config.json")):
            named = adapter
        try:
            return open_checkpoint(model, tokenizer=named)
        except Refused:
            raise NotMeasured("no_model_there", path=model) from None

    @cached_property
    def model(self) -> CheckpointSubject:
        """The same, for the checks of checkpoints."""
        data = () if self.train_file is None else (str(self.train_file),)
        return CheckpointSubject(
            self.checkpoint, data_paths=data, device=self.device, note=self.note, cancel=self.cancel
        )

    @cached_property
    def encoder_decoder(self) -> bool:
        return self.checkpoint.is_encoder_decoder

    @cached_property
    def shape(self) -> ModelShape:
        """Raises NotMeasured where neither config.json nor the weights' headers say it."""
        from pipeline.training.model_shape import shape_of_checkpoint

        if self.checkpoint.problem is not None:
            raise NotMeasured("no_weights")
        try:
            return shape_of_checkpoint(self.checkpoint)
        except (Refused, ValueError, KeyError, TypeError, ZeroDivisionError) as failed:
            raise NotMeasured("shape_unknown", detail=str(failed)[:200]) from None

    # --- rows ---

    @property
    def train_file(self) -> Path | None:
        return self.rows_folder / TRAIN_ROWS if self.rows_folder is not None else None

    @property
    def eval_rows(self) -> bool | None:
        """Whether rows are held out; None where it isn't known."""
        if self.rows_folder is not None and self.rows_whole:
            file = self.rows_folder / EVAL_ROWS
            return file.is_file() and file.stat().st_size > 0
        return bool(self.get("val_size", 0)) or self.get("eval_data") is not None

    @cached_property
    def rows(self) -> SampledRows:
        """Raises NotMeasured where there are none to read."""
        from pipeline.training.token_preview import sample_rows

        if self.train_file is None:
            raise NotMeasured("no_rows_given")
        try:
            return sample_rows(self.train_file, self.method, int(self.limits["recipe_rows_looked_at"]))
        except OSError as failed:
            raise NotMeasured("rows_unreadable", detail=failed.strerror or str(failed)) from None

    @property
    def row_count(self) -> int | None:
        """Rows trained on; None where only the first ones were read."""
        return self.rows.total if self.rows_whole or self.rows.total < self.limits["recipe_rows_looked_at"] else None

    @cached_property
    def pairs(self) -> PairsSubject:
        """The sampled rows, for the checks of data. Raises NotMeasured for methods that write their own answers."""
        from pipeline.pair_measures.pair_table import measure_pairs

        if self.method in ONLINE:
            raise NotMeasured("answers_are_generated")
        if not self.rows.pairs:
            raise NotMeasured("no_row_usable")
        limits = self.limits
        least = limits["near_answers"], limits["near_prompts"], limits["near_answers_short"]
        table = measure_pairs(self.rows.pairs, least_similar=least)
        kind = "pairs" if self.method in PREFERENCE else "one_sided" if self.method == "kto" else "supervised"
        found = PairsSubject(table, limits, kind=kind, name=TRAIN_ROWS)
        found.model = _RowsModel(lambda: self.rows.pairs, max_length=self.max_length or 2**31, of=self)
        return found

    @property
    def max_length(self) -> int | None:
        found = self.get("max_length")
        return int(found) if found is not None else None

    # --- tokens ---

    @cached_property
    def _tokenizer_outcome(self) -> Any:
        from pipeline.probe import FATAL
        from pipeline.training.policy_model import chat_template
        from pipeline.training.token_preview import light_tokenizer

        probe = self.model.probe  # what never ends or takes all memory must not do so in this process
        if probe.problem not in (None, "unsupported"):  # transformers makes up a vocabulary where none is
            return NotMeasured("tokenizer_unusable", problem=probe.problem, detail="")
        if probe.template is not None and self.rows.conversational:
            made = probe.render(_TRIAL)
            if made.problem in FATAL:
                return NotMeasured("template_failed", problem=made.problem, detail="")
        loaded, problem = light_tokenizer(self.checkpoint)
        if loaded is None:
            return NotMeasured("tokenizer_unusable", problem=probe.problem or "failed", detail=f" ({problem[:200]})")
        if (named := self.get("chat_template")) is not None:
            try:
                loaded.chat_template = chat_template(str(named))
            except Refused as refused:
                return NotMeasured("template_failed", problem="unreadable", detail=f" ({str(refused)[:200]})")
        if (end := self.get("eos_token")) and end in loaded.get_vocab():
            loaded.eos_token = end
        return loaded

    @property
    def tokenizer(self) -> Any:
        """As the trainer will have it. Raises NotMeasured."""
        found = self._tokenizer_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found

    @cached_property
    def _tokens_outcome(self) -> PairTokens | NotMeasured:
        from pipeline.pair_token_counts import pair_tokens
        from pipeline.training.token_preview import layout_of

        try:
            return pair_tokens(
                self.rows.pairs, self.tokenizer, layout=layout_of(self.rows), max_length=self.max_length,
                truncation_mode=self.get("truncation_mode", "keep_start"), encoder_decoder=self.encoder_decoder,
                cancel=self.cancel,
            )  # fmt: skip
        except NotMeasured as reason:
            return reason

    @property
    def tokens(self) -> PairTokens:
        """What the trainer makes of every sampled row. Raises NotMeasured."""
        found = self._tokens_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found

    @cached_property
    def lengths(self) -> Mapping[str, float]:
        """Tokens of a row (a pair's longer side) by quantile; empty where they can't be had."""
        import numpy as np

        try:
            tokens = self.tokens
        except NotMeasured:
            return {}
        usable = tokens.problem == 0
        if not usable.any():
            return {}
        answer = np.maximum(np.maximum(tokens.n_chosen, tokens.n_rejected), 0)
        if self.encoder_decoder:
            whole = np.maximum(tokens.n_prompt, answer)[usable]
        else:
            whole = (np.maximum(tokens.n_prompt, 0) + (0 if self.method in ONLINE else answer))[usable]
        shares = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
        return {"mean": float(whole.mean()), **{n: float(np.percentile(whole, share)) for n, share in shares.items()}}

    # --- the run ---

    @property
    def on_cpu(self) -> bool:
        """As far as is known: without an accelerate file what the machine suggests."""
        if self.get("use_cpu", False):
            return True
        return self.spread.use_cpu if self.spread is not None else not self.gpus

    @property
    def processes(self) -> int:
        return self.spread.processes if self.spread is not None else int(self.get("num_processes") or 1)

    @cached_property
    def settings(self) -> TrainingSettings:
        """Of the estimates of memory and time."""
        from pipeline.training.memory_needed import settings_of

        launch: dict[str, Any] = {} if self.spread is None else self.spread.memory_settings()
        if self.spread is None:
            launch = {"device": "cpu" if self.on_cpu else "cuda", "processes": self.processes}
        if self.lengths:
            launch["lengths"] = dict(self.lengths)
        return settings_of(self.asked, **launch)

    @cached_property
    def memory(self) -> MemoryNeeded:
        """Raises NotMeasured."""
        from pipeline.training.memory_needed import memory_needed

        try:
            return memory_needed(self.shape, self.settings)
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as failed:
            raise NotMeasured("shape_unknown", detail=f"{type(failed).__name__}: {failed}"[:200]) from None

    @cached_property
    def steps(self) -> int | None:
        """Optimizer steps of the run; None where the number of rows isn't known."""
        from pipeline.training.time_needed import steps_of

        most = int(self.get("max_steps", -1))
        if most >= 0:
            return max(most, 1)
        try:
            rows = self.row_count
        except NotMeasured:
            return None
        if not rows:
            return None
        return steps_of(self.settings, rows, float(self.get("num_train_epochs", 3)), most)

    @property
    def rows_each_step(self) -> int:
        """Prompts, for methods that write answers to them."""
        whole = (
            int(self.get("per_device_train_batch_size", 8))
            * int(self.get("gradient_accumulation_steps", 1))
            * self.processes
        )
        return max(1, whole // int(self.get("num_generations", 1))) if self.method in ONLINE else whole

    # --- the machine ---

    @cached_property
    def gpus(self) -> tuple[environment.Gpu, ...]:
        return environment.nvidia_gpus()

    @property
    def output(self) -> Path | None:
        """Where the trainer writes; None for a job's own folder that isn't made yet."""
        given = self.get("output_dir")
        return Path(str(given)).expanduser() if given else None

    def part(self, name: str) -> Any:
        """What the checks of another subject look at: model, pairs."""
        if name == "model":
            if self.checkpoint.problem is not None:
                raise NotMeasured("no_weights")
            return self.model
        return self.pairs

    def close(self) -> None:
        if "model" in self.__dict__:
            self.model.close()


@dataclass
class _RowsModel(PairModel):
    """The recipe's own tokenizer and the ids made with it, in the place of files given with --tokenizer."""

    of: RecipeSubject | None = None

    @cached_property
    def _tokens_outcome(self) -> PairTokens | NotMeasured:
        assert self.of is not None
        return self.of._tokens_outcome


def with_rows_of(recipe: Recipe, most: int) -> Recipe:
    """The recipe with no more rows than are looked at, none of them held out."""
    given = recipe.get("max_samples")
    fewer = min(int(given), most) if given else most
    return replace(recipe, fields={**recipe.fields, "max_samples": fewer, "val_size": 0, "eval_data": None})
