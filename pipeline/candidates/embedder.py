"""Vectors of texts, to tell how near an answer is to its prompt: any encoder, decoder or encoder half of a checkpoint.

A sentence-transformers folder is used as its files say (modules.json, the pooling, dense layers, prompts for question
and passage); anything else by the mean of its last hidden states.
https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.candidates.text_batches import batches, padded, token_limit, tokens_at_once
from pipeline.checkpoint import open_checkpoint
from pipeline.file_store import FileStore, LocalFolder
from pipeline.json_file import MAX_JSON_BYTES, JsonFile, parse_json, read_json
from pipeline.load_model import LoadedModel, ModelNotLoaded, load_model, read_tensors
from pipeline.score_answers import NotScored

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# Keys of 1_Pooling/config.json before its `pooling_mode` held the names.
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
_QUESTION, _PASSAGE = ("query", "question"), ("document", "passage", "answer")


@dataclass(frozen=True)
class Dense:
    """A layer behind the pooling: weight (out, in), bias (out,) or None, `tanh` or no activation."""

    weight: Any
    bias: Any
    tanh: bool


@dataclass(frozen=True)
class SentenceModel:
    """What a folder says of how its vectors are made. pooling: names of POOLINGS, their vectors one behind the other.
    question, passage: put before a prompt and before an answer; with_prompt: whether their tokens are pooled too.
    max_tokens: of a text, None: the model's own limit."""

    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[Dense, ...] = ()
    question: str = ""
    passage: str = ""
    with_prompt: bool = True
    max_tokens: int | None = None


@dataclass
class Embedder:
    """loaded: by load_model with head="embedding". truncated: how many texts were longer than the model reads and were
    cut at their end so far. Raises ModelNotLoaded without a tokenizer."""

    loaded: LoadedModel
    how: SentenceModel = field(default_factory=SentenceModel)
    truncated: int = 0

    def __post_init__(self) -> None:
        if self.loaded.tokenizer is None:
            raise ModelNotLoaded("no_tokenizer", self.loaded.tokenizer_problem)
        limits = [n for n in (self.how.max_tokens, token_limit(self.loaded)) if n is not None]
        self.limit = min(limits, default=None)

    def similarity(self, prompt_texts: Sequence[str], answer_texts: Sequence[str]) -> list[float]:
        """The cosine of each prompt with the answer in the same place, NaN for a text without tokens. Equal texts are
        read once. Raises NotScored."""
        asked, answered = list(dict.fromkeys(prompt_texts)), list(dict.fromkeys(answer_texts))
        left = dict(zip(asked, self._vectors(asked, self.how.question), strict=True))
        right = dict(zip(answered, self._vectors(answered, self.how.passage), strict=True))
        pairs = [(left[a], right[b]) for a, b in zip(prompt_texts, answer_texts, strict=True)]
        return [math.nan if a is None or b is None else float(a @ b) for a, b in pairs]

    def embed(self, texts: Sequence[str], before: str = "") -> Any:
        """Vectors of length 1, (texts, width), float32, on the CPU; zeros for a text without tokens. before: put before
        each text. Raises NotScored: `ids_beyond_embedding`, `forward_failed`."""
        import torch

        found = self._vectors(texts, before)
        width = next((vector.shape[0] for vector in found if vector is not None), 0)
        none = torch.zeros(width)
        return torch.stack([none if v is None else v for v in found]) if found else torch.zeros(0, 0)

    def _vectors(self, texts: Sequence[str], before: str) -> list[Any]:
        import torch

        rows = [self._ids(before + text) for text in texts]
        beyond = int(self.loaded.core.get_input_embeddings().weight.shape[0])
        highest = max((max(row, default=0) for row in rows), default=0)
        if highest >= beyond:
            raise NotScored("ids_beyond_embedding", f"{highest} >= {beyond}")
        kept = [place for place, row in enumerate(rows) if row]
        skipped = 0 if self.how.with_prompt or not before else self._prompt_length(before)
        found: list[Any] = [None] * len(rows)
        with torch.inference_mode():
            for group in batches([len(rows[place]) for place in kept], tokens_at_once(self.loaded)):
                try:
                    made = self._forward([rows[kept[i]] for i in group], skipped)
                except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
                    raise NotScored.by(failed) from None
                for i, vector in zip(group, made, strict=True):
                    found[kept[i]] = vector
        return found

    def _ids(self, text: str) -> list[int]:
        tokenizer = self.loaded.tokenizer
        ids = list(tokenizer(text, truncation=False, verbose=False)["input_ids"])
        if self.limit is not None and len(ids) > self.limit:
            self.truncated += 1
            ids = list(tokenizer(text, truncation=True, max_length=self.limit, verbose=False)["input_ids"])
        return ids

    def _prompt_length(self, before: str) -> int:
        """Tokens of what was put before, without what closes a text."""
        ids = self.loaded.tokenizer(before, verbose=False)["input_ids"]
        return len(ids) - int(bool(ids) and ids[-1] in self.loaded.tokenizer.all_special_ids)

    def _forward(self, rows: Sequence[Sequence[int]], skipped: int) -> Any:
        import torch

        tokenizer, model = self.loaded.tokenizer, self.loaded.core
        fill = next((i for i in (tokenizer.pad_token_id, model.config.pad_token_id) if isinstance(i, int)), 0)
        ids, mask = padded(rows, fill, self.loaded.device)
        if self.loaded.is_encoder_decoder:
            model = model.get_encoder()
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        counted = mask.clone()
        counted[:, :skipped] = 0
        vectors = torch.cat([_pooled(name, hidden, counted, mask) for name in self.how.pooling], dim=1)
        for layer in self.how.dense:
            vectors = torch.nn.functional.linear(vectors, layer.weight, layer.bias)
            vectors = torch.tanh(vectors) if layer.tanh else vectors
        return torch.nn.functional.normalize(vectors, dim=1).cpu()


def _pooled(name: str, hidden: Any, counted: Any, mask: Any) -> Any:
    """One vector a text, (rows, width), of hidden states (rows, places, width); mask: 1 where a token is; counted: 1
    where it is pooled."""
    import torch

    if name == "cls":
        return hidden[:, 0]
    if name == "lasttoken":
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), mask.sum(1) - 1]
    weights = counted[:, :, None].to(hidden.dtype)
    if name == "max":
        return hidden.masked_fill(weights == 0, -torch.inf).amax(1)
    if name == "weightedmean":
        weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
    summed, total = (hidden * weights).sum(1), weights.sum(1).clamp(min=1e-9)
    return summed / (total.sqrt() if name == "mean_sqrt_len_tokens" else total)


# --- from files ---


def load_embedder(
    given: str, *, device: str = "cpu", dtype: str | None = None, note: Callable[[str], None] = lambda text: None
) -> Embedder:
    """The embedding model at a path or of a Hub id. Raises PathNotFound, ModelNotLoaded: also `unknown_modules` for a
    sentence-transformers folder with a part that isn't known here."""
    found = open_checkpoint(given)
    store: FileStore = LocalFolder(Path(given)) if Path(given).is_dir() else found.store
    if "modules.json" not in store.names():
        return Embedder(load_model(found, head="embedding", device=device, dtype=dtype, note=note))
    transformer, how = _sentence_model(store)
    if transformer:  # old folders keep the model in one of its own, beside others with weights
        found = open_checkpoint(str(Path(given) / transformer))
        store = store.sub(transformer)
    loaded = load_model(found, head="embedding", device=device, dtype=dtype, note=note)
    dense = tuple(replace(d, weight=_on(d.weight, device), bias=_on(d.bias, device)) for d in how.dense)
    limit = read_json(store, "sentence_bert_config.json").get("max_seq_length")
    most = limit if isinstance(limit, int) and limit > 0 else None
    return Embedder(loaded, replace(how, dense=dense, max_tokens=most))


def _on(tensor: Any, device: str) -> Any:
    return None if tensor is None else tensor.float().to(device)


def _sentence_model(store: FileStore) -> tuple[str, SentenceModel]:
    """The folder of the transformer, "" where it lies among the other files, and what is done with its output."""
    try:
        with store.open("modules.json") as file:
            listed = parse_json(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as failed:
        raise ModelNotLoaded("unknown_modules", f"modules.json: {failed}") from None
    if not isinstance(listed, list):
        raise ModelNotLoaded("unknown_modules", "modules.json")
    transformer, how = "", SentenceModel()
    for module in listed:
        known = isinstance(module, Mapping)
        kind = str(module.get("type", "")).rpartition(".")[2] if known else ""
        path = str(module.get("path") or "") if known else ""
        if path and (path not in store.folders()):  # also keeps `..` out
            if kind == "Normalize":  # holds no file, so git leaves its folder out
                continue
            raise ModelNotLoaded("unknown_modules", f"modules.json: {path[:80]}")
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            how = _with_pooling(how, read_json(store.sub(path), "config.json"))
        elif kind == "Dense":
            how = replace(how, dense=(*how.dense, _dense(store.sub(path))))
        elif kind != "Normalize":
            raise ModelNotLoaded("unknown_modules", kind[:80] or "modules.json")
    prompts = read_json(store, "config_sentence_transformers.json").get("prompts")
    if isinstance(prompts, Mapping):
        how = replace(how, question=_prompt(prompts, _QUESTION), passage=_prompt(prompts, _PASSAGE))
    return transformer, how


def _with_pooling(how: SentenceModel, config: JsonFile) -> SentenceModel:
    named = config.get("pooling_mode")
    names = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    names = names or [name for key, name in _OLD_KEYS.items() if config.get(key)]
    if not names or not set(names) <= set(POOLINGS):
        raise ModelNotLoaded("unknown_modules", f"Pooling: {', '.join(map(str, names))[:80]}")
    return replace(how, pooling=tuple(names), with_prompt=config.get("include_prompt") is not False)


def _dense(store: FileStore) -> Dense:
    config = read_json(store, "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.linear.Identity")).rpartition(".")[2]
    name = next((n for n in ("model.safetensors", "pytorch_model.bin") if n in store.names()), None)
    path = store.local_path(name) if name is not None else None
    if path is None or activation not in ("Identity", "Tanh"):
        raise ModelNotLoaded("unknown_modules", f"Dense: {'no weights' if path is None else activation[:80]}")
    try:
        tensors = read_tensors(path)
    except Exception as failed:  # safetensors, torch and zip each have their own
        said = f"{path.parent.name}/{name}: {failed}".splitlines()[0][:200]
        raise ModelNotLoaded("weights_unreadable", said) from None
    if "linear.weight" not in tensors:
        raise ModelNotLoaded("weights_unreadable", f"{path.parent.name}/{name}: linear.weight")
    return Dense(tensors["linear.weight"], tensors.get("linear.bias"), activation == "Tanh")


def _prompt(prompts: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(prompts[name]) for name in names if isinstance(prompts.get(name), str)), "")
