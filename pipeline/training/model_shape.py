"""What of a model decides the memory and time of its training, from config.json and weight headers alone.

Everything is read off the names and shapes of the tensors, so that a model whose type pipeline.architecture doesn't
know is measured too, by the headers of its files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from pipeline.architecture import Shape, UnknownArchitecture, expected_architecture
from pipeline.checkpoint import Checkpoint, open_base, open_checkpoint
from pipeline.config_files import load_config
from pipeline.refusal import Refused

_EMBEDDING = re.compile(
    r"(^|\.)(embed\w*|w[tp]e|shared|word_embeddings|relative_attention_bias|embedding\w*)(\.weight)?$"
)
_ATTENTION = re.compile(r"\.(self_attn|attn|attention|self_attention|SelfAttention|EncDecAttention|encoder_attn)\.")
_CROSS = re.compile(r"\.(EncDecAttention|encoder_attn)\.")
_OUTPUT = re.compile(r"\.(o_proj|out_proj|o|c_proj|dense)$")
_DOWN = re.compile(r"\.(down_proj|wo|w2|fc2|fc_out|c_proj|dense_4h_to_h)(\.weight)?$")
_EXPERT = re.compile(r"\.experts\.")
_NORM = re.compile(r"(norm\w*|ln_?\w*)\.weight$", re.IGNORECASE)
_LAYER = re.compile(r"^(.*?\.(?:layers|h|block|blocks)\.\d+)\.")
_INPUT_FIRST = {"gpt2"}  # a Conv1D's weight has the input first
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "dense_act_fn", "activation")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "decoder_attention_heads", "encoder_attention_heads")
# Fields of config.json that drop numbers between layers, or attention scores; types where they are on by default
_DROPOUTS = ("dropout", "dropout_rate", "resid_pdrop", "hidden_dropout")
_SCORE_DROPOUTS = ("attn_pdrop", "attention_dropout", "dropout_rate")
_DROPOUT_TYPES = ("gpt2", "t5", "mt5", "bart", "mbart", "opt")
_SCORE_DROPOUT_TYPES = ("gpt2", "t5", "mt5")


@dataclass(frozen=True)
class Matrix:
    """Weights that a LoRA adapter can be put beside. name: of the module, layer and expert numbers as `*`. linear:
    what `all-linear` means; not the head. fused: of an expert, first product of two that lie in one tensor when
    loaded, so that peft gives them a common adapter of twice the rank. routed: an expert's or its router's, no Linear
    when loaded."""

    name: str
    rows: int
    columns: int
    count: int
    linear: bool
    fused: bool = False
    routed: bool = False

    def lora(self, rank: int) -> int:
        """Numbers of an adapter beside all `count` of them."""
        out = self.rows if self.fused else 0
        return rank * (self.rows + self.columns + out) * self.count


@dataclass(frozen=True)
class LayerShape:
    """count layers of one shape. query, key_value: widths of all heads together; key_value of keys and of values.
    inner: size inside the MLP, of one expert where there are experts. chosen: experts that a token goes to, 0 without
    experts. shared: inner size of the experts that every token goes to. cross: attends to the encoder too."""

    count: int
    decoder: bool
    hidden: int
    query: int
    key_value: int
    inner: int
    gated: bool
    norms: int
    rms: bool
    query_key_norm: bool
    cross: bool
    chosen: int
    shared: int
    parameters: int


@dataclass(frozen=True)
class ModelShape:
    """parameters: all of them, tied ones once. experts: those that lie in experts; active: those that one token uses.
    embeddings: input and position tables, of which a token reads one row. expert_count: 0 without experts."""

    model_type: str
    parameters: int
    embeddings: int
    experts: int
    expert_count: int
    chosen_experts: int
    vocabulary: int
    hidden: int
    heads: int
    layers: tuple[LayerShape, ...]
    matrices: tuple[Matrix, ...]
    largest: int
    tied: bool
    has_head: bool
    encoder_decoder: bool
    scores_biased: bool
    activation: str
    dropout: bool
    score_dropout: bool
    stored_dtype: str

    @property
    def depth(self) -> int:
        """Layers, those of encoder and decoder together."""
        return sum(layer.count for layer in self.layers)

    @property
    def active(self) -> int:
        """Parameters that work for one token: experts that it doesn't go to left out."""
        if not self.expert_count:
            return self.parameters
        return self.parameters - self.experts + self.experts * self.chosen_experts // self.expert_count

    @property
    def in_products(self) -> int:
        """Parameters that one token is multiplied with: `active` without the tables it only looks up in, with the
        head."""
        head = self.vocabulary * self.hidden if self.has_head and self.tied else 0
        return max(self.active - self.embeddings + head, 1)

    def lora_parameters(
        self, rank: int, targets: Sequence[str] | str | None = None, saved: Sequence[str] | None = None
    ) -> int:
        """What peft would train: rank * (in + out) for each target module, whole copies of `saved` ones.

        targets: as LoraConfig.target_modules: ends of names, one regular expression, `all-linear`, None for peft's own.
        """
        trained = sum(m.lora(rank) for m in self.matrices if self._targeted(m, targets))
        kept = sum(m.rows * m.columns * m.count for m in self.matrices if _ends(m.name, saved or ()))
        return trained + kept

    def _targeted(self, matrix: Matrix, targets: Sequence[str] | str | None) -> bool:
        if targets is None:
            constants = load_config("training_memory.yaml")
            targets = constants["default_targets"].get(self.model_type, constants["default_targets_otherwise"])
        if isinstance(targets, str) or list(targets) == ["all-linear"]:
            pattern = targets if isinstance(targets, str) else targets[0]
            if pattern.lower() == "all-linear":
                return matrix.linear
            try:
                return re.fullmatch(pattern, matrix.name.replace("*", "0")) is not None
            except re.error:
                return False
        return _ends(matrix.name, targets)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelShape:
        """Raises TypeError or KeyError for what as_json didn't make."""
        layers = tuple(LayerShape(**layer) for layer in value["layers"])
        matrices = tuple(Matrix(**matrix) for matrix in value["matrices"])
        return cls(**{**value, "layers": layers, "matrices": matrices})


def _ends(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def shape_of_model(named: str) -> ModelShape:
    """The model at a path or on the Hub; an adapter's base. Raises Refused, PathNotFound among them."""
    checkpoint = open_checkpoint(named)
    if checkpoint.kind == "adapter" and not checkpoint.config.present:
        base = checkpoint.adapter_config.get("base_model_name_or_path")
        if isinstance(base, str) and base:
            return shape_of_checkpoint(open_base(base))
    return shape_of_checkpoint(checkpoint)


def shape_of_checkpoint(checkpoint: Checkpoint) -> ModelShape:
    """By config.json where its type is known, else by the headers of the weights. Raises Refused."""
    config = checkpoint.config.value
    if isinstance(config, dict):
        try:
            return shape_of_config(config)
        except UnknownArchitecture:
            pass
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
    if not shapes:
        raise Refused("model_size_unknown", path=checkpoint.given)
    return shape_of_tensors(shapes, config if isinstance(config, dict) else {})


def shape_of_config(config: Mapping[str, Any]) -> ModelShape:
    """Raises UnknownArchitecture."""
    found = expected_architecture(config)
    return shape_of_tensors(found.tensors, config, tied=found.tied, head=found.head, family=found.family)


def shape_of_tensors(
    shapes: Mapping[str, Shape], config: Mapping[str, Any], *, tied: bool | None = None, head: str | None = None,
    family: str | None = None,
) -> ModelShape:  # fmt: skip
    """Raises Refused where nothing among the tensors looks like a model of language."""
    model_type = family or str(config.get("model_type", ""))
    tables = {n: s for n, s in shapes.items() if len(s) == 2 and _EMBEDDING.search(n)}
    vocabulary, hidden = max(tables.values(), key=lambda s: s[0], default=(0, 0))
    heads_named = ("lm_head.weight", "embed_out.weight")
    if head is None:
        head = next((n for n in heads_named if n in shapes), None)
    if tied is None:
        tied = head is None and "score.weight" not in shapes
    by_layer: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        if match := _LAYER.match(name):
            by_layer.setdefault(match[1], {})[name] = shape
    if not by_layer or not hidden:
        raise Refused("model_size_unknown", path=model_type or "?")
    expert_count = _first(config, "num_experts", "num_local_experts", "n_routed_experts")
    chosen = _first(config, "num_experts_per_tok") or (_default_chosen(model_type) if expert_count else 0)
    experts = sum(prod(s) for n, s in shapes.items() if _EXPERT.search(n))
    if experts and not expert_count:
        expert_count = len({m[1] for n in shapes if (m := re.search(r"\.experts\.(\d+)\.", n))}) or 1
        chosen = chosen or _default_chosen(model_type)
    encoder_decoder = any(n.startswith(("decoder.", "model.decoder.")) for n in shapes) and any(
        n.startswith(("encoder.", "model.encoder.")) for n in shapes
    )
    layers: Counter[LayerShape] = Counter()
    for prefix, inside in by_layer.items():
        decoder = not encoder_decoder or "decoder." in prefix
        layers[_layer(inside, hidden, chosen, decoder, model_type in _INPUT_FIRST)] += 1
    told = [layer for layer in layers if layer.query]
    return ModelShape(
        model_type=model_type,
        parameters=sum(prod(s) for s in shapes.values()),
        embeddings=sum(prod(s) for s in tables.values()),
        experts=experts, expert_count=expert_count if experts else 0, chosen_experts=chosen if experts else 0,
        vocabulary=vocabulary, hidden=hidden,
        heads=_first(config, *_HEADS) or max(max((layer.query for layer in told), default=hidden) // 128, 1),
        layers=tuple(LayerShape(**{**asdict(layer), "count": number}) for layer, number in layers.items()),
        matrices=_matrices(shapes, head),
        largest=max(max(prod(s) for s in shapes.values()), max(layer.parameters for layer in layers)),
        tied=tied, has_head=head is not None or tied, encoder_decoder=encoder_decoder,
        scores_biased=any("relative_attention_bias" in n for n in shapes),
        activation=_activation(config, model_type),
        dropout=_drops(config, _DROPOUTS, model_type in _DROPOUT_TYPES),
        score_dropout=_drops(config, _SCORE_DROPOUTS, model_type in _SCORE_DROPOUT_TYPES),
        stored_dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch."),
    )  # fmt: skip


def _first(config: Mapping[str, Any], *names: str) -> int:
    return next((v for n in names if type(v := config.get(n)) is int and v > 0), 0)


def _default_chosen(model_type: str) -> int:
    """num_experts_per_tok where config.json is silent, as transformers' configuration classes have it."""
    return {"mixtral": 2, "qwen2_moe": 4, "qwen3_moe": 8}.get(model_type, 2)


def _activation(config: Mapping[str, Any], model_type: str) -> str:
    named = next((config[n] for n in _ACTIVATIONS if n in config), None)
    if named is None and isinstance(written := config.get("feed_forward_proj"), str):
        named = {"gated-gelu": "gelu_new"}.get(written, written.removeprefix("gated-"))
    silent = {"gpt2": "gelu_new", "t5": "relu", "mt5": "gelu_new", "opt": "relu", "bart": "gelu"}
    return str(named or silent.get(model_type, "silu"))


def _drops(config: Mapping[str, Any], names: Sequence[str], silent: bool) -> bool:
    given = [config[n] for n in names if n in config]
    return any(isinstance(value, (int, float)) and value > 0 for value in given) if given else silent


def _layer(inside: Mapping[str, Shape], hidden: int, chosen: int, decoder: bool, input_first: bool) -> LayerShape:
    """One layer, count 1. A matrix's sides are told apart by the hidden size, which one of them has."""

    def other(shape: Shape, name: str) -> int:
        first, second = (shape[1], shape[0]) if input_first else (shape[0], shape[1])
        return int(second if _OUTPUT.search(name) or _DOWN.search(name) else first)

    query = key_value = fused = inner_in = inner_out = norms = 0
    rms, normed, cross, expert_inner = True, False, False, 0
    for name, shape in inside.items():
        module = name.removesuffix(".weight")
        if len(shape) == 3 and _EXPERT.search(name):  # experts in one tensor: (experts, out, in)
            expert_inner = int(shape[2] if _DOWN.search(module) else shape[1] // 2)
            continue
        if len(shape) == 1:
            if _NORM.search(name):
                normed |= "q_norm" in name or "q_layernorm" in name
                if shape[0] == hidden and not re.search(r"[qk]_(layer)?norm", name):
                    norms += 1
            elif name.endswith(".bias") and re.search(r"(norm\w*|ln_?\w*)\.bias$", name, re.IGNORECASE):
                rms = False
            continue
        if len(shape) != 2 or _EMBEDDING.search(name):
            continue
        if _ATTENTION.search(name):
            if _CROSS.search(name):
                cross = True
            elif _OUTPUT.search(module):
                query = other(shape, module)
            elif re.search(r"\.(k|k_proj)$", module):
                key_value = other(shape, module)
            elif re.search(r"\.(c_attn|query_key_value|qkv_proj|Wqkv)$", module):
                fused = other(shape, module)
        elif _EXPERT.search(name):
            expert_inner = other(shape, module)
        elif _DOWN.search(module):
            inner_out += other(shape, module)
        elif not re.search(r"\.(gate|router|shared_expert_gate|classifier)$", module):
            inner_in += other(shape, module)
    if not key_value:
        key_value = max((fused - query) // 2, 0) if fused else query
    inner = inner_out or expert_inner
    return LayerShape(
        count=1, decoder=decoder, hidden=hidden, query=query or hidden, key_value=key_value or query or hidden,
        inner=expert_inner or inner, gated=bool(expert_inner) or inner_in >= 2 * max(inner_out, 1),
        norms=norms or 2, rms=rms, query_key_norm=normed, cross=cross, chosen=chosen if expert_inner else 0,
        shared=inner_out if expert_inner else 0,
        parameters=sum(prod(s) for s in inside.values()),
    )  # fmt: skip


def _matrices(shapes: Mapping[str, Shape], head: str | None) -> tuple[Matrix, ...]:
    found: Counter[tuple[str, int, int, bool, bool, bool]] = Counter()
    for name, shape in shapes.items():
        if len(shape) == 3 and _EXPERT.search(name):  # all experts in one tensor: as if they lay apart
            module = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
            each = [(module.replace("gate_up_proj", part), shape[1] // 2) for part in ("*.gate_proj", "*.up_proj")]
            down = [(module.replace("down_proj", "*.down_proj"), shape[1])]
            for part, rows in down if _DOWN.search(name) else each:
                found[part, rows, shape[2], True, not _DOWN.search(name), True] += shape[0]
            continue
        if len(shape) != 2 or not name.endswith(".weight"):
            continue
        module = re.sub(r"(?<=\.)\d+(?=\.)", "*", name.removesuffix(".weight"))
        linear = name not in (head, "lm_head.weight", "score.weight") and _EMBEDDING.search(name) is None
        expert = _EXPERT.search(name) is not None
        fused = expert and not _DOWN.search(module)
        routed = expert or re.search(r"\.(mlp|block_sparse_moe)\.gate$", module) is not None
        found[module, shape[0], shape[1], linear, fused, routed] += 1
    return tuple(Matrix(n, rows, columns, count, *flags) for (n, rows, columns, *flags), count in found.items())
