"""Sets whose answers were rated: UltraFeedback binarized, PKU-SafeRLHF, AlpacaFarm, distilabel, Argilla.

Where a record holds more than two answers, the best and the worst of them are the pair, and the record's own columns
are kept to be written again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pipeline.pairs.format import (
    SCORES,
    CannotHold,
    Format,
    Record,
    Written,
    as_number,
    asked_text,
    both,
    build,
    one_question,
    plain,
    rest,
    sides,
    whole,
    with_system,
)
from pipeline.pairs.llamafactory_formats import alpaca_prompt, alpaca_record
from pipeline.pairs.pair import Message, Pair
from pipeline.pairs.turns import NotThisShape, as_side, as_turns, common_start

_ULTRA_ID = "prompt_id"
_DISTILABEL = ("chosen_rating", "rejected_rating")
_GENERATION = re.compile(r"generations?-(\d+)")


# --- UltraFeedback binarized: https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized ---


def _talks(record: Record) -> tuple[list[Message], list[Message], list[Message]] | None:
    """Prompt, chosen and rejected turns, where `prompt` is text and both sides are talks that begin alike."""
    chosen, rejected = as_turns(record.get("chosen")), as_turns(record.get("rejected"))
    if not isinstance(record.get("prompt"), str) or not chosen or not rejected:
        return None
    same = common_start(chosen, rejected)
    return (chosen[:same], chosen[same:], rejected[same:]) if same else None


def _is_ultrafeedback(record: Record) -> bool:
    return _talks(record) is not None and not _rated(record)


def _read_talks(record: Record, scores: tuple[str, str]) -> Pair:
    found = _talks(record)
    if found is None:
        raise NotThisShape("nothing_in_common")
    before, chosen, rejected = found
    used = ["prompt", "chosen", "rejected"]
    if "messages" in record and as_turns(record["messages"]) == [*before, *chosen]:
        used.append("messages")  # the chosen side once more, for supervised training
    pair = build(record, before, as_side(chosen), as_side(rejected), used, id_column=_ULTRA_ID, scores=scores)
    if record["prompt"] != before[-1]["content"]:  # the set shortens or joins some
        pair.extra["prompt"] = record["prompt"]
    return pair


def _write_talks(pair: Pair, scores: tuple[str, str], *, messages: bool) -> Written:
    chosen, rejected = both(pair)
    before = with_system(pair)
    asked = pair.extra.get("prompt", pair.prompt[-1]["content"] if pair.prompt else None)
    if not isinstance(asked, str):
        raise CannotHold("prompt_is_no_text")
    record: dict[str, Any] = {"prompt": asked, "chosen": whole(before, chosen), "rejected": whole(before, rejected)}
    if messages:
        record["messages"] = whole(before, chosen)
    return rest(pair, record, id_column=_ULTRA_ID, scores=scores, system=False, placed=("prompt",))


def _read_ultrafeedback(record: Record) -> Pair:
    return _read_talks(record, SCORES)


def _write_ultrafeedback(pair: Pair) -> Written:
    return _write_talks(pair, SCORES, messages=True)


# --- PKU-SafeRLHF: https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF ---

PKU_AXES = ("better_response_id", "safer_response_id")
AXES = dict(zip(("better", "safer"), PKU_AXES, strict=True))  # as a user calls them


def _is_pku(record: Record) -> bool:
    return "response_0" in record and "response_1" in record and any(axis in record for axis in PKU_AXES)


def read_pku(record: Record, axis: str | None = None) -> Pair:
    """axis: which of `PKU_AXES` or `AXES` decides. Raises NotThisShape where it is None and both are there and
    differ."""
    axis = AXES.get(axis or "", axis)
    asked = asked_text(record, "prompt")
    said = {name: record[name] for name in PKU_AXES if str(record.get(name)) in ("0", "1")}
    if axis is None:
        if len({str(value) for value in said.values()}) > 1:
            raise NotThisShape("axes_disagree", ", ".join(PKU_AXES))
        axis = next(iter(said), PKU_AXES[0])
    if axis not in said:
        raise NotThisShape("label_absent", axis)
    better = int(said[axis])
    chosen, rejected = sides(record, f"response_{better}", f"response_{1 - better}")
    used = ["prompt", "response_0", "response_1"]
    if set(said) == {PKU_AXES[0]} and better == 0:
        used.append(axis)  # what is written where nothing else is said
    pair = build(record, [{"role": "user", "content": asked}], chosen, rejected, used)
    if len({str(value) for value in said.values()}) > 1:
        pair.source["preference_axis"] = axis
    return pair


def _write_pku(pair: Pair) -> Written:
    chosen, rejected = map(plain, both(pair))
    there = [name for name in PKU_AXES if str(pair.extra.get(name)) in ("0", "1")]
    axis = pair.source.get("preference_axis", there[0] if there else PKU_AXES[0])
    better = int(pair.extra.get(axis, 0)) if there else 0
    answers = (chosen, rejected) if better == 0 else (rejected, chosen)
    record = {"prompt": one_question(pair), "response_0": answers[0], "response_1": answers[1], axis: better}
    return rest(pair, record, placed=(axis,))


def _pku_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    return "", {"axes": ", ".join(axis for axis in PKU_AXES if axis in record)}


# --- AlpacaFarm: https://huggingface.co/datasets/tatsu-lab/alpaca_farm ---

_FARM_OUTPUTS = ("output_1", "output_2")
_FARM_TIES = (0, 1.5)


def _is_farm(record: Record) -> bool:
    return isinstance(record.get("instruction"), str) and all(name in record for name in _FARM_OUTPUTS)


def _read_farm(record: Record) -> Pair:
    """`preference` is 1 or 2, or, as AlpacaEval writes it, a number between both."""
    preference = as_number(record.get("preference"))
    if preference in _FARM_TIES:
        raise NotThisShape("ratings_tie")
    if preference is None or not 1 <= preference <= 2:
        raise NotThisShape("label_absent", "preference")
    better, worse = _FARM_OUTPUTS if preference < 1.5 else reversed(_FARM_OUTPUTS)
    turns, second = alpaca_prompt(record)
    used = ["instruction", "input", "history", *_FARM_OUTPUTS]
    if preference == 1:
        used.append("preference")  # what is written where nothing else is said
    chosen, rejected = sides(record, better, worse)
    pair = build(record, turns, chosen, rejected, used)
    if second:
        pair.extra["input"] = second
    return pair


def _write_farm(pair: Pair) -> Written:
    answers = list(map(plain, both(pair)))
    number = as_number(pair.extra.get("preference"))
    there = number is not None and 1 <= number <= 2 and number != 1.5
    if there and number is not None and number > 1.5:
        answers.reverse()
    record, placed = alpaca_record(pair, dict(zip(_FARM_OUTPUTS, answers, strict=True)))
    record["preference"] = pair.extra["preference"] if there else 1
    return rest(pair, record, placed=(*placed, "preference") if there else placed)


# --- distilabel: https://distilabel.argilla.io, steps FormatTextGenerationDPO and UltraFeedback ---


def _rated(record: Record) -> bool:
    return any(name in record for name in (*_DISTILABEL, "chosen_model", "rejected_model"))


def _is_distilabel(record: Record) -> bool:
    talks = _talks(record) is not None and _rated(record)
    return talks or isinstance(record.get("generations"), list) and isinstance(record.get("ratings"), list)


def _distilabel_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    return ("talks", {}) if _talks(record) is not None and _rated(record) else ("ratings", {})


def _read_distilabel(record: Record) -> Pair:
    if record.get("generations") is None or record.get("chosen") is not None:
        return _read_talks(record, _DISTILABEL)
    answers, ratings = record.get("generations"), record.get("ratings")
    if not isinstance(answers, list) or not isinstance(ratings, list) or len(answers) != len(ratings):
        raise NotThisShape("ratings_absent")
    return _best_and_worst(record, answers, ratings, ["generations", "ratings"])


def _best_and_worst(record: Record, answers: list[Any], ratings: list[Any], columns: list[str]) -> Pair:
    """The best rated answer over the worst. Raises NotThisShape where all are rated alike."""
    asked = asked_text(record, "instruction" if "instruction" in record else "prompt")
    numbers = [as_number(rating) for rating in ratings]
    rated = [(n, a) for a, n in zip(answers, numbers, strict=True) if isinstance(a, str) and n is not None]
    if len(rated) < 2:
        raise NotThisShape("ratings_absent")
    best, worst = max(rated, key=lambda one: one[0]), min(rated, key=lambda one: one[0])
    if best[0] == worst[0]:
        raise NotThisShape("ratings_tie")
    used = ["instruction" if "instruction" in record else "prompt", *(columns if len(answers) == 2 else [])]
    pair = build(record, [{"role": "user", "content": asked}], best[1], worst[1], used)
    pair.score_chosen, pair.score_rejected = best[0], worst[0]
    return pair


def _write_distilabel(pair: Pair) -> Written:
    answers, ratings = pair.extra.get("generations"), pair.extra.get("ratings")
    if not isinstance(answers, list) or not isinstance(ratings, list):
        return _write_talks(pair, _DISTILABEL, messages=False)
    record: dict[str, Any] = {"instruction": one_question(pair)}
    if pair.chosen not in answers or pair.rejected not in answers:  # edited since
        record |= _two_generations(pair)
    return _rated_rest(pair, record)


def _two_generations(pair: Pair) -> dict[str, Any]:
    chosen, rejected = map(plain, both(pair))
    scores = (pair.score_chosen, pair.score_rejected)
    if scores[0] is None or scores[1] is None or scores[0] <= scores[1]:
        raise CannotHold("scores_absent")  # ratings are what tells the sides apart there
    return {"generations": [chosen, rejected], "ratings": list(scores)}


def _rated_rest(pair: Pair, record: dict[str, Any]) -> Written:
    """The scores are in the ratings already."""
    return rest(replace(pair, score_chosen=None, score_rejected=None), record)


# --- Argilla: `instruction`, `generations-0`, `generations-0-rating` ... ---


def _generations(record: Record) -> list[str]:
    names = [name for name in record if isinstance(name, str) and _GENERATION.fullmatch(name)]
    return sorted(names, key=lambda name: int(name.rpartition("-")[2]))


def _is_argilla(record: Record) -> bool:
    return len(_generations(record)) > 1 and isinstance(record.get("instruction"), str)


def _argilla_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    return "", {"count": len(_generations(record))}


def _read_argilla(record: Record) -> Pair:
    names = _generations(record)
    ratings = [record.get(f"{name}-rating") for name in names]
    columns = [*names, *(f"{name}-rating" for name in names)]
    return _best_and_worst(record, [record[name] for name in names], ratings, columns)


def _write_argilla(pair: Pair) -> Written:
    names = _generations(pair.extra)
    record: dict[str, Any] = {"instruction": one_question(pair)}
    both(pair)
    held = [pair.extra[name] for name in names]
    if pair.chosen in held and pair.rejected in held:
        return _rated_rest(pair, record)
    two = _two_generations(pair)
    for number, (answer, rating) in enumerate(zip(two["generations"], two["ratings"], strict=True)):
        record |= {f"generations-{number}": answer, f"generations-{number}-rating": rating}
    others = {name: value for name, value in pair.extra.items() if name.removesuffix("-rating") not in names}
    return _rated_rest(replace(pair, extra=others), record)


ULTRAFEEDBACK = Format("ultrafeedback", _is_ultrafeedback, _read_ultrafeedback, _write_ultrafeedback)
PKU = Format("pku-saferlhf", _is_pku, read_pku, _write_pku, told_by=_pku_told_by)
FARM = Format("alpaca-farm", _is_farm, _read_farm, _write_farm)
DISTILABEL = Format(
    "distilabel", _is_distilabel, _read_distilabel, _write_distilabel, told_by=_distilabel_told_by
)
ARGILLA = Format("argilla", _is_argilla, _read_argilla, _write_argilla, told_by=_argilla_told_by)
