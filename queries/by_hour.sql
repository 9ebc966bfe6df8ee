-- title: By hour of the day
-- description: Shards by the hour (UTC) at which they started: how many failed, and their speed against other hours' runs of the same arm and rung
-- picture: lines hour relative_speed
WITH ran AS (
    SELECT
        s.id, s.experiment, s.rung, s.outcome,
        hour(make_timestamp((s.started * 1e6)::BIGINT)) AS hour,
        v.last AS speed
    FROM shards s
    LEFT JOIN summaries v ON v.shard = s.id AND v.metric = 'tokens_per_s' AND isfinite(v.last) AND v.last > 0
        AND s.outcome = 'finished'
    WHERE s.started IS NOT NULL AND s.ended IS NOT NULL AND NOT s.smoke AND s.retune IS NULL
), compared AS (  -- against runs of the very same code, so that slow ideas do not make a slow hour
    SELECT *, speed / avg(speed) OVER (PARTITION BY experiment, rung) AS relative FROM ran
)
SELECT
    hour,
    count(*) AS shards,
    count(*) FILTER (outcome NOT IN ('finished', 'ended-early')) AS failed,
    count(speed) AS with_speed,
    avg(relative) AS relative_speed
FROM compared
GROUP BY hour
ORDER BY hour
