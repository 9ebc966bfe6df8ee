-- title: Who proposes well
-- description: By proposer: proposals, verdicts, what came of it by its largest solid effects with their intervals, shard-minutes, dollars
WITH shard_time AS (
    SELECT experiment, count(*) FILTER (rung != 'smoke') AS shards, sum(ended - started) / 60 AS minutes
    FROM shards WHERE ended IS NOT NULL AND retune IS NULL GROUP BY experiment
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
    count(*) FILTER (e.verdict = 'solid' AND p.change = 'constant-only') AS solid_constant_only,
    count(*) FILTER (e.verdict = 'not-solid') AS not_solid,
    count(*) FILTER (e.verdict = 'harmful') AS harmful,
    count(*) FILTER (e.verdict = 'broken') AS broken,
    max(e.effect) FILTER (e.verdict = 'solid' AND isfinite(e.effect)) AS best_effect,
    array_to_string(list_slice(list(printf('%+.4f [%+.4f, %+.4f]', e.effect, e.lo, e.hi) ORDER BY e.effect DESC)
        FILTER (e.verdict = 'solid' AND isfinite(e.effect)), 1, 3), ', ') AS best_three,
    median(e.effect) FILTER (isfinite(e.effect)) AS median_effect,
    sum(t.shards) AS shards,
    sum(t.minutes) AS shard_minutes,
    any_value(c.usd) AS usd
FROM proposals p
LEFT JOIN experiments e ON e.id = p.experiment
LEFT JOIN shard_time t ON t.experiment = e.id
LEFT JOIN cost c ON c.proposer = p.proposer
GROUP BY p.proposer
ORDER BY solid DESC, judged DESC, p.proposer
