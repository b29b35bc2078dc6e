"""Whether a model's numbers stay finite, in the dtype it is loaded in and in float16, on short and on long input."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.score_answers import NotScored, Piece, logits_at_answers, position_limit

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

LONG_TOKENS = 512
# A copy in half precision is made up to this size; above it the largest activation alone is judged.
COPY_PARAMETERS = 3e8


@dataclass(frozen=True)
class LogitsRange:
    """finite: all logits of all places. bad_share: share of places without. largest: the largest absolute value that
    any module put out, at `where`. tokens: of the longest input. half_finite: the same model in float16 on the same
    input; None when that wasn't tried or float16 can't run here."""

    finite: bool
    bad_share: float
    largest: float
    where: str
    tokens: int
    half_finite: bool | None = None


def logits_range(loaded: LoadedModel, texts: Sequence[tuple[str, str]], *, try_half: bool) -> LogitsRange:
    """Run (prompt, answer) texts and one long input made of them. Raises NotScored when the forward pass fails.

    try_half: also in float16, as a model is that was declared so.
    """
    import torch

    pieces = _pieces(loaded, texts)
    watch = _Largest()
    core = loaded.core
    hooks = [m.register_forward_hook(watch.hook(name)) for name, m in core.named_modules() if name]
    bad = places = 0
    try:
        with torch.inference_mode():
            for piece in pieces:
                logits = _run(loaded, piece)
                rows = _broken(logits)
                bad, places = bad + int(rows.sum()), places + rows.numel()
    finally:
        for hook in hooks:
            hook.remove()
    half: bool | None = None
    parameters = sum(p.numel() for p in core.parameters())
    if try_half and not bad and loaded.dtype != "float16" and parameters <= COPY_PARAMETERS:
        half = _finite_in_half(loaded, pieces)
    return LogitsRange(
        bad == 0, bad / max(1, places), watch.value, watch.where, max(p.length for p in pieces), half
    )  # fmt: skip


def _pieces(loaded: LoadedModel, texts: Sequence[tuple[str, str]]) -> list[Piece]:
    def ids(text: str) -> tuple[int, ...]:
        return tuple(loaded.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    limit = min(position_limit(loaded) or LONG_TOKENS, LONG_TOKENS)
    rows = int(loaded.core.get_input_embeddings().weight.shape[0])
    made = [Piece(ids(q)[: limit // 2] or (0,), ids(a)[: limit // 2 - 1] or (0,)) for q, a in texts]
    every = [i for p in made for i in (*p.context, *p.answer)]
    long = (every * (limit // max(1, len(every)) + 1))[: limit - 1]
    made.append(Piece(tuple(long[: -(limit // 4)]) or (0,), tuple(long[-(limit // 4) :]) or (0,)))
    return [Piece(tuple(i % rows for i in p.context), tuple(i % rows for i in p.answer)) for p in made]


def _run(loaded: LoadedModel, piece: Piece) -> Any:
    try:
        logits, _ = logits_at_answers(loaded, [piece])
    except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
        raise NotScored.by(failed) from None
    return logits


def _broken(logits: Any) -> Any:
    """Places whose logits hold NaN or plus infinity; minus infinity only forbids a token."""
    import torch

    return (torch.isnan(logits) | (logits == math.inf)).any(-1)


class _Largest:
    """Forward hooks that remember the largest absolute output. NaN counts as infinite."""

    def __init__(self) -> None:
        self.value, self.where = 0.0, ""

    def hook(self, name: str) -> Any:
        import torch

        def see(module: Any, inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, (tuple, list)) and output else output
            if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or not tensor.numel():
                return
            low, high = tensor.aminmax()
            most = max(abs(float(low)), abs(float(high)))
            most = math.inf if math.isnan(most) else most
            if most > self.value:
                self.value, self.where = most, name

        return see


def _finite_in_half(loaded: LoadedModel, pieces: Sequence[Piece]) -> bool | None:
    import dataclasses

    import torch

    narrow = copy.deepcopy(loaded.core).half()
    for name in getattr(narrow, "_keep_in_fp32_modules", None) or ():  # T5 keeps `wo` wide for this very reason
        for path, module in narrow.named_modules():
            if path.split(".")[-1] == name:
                module.float()
    half = dataclasses.replace(loaded, model=narrow, dtype="float16")
    try:
        with torch.inference_mode():
            return not any(bool(_broken(_run(half, piece)).any()) for piece in pieces)
    except NotScored:  # an operation without a float16 kernel on this device
        return None
