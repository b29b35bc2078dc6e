"""What the machines of Hugging Face Jobs are and cost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence
from pipeline.training.hub_calls import api, asked, settings

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PER_HOUR = {"second": 3600.0, "minute": 60.0, "hour": 1.0}


@dataclass(frozen=True)
class Hardware:
    """name: as a job is given it. accelerator: model, "" for a CPU; accelerator_gb: of each, and memory_gb of the
    machine, 0 where not known. usd_per_hour: None where not known."""

    name: str
    label: str
    cpu: str = ""
    memory_gb: float = 0.0
    accelerator: str = ""
    accelerators: int = 0
    accelerator_gb: float = 0.0
    usd_per_hour: float | None = None


@dataclass(frozen=True)
class HardwareList(Sequence[Hardware]):
    """date: "" for what the Hub said now, else of the list of this project. why: what the Hub's silence was."""

    items: tuple[Hardware, ...]
    date: str = ""
    why: Refused | None = None

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def named(self, name: str) -> Hardware:
        """Raises Refused."""
        for one in self.items:
            if one.name == name:
                return one
        raise Refused("hub_jobs_hardware_unknown", name=name, all=", ".join(one.name for one in self.items))


@dataclass(frozen=True)
class CostEstimate:
    """Seconds and US dollars: low, expected, high, and most: what it can cost before its time limit ends it. Dollars
    are None where the price isn't known. Billed by the minute begun, packages being installed included."""

    hardware: Hardware
    seconds: tuple[float, float, float]
    usd: tuple[float, float, float] | None
    timeout_seconds: int
    most_usd: float | None

    @property
    def line(self) -> Sentence:
        """One sentence, in either language."""
        given = {
            "hardware": self.hardware.label, "minutes_low": math.ceil(self.seconds[0] / 60),
            "minutes_high": math.ceil(self.seconds[2] / 60), "timeout": self.timeout_seconds // 60,
        }  # fmt: skip
        if self.usd is None or self.most_usd is None:
            return Sentence("hub_jobs/estimate_without_price", given, "training")
        money = {"low": f"{self.usd[0]:.2f}", "high": f"{self.usd[2]:.2f}", "most": f"{self.most_usd:.2f}"}
        return Sentence("hub_jobs/estimate", {**given, **money}, "training")


def hardware(token: str | None = None, endpoint: str | None = None) -> HardwareList:
    """Cheapest first, those without a price last. token: none is needed. The list of this project where the Hub gives
    no usable one."""
    try:
        client = api(token, endpoint)
        told = asked(client.list_jobs_hardware, token or "")
        return HardwareList(_sorted([_from_hub(one) for one in told]))
    except (Refused, AttributeError, TypeError, ValueError) as failed:
        kept = load_config("hub_hardware.yaml")
        why = failed if isinstance(failed, Refused) else None
        return HardwareList(_sorted([Hardware(**one) for one in kept["hardware"]]), str(kept["date"]), why)


def cost_estimate(machine: Hardware, seconds: float) -> CostEstimate:
    """seconds: of the training alone, as expected on this machine. Raises Refused for a time that is none."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise Refused("hub_jobs_time", given=seconds)
    limits = settings()
    setup, spread = limits["setup_seconds"], limits["spread"]
    low = setup["low"] + spread["low"] * seconds
    middle = (setup["low"] + setup["high"]) / 2 + seconds
    high = setup["high"] + spread["high"] * seconds
    timeout = timeout_for(seconds)
    price = machine.usd_per_hour
    usd = None if price is None else (billed(low, price), billed(middle, price), billed(high, price))
    return CostEstimate(machine, (low, middle, high), usd, timeout, None if price is None else billed(timeout, price))


def timeout_for(seconds: float) -> int:
    """Whole minutes, in seconds, that a job expected to train so long is given."""
    limits = settings()
    wanted = float(limits["setup_seconds"]["high"]) + float(limits["margin"]) * seconds
    return max(int(limits["least_timeout_seconds"]), math.ceil(wanted / 60) * 60)


def billed(seconds: float, usd_per_hour: float) -> float:
    """US dollars: each minute begun counts (https://huggingface.co/docs/hub/jobs-pricing)."""
    return math.ceil(max(seconds, 0.0) / 60) * usd_per_hour / 60


def _sorted(found: list[Hardware]) -> tuple[Hardware, ...]:
    if not found:
        raise ValueError("no hardware")
    return tuple(sorted(found, key=lambda one: (one.usd_per_hour is None, one.usd_per_hour or 0.0, one.name)))


def _from_hub(told: Any) -> Hardware:
    part = told.accelerator
    count = int(_gigabytes(part.quantity)) if part is not None else 0
    whole = _gigabytes(part.vram) if part is not None else 0.0
    rate = _PER_HOUR.get(str(told.unit_label).lower())
    price = float(told.unit_cost_usd)
    return Hardware(
        str(told.name), str(told.pretty_name), str(told.cpu), _gigabytes(told.ram), str(part.model) if part else "",
        count, whole / count if count else 0.0, price * rate if rate and math.isfinite(price) and price >= 0 else None,
    )  # fmt: skip


def _gigabytes(text: Any) -> float:
    """The number in a text such as `46 GB`; 0 without one."""
    found = _NUMBER.search(str(text))
    number = float(found.group()) if found else 0.0
    return number * 1000 if "TB" in str(text).upper() else number

