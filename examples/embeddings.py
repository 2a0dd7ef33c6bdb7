"""Embed three sentences: paraphrases lie closer than strangers.

Run: `eval "$(foundry env)" && python examples/embeddings.py`
"""

from openai import OpenAI

SENTENCES = ["A man is eating food.", "Somebody is having a meal.", "The stock market fell today."]

vectors = [
    item.embedding for item in OpenAI().embeddings.create(model="all-minilm-l6-v2", input=SENTENCES).data
]
for other in (1, 2):
    cosine = sum(a * b for a, b in zip(vectors[0], vectors[other], strict=True))  # they have length 1
    print(f"{cosine:.3f}  {SENTENCES[0]}  |  {SENTENCES[other]}")
