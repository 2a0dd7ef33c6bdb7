"""Speak a sentence and hear it again, word for word.

Run: `make install WITH="audio speech"`, `foundry deployments add whisper-tiny`, `foundry deployments add piper-joe`, wait until
`foundry deployments list` says ready, then `eval "$(foundry env)" && python examples/speech.py`
"""

from openai import OpenAI

SENTENCE = "The quick brown fox jumps over the lazy dog."

client = OpenAI()
spoken = client.audio.speech.create(
    model="piper-joe", voice="joe", input=SENTENCE, response_format="mp3"
).content
heard = client.audio.transcriptions.create(model="whisper-tiny-en", file=("sentence.mp3", spoken))
print(f"said:  {SENTENCE}  ({len(spoken):,} bytes of mp3)")
print(f"heard: {heard.text}")
