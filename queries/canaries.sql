-- title: Canaries
-- description: The trunk's first seed run again, beside its first result: how far the machine has drifted, in seed-to-seed deviations
-- picture: lines number shift
WITH first AS (
    SELECT experiment, rung, seed, arg_min(metric, attempt) AS metric
    FROM shards
    WHERE outcome = 'finished' AND metric IS NOT NULL AND NOT smoke AND NOT canary AND NOT fresh AND retune IS NULL
    GROUP BY experiment, rung, seed
), noise AS (
    SELECT experiment, rung, stddev_samp(metric) AS sd FROM first GROUP BY experiment, rung
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
LEFT JOIN first ON first.experiment = c.experiment AND first.rung = c.rung AND first.seed = c.seed
LEFT JOIN noise ON noise.experiment = c.experiment AND noise.rung = c.rung
WHERE c.canary
ORDER BY number
