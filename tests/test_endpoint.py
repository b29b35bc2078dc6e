"""Candidates and corrections from a model behind HTTP, on a server that fails as servers do."""

from __future__ import annotations

import datetime
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openai_server import RETRIED, Faults, drawn_answer, openai_server, prompt_of

from pipeline.candidates.candidate import Cancelled, Candidate, CandidateStrategy, Counter, SourceRow
from pipeline.candidates.correction import CorrectionMaker, EndpointCorrector, NotCorrected, Replacements, Rule
from pipeline.candidates.endpoint import Endpoint, EndpointGone, Limits, Price, estimated_tokens, field_names
from pipeline.candidates.endpoint_maker import EndpointMaker
from pipeline.candidates.request_pool import RequestPool, retry_after
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

KEY = "sk-never-shown-0123456789"
QUICK = replace(
    Limits.configured(), base=0.01, most=0.05, connect=2.0, first=3.0, between=3.0, gone_after=1.0, most_retry_after=5.0
)
SAMPLING = CandidateStrategy("endpoint", "endpoint", 2, {"temperature": 0.8})


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def _rows(number: int, text: str = "问题 {}: what is it?") -> list[SourceRow]:
    prompts = [[{"role": "user", "content": text.format(index)}] for index in range(number)]
    return [SourceRow(index, Pair(prompt, "gold", None)) for index, prompt in enumerate(prompts)]


def _made(
    server: Any,
    rows: Sequence[SourceRow],
    strategies: Sequence[CandidateStrategy] = (SAMPLING,),
    *,
    counter: Counter | None = None,
    limits: Limits = QUICK,
    price: Price | None = None,
    **options: Any,
) -> dict[int, list[Candidate]]:
    maker = EndpointMaker(strategies, Endpoint(server.url, limits=limits, price=price), seed=7, **options)
    given = list(maker.make(iter(rows), cancel=threading.Event(), counter=counter or Counter()))
    assert len(given) == len({row.index for row, _ in given})
    return {row.index: candidates for row, candidates in given}


def _one(server: Any, *, parameters: dict[str, Any] | None = None, **options: Any) -> Candidate:
    strategy = CandidateStrategy("endpoint", "endpoint", 1, parameters or {"temperature": 0.8})
    return _made(server, _rows(1), [strategy], **options)[0][0]


def test_faults_lose_and_duplicate_nothing() -> None:
    """With four requests in ten failing and 16 at once the candidates are those of one by one without a fault."""
    made, counters, asked = [], [], []
    for faults, concurrency in ((None, 1), (Faults(0.4), 16)):
        with openai_server(faults=faults) as server:
            counters.append(Counter())
            made.append(_made(server, _rows(200), counter=counters[-1], concurrency=concurrency))
            asked.append(len(server.requests))
            answered = [request["key"] for request in server.requests if request["fault"] is None]
            if faults:
                assert set(server.faults) == {kind for kind in RETRIED if kind != "slow"}
                assert server.faults.total() > 0.35 * len(server.requests)
        assert len(answered) == len(set(answered)) == 400
        for candidates in made[-1].values():
            for candidate in candidates:
                candidate.parameters.pop("endpoint")
    assert asked[0] == 400 and asked[1] > 600
    assert made[0] == made[1] and sorted(made[0]) == list(range(200))
    candidates = [candidate for row in made[0].values() for candidate in row]
    assert not [candidate.problem for candidate in candidates if candidate.problem] and all(c.text for c in candidates)
    assert [candidate.number for candidate in candidates] == [0, 1] * 200
    assert {candidate.seed for candidate in candidates} == {7 + 1000 * row + n for row in range(200) for n in (0, 1)}
    assert counters[0].candidates == counters[1].candidates == 400 and counters[0].tokens == counters[1].tokens > 400
    assert counters[0].problems == counters[1].problems == 0


@pytest.mark.parametrize("fault", [*RETRIED])
def test_each_fault_is_mended_by_another_try(fault: str) -> None:
    with openai_server(faults=[fault, fault]) as server:
        candidate = _one(server)
        assert [request["fault"] for request in server.requests] == [fault] * (1 if fault == "slow" else 2) + (
            [] if fault == "slow" else [None]
        )
        assert candidate.text == drawn_answer(server.requests[0]) and candidate.problem is None


def test_a_slow_first_byte_is_a_timeout() -> None:
    with openai_server(faults=["slow"], slow_seconds=1.0) as server:
        candidate = _one(server, limits=replace(QUICK, connect=0.1, first=0.2))
    assert candidate.text and len(server.requests) == 2


def test_candidate_says_how_it_was_made() -> None:
    row = SourceRow(3, Pair([{"role": "user", "content": "你好", "mark": 1}], "gold", None, system="Be brief."))
    parameters = {"temperature": 0.5, "top_p": 0.9, "top_k": 0, "max_new_tokens": 50, "stop": ["\n\n"]}
    strategy = CandidateStrategy("warm", "endpoint", 1, parameters, first=4)
    with openai_server(models=["qwen-lora"]) as server:
        candidate = _made(server, [row], [strategy])[3][0]
        body = server.requests[0]
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}]
    assert json.loads(candidate.prompt or "") == body["messages"] and candidate.prompt_format == "chat completions"
    assert body["seed"] == candidate.seed == 3011 and body["top_k"] == -1 and body["max_tokens"] == 50
    assert body["temperature"] == 0.5 and body["stop"] == ["\n\n"] and body["stream"] is True
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert candidate.model == "qwen-lora" and candidate.number == 4 and candidate.strategy == "warm"
    assert candidate.parameters["temperature"] == 0.5 and candidate.parameters["endpoint"] == server.url
    assert candidate.ended is True and candidate.tokens is not None and candidate.measures == {}


def test_greedy_and_another_model_of_the_server() -> None:
    strategies = [
        CandidateStrategy("greedy", "greedy", 1, {"top_p": 0.9}),
        CandidateStrategy("lora", "endpoint", 1, {"temperature": 1.0}, first=1, model="#tuned"),
        CandidateStrategy("adapter", "endpoint", 1, {"temperature": 1.0}, first=2, adapter="tuned"),
    ]
    with openai_server(models=["base", "tuned"]) as server:
        maker = EndpointMaker(strategies, Endpoint(f"{server.url}#base", limits=QUICK), seed=0)
        [(_, made)] = maker.make(_rows(1), cancel=threading.Event(), counter=Counter())
        greedy = next(request for request in server.requests if request["model"] == "base")
    assert [candidate.model for candidate in made] == ["base", "tuned", "tuned"]
    assert greedy["temperature"] == 0 and "top_p" not in greedy


def test_text_completions() -> None:
    with openai_server() as server:
        made = _made(server, _rows(3), prompt_text=lambda row: f"<user>{row.question}<bot>")
        assert {request["route"] for request in server.requests} == {"/v1/completions"}
        assert "chat_template_kwargs" not in server.requests[0]
        answers = {drawn_answer(request) for request in server.requests}
    assert {candidate.text for row in made.values() for candidate in row} == answers
    assert made[1][0].prompt == "<user>问题 1: what is it?<bot>" and made[1][0].prompt_format == "completions"


def test_concurrency_is_reached_and_kept() -> None:
    with openai_server(delay=0.03) as server:
        _made(server, _rows(20), concurrency=4)
    assert server.most_at_once == 4
    for wrong in (0, -1, 10_000):
        with pytest.raises(Refused, match="give a number from 1"):
            RequestPool(wrong)


def test_rows_are_taken_as_they_are_needed() -> None:
    taken = given = 0

    def source() -> Iterator[SourceRow]:
        nonlocal taken
        for row in _rows(1000):
            taken += 1
            assert taken - given <= 4 * 3
            yield row

    with openai_server() as server:
        maker = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0, concurrency=3)
        for _ in maker.make(source(), cancel=threading.Event(), counter=Counter()):
            given += 1
            if given == 40:
                break
    assert taken <= 40 + 4 * 3


def test_cancel_returns_at_once() -> None:
    """Requests in flight are closed, so that the server can stop too."""
    cancel = threading.Event()
    with openai_server(delay=2.0, answer=lambda body: "word " * 50) as server:
        maker = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0)
        threading.Timer(0.5, cancel.set).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            list(maker.make(_rows(100), cancel=cancel, counter=Counter()))
        assert time.monotonic() - started < 1.5
        assert not [thread for thread in threading.enumerate() if thread.name == "endpoint requests"]
        while server.abandoned < len(server.requests) and time.monotonic() - started < 8:
            time.sleep(0.05)
        assert server.abandoned == len(server.requests) == 8


def test_a_server_that_dies_stops_the_run_and_loses_nothing() -> None:
    answered = threading.Event()

    def fault(key: str, attempt: int) -> str | None:
        return "reset" if answered.is_set() else None

    given: list[tuple[SourceRow, list[Candidate]]] = []
    with openai_server(faults=fault, delay=0.01) as server:
        maker = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0)
        started = time.monotonic()
        with pytest.raises(EndpointGone, match="answers nothing any more") as gone:
            for row, candidates in maker.make(_rows(500), cancel=threading.Event(), counter=Counter()):
                given.append((row, candidates))
                if len(given) == 20:
                    answered.set()
    assert time.monotonic() - started < 5
    assert 20 <= len(given) < 60 and "--resume" in gone.value.said("zh")
    assert not [candidate.problem for _, candidates in given for candidate in candidates if candidate.problem]


@pytest.mark.parametrize(
    ("fault", "detail"), [("500", "HTTP status 500: the engine is unwell"), ("400", "HTTP status 400: this can't")]
)
def test_a_row_that_always_fails_is_given_up_alone(fault: str, detail: str) -> None:
    """Also where it is the only one: a request of one token tells it from a server that is gone."""

    class Poison:
        def __call__(self, key: str, attempt: int) -> str | None:
            return fault if key in self.keys else None

        keys: set[str] = set()

    poison = Poison()
    with openai_server(faults=poison) as server:
        for row in (SourceRow(5, _rows(6)[5].pair),):
            for number in (0, 1):
                body = {"messages": row.pair.prompt, "seed": 7 + 5000 + number}
                poison.keys.add(server.noted("", dict(body))["key"])
        server.requests.clear()
        made = _made(server, _rows(20))
        alone = _made(server, [SourceRow(5, _rows(6)[5].pair)])
    for candidates in (made[5], alone[5]):
        assert [candidate.problem for candidate in candidates] == ["endpoint_failed"] * 2
        assert candidates[0].problem_detail.startswith(detail) and candidates[0].text == ""
    assert not [c.problem for index, row in made.items() for c in row if index != 5 and c.problem]


def test_a_server_that_refuses_everything_stops_the_run() -> None:
    with (
        openai_server(faults=lambda key, attempt: "400") as server,
        pytest.raises(EndpointGone, match="this can't be answered"),
    ):
        _made(server, _rows(20))
    assert len(server.requests) < 30


def test_a_key_that_ends_during_the_run_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    given = []
    with openai_server(api_key=KEY) as server:
        maker = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0)
        with pytest.raises(EndpointGone, match="status 401") as gone:
            for made in maker.make(_rows(100), cancel=threading.Event(), counter=Counter()):
                given.append(made)
                server.api_key = "another"
    assert given and KEY not in f"{gone.value}{gone.value.said('zh')}{gone.value.__dict__}"


def test_prompt_too_long_is_not_asked_again() -> None:
    long = SourceRow(1, Pair([{"role": "user", "content": "long " * 100}], None, None))
    with openai_server(context=200) as server:
        made = _made(server, [*_rows(1), long])
        assert len(server.requests) == 4
    assert made[0][0].problem is None
    assert made[1][0].problem == "prompt_too_long" and "maximum context length is 200" in made[1][0].problem_detail


def test_pauses_that_the_server_asks_for() -> None:
    with openai_server(faults=["429"], retry_after=0.7) as server:
        started = time.monotonic()
        assert _one(server).text
        assert time.monotonic() - started > 0.7
    with openai_server(faults=["429_date"], retry_after=3) as server:  # a date has whole seconds
        started = time.monotonic()
        assert _one(server).text
        assert time.monotonic() - started > 1.9
    with (
        openai_server(faults=["429_date"], retry_after=3600) as server,
        pytest.raises(EndpointGone, match="60 minutes"),
    ):
        _one(server)


def test_retry_after_is_read_whatever_it_says() -> None:
    now = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC).timestamp()
    assert retry_after({"retry-after": "12"}, now) == 12
    assert retry_after({"retry-after": "Thu, 26 Nov 2026 12:01:30 GMT"}, now) == 90
    assert retry_after({"retry-after": "Thu, 26 Nov 2026 11:00:00 GMT"}, now) == 0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}, now) == 0.25
    for nonsense in ("soon", "-3", "nan", "", "Thu, 99 Nov 2026", "1e400", "9" * 400):
        assert retry_after({"retry-after": nonsense}, now) is None
    assert retry_after({}, now) is None


def test_fields_that_a_server_refuses_are_left_out_and_said_once() -> None:
    said: list[str] = []
    strategy = CandidateStrategy("endpoint", "endpoint", 2, {"temperature": 0.8, "top_k": 20, "max_new_tokens": 9})
    with openai_server(refuses=["top_k", "seed", "chat_template_kwargs", "max_tokens"]) as server:
        made = _made(server, _rows(30), [strategy], note=said.append)
        last = server.requests[-1]
    assert {"top_k", "seed", "chat_template_kwargs", "max_tokens"}.isdisjoint(last)
    assert last["max_completion_tokens"] == 9
    assert sorted(line.split("know ")[1].split(":")[0] for line in said) == ["chat_template_kwargs", "seed", "top_k"]
    for candidates in made.values():
        for candidate in candidates:
            assert candidate.problem is None and candidate.seed is None
            assert set(candidate.parameters) == {"endpoint", "temperature", "max_tokens"}


@pytest.mark.parametrize("thinking", ["field", "tag"])
def test_thinking_is_no_part_of_the_answer(thinking: str) -> None:
    with openai_server(thinking=thinking) as server:
        candidate = _one(server, thinking=None)
        assert candidate.text.strip() == drawn_answer(server.requests[0]) and "think" not in candidate.text
        assert 5 <= candidate.measures["thinking_tokens"] <= 25
        assert candidate.tokens is not None and candidate.tokens >= 1
        short = _one(server, parameters={"temperature": 0.8, "max_new_tokens": 3}, thinking=True)
        assert short.problem == "only_thinking" and short.text == "" and short.ended is False
        assert "thinking_tokens" not in _one(server).measures  # switched off


def test_answers_cut_off_at_the_limit() -> None:
    with openai_server(answer=lambda body: "一 二 三 四 五 六 七 八") as server:
        candidate = _one(server, parameters={"temperature": 0.8, "max_new_tokens": 3})
    assert candidate.ended is False and candidate.text == "一 二 三" and candidate.tokens == 3


def test_cost_and_tokens_are_counted() -> None:
    price = Price.given("2,8")
    for usage in (True, False):
        counter = Counter()
        with openai_server(usage=usage) as server:
            candidates = [c for row in _made(server, _rows(10), counter=counter, price=price).values() for c in row]
        answer_tokens = sum(candidate.tokens or 0 for candidate in candidates)
        assert counter.tokens == answer_tokens
        assert 8 * answer_tokens / 1e6 < counter.cost < (8 * answer_tokens + 2 * 20 * 30) / 1e6
        assert [candidate.measures for candidate in candidates] == [{} if usage else {"tokens_estimated": True}] * 20
    assert estimated_tokens("你好，世界") < estimated_tokens("x" * 60)
    for wrong in ("1", "a,b", "-1,2", "nan,1", "1,2,3"):
        with pytest.raises(Refused, match="two numbers"):
            Price.given(wrong)


def test_an_answer_that_broke_off_costs_too() -> None:
    spent = []
    for faults in ([], ["cut"]):
        counter = Counter()
        with openai_server(faults=faults, answer=lambda body: "many words " * 20) as server:
            _one(server, counter=counter, price=Price(0, 100))
        spent.append(counter.cost)
    assert spent[1] > 1.1 * spent[0]


def test_a_server_that_does_not_stream() -> None:
    with openai_server(streams=False, thinking="field") as server:
        candidate = _one(server, thinking=None)
        assert candidate.text == drawn_answer(server.requests[0]) and candidate.measures["thinking_tokens"]


def test_an_empty_answer_is_an_answer() -> None:
    with openai_server(answer=lambda body: "") as server:
        candidate = _one(server)
    assert candidate.problem is None and candidate.text == "" and candidate.ended is True


def test_hostile_rows_are_sent_or_said() -> None:
    prompts: list[list[dict[str, Any]]] = [
        [],
        [{"role": "user", "content": "half \ud83d of a pair"}],
        [{"role": "user", "content": [{"type": "text", "text": "parts"}], "date": datetime.date(2026, 1, 1)}],
        [{"role": "user", "content": datetime.date(2026, 1, 1)}],
        [{"role": "user", "content": "{question} %s \x00"}],
    ]
    with openai_server() as server:
        made = _made(server, [SourceRow(n, Pair(prompt, None, None)) for n, prompt in enumerate(prompts)])
    assert [candidate.problem for candidate in made[0]] == ["prompt_empty"] * 2
    assert not [c.problem for index, row in made.items() for c in row if index and c.problem]


def test_parameters_that_the_protocol_does_not_have() -> None:
    with pytest.raises(Refused, match="num_beams"):
        field_names({"num_beams": 4})
    with pytest.raises(Refused, match="can't do it"):
        EndpointMaker([CandidateStrategy("beam", "beam", 1)], Endpoint("http://127.0.0.1:1/v1"), seed=0)
    elsewhere = CandidateStrategy("other", "endpoint", 1, model="http://127.0.0.1:2/v1")
    with pytest.raises(Refused, match="no address"):
        EndpointMaker([elsewhere], {None: Endpoint("http://127.0.0.1:1/v1")}, seed=0)


# --- The check before the first row


def _refused(url: str, model: str | None = None, **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        Endpoint(url, model, limits=QUICK, **options).check()
    said = [refused.value.said(lang) for lang in ("en", "zh")]
    assert all("\n" not in line and len(line) < 700 for line in said)
    return said[0]


def test_what_is_wrong_is_said_before_a_row_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert "no server answers" in _refused(nobody)
    with openai_server(models=["Qwen/Qwen3-8B", "tuned-lora"]) as server:
        assert f"give {server.url}" in _refused(server.url.removesuffix("/v1"), "tuned-lora")
        assert "at this path" in _refused(server.url + "/v2")
        assert "several models" in _refused(server.url)
        assert "nearest: tuned-lora" in _refused(server.url, "tuned_lora")
        assert Endpoint(f"{server.url}/chat/completions#tuned-lora").check() == ["Qwen/Qwen3-8B", "tuned-lora"]
        assert not server.requests
    for status in (404, 500):
        with openai_server(models_status=status) as server:
            assert Endpoint(server.url, "demo", limits=QUICK).check() == ["demo"]
            assert len(server.requests) == 1 and server.requests[0]["max_tokens"] == 1
            assert "at this path" in _refused(server.url + "/v2", "demo")
            assert f"status {status}" in _refused(server.url)
    with openai_server(models=[]) as server:
        assert "no model loaded" in _refused(server.url)
    for wrong in (
        "",
        "localhost:8000",
        "ftp://x/v1",
        "http://",
        "http://x:99999/v1",
        "http://a b/v1",
        "http://[::1/v1",
    ):
        assert "not the address" in _refused(wrong)
    for secret in (f"http://me:{KEY}@127.0.0.1:8000/v1", f"http://127.0.0.1/v1?key={KEY}"):
        assert KEY not in _refused(secret)


class _OtherServer(BaseHTTPRequestHandler):
    reply: tuple[int, dict[str, str], bytes] = (200, {}, b"")

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        status, headers, body = self.reply
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, {"Content-Type": "text/html"}, b"<html>a router</html>"), "doesn't speak"),
        ((200, {}, b'{"models": []}'), "doesn't speak"),
        ((200, {}, b"\xff\xfe\x00"), "doesn't speak"),
        ((200, {}, b"[" * 100_000), "doesn't speak"),
        ((503, {}, b'{"error": {"message": "Loading\\nmodel"}}'), "status 503: Loading model"),
        ((500, {}, b""), "status 500"),
        ((301, {"Location": "https://elsewhere.example/v1/models"}, b""), "elsewhere.example"),
    ],
)
def test_other_servers(reply: tuple[int, dict[str, str], bytes], said: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Other", (_OtherServer,), {"reply": reply}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        assert said in _refused(f"http://127.0.0.1:{server.server_port}/v1")
    finally:
        server.shutdown()
        server.server_close()


def test_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with openai_server(api_key=KEY) as server:
        assert "Put it into the environment variable OPENAI_API_KEY" in _refused(server.url)
        monkeypatch.setenv("MY_KEY", f" {KEY}x\n")
        said = _refused(server.url, key_env="MY_KEY")
        assert "refuses the key in MY_KEY" in said and KEY not in said
        monkeypatch.setenv("MY_KEY", f" {KEY}\n")  # as `export MY_KEY="$(cat file)"` may leave it
        endpoint = Endpoint(server.url, key_env="MY_KEY", limits=QUICK)
        assert KEY not in repr(endpoint)
        maker = EndpointMaker([SAMPLING], endpoint, seed=0)
        [(_, candidates)] = maker.make(_rows(1), cancel=threading.Event(), counter=Counter())
        assert candidates[0].text and server.headers[0]["authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(candidates)
    assert caplog.text and KEY not in caplog.text
    monkeypatch.setenv("MY_KEY", "钥匙")
    assert "can't have" in _refused("http://127.0.0.1:1/v1", key_env="MY_KEY")
    assert "empty or not set" in _refused("http://127.0.0.1:1/v1", key_env="NOT_SET")


def test_a_key_that_a_server_repeats_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Endpoint("http://127.0.0.1:1/v1").one_line(f"wrong:\n{KEY} {'x' * 999}").startswith("wrong: *** xxx")


def test_the_hub_token_goes_to_the_hub_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # is about the Hub, not about a server on this machine
    with openai_server() as server:
        assert _one(server).text
        assert "authorization" not in server.headers[0]
    for host in ("router.huggingface.co", "huggingface.co", "abc.us-east-1.aws.endpoints.huggingface.cloud"):
        assert Endpoint(f"https://{host}/v1").headers()["authorization"] == "Bearer hf_secret"
    for host in ("nothuggingface.co", "huggingface.co.example.com", "127.0.0.1:8000"):
        assert "authorization" not in Endpoint(f"http://{host}/v1").headers()


# --- Correction


def _answering(text: str) -> Any:
    return lambda body: text


def test_rules() -> None:
    row = _rows(1)[0]
    rules = [
        Rule.given("我是 Llama=我是 Athene"),
        Rule.given(r"re:(?i)made by (?<who>meta|openai)=made by us, not \g<who>"),
    ]
    corrector = Replacements(rules)
    assert corrector.corrected(row, "你好，我是 Llama。") == "你好，我是 Athene。"
    assert corrector.corrected(row, "I was Made by Meta.") == "I was made by us, not Meta."
    assert corrector.corrected(row, "no name here") is None
    assert [str(rule) for rule in rules] == corrector.account()["rules"] == [
        "我是 Llama=我是 Athene",
        r"re:(?i)made by (?<who>meta|openai)=made by us, not \g<who>",
    ]  # fmt: skip
    assert Rule.given(r"a\=b=c") == Rule("a=b", "c") and str(Rule("a=b", "c")) == r"a\=b=c"
    assert Rule.given("a=b=c") == Rule("a", "b=c") and Rule.given("gone=") == Rule("gone", "")


@pytest.mark.parametrize(
    "text", ["", "no sign", "=new", "re:=new", r"a\=b", "re:(=x", r"re:a=\1", r"re:a=\g<no>", "re:a*=b", "re:^=b"]
)
def test_rules_that_are_none(text: str) -> None:
    with pytest.raises(Refused) as refused:
        Rule.given(text)
    assert all("\n" not in refused.value.said(lang) for lang in ("en", "zh"))


@pytest.mark.parametrize(
    ("rule", "answer", "problem"),
    [
        (Rule(r"(a+)+$", "b", pattern=True), "a" * 50_000 + "!", "correction_too_slow"),
        (Rule("a", "b" * 10_000), "a" * 1000, "correction_too_long"),
        (Rule("all of it", ""), "all of it", "correction_empty"),
    ],
)
def test_rules_that_do_harm(rule: Rule, answer: str, problem: str) -> None:
    started = time.monotonic()
    with pytest.raises(NotCorrected) as wrong:
        Replacements([rule]).corrected(_rows(1)[0], answer)
    assert wrong.value.problem == problem and time.monotonic() - started < 3


def test_corrections_by_rules_of_a_models_own_answers() -> None:
    strategy = CandidateStrategy("correction", "correction", 2, first=5)
    counter = Counter()
    with openai_server(answer=lambda body: "我是 Llama" if body["seed"] % 2 else "我是 Athene") as server:
        own = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0)
        maker = CorrectionMaker(strategy, own, Replacements([Rule("Llama", "Athene")]))
        made = {row.index: own for row, own in maker.make(_rows(10), cancel=threading.Event(), counter=counter)}
    assert sorted(made) == list(range(10))
    for right, wrong in made.values():
        assert (right.number, right.problem, right.chosen, right.text) == (5, "nothing_to_correct", None, "")
        assert (wrong.number, wrong.problem, wrong.chosen, wrong.text) == (6, None, "我是 Athene", "我是 Llama")
        assert wrong.strategy == "correction" and wrong.model == "demo" and wrong.prompt
        assert wrong.parameters["rules"] == ["Llama=Athene"] and wrong.parameters["own"]["strategy"] == "endpoint"
    assert counter.candidates == 20 and counter.problems == 10


def test_corrections_by_another_model() -> None:
    """Question and answer are shown, in their language; an unchanged answer is none; faults are mended."""

    def corrected(body: dict[str, Any]) -> str:
        prompt = prompt_of(body)
        if "# Answer" in prompt or "# 回答" in prompt:
            answer = prompt.rsplit("\n", 1)[1]
            return f" {answer.replace('five', 'four')}\n"
        return "two and two is {answer} five" if body["seed"] % 2 else "two and two is four"

    strategy = CandidateStrategy("correction", "correction", 2)
    with openai_server(faults=Faults(0.3), answer=corrected) as server:
        own = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0)
        corrector = EndpointCorrector(Endpoint(server.url, limits=QUICK))
        counter = Counter()
        maker = CorrectionMaker(strategy, own, corrector, concurrency=4)
        given = list(maker.make(_rows(30, "two and two {}?"), cancel=threading.Event(), counter=counter))
        asked = [request for request in server.requests if "# Answer" in prompt_of(request)]
        assert corrector.corrected(_rows(1)[0], "it is five") == "it is four"
        assert corrector.corrected(_rows(1)[0], "it is  four ") is None
        assert "你负责改正回答" in corrector.ask(_rows(1, "二加二是多少？")[0], "五").sent
    assert sorted(row.index for row, _ in given) == list(range(30))
    for _, (right, wrong) in given:
        assert right.problem == "nothing_to_correct" and right.chosen is None
        assert wrong.problem is None and wrong.chosen == "two and two is {answer} four"
        assert wrong.text == "two and two is {answer} five" and wrong.parameters["corrector"] == "demo"
    assert counter.problems == 30 and counter.candidates == 60
    assert asked[0]["temperature"] == 0 and "two and two" in prompt_of(asked[0]).split("# Answer")[0]


@pytest.mark.parametrize(
    ("text", "tokens", "problem"), [("one two three four five", 2, "correction_cut_off"), ("", 50, "correction_empty")]
)
def test_corrections_that_are_none(text: str, tokens: int, problem: str) -> None:
    with openai_server(answer=_answering(text)) as server:
        corrector = EndpointCorrector(Endpoint(server.url, limits=QUICK), parameters={"max_new_tokens": tokens})
        with pytest.raises(NotCorrected) as wrong:
            corrector.corrected(_rows(1)[0], "answer")
    assert wrong.value.problem == problem


def test_corrections_are_cancelled_with_the_answers_they_wait_for() -> None:
    cancel = threading.Event()
    with openai_server(answer=_answering("x"), delay=0.05) as server, openai_server(delay=3.0) as slow:
        own = EndpointMaker([SAMPLING], Endpoint(server.url, limits=QUICK), seed=0)
        corrector = EndpointCorrector(Endpoint(slow.url, limits=QUICK))
        maker = CorrectionMaker(CandidateStrategy("correction", "correction", 2), own, corrector)
        threading.Timer(0.5, cancel.set).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            list(maker.make(_rows(100), cancel=cancel, counter=Counter()))
        assert time.monotonic() - started < 1.6
        assert not [thread for thread in threading.enumerate() if thread.name == "endpoint requests"]
