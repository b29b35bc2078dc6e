"""What the tensors of a PEFT adapter belong to: which module of the base, which side of the product, full copies.

Names as `save_pretrained` of peft writes them: https://github.com/huggingface/peft (utils/save_and_load.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.architecture import UnknownArchitecture, expected_architecture
from pipeline.checkpoint import Checkpoint
from pipeline.weight_file import FLOAT_DTYPES, TensorInfo
from pipeline.weight_names import bare_name

_LORA = re.compile(r"^(.+?)\.lora_(embedding_A|embedding_B|A|B)(?:\.(?!weight$|bias$)\w+)?(?:\.weight)?$")
# Parts of methods other than LoRA's two matrices, and what LoRA stores beside them.
_OTHER_PARTS = re.compile(
    r"lora_|ia3_|vera_|hada_|lokr_|oft_|boft_|hra_|fourierft|randlora|c3a_|prompt|prefix|adaption_|token_adapter"
    r"|trainable_tokens|ranknum|miss_block|bone_block|shira_|internal_xlora|\.ln_tuning|road_|lily_|delora|osf_|cartridge"
)
_COPY = re.compile(r"\.(?:modules_to_save|base_layer|original_module)(?:\.default)?(?=\.)")


@dataclass
class AdaptedModule:
    """One module with its pair of matrices; `sides` maps A, B, embedding_A, embedding_B to their tensors."""

    path: str
    sides: dict[str, TensorInfo] = field(default_factory=dict)

    @property
    def rank(self) -> int | None:
        """Inner size of the product."""
        for side, axis in (("A", 0), ("B", 1), ("embedding_A", 0), ("embedding_B", 1)):
            tensor = self.sides.get(side)
            if tensor is not None and len(tensor.shape) == 2:
                return tensor.shape[axis]
        return None

    @property
    def adapts(self) -> tuple[int | None, int | None]:
        """(rows, columns) of the base weight this pair is made for; None where its side is absent or no matrix."""
        sides = self.sides
        if "embedding_A" in sides or "embedding_B" in sides:  # [rank, rows] and [width, rank]
            return _size(sides.get("embedding_A"), 1), _size(sides.get("embedding_B"), 0)
        return _size(sides.get("B"), 0), _size(sides.get("A"), 1)


def _size(tensor: TensorInfo | None, axis: int) -> int | None:
    return tensor.shape[axis] if tensor is not None and len(tensor.shape) == 2 else None


def adapted_modules(tensors: Mapping[str, TensorInfo]) -> dict[str, AdaptedModule]:
    """Modules with LoRA matrices by their path without wrappers (`layers.0.self_attn.q_proj`)."""
    found: dict[str, AdaptedModule] = {}
    for name, tensor in tensors.items():
        if match := _LORA.match(name):
            path = bare_name(match.group(1))
            found.setdefault(path, AdaptedModule(path)).sides[match.group(2)] = tensor
    return found


def full_copies(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Whole tensors of the base that the adapter carries (modules_to_save, resized embeddings), by bare name."""
    copies = {bare_name(_COPY.sub("", n)): t for n, t in tensors.items() if not _OTHER_PARTS.search(n)}
    return {name: tensor for name, tensor in copies.items() if name}


def module_shapes(base: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Shapes of the base's weights by bare module path; from config.json where its type is known (quantised weights
    have other shapes on disk), else from the headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    if base.config.value is not None:
        try:
            shapes = dict(expected_architecture(base.config.value, base.tensors).shapes)
        except UnknownArchitecture:
            shapes = {}
    if not shapes:
        shapes = {name: t.shape for name, t in base.tensors.items() if t.dtype in FLOAT_DTYPES}
    return {bare_name(n).removesuffix(".weight"): shape for n, shape in shapes.items() if n.endswith(".weight")}
