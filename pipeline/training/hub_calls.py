"""Questions to the Hub that end: in an answer, or in one line of what to do, with a time limit and without the token.

Only the token that was given is used; the machine's own login is read by `own_token` and nowhere else.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config_files import load_config
from pipeline.hub_files import why_no_answer
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
_TOKEN_FORM = re.compile(r"[\x21-\x7e]{4,4096}")
# User access tokens, and those of a login through the browser
_LIKE_TOKEN = re.compile(r"hf_(?:oauth_|jwt_)[\w.-]{10,}|hf_[A-Za-z0-9]{30,}")
_NO_MONEY = re.compile(r"payment method|credit|billing|balance", re.IGNORECASE)
_HARDWARE = re.compile(r"flavor|hardware", re.IGNORECASE)
_SECRET_FIELDS = ("hub_token", "push_to_hub_token")
HIDDEN = "hf_***"


class Unsure(Exception):
    """No answer came: what was asked may have been done."""


def settings() -> dict[str, Any]:
    """configs/hub_jobs.yaml."""
    return dict(load_config("hub_jobs.yaml"))


def own_token() -> str:
    """The login of this machine, for whoever runs the app for themselves. Raises Refused where there is none."""
    from huggingface_hub import get_token

    return usable_token(get_token())


def usable_token(token: str | None) -> str:
    """Raises Refused for none, and for one that no header can carry (its characters would be shown by the error)."""
    if not token:
        raise Refused("hub_jobs_no_token")
    if not _TOKEN_FORM.fullmatch(token):
        raise Refused("hub_jobs_token_form")
    return token


def hidden(text: str, token: str) -> str:
    """Without this token, and without anything that looks like one."""
    return _LIKE_TOKEN.sub(HIDDEN, text.replace(token, HIDDEN) if token else text)


def api(token: str | None, endpoint: str | None = None) -> HfApi:
    """A client that sends this token, none where None: never the machine's own."""
    from huggingface_hub import HfApi, get_session

    session = get_session()
    if session.timeout.read is None:  # the library sets no limit for jobs: a silent server would be waited for forever
        session.timeout = settings()["stall_seconds"]
    return HfApi(endpoint=endpoint, token=usable_token(token) if token is not None else False)


def asked(question: Callable[[], T], token: str, *, seconds: float | None = None, tries: int | None = None) -> T:
    """The answer. Raises Refused. tries: 1 for what must not be done twice."""
    limits = settings()
    wait = float(limits["wait_seconds"])
    left = int(limits["tries"] if tries is None else tries)
    while True:
        left -= 1
        try:
            return once(question, token, seconds=seconds)
        except Unsure as unsure:
            if left <= 0:
                raise Refused("hub_jobs_no_answer", hub=_hub(), reason=unsure.args[0]) from None
        time.sleep(wait)
        wait *= 2


def once(question: Callable[[], T], token: str, *, seconds: float | None = None) -> T:
    """The answer to one try. Raises Refused for a no, Unsure where it isn't known whether it was done."""
    limit = float(settings()["call_seconds"]) if seconds is None else seconds
    got: list[T] = []
    wrong: list[Exception] = []

    def ask() -> None:
        try:
            got.append(question())
        except Exception as failed:  # the transport's own classes, the library's, and answers that are no Hub's
            wrong.append(failed)

    thread = threading.Thread(target=ask, daemon=True, name="hub-question")
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        raise Unsure(Sentence("hub_jobs_reason_slow", {"seconds": f"{limit:g}"}))
    if wrong:
        # not chained: the library's exceptions carry the request with its headers
        raise said(wrong[0], token) from None
    return got[0]


def said(failed: Exception, token: str) -> Refused | Unsure:
    """What a failure of the library means to the user."""
    from huggingface_hub import errors

    if isinstance(failed, (Refused, Unsure)):
        return failed
    status = failed.response.status_code if isinstance(failed, errors.HfHubHTTPError) else 0
    detail = hidden(_detail(failed), token)
    if isinstance(failed, errors.JobNotFoundError):
        return Refused("hub_jobs_gone", job=hidden(str(getattr(failed, "job_id", "") or "-"), token))
    if status == 401 and not isinstance(failed, errors.RepositoryNotFoundError):
        return Refused("hub_jobs_token_refused", hub=_hub())
    if status == 402 or (status == 403 and _NO_MONEY.search(detail)):
        return Refused("hub_jobs_no_credit", hub=_hub(), detail=detail or "-")
    if status == 403:
        return Refused("hub_jobs_forbidden", hub=_hub(), detail=detail or "-")
    if status in (401, 404):
        return Refused("hub_jobs_not_found", hub=_hub(), detail=detail or "-")
    if status == 429:
        return Refused("hub_jobs_rate_limit", seconds=_pause(failed))
    if 400 <= status < 500 and status != 408:
        entry = "hub_jobs_hardware_refused" if _HARDWARE.search(detail) else "hub_jobs_refused"
        return Refused(entry, hub=_hub(), detail=detail or f"HTTP {status}")
    return Unsure(_clean(why_no_answer(failed), token))


def _clean(reason: Sentence | str, token: str) -> Sentence | str:
    if isinstance(reason, str):
        return hidden(reason, token)
    return Sentence(reason.entry, {k: hidden(str(v), token) for k, v in reason.params.items()}, reason.words)


def _detail(failed: Exception) -> str:
    text = str(getattr(failed, "server_message", None) or "").strip()
    return (text.splitlines() or [""])[0][:300]


def _pause(failed: Exception) -> int:
    """Seconds until the Hub answers again; a minute where it doesn't say."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    headers = getattr(getattr(failed, "response", None), "headers", {})
    told = parse_ratelimit_headers(headers)
    after = str(headers.get("retry-after", ""))
    return told.reset_in_seconds if told is not None else int(after) if after.isdigit() else 60


def _hub() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def holds_secret(chunk: str, token: str) -> bool:
    """Whether a text has this token in it, or something of a token's form."""
    return token in chunk or _LIKE_TOKEN.search(chunk) is not None


def secret_fields() -> tuple[str, ...]:
    """Fields of a recipe that would carry a token into a file."""
    return _SECRET_FIELDS
