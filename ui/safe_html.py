"""Builds HTML in which nothing that came from outside can be more than text."""

from __future__ import annotations

import html
import re
from typing import Any

from diagnostics.render import visible

# How special tokens look in escaped text: <|im_end|>, </s>, <pad>, [EOS], <0x0A>, <extra_id_0>, <start_of_turn>.
SPECIAL_TOKEN = (
    r"&lt;\|[^\s|]{1,40}\|&gt;|&lt;/?[A-Za-z0-9_]{1,24}&gt;"
    r"|\[/?(?:EOS|BOS|PAD|UNK|SEP|CLS|INST|SYS|MASK|gMASK|sMASK)\]"
)
_SPECIAL = re.compile(SPECIAL_TOKEN)
_CODE = re.compile(rf"`([^`]{{1,400}})`|({SPECIAL_TOKEN})")


def text(value: Any) -> str:
    """Any value as text that HTML shows literally, control and bidirectional characters made visible."""
    # the page translates `__i18n__{...}` in whatever a handler returns
    return html.escape(visible(str(value)), quote=True).replace("__i18n__", "&#95;_i18n__")


def prose(value: Any) -> str:
    """A sentence: escaped, with back-quoted parts and special tokens as code."""
    return _CODE.sub(lambda match: f"<code>{match.group(1) or match.group(2)}</code>", text(value))


def with_specials(value: Any) -> str:
    """Text of a model: escaped, with what looks like a special token marked."""
    return _SPECIAL.sub(lambda match: f"<mark>{match.group()}</mark>", text(value))


def tag(name: str, css: str = "", /, *inner: str, **attributes: Any) -> str:
    """One element. css: its classes. inner: HTML made by these functions. attributes: escaped here, `data_x` is
    written `data-x`; True stands without a value, None and False are left out."""
    parts = [name]
    if css:
        parts.append(f'class="{text(css)}"')
    for key, value in attributes.items():
        written = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(written)
        elif value is not None and value is not False:
            parts.append(f'{written}="{text(value)}"')
    return f"<{' '.join(parts)}>{''.join(inner)}</{name}>"
