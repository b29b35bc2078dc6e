"""A model behind HTTP: any server of the OpenAI protocol (vLLM, TGI, llama.cpp, Ollama, a provider).

Requests go through httpx2, the HTTP library of huggingface_hub, and not through its InferenceClient (2.4), which keeps
every streamed response open until the client is closed (one connection a request), has no /v1/completions, sends the
saved Hub token to whatever host is given, and refuses a server on this machine while HF_HUB_OFFLINE is set.

The key is read from an environment variable and stands in the header of a request only: no text, file, log or error
of this project holds it, also where a server repeats it.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.candidates.completion_reply import error_reply
from pipeline.config_files import load_config
from pipeline.pairs.pair import Message
from pipeline.refusal import Refused
from pipeline.script_of_text import script_of

if TYPE_CHECKING:
    import httpx2

CONFIG = "endpoints.yaml"
MAX_DETAIL = 240  # characters of what a server says, in one line
CHECK_SECONDS = 20.0  # for the list of models
_ROUTES = ("/chat/completions", "/completions", "/models")
_LOOPBACK = ("localhost", "127.", "::1", "0.0.0.0")


@dataclass(frozen=True)
class Limits:
    """Seconds, counts and bytes of configs/endpoints.yaml, which says what each means."""

    connect: float
    first: float
    between: float
    total: float
    attempts: int
    rate_limited_attempts: int
    base: float
    most: float
    jitter: float
    most_retry_after: float
    gone_after: float
    most_bytes: int

    @classmethod
    def configured(cls) -> Limits:
        config = load_config(CONFIG)
        own = ("rate_limited_attempts", "most_retry_after", "gone_after", "most_bytes")
        return cls(**config["timeouts"], **config["retries"], **{name: config[name] for name in own})


@dataclass(frozen=True)
class Price:
    """For a million tokens of the prompt and of the answer."""

    prompt: float
    answer: float

    @classmethod
    def given(cls, text: str) -> Price:
        """From `IN,OUT`. Raises Refused."""
        try:
            prompt, answer = (float(part) for part in text.split(","))
        except ValueError:
            raise Refused("price_form", given=text) from None
        if not (0 <= prompt < 1e9 and 0 <= answer < 1e9):
            raise Refused("price_form", given=text)
        return cls(prompt, answer)

    def of(self, prompt_tokens: int, answer_tokens: int) -> float:
        return (prompt_tokens * self.prompt + answer_tokens * self.answer) / 1e6


class EndpointGone(Refused):
    """Nothing is answered any more: the run has to stop, keeps what is there and can be resumed."""


@dataclass(frozen=True)
class Ask:
    """One request. prompt: messages for /chat/completions, a text for /completions. fields: as the protocol calls
    them, without seed."""

    prompt: Sequence[Message] | str
    fields: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    @property
    def route(self) -> str:
        return "/completions" if isinstance(self.prompt, str) else "/chat/completions"

    @property
    def sent(self) -> str:
        """The prompt as text: itself, or the messages as JSON."""
        return self.prompt if isinstance(self.prompt, str) else json.dumps(list(self.prompt), ensure_ascii=False)


@dataclass(frozen=True)
class Answer:
    """text: without reasoning. finish: `stop`, `length`, None where the server doesn't say. tokens: of the answer
    without reasoning; estimated: the server counted none. unknown: fields of the request that this server refuses."""

    text: str
    finish: str | None
    prompt_tokens: int
    tokens: int
    thinking_tokens: int = 0
    estimated: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def ended(self) -> bool | None:
        return None if self.finish is None else self.finish != "length"


class Endpoint:
    """One model of one server.

    url: up to `/v1`; `URL#NAME` names the model too, which for vLLM may be a LoRA it serves. key_env: name of the
    variable that holds the key; None: HF_TOKEN for hosts of Hugging Face, OPENAI_API_KEY for others. price: None: the
    one configs/endpoints.yaml has for the model.

    Raises Refused for an URL or a key that can't be used.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        key_env: str | None = None,
        price: Price | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.url, fragment = _checked_url(url)
        self.model = model or fragment
        self.limits = limits or Limits.configured()
        self.key_env = key_env or _key_variable(self.url)
        self._key = _read_key(self.key_env, needed=key_env is not None)
        self._price = price
        self._checked: list[str] | None = None
        self._unknown: set[str] = set()

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.model!r})"

    @property
    def price(self) -> Price | None:
        if self._price is None and self.model in (prices := load_config(CONFIG)["prices"]):
            return Price(float(prices[self.model]["prompt"]), float(prices[self.model]["answer"]))
        return self._price

    def serving(self, model: str) -> Endpoint:
        """Another model of the same server, such as a LoRA."""
        other = Endpoint.__new__(Endpoint)
        other.__dict__.update(self.__dict__, model=model, _checked=None, _unknown=set())
        return other

    def check(self) -> list[str]:
        """The names of the models served; `model` becomes the only one where none was named. One request, before any
        row is sent.

        Raises Refused: no server there, another kind of server, a wrong path, no or a wrong key, an unknown model.
        """
        if self._checked is None:
            import httpx2

            timeout = httpx2.Timeout(CHECK_SECONDS, connect=self.limits.connect)
            with httpx2.Client(timeout=timeout, headers=self.headers(), trust_env=self.trust_env) as client:
                names = self._models(client)
                if names is None:
                    names = self._answering(client)
                elif self.model is None:
                    if len(names) != 1:
                        raise Refused("endpoint_model_needed", url=self.url, names=_listed(names))
                    self.model = names[0]
                elif self.model not in names:
                    near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.0)
                    raise Refused("endpoint_no_model", url=self.url, name=self.model, near=_listed(near))
            self._checked = names
        return self._checked

    def _models(self, client: httpx2.Client) -> list[str] | None:
        """None: the server has no list, but a model is named."""
        status, body = self._asked(client, "GET", "/models")
        if status in (404, 405, 501):
            if not self.url.endswith("/v1"):
                below, listed = self._asked(client, "GET", "/v1/models")
                if below == 200 and _names(listed) is not None:
                    raise Refused("endpoint_without_v1", url=self.url, right=f"{self.url}/v1")
            if self.model is None:
                raise Refused("endpoint_wrong_path", url=self.url, status=status)
            return None
        if status >= 500 and self.model is not None:  # the list alone may fail, as that of `transformers serve` does
            return None
        self._refuse_status(status, body)
        names = _names(body)
        if names is None:
            raise Refused("endpoint_other_server", url=self.url)
        if not names:
            raise Refused("endpoint_no_models", url=self.url)
        return names

    def _answering(self, client: httpx2.Client) -> list[str]:
        """Ask for one token where there is no list of models."""
        assert self.model is not None
        asked = {"model": self.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        status, body = self._asked(client, "POST", "/chat/completions", asked)
        if status in (404, 405, 501):
            raise Refused("endpoint_wrong_path", url=self.url, status=status)
        if status not in (400, 422, 429):  # the path is right; what is wrong with this request says nothing of the rows
            self._refuse_status(status, body)
            if not isinstance(body, Mapping) or "choices" not in body:
                raise Refused("endpoint_other_server", url=self.url)
        return [self.model]

    def _refuse_status(self, status: int, body: Any) -> None:
        if status in (401, 403):
            entry = "endpoint_key_refused" if self._key else "endpoint_key_needed"
            raise Refused(entry, url=self.url, variable=self.key_env, status=status)
        if 300 <= status < 400:
            raise Refused("endpoint_moved", url=self.url, status=status, place=self.one_line(str(body)))
        if status != 200:
            detail = self.one_line(error_reply(status, body).message) or "-"
            raise Refused("endpoint_status", url=self.url, status=status, detail=detail)

    def _asked(self, client: httpx2.Client, method: str, route: str, body: Any = None) -> tuple[int, Any]:
        import httpx2

        try:
            with client.stream(method, self.url + route, json=body) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > self.limits.most_bytes:
                        raise Refused("endpoint_other_server", url=self.url)
                if response.is_redirect:
                    return response.status_code, response.headers.get("location", "")
                status = response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            raise Refused("endpoint_down", url=self.url, reason=self.one_line(said_by(error))) from None
        try:
            return status, json.loads(content)
        except (ValueError, RecursionError):
            return status, "" if b"<html" in content[:1000].lower() else content[:MAX_DETAIL].decode("utf-8", "replace")

    def headers(self) -> dict[str, str]:
        accepted = {"accept": "text/event-stream, application/json", "user-agent": "dpo-doctor"}
        return {**accepted, "authorization": f"Bearer {self._key}"} if self._key else accepted

    @property
    def trust_env(self) -> bool:
        """Whether proxies of the environment are used: not for this machine, whatever NO_PROXY says."""
        return not (urlsplit(self.url).hostname or "").startswith(_LOOPBACK)

    @property
    def unknown(self) -> frozenset[str]:
        """Fields that the server has refused by name."""
        return frozenset(self._unknown)

    def without(self, name: str) -> bool:
        """Leave `name` out from now on. Whether that is new."""
        new = name not in self._unknown
        self._unknown.add(name)
        return new

    def body(self, ask: Ask) -> bytes:
        """The request as JSON. ASCII, so that half a surrogate pair of a broken file is the server's to judge."""
        prompt = {"prompt": ask.prompt} if isinstance(ask.prompt, str) else {"messages": list(ask.prompt)}
        whole = {"model": self.model, **prompt, **ask.fields}
        if ask.seed is not None:
            whole["seed"] = ask.seed
        whole |= {"stream": True, "stream_options": {"include_usage": True}}
        renamed = load_config(CONFIG)["renamed"]
        for name in self._unknown:
            if name in whole:
                value = whole.pop(name)
                if name in renamed:
                    whole[renamed[name]] = value
        return json.dumps(whole).encode()

    def one_line(self, text: str) -> str:
        """What a server or library says, short, in one line and without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join(text.split())
        return text if len(text) <= MAX_DETAIL else text[:MAX_DETAIL] + "…"


def field_names(parameters: Mapping[str, Any], *, thinking: bool | None = None) -> dict[str, Any]:
    """A strategy's parameters as fields of a request. thinking: False or True to ask for it where a template knows it.

    Raises Refused for what the protocol doesn't have.
    """
    known = load_config(CONFIG)["fields"]
    fields: dict[str, Any] = {}
    for name, value in parameters.items():
        if value is None or name == "do_sample" or (name == "num_beams" and value == 1):
            continue
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.0))
            raise Refused("endpoint_parameter", name=name, near=near)
        # -1 takes all of the vocabulary everywhere, 0 not in older vLLM; left out, a server puts in the model's own.
        fields[known[name]] = -1 if name == "top_k" and value == 0 else value
    if parameters.get("do_sample") is False:
        fields = {name: value for name, value in fields.items() if name not in ("top_p", "top_k", "min_p")}
        fields["temperature"] = 0.0
    if thinking is not None:
        fields["chat_template_kwargs"] = {"enable_thinking": thinking}
    return fields


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, by configs/endpoints.yaml."""
    rates = load_config(CONFIG)["characters_per_token"]
    han = sum(script_of(char) in ("han", "kana", "hangul") for char in text)
    return round(han / rates["han"] + (len(text) - han) / rates["other"])


def said_by(error: BaseException) -> str:
    """One phrase for what a connection failed of: httpx2 leaves many messages empty."""
    name = type(error).__name__
    return f"{name}: {error}" if str(error) else name


def _checked_url(url: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise Refused("endpoint_url_wrong", url=url) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() for c in url.strip()):
        raise Refused("endpoint_url_wrong", url=url)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    if "@" in parts.netloc or parts.query:  # may hold a password or a key, so it isn't shown
        raise Refused("endpoint_url_secret", url=place)
    path = parts.path.rstrip("/")
    for route in _ROUTES:
        path = path.removesuffix(route)
    return place + path.rstrip("/"), parts.fragment or None


@cache
def _hugging_face_hosts() -> tuple[str, ...]:
    return tuple(load_config(CONFIG)["hugging_face_hosts"])


def _key_variable(url: str) -> str:
    host = urlsplit(url).hostname or ""
    variables = load_config(CONFIG)["key_variables"]
    ours = any(host == name or host.endswith(f".{name}") for name in _hugging_face_hosts())
    return str(variables["hugging_face" if ours else "other"])


def _read_key(variable: str, *, needed: bool) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not key:
        if needed:
            raise Refused("endpoint_key_empty", variable=variable)
        return None
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise Refused("endpoint_key_unusable", variable=variable)
    return key


def _names(body: Any) -> list[str] | None:
    """Of {"data": [{"id": ...}]}; Ollama's own and others are none."""
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
        return None
    return [str(entry["id"]) for entry in body["data"] if isinstance(entry, Mapping) and entry.get("id")]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" … ({len(names)})" if len(names) > 8 else "")
