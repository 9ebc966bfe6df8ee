-- title: Day by day
-- description: Each day (UTC): proposals, experiments judged and solid, shard-hours, dollars, share of the slots' time that was used
-- picture: lines day shard_hours
WITH happened AS (
    SELECT created AS t, 1 AS proposals, 0 AS judged, 0 AS solid, 0.0 AS hours, 0.0 AS usd FROM proposals
    UNION ALL  -- an experiment counts on the day of its last verdict
    SELECT max(v.t), 0, 1, (e.verdict = 'solid')::INTEGER, 0.0, 0.0
    FROM verdicts v
    JOIN experiments e ON e.id = v.experiment AND e.role = 'experiment'
    WHERE e.verdict != 'undecided'
    GROUP BY e.id, e.verdict
    UNION ALL
    SELECT started, 0, 0, 0, (ended - started) / 3600, 0.0 FROM shards WHERE ended IS NOT NULL AND started IS NOT NULL
    UNION ALL
    SELECT began, 0, 0, 0, 0.0, coalesce(usd, most_usd, 0.0) FROM calls
)
SELECT
    make_timestamp((t * 1e6)::BIGINT)::DATE AS day,
    sum(proposals) AS proposals,
    sum(judged) AS judged,
    sum(solid) AS solid,
    sum(hours) AS shard_hours,
    sum(usd) AS usd,
    sum(hours) / 24 / nullif((SELECT any_value(slots) FROM lab), 0) AS slots_used
FROM happened
WHERE t IS NOT NULL
GROUP BY day
ORDER BY day
