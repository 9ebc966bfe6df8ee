-- title: Calls and money
-- description: By model and purpose: calls, how many failed, tokens in and out, what the cache saved, dollars, seconds
-- picture: bars purpose usd
SELECT
    model,
    purpose,
    count(*) AS calls,
    count(*) FILTER (state NOT IN ('done', 'running')) AS failed,
    sum(input + cache_read + cache_write) AS input_tokens,
    sum(cache_read) / nullif(sum(input + cache_read + cache_write), 0) AS cached_share,
    sum(output) AS output_tokens,
    sum(thinking) / nullif(sum(output), 0) AS thinking_share,
    sum(coalesce(usd, most_usd)) AS usd,
    count(*) FILTER (usd IS NULL AND most_usd IS NULL) AS unpriced,
    median(ended - began) AS median_seconds
FROM calls
GROUP BY model, purpose
ORDER BY usd DESC NULLS LAST, model, purpose
