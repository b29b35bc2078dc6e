"""The same prompts answered by several models with the same decoding, and how likely each finds the other's answers.

The models are checkpoints, adapters (a base is loaded once for all adapters on it) and servers. Answers are kept as
files, one for each model, and used again where model, decoding and prompts are the same; an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.candidates.candidate import Candidate, CandidateStrategy, Counter, Kind, SourceRow
from pipeline.evaluation.adapters_on_base import ModelsOnBase, place_of
from pipeline.evaluation.answer_file import AnsweredRow, AnswerFile
from pipeline.evaluation.answer_measures import Likelihoods
from pipeline.evaluation.format_of_first import FormatOfFirst, FormatTaken
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused, Sentence
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.open_makers import ModelFiles
    from pipeline.candidates.prompting import Prompting
    from pipeline.load_model import LoadedModel

SAMPLE_ROWS = 32  # rows that the prompt format is told by
SCORED_ROWS = 256  # rows whose answers are scored at a time, for the memory of their tokens
_SAME_AGAIN = ("", "empty_answer", "prompt_too_long", "prompt_not_rendered", "prompt_empty", "only_thinking")
"""Problems that another try would meet again; others (a server that failed, memory that ran out) are tried again."""
_UNSAFE = re.compile(r"[^\w.-]+")

Tick = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class ModelGiven:
    """A checkpoint with or without an adapter, or a server."""

    name: str
    source: str
    files: ModelFiles | None = None
    endpoint: Endpoint | None = None

    def fingerprint(self) -> str:
        if self.files is not None:
            return self.files.fingerprint()
        assert self.endpoint is not None
        return f"{self.endpoint.url}#{self.endpoint.model or ''}"


@dataclass(frozen=True)
class CompareDecoding:
    """One way for all models. kind: greedy, beam or sampling. samples: answers to a prompt, drawn with seed + 1000 *
    row + number."""

    kind: Kind
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 256
    samples: int = 1
    seed: int = 0
    prompt_format: str = "auto"
    system: str | None = None
    thinking: bool = False
    batch_size: int | None = None
    concurrency: int | None = None

    @classmethod
    def of(
        cls, *, temperature: float | None = None, num_beams: int | None = None, top_p: float | None = None,
        samples: int = 1, **others: Any,
    ) -> CompareDecoding:  # fmt: skip
        """Greedy unless a temperature above 0 or beams are given. Raises Refused for beams that are to draw, and for
        several answers that would all be the same."""
        drawn = temperature is not None and temperature > 0
        if drawn and (num_beams or 1) > 1:
            raise Refused("replay_beams_draw", temperature=temperature, beams=num_beams)
        if samples > 1 and not drawn:
            raise Refused("compare_samples_not_drawn", n=samples)
        if drawn:
            parameters: dict[str, Any] = {"temperature": temperature, "top_p": 1.0 if top_p is None else top_p}
            return cls("sampling", parameters, samples=samples, **others)
        if (num_beams or 1) > 1:
            return cls("beam", {"num_beams": num_beams}, **others)
        return cls("greedy", **others)

    @property
    def strategy(self) -> CandidateStrategy:
        parameters = {**self.parameters, "max_new_tokens": self.max_new_tokens}
        return CandidateStrategy(self.kind, self.kind, self.samples, parameters)

    def as_json(self) -> dict[str, Any]:
        held = {"strategy": self.kind, **self.parameters, "max_new_tokens": self.max_new_tokens, "seed": self.seed,
                "samples": self.samples, "prompt_format": self.prompt_format}  # fmt: skip
        more = {"system": self.system, "thinking": self.thinking}
        return {**held, **{name: value for name, value in more.items() if value}}


class ModelAnswers:
    """Answers of models to the prompts of a file. stem: their files are called STEM.NAME.answers.jsonl, with what they
    were made by in STEM.NAME.answers.json.

    reused: names whose answers were all there. formats: the prompt format of each model. remarks: what a reader of the
    result must know, such as why likelihoods can't be had. Raises Refused where a file that isn't a model's answers is
    in the way.
    """

    def __init__(
        self, models: Sequence[ModelGiven], prompts: AnswerFile, decoding: CompareDecoding, stem: Path, *,
        device: str = "cpu", dtype: str | None = None, overwrite: bool = False,
        cancel: threading.Event | None = None, tick: Tick = lambda stage, done, total: None,
        note: Callable[[str], None] = lambda line: None, lang: str = "en",
    ) -> None:  # fmt: skip
        self.models = {one.name: one for one in models}
        self.prompts, self.decoding, self.stem = prompts, decoding, stem
        self.device, self.dtype, self.tick, self.note, self.lang = device, dtype, tick, note, lang
        self.cancel = cancel or threading.Event()
        self.reused: list[str] = []
        self.formats: dict[str, str] = {}
        self.fingerprints: dict[str, str] = {}
        self.remarks: list[Sentence] = []
        self.seconds: dict[str, float] = {}
        self.rows = [SourceRow(at, _with_reference(row)) for at, row in enumerate(prompts.rows)]
        self._made: dict[str, dict[int, dict[str, Any]]] = {}
        self._scored: dict[str, _Scored] = {}
        self._by_before: dict[str, list[_Nats]] = {}
        self._stops: dict[str, tuple[int, ...]] = {}
        self._vocabulary = ""
        self._format = FormatOfFirst(decoding.prompt_format, system=decoding.system, thinking=decoding.thinking)
        self._taken: dict[str, FormatTaken] = {}
        for one in models:
            self._made[one.name] = self._kept(one, overwrite)

    def file(self, name: str) -> AnswerFile:
        """What there is of a model's answers, as if read from its file."""
        found = AnswerFile(name, str(self.place(name)), [])
        for at in sorted(self._made[name]):
            made, asked = self._made[name][at], self.prompts.rows[at]
            problem = next((p for p in made["problems"] if p not in ("", "empty_answer")), "")
            if problem:
                found.left_out[problem] = found.left_out.get(problem, 0) + 1
                found.lines.setdefault(problem, []).append(asked.line)
                continue
            found.rows.append(
                AnsweredRow(at, asked.line, asked.pair, asked.key, tuple(made["answers"]), asked.references,
                            asked.category, tuple(made["stopped"]))
            )  # fmt: skip
        found.columns, found.category_column = dict(self.prompts.columns), self.prompts.category_column
        return found

    def place(self, name: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}.{_UNSAFE.sub('_', name)}.answers.jsonl")

    @property
    def complete(self) -> bool:
        return all(len(made) == len(self.rows) for made in self._made.values())

    # --- answering ---

    def run(self, *, before: str, likelihoods: bool = True) -> None:
        """Whatever is missing, `before` first; ends early where `cancel` is set. likelihoods: also score the answers,
        for models with the vocabulary of `before`. Raises Refused, GenerationFailed; what was answered is kept."""
        from pipeline.candidates.candidate import Cancelled

        for name, made in self._made.items():
            if len(made) == len(self.rows) and self.rows:
                self.reused.append(name)
        first = next((name for name in sorted(self.models, key=lambda one: one != before)
                      if self.models[name].files is not None), before)  # fmt: skip
        if first in self.reused and not self._format.again(self._taken.get(first)):
            self._forget(first)
        wanted = likelihoods and len([one for one in self.models.values() if one.files is not None]) > 1
        wanted = wanted and self.models.get(before) is not None and self.models[before].files is not None
        try:
            groups = self._groups(before)
            for names in groups:
                for name in names:
                    self._in_one_format(name)
                if wanted or any(name not in self.reused for name in names):
                    self._with_base(names, before, wanted, len(groups) == 1)
            for name, one in self.models.items():
                if one.endpoint is not None and name not in self.reused:
                    self._ask(one)
        except Cancelled:
            return

    def _groups(self, before: str) -> list[list[str]]:
        """Names of models that stand on one base together; the group of `before` and `before` itself come first."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.models, key=lambda one: one != before):
            files = self.models[name].files
            if files is not None:
                found.setdefault(place_of(files.checkpoint), []).append(name)
        return list(found.values())

    def _with_base(self, names: Sequence[str], before: str, wanted: bool, alone: bool) -> None:
        """alone: all models stand on this base."""
        files = {name: self.models[name].files for name in names}
        own = next((name for name in names if (f := files[name]) is not None and f.adapter is None), None)
        first = files[names[0]]
        assert first is not None
        adapters = [name for name in names if (f := files[name]) is not None and f.adapter is not None]
        twins = [name for name in names if name not in adapters and name != own]
        placed = [files[name] for name in adapters]
        with ModelsOnBase(
            first.checkpoint, [f.adapter for f in placed if f is not None and f.adapter is not None],
            names=[own or "\0base", *adapters], device=self.device, dtype=self.dtype, note=self.note,
        ) as on_base:  # fmt: skip
            for remark in on_base.remarks:
                self.remarks.append(remark)
                self.note(remark.said(self.lang))
            order = [name for name in on_base.order if name in names]
            for name in sorted(order, key=lambda one: one != before) if before in order else order:
                self._visit(on_base, name, [name, *(twins if name == own else [])], before, wanted)
            if wanted and alone:
                with on_base.using(before) as loaded:
                    self._score_by_before(before, loaded)

    def _in_one_format(self, name: str) -> None:
        """Answers made in another format than the first model's now are made anew."""
        if self._format.is_another(self._taken.get(name)):
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._made[name].clear()
        self._taken.pop(name, None)
        self.formats.pop(name, None)
        if name in self.reused:
            self.reused.remove(name)
        try:
            self.place(name).unlink(missing_ok=True)
        except OSError as failed:
            raise Refused("output_failed", path=self.place(name), why=failed.strerror or failed) from None

    def _visit(self, on_base: ModelsOnBase, held: str, names: Sequence[str], before: str, wanted: bool) -> None:
        began = time.monotonic()
        self.tick("loading", 0, None)
        with on_base.using(held) as loaded, ExitStack() as stack:
            chosen, asked = self._format.choose(loaded, on_base.placed[held].tokenizer, self.rows[:SAMPLE_ROWS])
            prompting = stack.enter_context(chosen)
            for remark in prompting.remarks:
                self.remarks.append(Sentence("of_model", {"model": held, "said": remark}, "evaluation"))
                self.note(self.remarks[-1].said(self.lang))
            for name in names:
                self._asked_in(name, asked)
                self._stops[name] = _stops(loaded)
                if len(self._made[name]) < len(self.rows):
                    self._answer(name, loaded, prompting)
                if wanted and name != before:
                    self._scored[name] = _Scored(_vocabulary(loaded), self._stops.get(before, ()), self._stops[name])
                    self._score_own(name, before, loaded, prompting)
                elif name == before:
                    self._vocabulary = _vocabulary(loaded)
                self.seconds[name] = round(time.monotonic() - began, 3)

    def _asked_in(self, name: str, asked: FormatTaken) -> None:
        """Answers of an earlier run that were made in another format are made anew; the format is kept beside them."""
        if self._taken.get(name, asked) != asked:
            self._forget(name)
        if self._taken.get(name) != asked:
            self._taken[name] = asked
            self._write_identity(self.models[name])
        self.formats[name] = asked.label

    def _answer(self, name: str, loaded: LoadedModel, prompting: Prompting) -> None:
        from pipeline.candidates.model_maker import ModelMaker
        from pipeline.candidates.prompting import Prompt

        sample = prompting.prompts(self.rows[:256])
        longest = max((len(one.ids) for one in sample if isinstance(one, Prompt)), default=512)
        maker = ModelMaker(
            loaded, prompting, [self.decoding.strategy], seed=self.decoding.seed,
            max_new_tokens=self.decoding.max_new_tokens, batch_size=self.decoding.batch_size, longest=longest,
        )  # fmt: skip
        self._take_all(name, maker)

    def _ask(self, one: ModelGiven) -> None:
        from pipeline.candidates.endpoint_maker import EndpointMaker

        assert one.endpoint is not None
        began = time.monotonic()
        if self.decoding.kind == "beam":
            raise Refused("compare_beams_at_endpoint", url=one.source)
        maker = EndpointMaker(
            [self.decoding.strategy], one.endpoint, seed=self.decoding.seed, concurrency=self.decoding.concurrency,
            thinking=self.decoding.thinking, note=self.note, lang=self.lang,
        )  # fmt: skip
        self._take_all(one.name, maker, self.decoding.system)
        self.seconds[one.name] = round(time.monotonic() - began, 3)

    def _take_all(self, name: str, maker: Any, system: str | None = None) -> None:
        """system: for rows without their own, of a maker that would give its own to all."""
        made = self._made[name]
        open_rows = [row for row in self.rows if row.index not in made]
        if system:
            open_rows = [replace(row, pair=replace(row.pair, system=row.pair.system or system)) for row in open_rows]
        place = self.place(name)
        try:
            with open(place, "a", encoding="utf-8", errors="replace") as file:
                for row, candidates in maker.make(open_rows, cancel=self.cancel, counter=Counter()):
                    made[row.index] = held = _held(row, candidates)
                    file.write(json.dumps(_line(self.prompts.rows[row.index], held), ensure_ascii=False) + "\n")
                    file.flush()
                    self.tick("answering", len(made), len(self.rows))
        except OSError as failed:
            raise Refused("output_failed", path=place, why=failed.strerror or failed) from None
        self._write_whole(place, made)

    def _write_whole(self, place: Path, made: Mapping[int, dict[str, Any]]) -> None:
        with written_whole(place) as temporary, open(temporary, "w", encoding="utf-8", errors="replace") as file:
            for at in sorted(made):
                file.write(json.dumps(_line(self.prompts.rows[at], made[at]), ensure_ascii=False) + "\n")

    # --- what was kept ---

    def _identity(self, one: ModelGiven) -> dict[str, Any]:
        digest = hashlib.sha256()
        for row in self.rows:
            asked = json.dumps([row.pair.system, row.pair.prompt], ensure_ascii=True, sort_keys=True, default=str)
            digest.update(asked.encode())
        self.fingerprints[one.name] = one.fingerprint()
        return {"model": self.fingerprints[one.name], "decoding": self.decoding.as_json(), "dtype": self.dtype,
                "prompts": digest.hexdigest()}  # fmt: skip

    def _kept(self, one: ModelGiven, overwrite: bool) -> dict[int, dict[str, Any]]:
        place = self.place(one.name)
        beside = place.with_suffix(".json")
        identity = self._identity(one)
        try:
            former = json.loads(beside.read_bytes()[: 2**20]) if beside.is_file() else None
        except (OSError, ValueError):
            former = None
        if place.exists() and former is None and not overwrite:
            raise Refused("compare_answers_in_the_way", path=place)
        kept: dict[int, dict[str, Any]] = {}
        asked = former.pop("asked_in", None) if isinstance(former, dict) else None
        if former == identity and not overwrite and place.exists():
            kept = self._read(place)
            if (read := FormatTaken.read(asked)) is not None:
                self._taken[one.name], self.formats[one.name] = read, read.label
        try:
            if not kept:
                place.unlink(missing_ok=True)
            elif len(kept) < len(self.rows):  # a line cut short is no place to go on behind
                self._write_whole(place, kept)
        except OSError as failed:
            raise Refused("output_failed", path=place, why=failed.strerror or failed) from None
        self._write_identity(one)
        return kept

    def _write_identity(self, one: ModelGiven) -> None:
        identity, place = self._identity(one), self.place(one.name).with_suffix(".json")
        if (asked := self._taken.get(one.name)) is not None:
            identity["asked_in"] = asked.as_json()
        try:
            with written_whole(place) as temporary:
                temporary.write_text(json.dumps(identity, indent=1))
        except OSError as failed:
            raise Refused("output_failed", path=place, why=failed.strerror or failed) from None

    def _read(self, place: Path) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        with open(place, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    value = json.loads(line)
                    at, said = int(value["row"]), value["response"]
                    answers = [str(one) for one in (said if isinstance(said, list) else [said])]
                    problems = [str(one) for one in value["problems"]]
                    stopped = [one if isinstance(one, bool) else None for one in value["stopped"]]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
                if any(problem not in _SAME_AGAIN for problem in problems):
                    continue
                if 0 <= at < len(self.rows) and len(answers) == len(problems) == len(stopped) == self.decoding.samples:
                    found[at] = {"answers": answers, "stopped": stopped, "problems": problems}
        return found

    # --- likelihoods ---

    def likelihoods(self, before: str) -> Iterator[tuple[str, dict[tuple[int, int], Likelihoods]]]:
        """By after model, then by (row, sample): of all answers under both models. Loads `before` again where another
        base was in memory since. What can't be compared is in `remarks`."""
        own = self.models[before].files if before in self.models else None
        for name, held in self._scored.items():
            if held.vocabulary != self._vocabulary:
                names = {"after": name, "before": before}
                self.remarks.append(Sentence("compare_other_vocabulary", names, "evaluation"))
        usable = self._usable()
        if own is None or not usable or self.cancel.is_set():
            return
        if any(name not in self._by_before for name in usable):
            adapters = [own.adapter] if own.adapter is not None else []
            placed = ["\0base", before] if adapters else [before]
            with ModelsOnBase(
                own.checkpoint, adapters, names=placed, device=self.device, dtype=self.dtype, note=self.note
            ) as on_base, on_base.using(before) as loaded:  # fmt: skip
                self._score_by_before(before, loaded)
        for name in usable:
            held, nats = self._scored[name], self._by_before[name]
            yield name, {key: held.likelihoods(at, nats[at]) for at, key in enumerate(held.keys)}

    def _usable(self) -> list[str]:
        return [name for name, held in self._scored.items() if held.pieces and held.vocabulary == self._vocabulary]

    def _score_by_before(self, before: str, loaded: LoadedModel) -> None:
        for name in self._usable():
            self._by_before[name] = self._nats(loaded, self._scored[name])

    def _score_own(self, name: str, before: str, loaded: LoadedModel, prompting: Prompting) -> None:
        """The tokens of both models' answers as this one's format writes them, and how likely it finds them."""
        from pipeline.candidates.prompting import Prompt
        from pipeline.score_answers import position_limit

        held, limit = self._scored[name], position_limit(loaded)
        theirs, mine = self._made[before], self._made[name]
        for start in range(0, len(self.rows), SCORED_ROWS):
            rows = [row for row in self.rows[start : start + SCORED_ROWS] if row.index in theirs and row.index in mine]
            for row, prompt in zip(rows, prompting.prompts(rows), strict=True):
                if not isinstance(prompt, Prompt):
                    continue
                for sample in range(self.decoding.samples):
                    sides, ended = [], []
                    for made, stops in ((theirs[row.index], held.before_stops), (mine[row.index], held.after_stops)):
                        text = made["answers"][sample]
                        sides.append(prompting.answer_ids(prompt, [text])[0] if text else ())
                        ended.append(bool(stops) and made["stopped"][sample] is not False)
                    longest = max(len(ids) + end for ids, end in zip(sides, ended, strict=True))
                    fits = limit is None or len(prompt.ids) + longest <= limit
                    if fits and all(ids or end for ids, end in zip(sides, ended, strict=True)):
                        held.keys.append((row.index, sample))
                        held.pieces.append(_Pieces(
                            array("i", prompt.ids), array("i", sides[0]), array("i", sides[1]),
                            tuple(prompting.maker.lead), (ended[0], ended[1]),
                        ))  # fmt: skip
        held.nats = self._nats(loaded, held)

    def _nats(self, loaded: LoadedModel, held: _Scored) -> list[_Nats]:
        from pipeline.score_answers import NotScored, Piece, score_answers

        pieces, stops = held.pieces, held.stops
        found: list[_Nats] = []
        for start in range(0, len(pieces), SCORED_ROWS):
            part = pieces[start : start + SCORED_ROWS]
            asked = [Piece(tuple(one.prompt), tuple(ids), one.lead) for one in part for ids in (one.before, one.after)]
            try:
                scores = score_answers(loaded, asked, end_ids=stops, cancel=self.cancel)
            except NotScored:
                scores = []
            if not scores:
                found += [_Nats(math.nan, None)] * len(part)
            for old, new in zip(scores[::2], scores[1::2], strict=True):
                ends = (array("f", [_nats_of(one.end.get(stop, 0.0)) for stop in stops]) for one in (old, new))
                found.append(_Nats(old.total, array("f", new.nats), *ends))
            self.tick("likelihoods", len(found), len(pieces))
        return found


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Tokens of a prompt and of both answers behind it, each without the one that ended it. ended: whether one did."""

    prompt: array[int]
    before: array[int]
    after: array[int]
    lead: tuple[int, ...]
    ended: tuple[bool, bool]


@dataclass
class _Scored:
    """What an after model made of both answers: nats of each, by (row, sample). before_stops, after_stops: the ids that
    either model ends its answers with."""

    vocabulary: str
    before_stops: tuple[int, ...]
    after_stops: tuple[int, ...]
    keys: list[tuple[int, int]] = field(default_factory=list)
    pieces: list[_Pieces] = field(default_factory=list)
    nats: list[_Nats] = field(default_factory=list)

    @property
    def stops(self) -> tuple[int, ...]:
        """Those of both models, each once."""
        return tuple(dict.fromkeys((*self.before_stops, *self.after_stops)))

    def likelihoods(self, at: int, by_before: _Nats) -> Likelihoods:
        """Of the piece at this place. An answer of a model with several stop ids has ended with the one that this model
        finds likeliest there: <|im_end|> scored where <|endoftext|> was written would be 20 nats that nobody meant."""
        import numpy as np

        by_after = self.nats[at]
        if by_before.after is None or by_after.after is None:  # an interrupt, or what can't be scored
            return Likelihoods(math.nan, math.nan, math.nan, math.nan, 0)
        old, new = (np.asarray(one.after, dtype=np.float64) for one in (by_before, by_after))
        ended_before, ended_after = self.pieces[at].ended
        before = [by_before.before, by_after.before]
        if ended_before:
            end = self._end(by_before.end_before, self.before_stops)
            before = [by_before.before + by_before.end_before[end], by_after.before + by_after.end_before[end]]
        if ended_after:
            end = self._end(by_after.end_after, self.after_stops)
            old, new = np.append(old, by_before.end_after[end]), np.append(new, by_after.end_after[end])
        apart = new - old
        with np.errstate(over="ignore"):
            k3 = float((np.expm1(apart) - apart).sum())
        return Likelihoods(-before[0], -before[1], -float(old.sum()), -float(new.sum()), len(new), k3)

    def _end(self, nats: Sequence[float], own: Sequence[int]) -> int:
        """Place among all stops of the likeliest of those of the model that answered."""
        return min((self.stops.index(stop) for stop in own), key=lambda place: nats[place])


@dataclass(frozen=True, slots=True)
class _Nats:
    """What one model makes of both answers, -log p: of that of `before` as a whole, of that of `after` by token, None
    where it can't be told; of each of _Scored.stops behind either."""

    before: float
    after: array[float] | None
    end_before: Sequence[float] = ()
    end_after: Sequence[float] = ()


def _stops(loaded: LoadedModel) -> tuple[int, ...]:
    """Ids that end an answer of this model."""
    from pipeline.sample_answers import stop_ids

    own = loaded.tokenizer.eos_token_id
    return stop_ids(loaded.core) or (() if own is None else (int(own),))


def _nats_of(probability: float) -> float:
    return -math.log(max(probability, 1e-45))  # the smallest number of the precision they are computed in


def _vocabulary(loaded: LoadedModel) -> str:
    entries = sorted(loaded.tokenizer.get_vocab().items(), key=lambda one: one[1])
    return hashlib.sha256(repr(entries).encode("utf-8", "replace")).hexdigest()


def _with_reference(row: AnsweredRow) -> Pair:
    assert row.pair is not None
    return replace(row.pair, chosen=row.references[0]) if row.references else row.pair


def _held(row: SourceRow, candidates: Sequence[Candidate]) -> dict[str, Any]:
    return {
        "answers": [one.text for one in candidates], "stopped": [one.ended for one in candidates],
        "problems": [one.problem or "" for one in candidates],
    }  # fmt: skip


def _line(asked: AnsweredRow, made: Mapping[str, Any]) -> dict[str, Any]:
    assert asked.pair is not None
    turns, answers = asked.pair.prompt, made["answers"]
    single = len(turns) == 1 and isinstance(turns[0].get("content"), str) and not asked.pair.system
    system = [{"role": "system", "content": asked.pair.system}] if asked.pair.system else []
    line: dict[str, Any] = {
        "row": asked.index, "prompt": turns[0]["content"] if single else [*system, *turns],
        "response": answers[0] if len(answers) == 1 else answers,
    }  # fmt: skip
    if asked.references:
        line["reference"] = asked.references[0] if len(asked.references) == 1 else list(asked.references)
    if asked.category:
        line["category"] = asked.category
    return {**line, **{name: value for name, value in asked.pair.extra.items() if name != "input"},
            "stopped": made["stopped"], "problems": made["problems"]}  # fmt: skip
