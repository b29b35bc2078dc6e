"""How much an answer shares with a reference, and whether it fits its own question better than the others'.

Units are words of scripts with spaces and single characters of scripts without; each weighs by how rare it is among
the references, so that "the" and "的" count for nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.script_of_text import main_script

# One CJK character, kana or syllable; or a run of other letters and digits.
_SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
_UNIT = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]+")


def units(text: str) -> Counter[str]:
    """Bag of units of a text, lower case."""
    return Counter(_UNIT.findall(text.lower()))


def rarity(references: Sequence[Counter[str]]) -> dict[str, float]:
    """Weight of each unit: ln(1 + n / references that hold it) (inverse document frequency)."""
    counts = Counter(unit for reference in references for unit in reference)
    return {unit: math.log(1 + len(references) / count) for unit, count in counts.items()}


def cosine(left: Counter[str], right: Counter[str], weight: Mapping[str, float]) -> float:
    """Between 0 and 1; units that no reference holds weigh as much as the rarest."""
    most = max(weight.values(), default=1.0)

    def norm(bag: Counter[str]) -> float:
        return math.sqrt(sum((count * weight.get(unit, most)) ** 2 for unit, count in bag.items()))

    shared = sum(count * right[unit] * weight.get(unit, most) ** 2 for unit, count in left.items())
    size = norm(left) * norm(right)
    return shared / size if size else 0.0


def same_units(left: str, right: str) -> float:
    """Share of units that two texts have in common (Dice), every unit weighing the same. Between 0 and 1."""
    one, other = units(left), units(right)
    total = sum(one.values()) + sum(other.values())
    return 2 * sum((one & other).values()) / total if total else 0.0


@dataclass(frozen=True)
class TopicFit:
    """fit: how often an answer is closer to its own reference than to another row's (0.5 is chance), averaged over
    rows; upper: the same plus two standard errors; overlap: mean cosine with the own reference; rows judged."""

    fit: float
    upper: float
    overlap: float
    rows: int


def topic_fit(answers: Sequence[str], references: Sequence[str], *, least_units: int = 4) -> TopicFit | None:
    """Compare every answer with all references. None with fewer than four rows to tell apart.

    Rows with references shorter than `least_units` are left out, and so are pairs of nearly equal references: labels
    and yes/no answers fit everybody's question. Only references in one script are compared: an answer in the right
    language is not yet one to the question.
    """
    bags = [units(reference) for reference in references]
    written = [units(answer) for answer in answers]
    weight = rarity(bags)
    scripts = [main_script(reference) for reference in references]
    kept = [i for i, bag in enumerate(bags) if sum(bag.values()) >= least_units]
    scores, overlaps = [], []
    for i in kept:
        near = [j for j in kept if j != i and scripts[j] == scripts[i]]
        others = [j for j in near if cosine(bags[i], bags[j], weight) < 0.8]
        if len(others) < 3:
            continue
        own = cosine(written[i], bags[i], weight)
        theirs = [cosine(written[i], bags[j], weight) for j in others]
        scores.append(sum(0.5 if own == other else float(own > other) for other in theirs) / len(theirs))
        overlaps.append(own)
    if len(scores) < 4:
        return None
    mean = sum(scores) / len(scores)
    spread = math.sqrt(sum((s - mean) ** 2 for s in scores) / (len(scores) - 1))
    return TopicFit(mean, mean + 2 * spread / math.sqrt(len(scores)), sum(overlaps) / len(overlaps), len(scores))


def largest_same_share(texts: Sequence[str]) -> tuple[float, str]:
    """Share of the most frequent text (white space and case aside), and that text. (0, "") without texts."""
    if not texts:
        return 0.0, ""
    seen = Counter(" ".join(text.lower().split()) for text in texts)
    text, count = max(seen.items(), key=lambda item: (item[1], item[0]))
    return count / len(texts), text
