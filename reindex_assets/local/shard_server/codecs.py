"""HTTP content codings, both ways and by chunks: gzip, deflate, br, zstd and lz4.

Not here: chunked transfer encoding (request.py reads it, server.py writes it) and ClickHouse's own block compression.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from reindex_assets.local.shard_server.errors import ServerError

# The cheapest first: a shard shares its machine with its client.
_PREFERENCE = ("lz4", "zstd", "gzip", "br", "deflate")


class Encoder(Protocol):
    """Compresses a response piece by piece."""

    def feed(self, data: bytes) -> bytes:
        """Take some bytes, give those that are ready."""

    def close(self) -> bytes:
        """The rest."""


class _FramedDecoder(Protocol):
    """What the decompressor objects of lz4, zstandard and zlib have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def decoded(chunks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """The plain bytes of a body in this content coding; a body cut short is an error, never a short body."""
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
    """Clients compress block by block, so a body is a row of frames."""
    decoder: _FramedDecoder | None = None
    for chunk in chunks:
        data = chunk
        while data:
            decoder = decoder or new()
            try:
                plain = decoder.decompress(data)
            except Exception as error:  # each library has an error class of its own
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
    """The coding to answer in: the cheapest that the client accepts, or an empty string.

    >>> accepted("gzip, zstd;q=0.5, br")
    'zstd'
    """
    offered = {part.partition(";")[0].strip().lower() for part in accept_encoding.split(",")}
    return next((coding for coding in _PREFERENCE if coding in offered), "")


def encoder(coding: str) -> Encoder:
    """A fresh encoder for one response."""
    if coding == "lz4":
        return _Lz4Encoder()
    if coding == "zstd":
        import zstandard

        return _FlushEncoder(zstandard.ZstdCompressor(level=1).compressobj())
    if coding == "br":
        return _BrotliEncoder()
    return _FlushEncoder(zlib.compressobj(level=1, wbits=31 if coding == "gzip" else 15))


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _FlushEncoder:
    """zlib and zstandard: compress, then flush."""

    def __init__(self, compressor: _Compressor) -> None:
        self._compressor = compressor

    def feed(self, data: bytes) -> bytes:
        return self._compressor.compress(data)

    def close(self) -> bytes:
        return self._compressor.flush()


class _Lz4Encoder:
    """One frame over the whole response."""

    def __init__(self) -> None:
        import lz4.frame

        self._compressor = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        head = b"" if self._begun else self._compressor.begin()
        self._begun = True
        return bytes(head + self._compressor.compress(data))

    def close(self) -> bytes:
        head = b"" if self._begun else self._compressor.begin()
        return bytes(head + self._compressor.flush())


class _BrotliEncoder:
    def __init__(self) -> None:
        import brotli

        self._compressor = brotli.Compressor(quality=1)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._compressor.process(data))

    def close(self) -> bytes:
        return bytes(self._compressor.finish())
