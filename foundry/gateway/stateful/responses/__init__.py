"""The memory of the Responses API: stored responses, conversations by `previous_response_id`, responses in the background.

What it does not know: the wire format beyond the members that it must read; the codec `foundry.codecs.responses_codec` has it.
"""
