"""Bytes of a log to whole lines in UTF-8, whatever they were written in and however they come in."""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Final

from pipeline.instruction_rows import FIRST_BYTES, encoding_of

GZIP: Final = b"\x1f\x8b"
# A line longer than this is no line of a log: its rest is passed over.
MAX_LINE = 2**20
_COLOURS = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])")
_BAR = re.compile(rb"\|[ #]*(?:\xe2\x96[\x80-\x9f])+[ #]*\|")  # the bar of tqdm, of another length in each line
# Longest bytes that the end of a piece may hold of an unfinished escape sequence.
_ESCAPE_TAIL = 300


class RawText:
    """Takes pieces of a file and gives blocks of whole lines: UTF-8, `\\n` at the end of each, no terminal colours.

    What comes out does not depend on where the pieces were cut. encoding: known after the first piece; None while
    nothing was read. `broken` when compressed data ends or is damaged; `long_lines` counts lines cut at MAX_LINE.
    """

    def __init__(self) -> None:
        self.encoding: str | None = None
        self.not_text = False
        self.broken = False
        self.long_lines = 0
        self._head = b""
        self._gzip: zlib._Decompress | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = b""
        self._skipping = False

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """Whole lines that are complete by now; with `last` also the unfinished one at the end."""
        if self.not_text:
            return b""
        if self.encoding is None:
            self._head += piece
            if len(self._head) < FIRST_BYTES and not last:
                return b""
            piece, self._head = self._head, b""
            if piece.startswith(GZIP):
                self._gzip = zlib.decompressobj(wbits=31)
            if self._gzip is not None:
                piece = self._unpacked(piece)
            self.encoding = self._recognised(piece)
            if self.encoding is None:
                self.not_text = True
                return b""
            if self.encoding != "utf-8":
                self._decoder = codecs.getincrementaldecoder(self.encoding)(errors="replace")
            else:
                piece = piece.removeprefix(codecs.BOM_UTF8)
        elif self._gzip is not None:
            piece = self._unpacked(piece)
        if self._decoder is not None:
            piece = self._decoder.decode(piece, last).encode("utf-8", errors="replace")
        return self._lines(piece, last)

    def _recognised(self, first: bytes) -> str | None:
        found = encoding_of(first[:FIRST_BYTES])
        if found != "utf-8-sig":
            return found
        for cut in range(4):  # the piece may end inside a character
            try:
                first[: len(first) - cut].decode("utf-8")
                return "utf-8"
            except UnicodeDecodeError:
                continue
        try:  # Chinese Windows writes GBK; single bytes above 127 in a UTF-8 text are damage, not another encoding
            decoder = codecs.getincrementaldecoder("gb18030")()
            text = decoder.decode(first)
        except UnicodeDecodeError:
            return "utf-8"
        chinese = sum("\u4e00" <= c <= "\u9fff" for c in text)
        return "gb18030" if chinese >= max(2, sum(ord(c) > 127 for c in text) / 2) else "utf-8"

    def _unpacked(self, piece: bytes) -> bytes:
        assert self._gzip is not None
        out = []
        try:
            while piece:
                out.append(self._gzip.decompress(piece))
                piece = self._gzip.unused_data
                if not piece.startswith(GZIP):
                    break
                self._gzip = zlib.decompressobj(wbits=31)  # several members in a row, as `cat a.gz b.gz` makes
        except zlib.error:
            self.broken = True
        return b"".join(out)

    def _lines(self, piece: bytes, last: bool) -> bytes:
        if self._skipping:
            at = min((i for i in (piece.find(b"\n"), piece.find(b"\r")) if i >= 0), default=-1)
            if at < 0:
                return b""
            piece, self._skipping = piece[at:], False
        text = self._rest + piece
        if last:
            self._rest, text = b"", text + b"\n" if text else b""
        else:
            end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
            text, self._rest = text[:end], text[end:]
            if len(self._rest) > MAX_LINE:
                self.long_lines += 1
                self._skipping = True
                text, self._rest = text + self._rest[:MAX_LINE] + b"\n", b""
        if b"\r" in text:
            text = text.replace(b"\r", b"\n")  # tqdm rewrites its line; an empty line more does no harm
        if b"\x1b" in text:
            text = _COLOURS.sub(b"", text)
        if b"\xe2\x96" in text:
            text = _BAR.sub(b"||", text)
        if b"\0" in text:
            text = text.replace(b"\0", b"")
        return text
