-- One row per request: exactly the fields of foundry.types.usage.UsageRecord, in its order (a test compares).
-- A record is written at least once; rows with one sorting key are one record, and the key ends in its id.
-- Reads that must not count twice say FINAL. Per-project time ranges are contiguous on disk.
CREATE TABLE IF NOT EXISTS usage
(
    id                   String,
    received_at          DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    request_id           String,
    cluster              LowCardinality(String),
    gateway              LowCardinality(String),
    organization_id      LowCardinality(String),
    project_id           LowCardinality(String),
    key_id               LowCardinality(String),
    route                LowCardinality(String),
    target_id            LowCardinality(String),
    provider             LowCardinality(String),
    deployment           LowCardinality(String),
    model                LowCardinality(String),
    protocol             LowCardinality(String),
    streamed             Bool,
    outcome              LowCardinality(String),
    status               UInt16,
    error_code           LowCardinality(String),
    input_tokens         UInt64,
    cached_input_tokens  UInt64,
    output_tokens        UInt64,
    reasoning_tokens     UInt64,
    usage_source         LowCardinality(String),
    cost_usd             Nullable(Decimal(38, 18)),
    price_id             LowCardinality(String),
    price_status         LowCardinality(String),
    ttft_ms              Nullable(Float64),
    tpot_ms              Nullable(Float64),
    e2e_ms               Float64,
    upstream_ms          Nullable(Float64),
    request_bytes        UInt64,
    response_bytes       UInt64,
    INDEX by_request request_id TYPE bloom_filter GRANULARITY 4,
    INDEX by_key key_id TYPE bloom_filter GRANULARITY 4,
    INDEX by_time received_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (project_id, received_at, id);
