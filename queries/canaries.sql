-- title: Canaries
-- description: The trunk's first seed run again, beside its first result: how far the machine has drifted, in seed-to-seed deviations
-- picture: lines number shift
WITH canary AS (  -- as they were intended: one that has moved takes the place of the run that it repeats, and is none any more
    SELECT data->>'$.shard' AS id FROM events WHERE type = 'shard.intended' AND (data->>'$.canary')::BOOLEAN
    UNION
    SELECT id FROM shards WHERE canary
), first AS (
    SELECT experiment, rung, setup, seed, arg_min(metric, attempt) AS metric
    FROM shards
    WHERE outcome = 'finished' AND metric IS NOT NULL AND NOT smoke AND NOT fresh AND retune IS NULL
        AND id NOT IN (SELECT id FROM canary WHERE id IS NOT NULL)
    GROUP BY experiment, rung, setup, seed
), noise AS (
    SELECT experiment, rung, setup, stddev_samp(metric) AS sd FROM first GROUP BY experiment, rung, setup
)
SELECT
    row_number() OVER (ORDER BY c.started NULLS LAST, c.id) AS number,
    c.id AS run,
    make_timestamp((c.started * 1e6)::BIGINT) AS at_utc,
    c.experiment AS trunk,
    c.rung,
    c.seed,
    c.outcome,
    first.metric AS first_metric,
    c.metric,
    (c.metric - first.metric) / nullif(noise.sd, 0) AS shift
FROM shards c
JOIN canary ON canary.id = c.id
LEFT JOIN first ON first.experiment = c.experiment AND first.rung = c.rung AND first.seed = c.seed
    AND first.setup IS NOT DISTINCT FROM c.setup
LEFT JOIN noise ON noise.experiment = c.experiment AND noise.rung = c.rung AND noise.setup IS NOT DISTINCT FROM c.setup
ORDER BY number
