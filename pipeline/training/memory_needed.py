"""Memory that a training run needs, from documented formulae, part by part, and what to change where it doesn't fit.

Weights, gradients and optimizer states: ZeRO (arXiv 1910.02054), with the numbers of the transformers documentation
("Model training anatomy"), QLoRA (arXiv 2305.14314) and bitsandbytes. Activations: Korthikanti et al. (arXiv
2205.05198), counted for gated, normed and grouped layers too. Constants: configs/training_memory.yaml. An estimate:
what the parts leave out (kernels' workspaces, the order in which the allocator is asked) stands in `overhead`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from math import ceil
from typing import Any, Protocol

from pipeline.config_files import load_config
from pipeline.refusal import Sentence
from pipeline.training.model_shape import LayerShape, ModelShape

PARTS = ("weights", "reference", "reward", "gradients", "optimizer", "activations", "logits", "extra", "overhead")


@dataclass(frozen=True)
class TrainingSettings:
    """What of a recipe and its launch decides the memory; names as in TRL, peft and transformers where they have one.

    finetuning: full | lora | qlora (4 bits) | lora_8bit. mixed: bf16 | fp16 | no. processes: all together; per_host:
    on one machine. engine: ddp | deepspeed | fsdp; zero_stage 3 stands for a full shard of FSDP too. reference: auto
    | copy | none; auto as TRL does it. lengths: tokens of the data's rows by quantile (p50, p99, max, ...), pairs by
    their longer side. prompt_length, completion_length: of encoder and decoder, or of prompt and generated answer.
    head: tiled | full | score.
    """

    method: str = "sft"
    finetuning: str = "full"
    lora_r: int = 16
    lora_target_modules: tuple[str, ...] | str | None = None
    lora_modules_to_save: tuple[str, ...] | None = None
    double_quant: bool = False
    dtype: str = "float32"
    mixed: str = "bf16"
    optim: str = "adamw_torch_fused"
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_length: int | None = 1024
    lengths: Mapping[str, float] = field(default_factory=dict)
    prompt_length: int | None = None
    completion_length: int | None = None
    gradient_checkpointing: bool = True
    attn_implementation: str | None = None
    padding_free: bool = False
    packing: bool = False
    precompute_ref_log_probs: bool = False
    reference: str = "auto"
    beta: float | None = None
    disable_dropout: bool | None = None
    num_generations: int = 8
    steps_per_generation: int | None = None
    use_vllm: bool = False
    head: str | None = None
    device: str = "cuda"
    processes: int = 1
    per_host: int | None = None
    engine: str = "ddp"
    zero_stage: int = 0
    offload_optimizer: bool = False
    offload_param: bool = False
    reward_bytes: int = 0

    @property
    def on_host(self) -> int:
        """Processes of one machine."""
        return self.per_host or self.processes

    @property
    def precision(self) -> str:
        """single: float32 all through; half: weights of 16 bits; mixed: float32 weights, products in 16 bits."""
        if self.dtype != "float32" or self.engine == "deepspeed" and self.mixed != "no":
            return "half"
        return "mixed" if self.mixed != "no" else "single"

    @property
    def sequences(self) -> int:
        """In one forward pass of one process."""
        twice = self.method in _constants()["methods"]["pairs"]
        return self.per_device_train_batch_size * (2 if twice else 1)

    @property
    def keeps_reference(self) -> bool:
        """Whether a second model lies beside the one that is trained."""
        if self.reference != "auto":
            return self.reference == "copy"
        needs = self.method in _constants()["methods"]["reference"] and self.beta != 0
        return needs and self.finetuning == "full" and not self.precompute_ref_log_probs


@dataclass(frozen=True)
class Part:
    """One part of the memory of one device. entry, params: its formula in words, configs/words/*/training.yaml."""

    name: str
    bytes: int
    entry: str
    params: Mapping[str, str] = field(default_factory=dict)

    def formula(self, lang: str) -> str:
        return Sentence(f"memory/formula/{self.entry}", self.params, "training").said(lang)


@dataclass(frozen=True)
class MemoryNeeded:
    """parts: of one device (on a CPU: of one process), in the order of PARTS, empty ones left out. host: bytes of one
    machine's memory, processes and offloaded states; on a CPU that is all there is."""

    shape: ModelShape
    settings: TrainingSettings
    parts: tuple[Part, ...]
    trained_parameters: int
    host_parts: tuple[Part, ...]

    @property
    def device(self) -> int:
        """Bytes of one device, or of one process on a CPU."""
        return sum(part.bytes for part in self.parts)

    @cached_property
    def host(self) -> int:
        """Bytes of one machine's main memory."""
        return sum(part.bytes for part in self.host_parts)

    def part(self, name: str) -> int:
        return sum(part.bytes for part in self.parts if part.name == name)

    def lines(self, lang: str) -> list[str]:
        """A line for each part with its size and formula, the largest first, and the totals."""
        words = load_config(f"words/{lang}/training.yaml")["memory"]

        def line(part: Part) -> str:
            return words["line"].format(
                part=words["parts"][part.name], size=gigabytes(part.bytes), formula=part.formula(lang)
            )

        where = "process" if self.settings.device == "cpu" else "device"
        said = [words[f"total_{where}"].format(size=gigabytes(self.device))]
        said += [line(part) for part in sorted(self.parts, key=lambda part: -part.bytes)]
        said.append(words["total_host"].format(size=gigabytes(self.host)))
        return said + [line(part) for part in self.host_parts]

    def as_json(self) -> dict[str, Any]:
        """`device_bytes` and `host_bytes` are for the reader; from_json computes them again."""
        return {**asdict(self), "device_bytes": self.device, "host_bytes": self.host}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MemoryNeeded:
        """Raises TypeError or KeyError for what as_json didn't make."""
        settings: dict[str, Any] = {}
        for name, given in value["settings"].items():
            settings[name] = tuple(given) if isinstance(given, list) else given  # JSON has no tuples
        parts, host = ([Part(**part) for part in value[name]] for name in ("parts", "host_parts"))
        shape = ModelShape.from_json(value["shape"])
        return cls(shape, TrainingSettings(**settings), tuple(parts), value["trained_parameters"], tuple(host))


def gigabytes(number: float) -> str:
    """`12.3 GB`, `45 MB`."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


def _constants() -> Any:
    return load_config("training_memory.yaml")


def memory_needed(shape: ModelShape, settings: TrainingSettings | None = None, **changes: Any) -> MemoryNeeded:
    """What one device and one machine need. changes: fields of TrainingSettings."""
    settings = replace(settings or TrainingSettings(), **changes)
    return _Estimate(shape, settings).whole()


class Fields(Protocol):
    """A recipe, as far as it is read here."""

    @property
    def method(self) -> str: ...

    def get(self, name: str, default: Any = None) -> Any: ...


def settings_of(recipe: Fields, **launch: Any) -> TrainingSettings:
    """The settings that a recipe asks for. launch: what the recipe doesn't say (device, processes, engine, zero_stage,
    offload_*, lengths, reward_bytes); it goes before the recipe."""
    found: dict[str, Any] = {"method": recipe.method}
    for one in fields(TrainingSettings):
        value = recipe.get(one.name)
        if value is not None and one.name not in ("method", "reference", "head", "device", "lengths"):
            found[one.name] = tuple(value) if isinstance(value, list) else value
    adapter = bool(recipe.get("use_peft", False)) or recipe.get("load_in_4bit", False)
    if recipe.get("load_in_8bit", False):
        found["finetuning"] = "lora_8bit"
    elif recipe.get("load_in_4bit", False):
        found["finetuning"] = "qlora"
    else:
        found["finetuning"] = "lora" if adapter else "full"
    found["double_quant"] = bool(recipe.get("use_bnb_nested_quant", False))
    fp16 = bool(recipe.get("fp16", False))
    bf16 = recipe.get("bf16")
    found["mixed"] = "fp16" if fp16 else "no" if bf16 is False else "bf16"
    found["max_length"] = recipe.get("max_length")
    found["completion_length"] = recipe.get("max_completion_length")
    found["prompt_length"] = recipe.get("max_prompt_length")
    if recipe.get("ref_model_name_or_path"):
        found["reference"] = "none" if recipe.get("precompute_ref_log_probs") else "copy"
    found["processes"] = recipe.get("num_processes", 1)
    found.pop("dtype", None)
    if (dtype := recipe.get("dtype", "float32")) in _constants()["dtypes"]:
        found["dtype"] = dtype
    return TrainingSettings(**{**found, **launch})


@dataclass(frozen=True)
class _Estimate:
    shape: ModelShape
    settings: TrainingSettings

    @cached_property
    def dtype_bytes(self) -> float:
        """Of a weight that isn't quantised. DeepSpeed holds the model in 16 bits in mixed precision."""
        return 2 if self.settings.precision == "half" else float(_constants()["dtypes"][self.settings.dtype])

    @cached_property
    def compute_bytes(self) -> int:
        return 4 if self.settings.precision == "single" else 2

    @cached_property
    def shards(self) -> int:
        return max(self.settings.processes, 1)

    @cached_property
    def adapter(self) -> int:
        s = self.settings
        if s.finetuning == "full":
            return 0
        return self.shape.lora_parameters(s.lora_r, s.lora_target_modules, s.lora_modules_to_save)

    @cached_property
    def trained(self) -> int:
        return self.shape.parameters if self.settings.finetuning == "full" else self.adapter

    @cached_property
    def trained_bytes(self) -> float:
        """Of one trained number as the model holds it: peft upcasts adapters to float32, TRL those of a quantised model
        down to bfloat16, and leaves them in the model's dtype under ZeRO-3."""
        s = self.settings
        if s.finetuning == "full" or s.engine == "deepspeed":
            return self.dtype_bytes
        return 2 if s.finetuning in ("qlora", "lora_8bit") else 4

    def part_of(self, stage: int) -> int:
        """Over how many processes something is spread that ZeRO spreads from `stage` on."""
        return self.shards if self.settings.zero_stage >= stage else 1

    def frozen_bytes(self) -> float:
        """Of the base's weights."""
        quantised = _constants()["quantised"]
        four_bits = "nf4_double" if self.settings.double_quant else "nf4"
        kind = {"qlora": four_bits, "lora_8bit": "int8"}.get(self.settings.finetuning)
        if kind is None:
            return self.shape.parameters * self.dtype_bytes
        packed = sum(m.rows * m.columns * m.count for m in self.shape.matrices if m.linear and not m.routed)
        return packed * float(quantised[kind]) + (self.shape.parameters - packed) * self.dtype_bytes

    def weights(self) -> Part:
        s, total = self.settings, self.frozen_bytes()
        spread = self.part_of(3)
        params = {"parameters": _number(self.shape.parameters), "each": f"{total / max(self.shape.parameters, 1):.3g}",
                  "adapter": _number(self.adapter), "processes": str(spread)}  # fmt: skip
        total += self.adapter * self.trained_bytes if s.finetuning != "full" else 0
        entry = "weights" if s.finetuning == "full" else "weights_adapter"
        device = total / spread
        if s.precision == "mixed":  # autocast keeps its 16-bit copies from the forward to the backward pass
            copied = self.trained if s.gradient_checkpointing else self.shape.parameters + self.adapter
            device += 2 * copied / spread
            entry += "_mixed"
            params["copied"] = _number(copied)
        if s.zero_stage >= 3 and spread > 1 or s.offload_param:
            gathered = min(float(_constants()["overhead"]["zero3_gathered"]), self.shape.parameters) * 2
            gathered = max(gathered, 2 * self.shape.largest * 2)
            device = gathered + (0 if s.offload_param else device)
            entry = "weights_offloaded" if s.offload_param else "weights_sharded"
            params["gathered"] = gigabytes(gathered)
        return Part("weights", ceil(device), entry, params)

    def reference(self) -> Part | None:
        if not self.settings.keeps_reference:
            return None
        total = self.shape.parameters * self.dtype_bytes
        spread = self.part_of(3)
        params = {
            "parameters": _number(self.shape.parameters),
            "each": f"{self.dtype_bytes:g}",
            "processes": str(spread),
        }
        return Part("reference", ceil(total / spread), "reference_sharded" if spread > 1 else "reference", params)

    def gradients(self) -> Part:
        s, spread = self.settings, self.part_of(2)
        total = self.trained * self.trained_bytes / spread
        params = {"parameters": _number(self.trained), "each": f"{self.trained_bytes:g}", "processes": str(spread)}
        entry = "gradients_sharded" if spread > 1 else "gradients"
        if s.engine == "ddp" and s.processes > 1 and s.zero_stage == 0:
            total *= 2  # its buckets hold them once more (torch, gradient_as_bucket_view is off)
            entry = "gradients_ddp"
        if s.offload_optimizer:
            bucket = min(float(_constants()["overhead"]["zero_bucket"]) * 2, total)
            return Part("gradients", ceil(bucket), "gradients_offloaded", params)
        return Part("gradients", ceil(total), entry, params)

    def state_bytes(self) -> tuple[float, str]:
        """Optimizer states of everything that is trained, and the bytes a number where that is one figure."""
        s, constants = self.settings, _constants()
        each = constants["optimizers"].get(s.optim, constants["optimizer_otherwise"])
        if each == "factored":
            if s.finetuning == "full":
                sides = sum((m.rows + m.columns) * m.count for m in self.shape.matrices)
            else:
                sides = sum((m.rows + m.columns + 2 * s.lora_r) * m.count for m in self.shape.matrices)
            return 4.0 * sides, "-"
        master = float(constants["deepspeed"]["master"]) if s.engine == "deepspeed" and s.mixed != "no" else 0.0
        if not master and self.trained_bytes == 2 and "8bit" not in s.optim and "4bit" not in s.optim:
            each = each / 2  # torch.optim makes the states in the dtype of the weights
        total = self.trained * (each + master)
        if s.optim in constants["eight_bit_keeps_embeddings"] and s.finetuning == "full":
            total += self.shape.embeddings * 3 * each
        return total, f"{each + master:g}"

    def optimizer(self) -> Part:
        s, spread = self.settings, self.part_of(1)
        total, each = self.state_bytes()
        params = {"parameters": _number(self.trained), "each": each, "processes": str(spread), "optim": s.optim}
        if s.offload_optimizer or s.optim.startswith("paged_"):
            return Part("optimizer", 0, "optimizer_on_host", params)
        factored = "optimizer_factored" if each == "-" else "optimizer"
        return Part("optimizer", ceil(total / spread), f"{factored}_sharded" if spread > 1 else factored, params)

    # Tokens of one forward and backward pass on one device

    def longest(self) -> int:
        """Tokens of the longest row that the data has, cut at max_length."""
        known = self.settings.lengths.get("max")
        limit = self.settings.max_length
        if known is None:
            return limit or int(_constants()["length_unknown"])
        return max(1, min(int(known), limit) if limit else int(known))

    @cached_property
    def tokens(self) -> tuple[int, int, int, int]:
        """(sequences, tokens a sequence of the encoder, of the decoder, tokens of the decoder in all)."""
        s = self.settings
        sequences = s.sequences
        longest = self.longest()
        if self.shape.encoder_decoder:
            answer = s.completion_length or longest
            return sequences, s.prompt_length or longest, answer, sequences * answer
        if s.method in _constants()["methods"]["generates"]:
            prompt = s.prompt_length or int(s.lengths.get("max", 0)) or s.max_length or 512
            length = prompt + (s.completion_length or 256)
            return sequences, 0, length, sequences * length
        if s.packing:
            length = s.max_length or longest
            return sequences, 0, length, sequences * length
        if s.padding_free and "p50" in s.lengths:
            typical = min(int(s.lengths["p50"]), longest)
            return sequences, 0, longest, longest + (sequences - 1) * typical
        return sequences, 0, longest, sequences * longest

    def kept(self, layer: LayerShape, encoder: int, decoder: int) -> float:
        """Bytes that one layer keeps for its backward pass. encoder, decoder: tokens in all."""
        sequences, encoder_length, decoder_length, _ = self.tokens
        table, s, e = _constants()["activations"], self.settings, self.compute_bytes
        precision = s.precision
        own = decoder if layer.decoder else encoder
        norm = table["rms_norm" if layer.rms else "layer_norm"][precision]
        dropping = self.dropping()
        each = layer.norms * layer.hidden * norm + table["attention"] * layer.query * e
        if layer.query_key_norm:
            each += table["query_key_norm"] * (layer.query + layer.key_value) * (4 if precision == "single" else 3)
        activation = table["activation_functions"].get(self.shape.activation, table["activation_function_otherwise"])
        width = (activation + (table["gated"] if layer.gated else 0)) * e
        if layer.chosen:
            each += layer.chosen * (layer.inner * width + table["expert"] * layer.hidden * e) + layer.shared * width
        else:
            each += layer.inner * width
        if dropping and self.shape.dropout:
            each += table["dropout_mask"] * (2 * layer.hidden + layer.inner)
        total = each * own
        if layer.cross:
            total += (3 * decoder + 2 * encoder) * layer.query * e
        length = decoder_length if layer.decoder else encoder_length
        scores_drop = dropping and self.shape.score_dropout
        total += self.scores(own, length, scores_drop, biased=self.shape.scores_biased)
        if layer.cross:
            total += self.scores(decoder, encoder_length, scores_drop, biased=False)
        return float(total)

    def scores(self, queries: int, keys: int, dropout: bool, *, biased: bool) -> float:
        """Attention scores and the mask that is added to them."""
        table, precision = _constants()["activations"], self.settings.precision
        heads = self.shape.heads
        eager = self.settings.attn_implementation == "eager"
        # scaled_dot_product_attention has no kernel for dropout on a CPU, and for a learned bias none on either
        slow = dropout and self.settings.device == "cpu" or biased
        if eager or slow:
            each = table["scores"][precision] + (table["scores_dropout"][precision] if dropout else 0)
            return float(queries * keys * heads * each)
        flash = "flash" in (self.settings.attn_implementation or "")
        padded = not flash and self.settings.sequences > 1
        return float(queries * keys * table["mask"][precision]) if padded else 0.0

    def dropping(self) -> bool:
        off = self.settings.disable_dropout
        if off is None:
            off = self.settings.method in _constants()["methods"]["dropout_off"]
        return not off

    def activations(self) -> Part:
        sequences, encoder_length, length, decoder = self.tokens
        encoder = sequences * encoder_length
        layers = self.shape.layers
        whole = sum(layer.count * self.kept(layer, encoder, decoder) for layer in layers)
        largest = max(self.kept(layer, encoder, decoder) for layer in layers)
        residual = 4 if self.settings.precision != "half" else 2
        ends = (decoder + encoder) * self.shape.hidden * (residual + 12)  # embeddings, last norm, what goes to the head
        # in the backward pass, gradients of the widest tensors of one layer
        widest = max(layer.inner * max(layer.chosen, 1) + 2 * layer.hidden for layer in layers)
        gradient = 2 * widest * max(decoder, encoder) * self.compute_bytes
        tokens = decoder + encoder
        params = {"tokens": f"{tokens:,}", "layers": str(self.shape.depth), "sequences": str(sequences),
                  "length": f"{length:,}", "layer": gigabytes(largest)}  # fmt: skip
        if self.settings.gradient_checkpointing:
            inputs = sum(
                layer.count * layer.hidden * residual * (decoder if layer.decoder else encoder) for layer in layers
            )
            params["inputs"] = gigabytes(inputs)
            return Part("activations", ceil(inputs + largest + ends + gradient), "activations_checkpointed", params)
        return Part("activations", ceil(whole + ends + gradient), "activations", params)

    def logits(self) -> Part | None:
        s, head = self.settings, _constants()["head"]
        usual = head["encoder_decoder"] if self.shape.encoder_decoder else head["of_method"].get(s.method, "full")
        kind = s.head or usual
        if kind == "score":
            return None
        tokens, vocabulary, hidden = self.tokens[3], self.shape.vocabulary, self.shape.hidden
        params = {"tokens": f"{tokens:,}", "vocabulary": f"{vocabulary:,}"}
        # the head's gradient in float32, beside the one that it is added to
        beside = s.finetuning == "full" and (self.shape.tied or self.trained_bytes == 2)
        own = 4.0 * vocabulary * hidden if beside else 0.0
        if kind == "full":
            params["each"] = str(head["logits_bytes"])
            return Part("logits", ceil(tokens * vocabulary * head["logits_bytes"] + own), "logits", params)
        rows, columns = min(tokens, head["tile_tokens"]), min(vocabulary, head["tile_vocabulary"])
        on_cpu = s.device == "cpu"
        copies = head["tile_copies"]["cpu" if on_cpu else "cuda"]
        tile = rows * columns * (4 * copies if on_cpu else self.compute_bytes)
        params |= {"rows": f"{rows:,}", "columns": f"{columns:,}"}
        return Part("logits", ceil(tile + own + 4.0 * tokens * hidden), "logits_tiled", params)

    def generation(self) -> float:
        """Bytes of the keys and values of the answers that are written at one time on one device."""
        s = self.settings
        if s.method not in _constants()["methods"]["generates"] or s.use_vllm:
            return 0.0
        at_once = s.per_device_train_batch_size * (s.steps_per_generation or s.gradient_accumulation_steps)
        each = sum(2 * layer.count * layer.key_value for layer in self.shape.layers if layer.decoder)
        return float(each * at_once * self.tokens[2] * self.compute_bytes)

    def step(self) -> float:
        """Bytes that the optimizer's step needs for a moment."""
        s, constants = self.settings, _constants()
        if s.offload_optimizer:
            return 0.0
        if s.engine == "deepspeed" and s.mixed != "no":
            return float(self.trained * constants["deepspeed"]["step_gradients"] / self.part_of(1))
        if s.optim in constants["step_copies_all"]:
            if s.device == "cpu":  # there one tensor after the other
                return 4.0 * min(self.shape.vocabulary * self.shape.hidden, self.trained)
            return float(self.trained * 4 / self.part_of(1))
        return 0.0

    def extra(self, passes: int) -> Part | None:
        """What writing answers or the optimizer's step needs beyond the forward and backward passes, which are over
        then."""
        generation, step = self.generation(), self.step()
        most = max(generation, step)
        if most <= passes:
            return None
        entry = "extra_generation" if generation >= step else "extra_step"
        return Part("extra", ceil(most - passes), entry, {"needed": gigabytes(most), "passes": gigabytes(passes)})

    def whole(self) -> MemoryNeeded:
        s, constants = self.settings, _constants()["overhead"]
        activations, logits = self.activations(), self.logits()
        extra = self.extra(activations.bytes + (logits.bytes if logits else 0))
        reward = Part("reward", s.reward_bytes, "reward") if s.reward_bytes else None
        made = [
            self.weights(),
            self.reference(),
            reward,
            self.gradients(),
            self.optimizer(),
            activations,
            logits,
            extra,
        ]
        parts = [part for part in made if part is not None and (part.bytes > 0 or part.name == "optimizer")]
        fragments = sum(part.bytes for part in parts) * float(constants["fragmentation"])
        if s.device == "cpu":
            base = float(constants["process"])
            parts.append(Part("overhead", ceil(base + fragments), "overhead_cpu", {"base": gigabytes(base)}))
            process = sum(part.bytes for part in parts)
            params = {"processes": str(s.on_host), "each": gigabytes(process)}
            host = [Part("processes", process * s.on_host, "host_processes", params)]
        else:
            base = float(constants["cuda_context"])
            if s.engine == "deepspeed":
                share = 2 if s.zero_stage >= 3 else 1
                base += min(float(constants["zero_bucket"]), self.trained) * 2 * share / 2
            parts.append(Part("overhead", ceil(base + fragments), "overhead", {"base": gigabytes(base)}))
            each = float(constants["process_cuda"])
            params = {"processes": str(s.on_host), "each": gigabytes(each)}
            host = [Part("processes", ceil(each * s.on_host), "host_processes", params)]
        host += self.offloaded()
        return MemoryNeeded(self.shape, s, tuple(parts), self.trained, tuple(host))

    def offloaded(self) -> list[Part]:
        """What lies on the host of one machine instead of its devices."""
        s, constants = self.settings, _constants()
        share = s.on_host / self.shards  # of everything, on this machine
        found = []
        if s.offload_optimizer:
            states = self.state_bytes()[0] + self.trained * 4  # gradients in float32 beside them
            factor = float(constants["overhead"]["offload_factor"])
            spread = share if s.zero_stage else s.on_host
            found.append(
                Part("offloaded_optimizer", ceil(states * factor * spread), "host_optimizer", {"factor": f"{factor:g}"})
            )
        elif s.optim.startswith("paged_"):
            spread = share if s.zero_stage else s.on_host
            found.append(Part("offloaded_optimizer", ceil(self.state_bytes()[0] * spread), "host_paged", {}))
        if s.offload_param:
            found.append(Part("offloaded_weights", ceil(self.frozen_bytes() * share), "host_weights", {}))
        return found


def _number(count: float) -> str:
    """`7.62 billion` says no more than `7.62e9` in either language, so: 7.62 B, 596 M, 12 k."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.0f}"


@dataclass(frozen=True)
class Change:
    """One change of the recipe or its launch. before, after: values of `field`. device, host: bytes needed with it
    and all changes before it. fits: in what there is. entry: what it costs, a sentence of
    configs/words/*/training.yaml."""

    field: str
    before: Any
    after: Any
    device: int
    host: int
    fits: bool
    entry: str

    def said(self, lang: str) -> str:
        why = Sentence(f"memory/change/{self.entry}", {}, "training")
        params = {"field": self.field, "before": _shown(self.before), "after": _shown(self.after),
                  "size": gigabytes(self.device), "why": why}  # fmt: skip
        return Sentence("memory/change_line", params, "training").said(lang)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# Fields that change, the kind of change, its sentence in configs/words; None where it can't be made
Offer = tuple[dict[str, Any], str, str]


def what_fits(needed: MemoryNeeded, device_bytes: int, host_bytes: int | None = None) -> list[Change]:
    """The changes, in order, that make a run fit; the last one says whether they do. Empty where it fits as it is.

    What changes no result comes first (recomputing, smaller batches accumulated), then what changes it little, then
    LoRA and 4 bits. Changes that turn out not to be needed are left out again. host_bytes: None where it can't be
    told.
    """

    def fits(settings: TrainingSettings) -> bool:
        now = memory_needed(needed.shape, settings)
        if settings.device == "cpu":
            return now.host <= (device_bytes if host_bytes is None else host_bytes)
        return now.device <= device_bytes and (host_bytes is None or now.host <= host_bytes)

    def size(settings: TrainingSettings) -> int:
        now = memory_needed(needed.shape, settings)
        return now.host if settings.device == "cpu" else now.device

    settings = needed.settings
    if fits(settings):
        return []
    taken: list[Offer] = []
    for change in _ladder(needed.shape, settings):
        current = _applied(settings, taken)
        offered = change(current)
        if offered is None:
            continue
        fields_changed, named, entry = offered
        changed = replace(current, **fields_changed)
        if size(changed) >= size(current) and "offload" not in entry:
            continue
        taken.append((fields_changed, named, entry))
        if fits(changed):
            break
    reached = fits(_applied(settings, taken))
    if reached:
        for number in reversed(range(len(taken))):  # what alters more goes first
            # Batches go down step by step: the later steps rest on the earlier.
            leant_on = any(other[1] == taken[number][1] for other in taken[number + 1 :])
            rest = [*taken[:number], *taken[number + 1 :]]
            if not leant_on and fits(_applied(settings, rest)):
                taken = rest
    return _said(needed.shape, settings, taken, fits)


def _applied(settings: TrainingSettings, taken: list[Offer]) -> TrainingSettings:
    for changed, _, _ in taken:
        settings = replace(settings, **changed)
    return settings


def _said(
    shape: ModelShape, settings: TrainingSettings, taken: list[Offer],
    fits: Callable[[TrainingSettings], bool],
) -> list[Change]:  # fmt: skip
    """Changes of one field one after the other become one."""
    changes: list[Change] = []
    names: dict[str, str] = {"finetuning": "use_peft"}
    for changed, named, entry in taken:
        after_all = replace(settings, **changed)
        now = memory_needed(shape, after_all)
        for name, value in changed.items():
            before = getattr(settings, name)
            shown_name, before, value = _as_recipe(name, before, value, named) or (names.get(name, name), before, value)
            earlier = next((c for c in changes if c.field == shown_name), None)
            if earlier is not None:
                changes.remove(earlier)
                before = earlier.before
            changes.append(Change(shown_name, before, value, now.device, now.host, fits(after_all), entry))
        settings = after_all
    return changes


def _as_recipe(name: str, before: Any, after: Any, named: str) -> tuple[str, Any, Any] | None:
    """Under the name that the field has in a recipe."""
    if name == "finetuning":
        return ("load_in_4bit", False, True) if after == "qlora" else ("use_peft", False, True)
    return None


def _ladder(shape: ModelShape, start: TrainingSettings) -> list[Callable[[TrainingSettings], Offer | None]]:
    """Changes to try, the one that alters the result least first."""

    def checkpointing(s: TrainingSettings) -> Offer | None:
        return (
            None if s.gradient_checkpointing else ({"gradient_checkpointing": True}, "checkpointing", "checkpointing")
        )

    def precompute(s: TrainingSettings) -> Offer | None:
        if not s.keeps_reference or s.reference != "auto" or s.method not in ("dpo", "kto"):
            return None
        return {"precompute_ref_log_probs": True}, "precompute", "precompute"

    def attention(s: TrainingSettings) -> Offer | None:
        return ({"attn_implementation": "sdpa"}, "attention", "attention") if s.attn_implementation == "eager" else None

    def batch(s: TrainingSettings) -> Offer | None:
        size = s.per_device_train_batch_size
        if size <= 1:
            return None
        smaller = max(n for n in range(1, size) if size % n == 0)
        more = s.gradient_accumulation_steps * (size // smaller)
        changed = {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": more}
        if s.steps_per_generation:
            changed["steps_per_generation"] = s.steps_per_generation * (size // smaller)
        return changed, "batch", "batch"

    def shard(stage: int) -> Callable[[TrainingSettings], Offer | None]:
        def one(s: TrainingSettings) -> Offer | None:
            if s.processes < 2 or s.zero_stage >= stage or s.device == "cpu" or s.finetuning == "qlora" and stage == 3:
                return None
            changed: dict[str, Any] = {"zero_stage": stage}
            if s.engine == "ddp":
                changed["engine"] = "deepspeed"
            return changed, "zero", f"zero{stage}"

        return one

    def cut(s: TrainingSettings) -> Offer | None:
        p99 = s.lengths.get("p99")
        if p99 is None or shape.encoder_decoder:
            return None
        length = max(16, ceil(p99 / 8) * 8)
        longest = min(s.lengths.get("max", float("inf")), s.max_length or float("inf"))
        return ({"max_length": length}, "length", "length") if length < longest else None

    def eight_bits(s: TrainingSettings) -> Offer | None:
        wide = s.optim.startswith("adamw_torch") and s.optim[-4:] not in ("8bit", "4bit")
        if s.device == "cpu" or not wide or s.engine == "deepspeed" or s.finetuning != "full":
            return None
        return {"optim": "adamw_8bit"}, "optim", "eight_bits"

    def half(s: TrainingSettings) -> Offer | None:
        if s.dtype != "float32" or s.finetuning == "full" or s.device == "cpu":
            return None
        return {"dtype": "bfloat16"}, "dtype", "half"

    def offload(name: str) -> Callable[[TrainingSettings], Offer | None]:
        def one(s: TrainingSettings) -> Offer | None:
            least = 3 if name == "offload_param" else 1
            if s.engine != "deepspeed" or s.zero_stage < least or getattr(s, name):
                return None
            return {name: True}, name, name

        return one

    def lora(s: TrainingSettings) -> Offer | None:
        return ({"finetuning": "lora"}, "lora", "lora") if s.finetuning == "full" else None

    def four_bits(s: TrainingSettings) -> Offer | None:
        if s.finetuning != "lora" or s.device == "cpu" or s.zero_stage == 3:
            return None
        return {"finetuning": "qlora"}, "qlora", "qlora"

    halvings = [batch] * max(1, start.per_device_train_batch_size.bit_length())
    return [
        checkpointing, attention, precompute, *halvings, half, shard(1), shard(2), shard(3), cut, eight_bits,
        offload("offload_optimizer"), offload("offload_param"), lora, half, four_bits,
    ]  # fmt: skip
