"""Sound files to samples and back, through PyAV (FFmpeg in a wheel). What it does not know: models, HTTP.

Encoding is a stream: what is known of a sound is written before the rest is there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from foundry.errors import InvalidParameter

WHISPER_RATE_HZ = 16_000
"""What Whisper listens to."""
LONGEST_S = 2 * 3600
"""Longer sound is refused: an hour is 230 MB of samples."""


@dataclass(frozen=True)
class Format:
    """One output format: FFmpeg's names of container and codec, and the type that callers see."""

    container: str
    codec: str
    content_type: str
    rate_hz: int | None = None
    """Samples a second when the format fixes them; None: the voice's own."""


FORMATS = {
    "mp3": Format("mp3", "libmp3lame", "audio/mpeg"),
    "opus": Format("ogg", "libopus", "audio/ogg", rate_hz=48_000),
    "aac": Format("adts", "aac", "audio/aac"),
    "flac": Format("flac", "flac", "audio/flac"),
    "wav": Format("wav", "pcm_s16le", "audio/wav"),
    "pcm": Format(
        "s16le", "pcm_s16le", "audio/pcm", rate_hz=24_000
    ),  # OpenAI's: 24 kHz, 16 bit, mono, no header
}
"""OpenAI's `response_format` to how it is made."""


def decode(data: bytes) -> NDArray[np.float32]:
    """Samples at 16 kHz, mono, -1 to 1. Raises InvalidParameter when it is no sound that FFmpeg reads, or too long."""
    resampler = AudioResampler(format="s16", layout="mono", rate=WHISPER_RATE_HZ)
    pieces: list[NDArray[np.int16]] = []
    left = LONGEST_S * WHISPER_RATE_HZ
    try:
        with av.open(io.BytesIO(data), mode="r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise InvalidParameter("the file has no sound in it", param="file")
            for piece in _samples(container, resampler):
                left -= piece.size
                if left < 0:
                    raise InvalidParameter(f"the file is longer than {LONGEST_S} s: cut it", param="file")
                pieces.append(piece)
    except (FFmpegError, ValueError) as error:
        raise InvalidParameter(
            f"the file cannot be read as sound ({error}): send flac, mp3, mp4, m4a, ogg, wav or webm",
            param="file",
        ) from error
    if not pieces:
        raise InvalidParameter("the file has no sound in it", param="file")
    return np.concatenate(pieces).astype(np.float32) / 32768.0


def _samples(container: InputContainer, resampler: AudioResampler) -> Iterator[NDArray[np.int16]]:
    for frame in container.decode(audio=0):
        frame.pts = None  # broken times would make the resampler refuse it
        for made in resampler.resample(frame):
            yield made.to_ndarray().reshape(-1).astype(np.int16, copy=False)
    for made in resampler.resample(None):
        yield made.to_ndarray().reshape(-1).astype(np.int16, copy=False)


class _Sink:
    """A file that is only written to: what was written is taken out piece by piece."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


class Encoder:
    """One sound on its way out. rate_hz: of the samples that are fed."""

    def __init__(self, made_as: Format, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        rate = made_as.rate_hz or rate_hz
        self._sink = _Sink()
        self._container = av.open(self._sink, mode="w", format=made_as.container)
        stream = self._container.add_stream(made_as.codec, rate=rate, layout="mono")
        assert isinstance(stream, AudioStream)  # noqa: S101  every codec in FORMATS is of sound
        self._stream = stream
        self._resampler = AudioResampler(format="s16", layout="mono", rate=rate)

    def feed(self, pcm: bytes) -> bytes:
        """16-bit mono samples in, finished bytes out."""
        samples = np.frombuffer(pcm, dtype=np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate_hz
        frame.pts = None
        self._encode(frame)
        return self._sink.take()

    def close(self) -> bytes:
        """The rest."""
        self._encode(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for made in self._resampler.resample(frame):
            made.pts = None
            self._container.mux(self._stream.encode(made))
