"""What is measured of preference pairs in blocks, against the plain way of measuring it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.pair_measures import pair_table
from pipeline.pair_measures.near_duplicates import Signatures
from pipeline.pair_measures.pair_table import BLOCK, measure_pairs
from pipeline.pair_measures.shared_words import SharedWords
from pipeline.pair_measures.text_block import MAX_CHARS, TextBlock, jaccard
from pipeline.pair_measures.topic_overlap import TopicOverlap
from pipeline.pair_measures.written_signs import (
    end_marker,
    ends_finished,
    misread,
    personal_data,
    refuses,
    template_marker,
    written_in_sentences,
)
from pipeline.pairs.pair import Pair
from pipeline.record_files import Unreadable
from pipeline.same_beginning import same_beginning
from pipeline.written_markers import continues_legitimately, other_turn, starts_with_sentinel, written_end_marker

TOPICS = {
    "volcano": "lava crater magma eruption ash volcano basalt mountain plume pumice tephra caldera",
    "bread": "flour yeast dough oven knead loaf crust bakery starter sourdough proofing crumb",
    "chess": "bishop knight rook pawn checkmate opening endgame castle gambit zugzwang stalemate board",
    "ocean": "wave tide current coral reef whale plankton trench salinity kelp dolphin seabed",
    "law": "court judge appeal verdict statute plaintiff defendant contract tort jury counsel bench",
}
ODD = ["", "a", "abc", "abcd", "ab\0cd\0ef", "你好，世界", "😀😀😀😀😀", "x" * 3, "\ud800abcde", "naïve café"]


def _pair(prompt: str, chosen: str | None, rejected: str | None, **more: object) -> Pair:
    return Pair([{"role": "user", "content": prompt}], chosen, rejected, **more)  # type: ignore[arg-type]


def _about(topic: str, rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(TOPICS[topic].split(), k=words)) + "."


def _grams(text: str, n: int) -> set[str]:
    return {text[i : i + n] for i in range(len(text) - n + 1)}


@pytest.mark.parametrize("n", [1, 2, 4])
def test_ngrams_stay_within_their_text(n: int) -> None:
    block = TextBlock(ODD)
    hashed, rows = block.ngrams(n)
    assert np.bincount(rows, minlength=len(ODD)).tolist() == [max(0, len(text) - n + 1) for text in ODD]
    keys = block.keys(n)
    assert np.bincount((keys >> np.uint64(48)).astype(int), minlength=len(ODD)).tolist() == [
        len(_grams(text, n)) for text in ODD
    ]
    assert len(hashed) == len(rows)


def test_equal_texts_have_equal_keys_wherever_they_stand() -> None:
    one, other = TextBlock(["abcdefgh", "zzzz"]), TextBlock(["zzzz", "abcdefgh"])
    assert set(one.ngrams(4)[0].tolist()) == set(other.ngrams(4)[0].tolist())


def test_similarities_are_those_of_sets() -> None:
    rng = random.Random(1)
    left = [_about("bread", rng, 8), "", "same text here", "你好世界，今天天气很好"]
    right = [_about("bread", rng, 8), "", "same text here", "你好世界，今天天气不好"]
    one, other = TextBlock(left), TextBlock(right)
    found = jaccard(one.fours, other.fours, 4)
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        mine, theirs = _grams(a, 4), _grams(b, 4)
        if mine | theirs:
            assert found[row] == pytest.approx(len(mine & theirs) / len(mine | theirs))
        else:
            assert np.isnan(found[row])


def test_long_texts_are_measured_to_a_bound() -> None:
    assert TextBlock(["x" * (MAX_CHARS * 3)]).lengths.tolist() == [MAX_CHARS]


def test_repetition() -> None:
    rng = random.Random(2)
    natural = " ".join("".join(rng.choices("abcdefghij", k=rng.randint(1, 9))) for _ in range(300))
    found = TextBlock([natural, "the same sentence. " * 40, "", "short"]).repeated()
    assert found[0] < 0.2 and found[1] > 0.9 and found[2] == found[3] == 0


def test_near_duplicates_are_the_edited_copies() -> None:
    rng = random.Random(3)
    letters = [chr(0x4E00 + i) for i in range(2000)]
    rows = [("".join(rng.choices(letters, k=30)), "".join(rng.choices(letters, k=200)), "".join(rng.choices(letters, k=200))) for _ in range(900)]
    copies = {}
    for place in range(900, 930):
        source = rng.randrange(900)
        prompt, chosen, rejected = rows[source]
        edited = list(chosen)
        for _ in range(4):
            edited[rng.randrange(len(edited))] = rng.choice(letters)
        rows.append((prompt, "".join(edited), rejected))
        copies[place] = source
    made = Signatures()
    for start in range(0, len(rows), 310):
        made.add(*(TextBlock(side) for side in zip(*rows[start : start + 310], strict=True)))
    first = made.groups(least_answers=0.6, least_prompts=0.5, least_short=0.6)
    assert {row: int(first[row]) for row in np.flatnonzero(first != np.arange(930))} == copies


def test_equal_answers_to_other_prompts_are_no_duplicates() -> None:
    made = Signatures()
    answer = ["The answer to this question is forty-two, as everybody knows by now."] * 2
    made.add(TextBlock(["what is the meaning of life", "how many roads lead to rome"]), TextBlock(answer), TextBlock(answer))
    assert made.groups(least_answers=0.6, least_prompts=0.5, least_short=0.6).tolist() == [0, 1]


def test_a_template_that_wrote_everything_stays_linear() -> None:
    """One bucket with all rows: compared with its first row and the neighbour alone."""
    made = Signatures()
    texts = [f"the quick brown fox jumps over the lazy dog number {n}" for n in range(500)]
    for _ in range(8):
        made.add(TextBlock(texts), TextBlock(texts), TextBlock(texts))
    first = made.groups(least_answers=0.6, least_prompts=0.5, least_short=0.6)
    assert (first == 0).mean() > 0.9


def test_fit_tells_own_answers_from_others() -> None:
    rng = random.Random(4)
    topics = [rng.choice(list(TOPICS)) for _ in range(600)]
    prompts = [_about(t, rng, 6) for t in topics]
    chosen, on_topic = ([_about(t, rng, 20) for t in topics] for _ in range(2))
    off_topic = [on_topic[(n * 7 + 3) % 600] for n in range(600)]
    for rejected, low, high in ((on_topic, 0.85, 1.0), (off_topic, 0.4, 0.62)):
        measured, fits = TopicOverlap(), []
        for start in range(0, 600, 200):
            part = slice(start, start + 200)
            fits.append(measured.add(TextBlock(prompts[part]), TextBlock(chosen[part]), TextBlock(rejected[part]), np.arange(start, start + 200)).rejected)
        assert low < np.nanmean(np.concatenate(fits)) <= high


def test_fit_of_short_answers_is_not_measured() -> None:
    texts = TextBlock(["yes"] * 30)
    fits = TopicOverlap().add(TextBlock([f"is {n} more than {n - 1}, do you think" for n in range(30)]), texts, texts, np.arange(30))
    assert np.isnan(fits.rejected).all() or np.isnan(fits.chosen_to_prompt).all()
    assert np.isnan(fits.rejected_to_prompt).all()


def test_words_that_tell_the_sides_apart_are_named() -> None:
    rng = random.Random(5)
    topics = [rng.choice(list(TOPICS)) for _ in range(200)]
    chosen = ["Certainly! " + _about(t, rng, 15) for t in topics]
    rejected = [_about(t, rng, 15) for t in topics]
    words = SharedWords()
    there = np.ones(200, bool)
    words.add(TextBlock([text.lower() for text in chosen]), TextBlock([text.lower() for text in rejected]), (there, there))
    best = words.best([text.lower() for text in chosen], [text.lower() for text in rejected])
    assert best is not None and "certainly!" in best.text and best.auc == pytest.approx(1.0, abs=0.01)
    same = SharedWords()
    same.add(TextBlock(rejected), TextBlock(rejected), (there, there))
    assert same.best(rejected, rejected) is None


@pytest.mark.parametrize(
    ("text", "found", "hard"),
    [
        ("An answer.<|im_end|>\n<|im_start|>user\nNext?", "<|im_end|>", True),
        ("Text [INST] more", "[INST]", True),
        ("Fine.\n### Response:\nmore", "### Response", True),
        ("好的。\n用户：再来一个", "用户：", False),
        ("Sure.\nHuman: and now?", "Human:", False),
        ("You are a helpful, harmless, and honest assistant.edReaderuser", "You are a helpful, harmless, and honest", True),
        ("The user asked the assistant for help with a <div> and a[0].", "", False),
        ("An answer that ends.<|im_end|>", "", False),
        ("他是一名用户。", "", False),
    ],
)
def test_template_markers(text: str, found: str, hard: bool) -> None:
    written, only_templates = template_marker(text, " ".join(text.lower().split()))
    assert written.startswith(found) and bool(written) == bool(found) and only_templates == hard


def test_a_system_prompt_belongs_into_a_prompt() -> None:
    text = "You are a helpful assistant. What is 2 + 2?"
    assert template_marker(text, text.lower(), answer=False) == ("", False)


@pytest.mark.parametrize(
    ("text", "marker"),
    [("Done.</s>", "</s>"), ("完成。<|im_end|>\n", "<|im_end|>"), ("Done [EOS]", "[EOS]"), ("x < y > z", ""), ("", ""), ("see [1]", "")],
)
def test_end_markers(text: str, marker: str) -> None:
    assert end_marker(text) == marker


@pytest.mark.parametrize("text", ["It ends.", "他走了。", "“Yes.”", "```\ncode\n```", "a | b |", "= 42", "See https://example.org/a", ""])
def test_finished_endings(text: str) -> None:
    assert ends_finished(text)


@pytest.mark.parametrize("text", ["It goes on and", "然后他们开始了", "first, second,"])
def test_unfinished_endings(text: str) -> None:
    assert not ends_finished(text)


def test_sentences_inside() -> None:
    assert written_in_sentences("One. Two and") and not written_in_sentences("SELECT name FROM people")


@pytest.mark.parametrize("text", ["I'm sorry, but I can't help with that.", "I cannot provide this.", "As an AI language model, I", "抱歉，我无法提供这样的内容。"])
def test_refusals(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize("text", ["You can't divide by zero.", "抱歉让你久等了，答案是三。", "We are sorry to see it go, said the king.", ""])
def test_no_refusals(text: str) -> None:
    assert not refuses(text)


@pytest.mark.parametrize("text", ["你好，世界。请翻译。", "Don’t — “quote” … naïve café déjà-vu", "Straße und Größe, „Zitat“"])
def test_text_read_wrongly(text: str) -> None:
    assert misread(text) == ""
    for encoding in ("latin-1", "cp1252"):
        try:
            wrong = text.encode().decode(encoding)
        except UnicodeDecodeError:
            continue
        assert misread(wrong), encoding


def test_chinese_read_as_gbk() -> None:
    assert misread("你好，世界。请翻译下面的句子。".encode().decode("gbk", "replace"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.roe@example.org", "email"), ("电话13812345678。", "chinese_mobile"), ("11010519491231002X", "chinese_id"),
        ("110105194912310021", ""), ("4111 1111 1111 1111", "card"), ("4111 1111 1111 1112", ""), ("pi is 3.14159265358979", ""),
        ("order 20240101123456", ""), ("@property def f(self)", ""),
    ],
)
def test_personal_data(text: str, kind: str) -> None:
    assert personal_data(text, sum(c.isdigit() for c in text)) == kind


def test_rows_keep_their_places_over_blocks() -> None:
    pairs = [_pair(f"question number {n} of many", f"answer {n} is right", "" if n % 97 == 0 else f"answer {n} is wrong", line=n + 2) for n in range(BLOCK * 2 + 10)]
    table = measure_pairs(pairs, least_similar=(0.6, 0.5, 0.8))
    assert table.rows == len(pairs) and table.line.tolist() == [pair.line for pair in pairs]
    assert np.flatnonzero(table.flags["empty_rejected"]).tolist() == [n for n in range(len(pairs)) if n % 97 == 0]
    assert {one.position for one in table.sample} <= set(range(len(pairs)))
    for one in table.sample:
        assert one.chosen == pairs[one.position].chosen
    for values in (*table.chars.values(), *table.hashes.values(), table.similarity, table.rejected_fit, table.duplicate_of):
        assert len(values) == len(pairs)


def test_odd_rows_are_measured_too() -> None:
    pairs = [_pair(text, text, other) for text in ODD for other in (*ODD, None)] + [_pair("p", None, "x")]
    table = measure_pairs(pairs, least_similar=(0.6, 0.5, 0.8))
    assert table.rows == len(pairs)
    assert table.flags["identical"].sum() == len([t for t in ODD if t])
    assert table.flags["half_characters_chosen"].any()
    assert not table.there["rejected"][10] and table.there["rejected"][0]
    assert measure_pairs([], least_similar=(0.6, 0.5, 0.8)).rows == 0


def test_one_seed_gives_one_result() -> None:
    rng = random.Random(6)
    pairs = [_pair(_about("law", rng, 5), _about("law", rng, 9), _about("bread", rng, 9)) for _ in range(1300)]
    one, other = (measure_pairs(pairs, least_similar=(0.6, 0.5, 0.8), seed=3) for _ in range(2))
    assert np.array_equal(one.rejected_fit, other.rejected_fit, equal_nan=True)
    assert [s.position for s in one.sample] == [s.position for s in other.sample]


# Pieces that hold what a pattern begins with, repeats or looks for: repeated they are what it could go back and forth on.
PIECES = (
    "a", "A", "1", " ", "\n", "\t", "\u3000", "\u00a0", "\n ", "\t\n", ".", "a.", "-", "_", "%", "@", "a@", "a@a.", "a.a@",
    "a@" + "b." * 40, "a" * 60 + ".", "1-", "1 ", "13", "111-", "(111) ", "+86 ", "8613", "4111 ", "4111-", "62", "<", "<|",
    "<|a", "<｜", "[|", "#", "###", "### ", "> ", "*", "\n>", "\n* >", "I ", "I am so ", "I'm not ", "as an AI ", "抱歉", "抱歉，",
    "作为AI ", "作为一个", "我", "锛", "锛a", "锟", "é", "Ã", "à", "user", "user\n", "\nuser ", "auser", "abcuserab", "system\n",
    "system \n ", "You are a ", "you are an AI ", "你是一个", "Human", "Human ", "用户 ", "<|im_start|>", "<|im_start|> ",
    "### Instruction", "<reserved_", "<extra_id_1", "</s>", "https://", "e\u0301", "\r\n",
)  # fmt: skip
SIGNS: tuple[Callable[[str], Any], ...] = (
    lambda text: template_marker(text, text.lower(), ("a", "1", " ", "user", "<", "#", "i", "你", "@", "锛")),
    misread, lambda text: personal_data(text, len(text)), end_marker, ends_finished, refuses, written_in_sentences,
    other_turn, starts_with_sentinel, continues_legitimately, written_end_marker,
)  # fmt: skip


@pytest.mark.parametrize("before", ["", "You are a ", "system\n", "I'm ", "x", "x\nQ", "x\nQ: a\nA"])
def test_no_text_makes_a_pattern_slow(before: str) -> None:
    """20,000 characters of the worst kind: a pattern that goes back and forth over them takes seconds, not milliseconds."""
    slowest = (0.0, "", "")
    for piece in PIECES:
        text = (before + piece * (20_000 // len(piece) + 1))[:19_999] + "\x01"
        for sign in SIGNS:
            taken = min(_seconds(sign, text) for _ in range(2))
            slowest = max(slowest, (taken, repr(piece), repr(sign)))
    assert slowest[0] < 0.1, slowest


def _seconds(sign: Callable[[str], Any], text: str) -> float:
    started = time.process_time()
    sign(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    ("text", "found"),
    [("All done.edReaderuseredReader", "edReaderuseredReader"), ("multiuser systems", ""), ("ab user ab", ""),
     ("superuser supercharged", ""), ("user", ""), ("-- user\nassistant", "")],
)  # fmt: skip
def test_names_of_speakers_between_halves_of_a_mark(text: str, found: str) -> None:
    assert template_marker(text, text.lower())[0] == found


def test_two_bare_names_are_turns() -> None:
    text = "Sure.\n user \nAnd now?\n\nassistant\nNow as well."
    assert template_marker(text, text.lower()) == ("user / assistant", True)


def test_long_texts_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    texts = ["".join(rng.choices("Ab \n\t，é\u3000x ", k=rng.randint(0, 400))) for _ in range(60)]
    expected = [(pair_table._plain(text), pair_table._hash(text)) for text in texts]
    assert [plain for plain, _ in expected] == [" ".join(text.lower().split()) for text in texts]
    monkeypatch.setattr(pair_table, "_AT_ONCE", 7)
    assert [(pair_table._plain(text), pair_table._hash(text)) for text in texts] == expected


@pytest.mark.parametrize("text", ["\u200b\u200d", "\ufeff \u200b", "\0\0", " \n", ""])
def test_what_can_not_be_seen_is_empty(text: str) -> None:
    table = measure_pairs([_pair("a question", text, "an answer")], least_similar=(0.6, 0.5, 0.8))
    assert table.flags["empty_chosen"].tolist() == [True] and table.chars["chosen"].tolist() == [0]


@pytest.mark.parametrize("text", ["\u200bword", "\u202eمرحبا", "👩\u200d🚀", "·"])
def test_what_can_be_seen_is_not(text: str) -> None:
    table = measure_pairs([_pair("a question", text, "an answer")], least_similar=(0.6, 0.5, 0.8))
    assert "empty_chosen" not in table.flags and table.chars["chosen"][0] == len(text)


def test_beginnings_of_two_texts() -> None:
    rng = random.Random(8)
    for _ in range(200):
        one, other = ("".join(rng.choices("ab", k=rng.randint(0, 9))) for _ in range(2))
        same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        assert same_beginning(one, other) == same


def test_blocks_of_long_rows_are_short_and_fits_are_measured_all_the_same() -> None:
    """Every block holds few rows here; what an answer is compared with is collected over many of them."""
    rng = random.Random(9)
    topics = [rng.choice(list(TOPICS)) for _ in range(160)]
    pairs = [_pair(_about(t, rng, 8), _about(t, rng, 4000), _about(t, rng, 4000)) for t in topics]
    sizes = [len(block) for block in pair_table._blocks(pairs)]
    assert sum(sizes) == 160 and max(sizes) < 40 and len(sizes) > 4
    table = measure_pairs(pairs, least_similar=(0.6, 0.5, 0.8))
    assert np.isfinite(table.rejected_fit[60:]).all() and table.rejected_fit[60:].mean() > 0.75
    assert [len(block) for block in pair_table._blocks([_pair("q", "x" * 20_000_000, "y"), *pairs[:2]])] == [1, 2]


def test_rows_before_a_failure_are_kept() -> None:
    def broken(rows: int) -> Iterator[Pair]:
        for n in range(rows):
            yield _pair(f"question {n}", f"answer {n}", "none")
        raise Unreadable("not_text", "rows.jsonl")

    table = measure_pairs(broken(700), least_similar=(0.6, 0.5, 0.8))
    assert table.rows == 700 == len(table.duplicate_of) and isinstance(table.failure, Unreadable)
    with pytest.raises(Unreadable):
        measure_pairs(broken(0), least_similar=(0.6, 0.5, 0.8))


@pytest.mark.parametrize("inside", ["_look", "_sample", "_features", "_keep"])
def test_an_interrupted_block_leaves_whole_rows(inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C anywhere within a block: what was measured of it is dropped, and all arrays have one length."""
    real, calls = getattr(pair_table._Measuring, inside), []

    def pressed(self: Any, *args: Any) -> Any:
        calls.append(1)
        found = real(self, *args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(pair_table._Measuring, inside, pressed)
    pairs = [_pair(f"question {n} of many", f"answer {n}</s>", "" if n % 7 == 0 else f"no {n}", line=n) for n in range(BLOCK * 5)]
    table = measure_pairs(pairs, least_similar=(0.6, 0.5, 0.8))
    assert table.rows == 2 * BLOCK and table.stopped and table.interrupted
    arrays = [table.line, table.turns, table.similarity, table.rejected_fit, table.duplicate_of, *table.flags.values()]
    for by_side in (table.there, table.chars, table.hashes, table.scores, table.stock, *table.features.values()):
        arrays += by_side.values()
    assert {len(array) for array in arrays} == {2 * BLOCK}
    assert all(at < table.rows for found in table.examples.values() for at, _ in found)
    assert all(one.position < table.rows for one in table.sample)


def test_words_are_counted_where_both_answers_stand() -> None:
    rng = random.Random(10)
    pairs = [_pair(f"tell me of the {t}", _about(t, rng, 12), "" if n % 3 else _about(t, rng, 12)) for n, t in enumerate([*TOPICS] * 30)]
    table = measure_pairs(pairs, least_similar=(0.6, 0.5, 0.8))
    best = table.words.best([one.chosen for one in table.sample], [one.rejected for one in table.sample])
    assert best is None or best.auc < 0.75
