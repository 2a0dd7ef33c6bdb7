"""Chat with the default model through the official OpenAI client, whole and streamed.

Run: `eval "$(foundry env)" && python examples/chat.py`
"""

from openai import OpenAI

client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY, which `foundry env` exports
question = "What is the capital of France?"

answer = client.chat.completions.create(
    model="smollm2-135m-instruct", messages=[{"role": "user", "content": question}], temperature=0
)
print(answer.choices[0].message.content, answer.usage)

for chunk in client.chat.completions.create(
    model="smollm2-135m-instruct",
    messages=[{"role": "user", "content": question}],
    temperature=0,
    stream=True,
):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
