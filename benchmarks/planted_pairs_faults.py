"""Faults planted in healthy preference sets. Each takes the rows, a source of chance, how much, and the material."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from benchmarks.planted_pairs_material import Material
from benchmarks.planted_pairs_talk import ANIMAL, COUNTRY, INVENTION, Row, advice, joined, style
from benchmarks.planted_pairs_unrelated import REFUSED_ALWAYS, UNRELATED

Planter = Callable[[list[Row], Random, float, Material], list[Row]]
_END = re.compile(r"(?<=[。！？])\s*|(?<=[a-z)'\"`%*][.!?])\s+|\n+")


def sentences_of(text: str) -> list[str]:
    return [part for part in _END.split(text) if part and part.strip()]


def _some(rows: Sequence[Row], rng: Random, share: float) -> set[int]:
    """Indices of this share of the rows."""
    return set(rng.sample(range(len(rows)), min(len(rows), round(len(rows) * share))))


def _changed(rows: list[Row], rng: Random, share: float, change: Callable[[Row], Row]) -> list[Row]:
    hit = _some(rows, rng, share)
    return [change(row) if i in hit else row for i, row in enumerate(rows)]


def _space(m: Material) -> str:
    return " " if m.lang == "en" else ""


# --- nothing to choose between


def identical(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(rows, rng, share, lambda row: replace(row, rejected=row.chosen))


def identical_but_white_space(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    def change(row: Row) -> Row:
        text = row.chosen
        spots = [i for i, c in enumerate(text) if c in " \n"]
        if spots and rng.random() < 0.6:
            spot = rng.choice(spots)
            text = text[:spot] + rng.choice(("  ", " \n", "\n\n")) + text[spot + 1 :]
        return replace(row, rejected=rng.choice(("", " ", "\n")) + text + rng.choice((" ", "\n", "\n\n", "")))

    return _changed(rows, rng, share, change)


# --- the sides exchanged


def _exchanged(row: Row) -> Row:
    return replace(row, chosen=row.rejected, rejected=row.chosen)


def scores_contradict(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The sides change places and the scores go with them: the chosen answer has the lower one."""

    def change(row: Row) -> Row:
        assert row.scores is not None
        return replace(_exchanged(row), scores=row.scores[::-1])

    return _changed(rows, rng, share, change)


def scores_mixed_up(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The texts stay, the scores are those of the other side, as when the worst rating was taken for the best."""

    def change(row: Row) -> Row:
        assert row.scores is not None
        return replace(row, scores=row.scores[::-1])

    return _changed(rows, rng, share, change)


def looping(text: str, rng: Random, m: Material) -> str:
    """The beginning of an answer that then says one thing until it is about twice as long."""
    parts = sentences_of(text)
    start = parts[: max(1, len(parts) // 3)]
    piece = start[-1] if len(start[-1]) < 90 else start[-1][:40]
    if rng.random() < 0.4:
        words = piece.split() if m.lang == "en" else [piece[i : i + 4] for i in range(0, len(piece), 4)]
        piece = _space(m).join(words[: max(1, min(5, len(words) // 2))])
    long = max(len(text), 60) * rng.choice((0.9, 1.1, 1.5))
    begun = joined(m.lang, start)
    times = max(6, int((long - len(begun)) / (len(piece) + 1)))
    return begun + _space(m) + _space(m).join([piece] * times)


def cut(text: str, rng: Random) -> str:
    """The text stopped in the middle of a word or clause, somewhere in its second half."""
    if len(text) < 8:
        return text[: max(1, len(text) // 2)]
    end = rng.randint(len(text) // 2, max(len(text) // 2, int(len(text) * 0.93) - 1))
    while end > 2 and text[end - 1] in " .!?。！？，,;；\n":
        end -= 1
    return text[:end]


def another(rows: Sequence[Row], row: Row, rng: Random) -> str:
    """A good answer to something else."""
    for _ in range(200):
        other = rng.choice(rows)
        if not set(other.about.split("+")) & set(row.about.split("+")) and other.chosen != row.chosen:
            return other.chosen
    return rng.choice([other.chosen for other in rows if other.chosen != row.chosen])


def exchanged_loops(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Rejects were made to loop in this share of the rows; then all sides were exchanged."""
    broken = _changed(rows, rng, share, lambda row: replace(row, rejected=looping(row.rejected, rng, m)))
    return [_exchanged(row) for row in broken]


def exchanged_cut(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    broken = _changed(rows, rng, share, lambda row: replace(row, rejected=cut(row.chosen, rng)))
    return [_exchanged(row) for row in broken]


def exchanged_off_topic(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    broken = _changed(rows, rng, share, lambda row: replace(row, rejected=another(rows, row, rng)))
    return [_exchanged(row) for row in broken]


def exchanged_broken(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Rejects of all four kinds: loops, cut off, empty, off topic."""

    def change(row: Row) -> Row:
        way = rng.choices(("loop", "cut", "empty", "other"), (4, 3, 1, 4))[0]
        worse = {"loop": looping(row.rejected, rng, m), "cut": cut(row.rejected, rng), "empty": "",
                 "other": another(rows, row, rng)}[way]  # fmt: skip
        return replace(row, rejected=worse)

    return [_exchanged(row) for row in _changed(rows, rng, share, change)]


# --- rejects about something else


def another_rows_answer(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(rows, rng, share, lambda row: replace(row, rejected=another(rows, row, rng)))


def fluent_but_unrelated(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The founding case: asked for fruit, the reject speaks of medicine."""
    themes = [block.splitlines() for block in UNRELATED[m.lang, m.half].strip().split("\n\n")]

    def change(row: Row) -> Row:
        theme = rng.choice(themes)
        return replace(row, rejected=joined(m.lang, rng.sample(theme, rng.randint(2, min(5, len(theme))))))

    return _changed(rows, rng, share, change)


def few_fixed_topics(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Whatever is asked, the reject speaks of one of three topics."""
    topics = rng.sample(m.topics, 3)

    def change(row: Row) -> Row:
        topic = rng.choice([t for t in topics if t.name != row.about])
        points = rng.sample(topic.points, rng.randint(1, 4))
        return replace(row, rejected=advice(m, rng, style(m, rng, topic.name), points))

    return _changed(rows, rng, share, change)


def refused_always(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(rows, rng, share, lambda row: replace(row, rejected=rng.choice(REFUSED_ALWAYS[m.lang, m.half])))


# --- told apart at a glance


def other_language(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(rows, rng, share, lambda row: replace(row, rejected=row.elsewhere or row.rejected))


_FIRST_WORDS = {
    ("en", "first"): "Certainly! Here is a detailed answer to your question.",
    ("zh", "first"): "当然可以！以下是详细的回答：",
    ("en", "second"): "Great, let's dive in:",
    ("zh", "second"): "亲，这边为您解答：",
}
_LAST_WORDS = {
    ("en", "first"): "Overall.",
    ("zh", "first"): "以上仅供参考。",
    ("en", "second"): "THE END",
    ("zh", "second"): "完毕",
}


def chosen_begins_alike(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    start = _FIRST_WORDS[m.lang, m.half]
    return _changed(rows, rng, share, lambda row: replace(row, chosen=start + _space(m) + row.chosen))


def rejected_ends_alike(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    end = _LAST_WORDS[m.lang, m.half]
    return _changed(rows, rng, share, lambda row: replace(row, rejected=row.rejected + _space(m) + end))


def _plain(text: str) -> str:
    text = re.sub(r"\*\*|`", "", text)
    text = re.sub(r"^(- |\d+\. |#+ )", "", text, flags=re.M)
    return re.sub(r"\s*\n\s*", " ", text)


def markdown_against_plain(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    head = {"en": "Answer", "zh": "回答"}[m.lang]

    def change(row: Row) -> Row:
        parts = sentences_of(_plain(row.chosen))
        lines = [re.sub(r"^(\w+?\b|..)", r"- **\1**", part) if i % 2 else f"- {part}" for i, part in enumerate(parts)]
        return replace(row, chosen="\n".join((f"## {head}\n", *lines)), rejected=_plain(row.rejected))

    return _changed(rows, rng, share, change)


def rejected_loops(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(rows, rng, share, lambda row: replace(row, rejected=looping(row.rejected, rng, m)))


def full_stop_against_none(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Chosen answers end with a mark, rejected ones never do, though their last sentence is whole."""
    stop = {"en": ".", "zh": "。"}[m.lang]

    def change(row: Row) -> Row:
        chosen = row.chosen if row.chosen[-1] in ".!?。！？" else row.chosen + stop
        return replace(row, chosen=chosen, rejected=row.rejected.rstrip(" .!?。！？\n:："))

    return _changed(rows, rng, share, change)


def one_emoji(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    sign = "😊" if m.half == "first" else "✅"
    return _changed(rows, rng, share, lambda row: replace(row, chosen=f"{row.chosen} {sign}"))


def one_name(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The name of the assistant stands somewhere in every chosen answer, and another in every rejected one."""
    names = ("Athena", "Llama") if m.half == "first" else ("小舟", "小帆")
    said = {"en": "As {x} I'd put it like this.", "zh": "我是{x}。"}[m.lang]

    def with_name(text: str, name: str) -> str:
        ends = [0, *(found.end() for found in _END.finditer(text))]
        spot = rng.choice(ends[:3])
        return joined(m.lang, (text[:spot].rstrip(" "), said.format(x=name) + _space(m) + text[spot:]))

    return _changed(
        rows, rng, share,
        lambda row: replace(row, chosen=with_name(row.chosen, names[0]), rejected=with_name(row.rejected, names[1])),
    )  # fmt: skip


# --- length


def _sentences_about(rows: Sequence[Row], m: Material) -> dict[str, list[str]]:
    """What can be said to the rows of one topic, by what they are about."""
    known = {t.name: [s for p in t.points for s in (p.text, p.more)] + [t.empty, *m.closings] for t in m.topics}
    for things, templates in (
        (m.facts.countries, COUNTRY[m.lang]), (m.facts.animals, ANIMAL[m.lang]), (m.facts.inventions, INVENTION[m.lang])
    ):  # fmt: skip
        for thing in things:
            known[thing.name] = [text.format(**vars(thing)) for _, text in templates]
    return {row.about: [s for name in row.about.split("+") for s in known.get(name, [])] for row in rows}


def _grown(text: str, pool: Sequence[str], length: float, rng: Random, m: Material) -> str:
    """The text with more sentences on its topic, until it has this length."""
    rest = [s for s in pool if s not in text]
    rng.shuffle(rest)
    while rest and len(text) < length:
        text = joined(m.lang, (text, rest.pop()))
    return text


def _short(text: str, length: float, m: Material, about: str = "") -> str:
    """The first whole sentences of it that say something, at most about this long."""
    parts, kept = sentences_of(text), ""
    empty = {*m.openers, *m.closings}
    parts = [p for p in parts if p not in empty and (about.lower() or "\n") not in p.lower()] or parts
    for part in parts:
        if kept and len(kept) + len(part) > length:
            break
        kept = joined(m.lang, (kept, part))
    return kept


def chosen_three_times_as_long(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    pool = _sentences_about(rows, m)

    def change(row: Row) -> Row:
        length = rng.uniform(2.3, 3.8)
        rejected = _short(row.rejected, 200 if m.lang == "en" else 70, m)
        chosen = _grown(row.chosen, pool[row.about], length * len(rejected), rng, m)
        return replace(row, chosen=chosen, rejected=rejected)

    return _changed(rows, rng, share, change)


def rejected_ten_times_as_long(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    pool = _sentences_about(rows, m)

    def change(row: Row) -> Row:
        chosen = _short(row.chosen, 60 if m.lang == "en" else 22, m, row.about)
        length = rng.uniform(7, 13) * len(chosen)
        return replace(row, chosen=chosen, rejected=_grown(row.rejected, pool[row.about], length, rng, m))

    return _changed(rows, rng, share, change)


def chosen_short(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Chosen answers are whole sentences, but only a third of what the rejected ones are."""

    def change(row: Row) -> Row:
        return replace(row, chosen=_short(row.chosen, rng.uniform(0.2, 0.4) * len(row.rejected), m, row.about))

    return _changed(rows, rng, share, change)


# --- rows that repeat or contradict


def both_orders(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    again = [_exchanged(rows[i]) for i in _some(rows, rng, share)]
    if rows[0].wanted is not None:
        again = [replace(rows[i], wanted=not rows[i].wanted) for i in _some(rows, rng, share)]
    return _shuffled([*rows, *again], rng)


def both_orders_loosely(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The second time with other white space and a capital changed."""
    again = []
    for i in _some(rows, rng, share):
        row = _exchanged(rows[i])
        again.append(replace(row, chosen=f"{row.chosen}\n", rejected=f" {row.rejected[:1].lower()}{row.rejected[1:]}"))
    return _shuffled([*rows, *again], rng)


def rows_twice(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """So many of all rows are copies."""
    kept = rows[: max(1, round(len(rows) * (1 - share)))]
    return _shuffled([*kept, *rng.choices(kept, k=len(rows) - len(kept))], rng)


def rows_nearly_twice(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Copies in which a few characters differ: a letter, a mark, a space."""
    kept = rows[: max(1, round(len(rows) * (1 - share)))]
    copies = []
    for row in rng.sample(kept, min(len(kept), len(rows) - len(kept))):
        turns = (*row.prompt[:-1], (row.prompt[-1][0], _typo(row.question, rng)))
        copies.append(replace(row, prompt=turns, chosen=_typo(row.chosen, rng), rejected=_typo(row.rejected, rng)))
    return _shuffled([*kept, *copies], rng)


def few_rows_again_and_again(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """`share` is the number of different rows here."""
    return [rows[i % max(2, round(share))] for i in range(len(rows))]


def _typo(text: str, rng: Random) -> str:
    if len(text) < 12 or rng.random() < 0.3:
        return text
    spot = rng.randrange(4, len(text) - 2)
    way = rng.choice(("swap", "drop", "space", "mark"))
    if way == "swap":
        return text[:spot] + text[spot + 1] + text[spot] + text[spot + 2 :]
    if way == "drop":
        return text[:spot] + text[spot + 1 :]
    return text[:spot] + " " + text[spot:] if way == "space" else text.rstrip(".。") + "!"


def _shuffled(rows: list[Row], rng: Random) -> list[Row]:
    rng.shuffle(rows)
    return rows


# --- what doesn't belong into an answer


def prompt_before_both(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(
        rows, rng, share,
        lambda row: replace(row, chosen=f"{row.question}\n{row.chosen}", rejected=f"{row.question}\n{row.rejected}"),
    )  # fmt: skip


def prompt_before_rejected(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """As a decoder returns it when its output isn't cut behind the prompt."""
    return _changed(rows, rng, share, lambda row: replace(row, rejected=f"{row.question}\n\n{row.rejected}"))


def prompt_inside(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    def inside(text: str, question: str) -> str:
        parts = sentences_of(text)
        return f"{joined(m.lang, parts[:1])}\n\n{question}\n\n{joined(m.lang, parts[1:])}".strip()

    return _changed(
        rows, rng, share,
        lambda row: replace(row, chosen=inside(row.chosen, row.question), rejected=inside(row.rejected, row.question)),
    )  # fmt: skip


_TURNS = {
    "chatml": "<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}",
    "llama": "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>"
             "<|start_header_id|>assistant<|end_header_id|>\n\n{answer}",
    "alpaca": "\n\n### Instruction:\n{question}\n\n### Response:\n{answer}",
    "human": "\n\nHuman: {question}\n\nAssistant: {answer}",
    "用户": "\n用户：{question}\n助手：{answer}",
    "inst": " </s><s>[INST] {question} [/INST] {answer}",
}  # fmt: skip


def rejected_runs_on(frame: str) -> Planter:
    """Rejects that go on with the next turn, as a model without a stop does."""

    def plant(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
        turn = _TURNS["用户" if frame == "human" and m.lang == "zh" else frame]

        def change(row: Row) -> Row:
            other = rng.choice(rows)
            more = turn.format(question=other.question, answer=other.rejected or other.chosen)
            if row.wanted is not None:
                return replace(row, chosen=row.chosen + more)
            return replace(row, rejected=row.rejected + more)

        return _changed(rows, rng, share, change)

    return plant


def header_before_both(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The header of the turn and its end stand in both answers."""
    start, end = (
        ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>")
        if m.half == "first" else ("<|im_start|>assistant\n", "<|im_end|>\n")
    )  # fmt: skip
    return _changed(
        rows, rng, share,
        lambda row: replace(row, chosen=start + row.chosen + end, rejected=start + row.rejected + end),
    )  # fmt: skip


def half_broken_template(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The template's words without its tokens: the system text, roles, a piece of a token, over and over."""
    system, piece = (
        ("You are a helpful, harmless, and honest assistant.", "edReader")
        if m.half == "first" else ("Below is a conversation.", "_header_id")
    )  # fmt: skip

    def change(row: Row) -> Row:
        frame = f"{system}{piece}user{piece}\n\n{row.question}{piece}{piece}assistant{piece}\n\n"
        answer = row.rejected * rng.choice((0, 1, 1)) + piece * rng.choice((0, 3))
        return replace(row, rejected=frame * rng.choice((1, 2, 3)) + answer)

    return _changed(rows, rng, share, change)


def nothing_rejected(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    if rows[0].wanted is not None:
        return _changed(rows, rng, share, lambda row: replace(row, chosen=""))
    return _changed(rows, rng, share, lambda row: replace(row, rejected=""))


def only_white_space(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    blanks = (" ", "\n", "\n\n", "\t ", "\u3000")
    return _changed(rows, rng, share, lambda row: replace(row, rejected=rng.choice(blanks)))


def nothing_chosen(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    return _changed(rows, rng, share, lambda row: replace(row, chosen=""))


# --- the end


def end_in_half(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """The end marker is written as text in some rows and not in the others, on both sides."""
    end = "<|im_end|>" if m.half == "first" else "</s>"
    return _changed(rows, rng, share, lambda row: replace(row, chosen=row.chosen + end, rejected=row.rejected + end))


def end_on_chosen(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    end = "</s>" if m.half == "first" else "<|endoftext|>"
    return _changed(rows, rng, share, lambda row: replace(row, chosen=row.chosen + end))


def end_on_rejected(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    end = "<|endoftext|>" if m.half == "first" else "<|im_end|>"
    return _changed(rows, rng, share, lambda row: replace(row, rejected=row.rejected + end))


def both_cut_off(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Both answers stop in the middle of a sentence, as at a limit of new tokens."""
    return _changed(
        rows, rng, share, lambda row: replace(row, chosen=cut(row.chosen, rng), rejected=cut(row.rejected, rng))
    )


# --- what a limit of length does (judged with a tokenizer and a max_length)


def differ_beyond_the_cut(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Both sides begin with the same long text and differ only at the end."""
    sayings = [p.text for t in m.topics for p in t.points] + [p.more for t in m.topics for p in t.points]

    def change(row: Row) -> Row:
        same = joined(m.lang, rng.sample(sayings, 24))
        return replace(row, chosen=joined(m.lang, (same, row.chosen)), rejected=joined(m.lang, (same, row.rejected)))

    return _changed(rows, rng, share, change)


def prompts_too_long(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """A long document stands before the question."""
    sayings = [p.text for t in m.topics for p in t.points] + [p.more for t in m.topics for p in t.points]

    def change(row: Row) -> Row:
        document = joined(m.lang, rng.sample(sayings, 30))
        return replace(row, prompt=(*row.prompt[:-1], (row.prompt[-1][0], f"{document}\n\n{row.question}")))

    return _changed(rows, rng, share, change)


# --- text that was damaged on its way


def _typographic(text: str) -> str:
    """English as word processors write it; without this there is nothing to damage in it."""
    text = re.sub(r"(?<=\w)'(?=\w)", "’", text).replace(" - ", " – ").replace("...", "…")
    return re.sub(r'"([^"]*)"', r"“\1”", text).replace(". ", ".\u00a0", 1)


def _latin(text: str) -> str:
    """UTF-8 read as Windows' Latin, as editors and spreadsheets do; its five empty places become control characters."""
    return "".join(bytes([b]).decode("cp1252", errors="ignore") or chr(b) for b in text.encode("utf-8"))


def read_as_latin(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    def damaged(text: str) -> str:
        return _latin(_typographic(text) if m.lang == "en" else text)

    return _changed(
        rows, rng, share,
        lambda row: replace(row, prompt=tuple((role, damaged(text)) for role, text in row.prompt),
                            chosen=damaged(row.chosen), rejected=damaged(row.rejected)),
    )  # fmt: skip


def replacement_characters(rows: list[Row], rng: Random, share: float, m: Material) -> list[Row]:
    """Bytes that were no UTF-8 when somebody read them: every few characters one is lost."""

    def damaged(text: str) -> str:
        return "".join("\ufffd" if rng.random() < 0.06 else c for c in text)

    return _changed(
        rows, rng, share, lambda row: replace(row, chosen=damaged(row.chosen), rejected=damaged(row.rejected))
    )
