-- What one request used beside plain tokens, and the decisions on its way; the fields of UsageRecord that 0001 has not.
ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS cache_write_tokens UInt64 AFTER reasoning_tokens,
    ADD COLUMN IF NOT EXISTS audio_input_tokens UInt64 AFTER cache_write_tokens,
    ADD COLUMN IF NOT EXISTS image_input_tokens UInt64 AFTER audio_input_tokens,
    ADD COLUMN IF NOT EXISTS audio_output_tokens UInt64 AFTER image_input_tokens,
    ADD COLUMN IF NOT EXISTS image_output_tokens UInt64 AFTER audio_output_tokens,
    ADD COLUMN IF NOT EXISTS images UInt64 AFTER image_output_tokens,
    ADD COLUMN IF NOT EXISTS audio_ms UInt64 AFTER images,
    ADD COLUMN IF NOT EXISTS characters UInt64 AFTER audio_ms,
    ADD COLUMN IF NOT EXISTS searches UInt64 AFTER characters,
    ADD COLUMN IF NOT EXISTS user String AFTER response_bytes,
    ADD COLUMN IF NOT EXISTS policy LowCardinality(String) AFTER user,
    ADD COLUMN IF NOT EXISTS queue_ms Float64 AFTER policy,
    ADD COLUMN IF NOT EXISTS attempts String AFTER queue_ms,
    ADD COLUMN IF NOT EXISTS shadow Bool AFTER attempts,
    ADD COLUMN IF NOT EXISTS cache LowCardinality(String) AFTER shadow,
    ADD COLUMN IF NOT EXISTS guardrails String AFTER cache,
    ADD COLUMN IF NOT EXISTS batch_id String AFTER guardrails;
-- A record is written without the fields that have their default.
ALTER TABLE usage
    MODIFY COLUMN usage_source LowCardinality(String) DEFAULT 'none',
    MODIFY COLUMN price_status LowCardinality(String) DEFAULT 'free';
