"""Data sets of the Hub: which may be read here, and pushing a set of pairs to one.

In public the login of the machine is nobody's to use: only what is open to all is read, and pushed with the visitor's
own token.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline.hub_files import TIMEOUT_SECONDS, why_no_answer
from pipeline.pairs.hub_pairs import hub_id
from ui.allowed_paths import is_public
from ui.visitor_case import BadCase

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
FILE_IN_REPO = re.compile(r"[\w.-]{1,80}(/[\w.-]{1,80}){0,4}")


def check_open(given: str) -> None:
    """In public: only what anyone may read. Raises BadCase, Refused."""
    found = hub_id(given)
    if not is_public() or found is None:
        return
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi(token=False).dataset_info(found.repo, revision=found.revision, timeout=TIMEOUT_SECONDS)
    except errors.HfHubHTTPError:
        raise BadCase("pairs_hub_not_open", repo=found.repo) from None
    except Exception as failed:
        raise BadCase("bad_setting", error=why_no_answer(failed)) from failed  # type: ignore[arg-type]
    if info.private or info.gated:
        raise BadCase("pairs_hub_not_open", repo=found.repo)


def check_target(repo: Any, file: Any, token: Any) -> tuple[str, str, str]:
    """(repository, path in it, token) as typed. Raises BadCase."""
    repo, file, token = (str(v or "").strip() if isinstance(v, str) else "" for v in (repo, file, token))
    if not REPO.fullmatch(repo):
        raise BadCase("pairs_push_no_repo")
    if not FILE_IN_REPO.fullmatch(file) or ".." in file:
        raise BadCase("pairs_push_no_file")
    if token and (len(token) > 400 or not token.isascii() or not token.isprintable() or " " in token):
        raise BadCase("pairs_push_bad_token")
    if not token and is_public():
        raise BadCase("pairs_push_no_token")
    return repo, file, token


def push(path: Path, repo: str, file: str, token: str, private: bool) -> str:
    """Upload one file into a data set, which is made where there is none. Returns its address. Raises BadCase.

    token: used for this upload and kept nowhere; empty takes the machine's login.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token or None)
    try:
        made = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_file(path_or_fileobj=path, path_in_repo=file, repo_id=repo, repo_type="dataset",
                        commit_message="Preference pairs from DPO Doctor")  # fmt: skip
    except Exception as failed:
        raise _said(repo, failed, token) from None  # the cause may hold headers
    return str(made)


def _said(repo: str, failed: Exception, token: str) -> BadCase:
    """The line for a push that failed. Whatever a server says is shown without the token."""
    from huggingface_hub import constants, errors

    status = failed.response.status_code if isinstance(failed, errors.HfHubHTTPError) else 0
    if status == 401 or type(failed).__name__ == "LocalTokenNotFoundError":
        return BadCase("pairs_push_unknown_token", hub=constants.ENDPOINT)
    if status in (403, 404):
        return BadCase("pairs_push_forbidden", repo=repo, hub=constants.ENDPOINT)
    why = why_no_answer(failed)
    if token and token in str(why):
        why = str(why).replace(token, "…")
    return BadCase("pairs_push_failed", hub=constants.ENDPOINT, why=why)  # type: ignore[arg-type]
