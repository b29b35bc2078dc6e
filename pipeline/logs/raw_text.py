"""Bytes of a log to whole lines in UTF-8, whatever they were written in and however they come in."""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Final

from pipeline.record_files import GZIP, encoding_of

# A line longer than this is no line of a log: its rest is passed over.
MAX_LINE = 2**20
HEAD: Final = 2**16  # bytes by which the encoding is told
# Compressed data that grows beyond both of these is no log: repeated bars shrink to a hundredth at most.
_UNPACKED_AT_ONCE = 1024
MAX_RATIO, MAX_UNPACKED = 300, 2**26
_COLOURS = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])")


class RawText:
    """Takes pieces of a file and gives blocks of whole lines: UTF-8, `\\n` at the end of each, no terminal colours.

    What comes out does not depend on where the pieces were cut. encoding: known after the first piece; None while
    nothing was read. `broken` when compressed data ends or is damaged; `long_lines` counts lines cut at MAX_LINE.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self.max_line = max_line
        self.encoding: str | None = None
        self.not_text = False
        self.broken = False
        self.long_lines = 0
        self._head = b""
        self.too_much = False
        self._packed = self._unpacked_bytes = 0
        self._gzip: zlib._Decompress | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = b""
        self._skipping = False
        self._carriage = False

    def feed(self, piece: bytes, *, last: bool = False, decide: bool = False) -> bytes:
        """Whole lines that are complete by now; with `last` also the unfinished one at the end. decide: tell the
        encoding by what is there, though more may follow."""
        if self.not_text:
            return b""
        if self.encoding is None:
            self._head += piece
            if len(self._head) < HEAD and not last and not decide:
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
        if last and self._gzip is not None and not self._gzip.eof:
            self.broken = True
        if self._decoder is not None:
            piece = self._decoder.decode(piece, last).encode("utf-8", errors="replace")
        return self._lines(piece, last)

    def _recognised(self, first: bytes) -> str | None:
        first = first[:HEAD]
        found = encoding_of(first)
        if found != "utf-8-sig":
            return found
        text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(first)  # it may end inside a character
        foreign = sum(c > "\x7f" for c in text) if not first.isascii() else 0
        if text.count("\ufffd") * 4 <= foreign:  # single bytes above 127 in a UTF-8 text are damage
            return "utf-8"
        try:  # Chinese Windows writes GBK
            text = codecs.getincrementaldecoder("gb18030")().decode(first)
        except UnicodeDecodeError:
            return "utf-8"
        chinese = sum("\u4e00" <= c <= "\u9fff" for c in text)
        return "gb18030" if chinese >= max(2, sum(ord(c) > 127 for c in text) / 2) else "utf-8"

    def _unpacked(self, piece: bytes) -> bytes:
        out: list[bytes] = []
        self._packed += len(piece)
        for start in range(0, len(piece), _UNPACKED_AT_ONCE):  # what stands before a damaged place is kept
            if self.broken or self.too_much:
                break
            self._unpack(piece[start : start + _UNPACKED_AT_ONCE], out)
        return b"".join(out)

    def _unpack(self, piece: bytes, out: list[bytes]) -> None:
        assert self._gzip is not None
        try:
            while piece:
                left = max(MAX_UNPACKED, MAX_RATIO * self._packed) - self._unpacked_bytes
                out.append(self._gzip.decompress(piece, max(1, left)))
                self._unpacked_bytes += len(out[-1])
                if self._gzip.unconsumed_tail:
                    self.too_much = True
                    return
                piece = self._gzip.unused_data
                if not piece.startswith(GZIP):
                    return
                self._gzip = zlib.decompressobj(wbits=31)  # several members in a row, as `cat a.gz b.gz` makes
        except zlib.error:
            self.broken = True

    def _lines(self, piece: bytes, last: bool) -> bytes:
        """Whole lines. Carriage returns end lines too (tqdm rewrites its line); with a line feed they are one end."""
        if self._carriage:
            piece = b"\r" + piece
        self._carriage = not last and piece.endswith(b"\r")
        if self._carriage:
            piece = piece[:-1]
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._skipping:
            at = piece.find(b"\n")
            if at < 0:
                return b""
            piece, self._skipping = piece[at + 1 :], False
        end = piece.rfind(b"\n") + 1
        if last and (end < len(piece) or (not end and self._rest)):
            piece += b"\n"
            end = len(piece)
        if not end:
            self._rest += piece
            text = b""
        else:
            text, self._rest = self._rest + piece[:end], piece[end:]
            if len(text) > self.max_line:
                text = self._shortened(text)
        if len(self._rest) > self.max_line:
            self.long_lines += 1
            self._skipping = True
            text, self._rest = text + self._rest[: self.max_line] + b"\n", b""
        if b"\x1b" in text:
            text = _COLOURS.sub(b"", text)
        if b"\0" in text:
            text = text.replace(b"\0", b"")
        return text

    def _shortened(self, text: bytes) -> bytes:
        """Whole lines without what is behind the longest allowed of each."""
        parts, at = [], 0
        while len(text) - at > self.max_line:
            end = text.rfind(b"\n", at, at + self.max_line + 1) + 1
            if end:
                parts.append(text[at:end])
                at = end
                continue
            self.long_lines += 1
            parts.append(text[at : at + self.max_line] + b"\n")
            at = text.index(b"\n", at) + 1
        return b"".join([*parts, text[at:]])
