"""HTTP content codings: gzip, deflate, br, zstd and lz4.

What lives here: decoding and encoding chunk by chunk. What does not: the chunked transfer encoding (request.py reads it, answers.py writes
it), and ClickHouse's own block compression.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from reindex_assets.local.shard_server.errors import ServerError

# The cheapest first, because a shard shares its machine with its client.
_PREFERENCE = ("lz4", "zstd", "gzip", "br", "deflate")


class Encoder:
    """Compresses a response piece by piece."""

    def __init__(self, compress: Callable[[bytes], bytes], flush: Callable[[], bytes], head: bytes = b"") -> None:
        self._compress = compress
        self._flush = flush
        self._head = head

    def feed(self, data: bytes) -> bytes:
        """Takes some bytes, and returns those that are ready."""
        head, self._head = self._head, b""
        return head + self._compress(data)

    def close(self) -> bytes:
        """Returns the rest."""
        return self._head + self._flush()


class _FramedDecoder(Protocol):
    """The common interface of the decompressors of lz4, zstandard and zlib."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def decoded(chunks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """The plain bytes of a body in this content coding; a truncated body is an error."""
    if coding in ("", "identity"):
        return iter(chunks)
    if coding == "br":
        return _brotli_decoded(chunks)
    new = _decoder_factory(coding)
    if new is None:
        raise ServerError(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown content encoding {coding!r}")
    return _frames_decoded(chunks, new, coding)


def _decoder_factory(coding: str) -> Callable[[], _FramedDecoder] | None:
    if coding == "gzip":
        return lambda: zlib.decompressobj(wbits=31)
    if coding == "deflate":
        return lambda: zlib.decompressobj()
    if coding == "lz4":
        import lz4.frame

        return lz4.frame.LZ4FrameDecompressor  # type: ignore[no-any-return]
    if coding == "zstd":
        import zstandard

        return lambda: zstandard.ZstdDecompressor().decompressobj()
    return None


def _frames_decoded(chunks: Iterable[bytes], new: Callable[[], _FramedDecoder], coding: str) -> Iterator[bytes]:
    """Clients compress block by block, so a body is a sequence of frames."""
    decoder: _FramedDecoder | None = None
    for chunk in chunks:
        data = chunk
        while data:
            decoder = decoder or new()
            try:
                plain = decoder.decompress(data)
            except Exception as error:  # each library has its own error class
                raise _broken(coding, str(error)) from error
            data = b""
            if decoder.eof:
                data = decoder.unused_data or b""
                decoder = None
            if plain:
                yield plain
    if decoder is not None:
        raise _broken(coding, "the body ends within a frame")


def _brotli_decoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    import brotli

    decoder = brotli.Decompressor()
    for chunk in chunks:
        try:
            plain = decoder.process(chunk)
        except brotli.error as error:
            raise _broken("br", str(error)) from error
        if plain:
            yield plain
    if not decoder.is_finished():
        raise _broken("br", "the body ends within a frame")


def _broken(coding: str, why: str) -> ServerError:
    return ServerError(271, "CANNOT_DECOMPRESS", f"Cannot decompress the {coding} body: {why}")


def accepted(accept_encoding: str) -> str:
    """The coding of the answer: the cheapest that the client accepts, or an empty string.

    >>> accepted("gzip, zstd;q=0.5, br")
    'zstd'
    """
    offered = {part.partition(";")[0].strip().lower() for part in accept_encoding.split(",")}
    return next((coding for coding in _PREFERENCE if coding in offered), "")


def encoder(coding: str) -> Encoder:
    """A new encoder for one response; an empty coding leaves the bytes as they are."""
    if not coding:
        return Encoder(lambda data: data, bytes)
    if coding == "lz4":
        import lz4.frame

        frame = lz4.frame.LZ4FrameCompressor()
        return Encoder(frame.compress, frame.flush, frame.begin())
    if coding == "zstd":
        import zstandard

        stream = zstandard.ZstdCompressor(level=1).compressobj()
        return Encoder(stream.compress, stream.flush)
    if coding == "br":
        import brotli

        compressor = brotli.Compressor(quality=1)
        return Encoder(compressor.process, compressor.finish)
    deflate = zlib.compressobj(level=1, wbits=31 if coding == "gzip" else 15)
    return Encoder(deflate.compress, deflate.flush)
