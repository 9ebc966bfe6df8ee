-- title: Refusals and failures of models
-- description: How asking a model went wrong: by proposer, purpose and kind, how often, the share of its calls, what it cost, the latest words
WITH asked AS (
    SELECT proposer, purpose, count(*) AS calls FROM calls WHERE state != 'running' GROUP BY proposer, purpose
)
SELECT
    c.proposer,
    c.purpose,
    c.state AS failure,
    count(*) AS times,
    count(*) / any_value(a.calls) AS share,
    sum(coalesce(c.usd, c.most_usd)) AS usd,
    arg_max(c.id, (c.began, c.id)) AS latest,
    arg_max(c.detail, (c.began, c.id)) AS latest_detail
FROM calls c
JOIN asked a ON a.proposer = c.proposer AND a.purpose = c.purpose
WHERE c.state NOT IN ('done', 'running')
GROUP BY c.proposer, c.purpose, c.state
ORDER BY times DESC, c.proposer, c.purpose, c.state
