"""The process that speaks: piper (GPL-3.0, an optional extra) alone, with pipes for ears and mouth.

    python -m serve_apps.piper_process VOICE.onnx --threads N        (serve_apps/speech.py starts it)

Standard input: one JSON object a line, `{"id", "text", "length_scale", "noise_scale", "noise_w_scale", "speaker"}` or `{"cancel": id}`.
Standard output: frames of `FRAME` and a payload: 16-bit mono samples sentence by sentence, then the end or an error. It ends with its
standard input, so it never outlives its replica. What it does not know: HTTP, formats, who asks.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import struct
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

FRAME = struct.Struct("<IBI")
"""Request id, kind, bytes of payload."""
READY, SOUND, END, ERROR = range(4)
"""Kinds: what the voice is, as JSON (id 0) · samples · the whole text was spoken · why it was not, as text."""
Request = dict[str, Any]  # Any: JSON, written by serve_apps/speech.py


class Speaker:
    """One voice and the requests that wait for it."""

    def __init__(self, model: Path, threads: int, out: BinaryIO) -> None:
        import onnxruntime  # noqa: PLC0415 (the replica imports this module for its constants only)
        from piper import PiperVoice  # noqa: PLC0415 (as above)
        from piper.config import PiperConfig  # noqa: PLC0415 (as above)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        config = PiperConfig.from_dict(json.loads(Path(f"{model}.json").read_text(encoding="utf-8")))
        self._voice = PiperVoice(session=session, config=config)
        self._out = out
        self._waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        ready = {
            "sample_rate_hz": config.sample_rate,
            "speakers": dict(config.speaker_id_map),
            "length_scale": config.length_scale,
        }
        self._send(0, READY, json.dumps(ready).encode())

    def listen(self, lines: BinaryIO) -> None:
        """Take requests until the input ends, and the process with it."""
        for line in lines:
            request: Request = json.loads(line)
            if "cancel" in request:
                self._cancelled.add(request["cancel"])
            else:
                self._waiting.put(request)
        os._exit(0)

    def run(self) -> None:
        """Speak one request after the other, for ever."""
        while True:
            request = self._waiting.get()
            number: int = request["id"]
            try:
                self._speak(number, request)
            except (ValueError, RuntimeError, KeyError) as error:  # piper's and onnxruntime's own
                self._send(number, ERROR, f"{type(error).__name__}: {error}".encode())
            self._cancelled.discard(number)

    def _speak(self, number: int, request: Request) -> None:
        from piper import SynthesisConfig  # noqa: PLC0415 (see above)

        how = SynthesisConfig(
            speaker_id=request["speaker"],
            length_scale=request["length_scale"],
            noise_scale=request["noise_scale"],
            noise_w_scale=request["noise_w_scale"],
        )
        for sentence in self._voice.synthesize(request["text"], how):
            if number in self._cancelled:
                break
            self._send(number, SOUND, sentence.audio_int16_bytes)
        self._send(number, END, b"")

    def _send(self, number: int, kind: int, payload: bytes) -> None:
        self._out.write(FRAME.pack(number, kind, len(payload)) + payload)
        self._out.flush()


def main() -> None:
    """Load the voice, say so, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get between the frames
    speaker = Speaker(options.model, options.threads, out)
    threading.Thread(target=speaker.listen, args=(sys.stdin.buffer,), daemon=True).start()
    speaker.run()


if __name__ == "__main__":
    main()
