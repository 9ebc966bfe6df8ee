-- title: Who proposes well
-- description: By proposer: proposals, duplicates, how many were judged and solid, the best effect, shard-minutes and dollars
WITH shard_time AS (
    SELECT experiment, sum(ended - started) / 60 AS minutes FROM shards WHERE ended IS NOT NULL GROUP BY experiment
), cost AS (
    SELECT proposer, sum(coalesce(usd, most_usd)) AS usd
    FROM calls
    WHERE purpose IN ('propose', 'repair')
    GROUP BY proposer
)
SELECT
    p.proposer,
    count(*) AS proposals,
    count(*) FILTER (p.change = 'constant-only') AS constant_only,
    count(*) FILTER (p.change = 'structural') AS structural,
    count(*) FILTER (p.refusal = 'duplicate') AS duplicates,
    count(*) FILTER (p.refusal IS NOT NULL AND p.refusal != 'duplicate') AS refused,
    count(e.verdict) FILTER (e.verdict != 'undecided') AS judged,
    count(*) FILTER (e.verdict = 'solid') AS solid,
    count(*) FILTER (e.verdict IN ('harmful', 'broken')) AS harmful_or_broken,
    max(e.effect) FILTER (e.verdict = 'solid') AS best_effect,
    sum(t.minutes) AS shard_minutes,
    any_value(c.usd) AS usd
FROM proposals p
LEFT JOIN experiments e ON e.id = p.experiment
LEFT JOIN shard_time t ON t.experiment = e.id
LEFT JOIN cost c ON c.proposer = p.proposer
GROUP BY p.proposer
ORDER BY solid DESC, judged DESC, p.proposer
