-- title: Noise by environment
-- description: By machine, engine, software and rung: runs, shares that failed or were contended, minutes, seed-to-seed spread within an arm
-- picture: bars host sd
WITH ran AS (
    SELECT * FROM shards WHERE outcome IS NOT NULL AND NOT smoke AND retune IS NULL
), arm AS (  -- an arm's own mean does not count as spread, nor what lies between setups
    SELECT r.host, r.engine, r.environment, r.rung, count(*) - 1 AS df, var_samp(r.metric) AS variance
    FROM ran r
    JOIN finals f ON f.shard = r.id
    WHERE isfinite(r.metric)
    GROUP BY r.host, r.engine, r.environment, r.rung, r.setup, r.experiment
    HAVING count(*) > 1
), spread AS (
    SELECT host, engine, environment, rung, sqrt(sum(variance * df) / sum(df)) AS sd, sum(df) AS df
    FROM arm
    GROUP BY host, engine, environment, rung
), seen AS (
    SELECT
        host, engine, environment, rung,
        count(*) AS runs,
        avg((outcome NOT IN ('finished', 'ended-early'))::INTEGER) AS failed_share,
        avg(contended::INTEGER) AS contended_share,
        median((ended - started) / 60) FILTER (outcome = 'finished') AS median_minutes
    FROM ran
    GROUP BY host, engine, environment, rung
)
SELECT s.*, p.sd, p.df
FROM seen s
LEFT JOIN spread p ON p.rung = s.rung AND p.host IS NOT DISTINCT FROM s.host AND p.engine IS NOT DISTINCT FROM s.engine
    AND p.environment IS NOT DISTINCT FROM s.environment
ORDER BY s.runs DESC, s.host, s.engine, s.environment, s.rung
