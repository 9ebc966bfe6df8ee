-- title: Lucky seeds
-- description: By trunk, rung and seed: how far gains on it lie above the same experiments' mean gain, and how far the trunk's own run lies off its mean
-- param: trunk text = '' Only pairs with this trunk; empty for all
-- picture: bars seed above_in_sigma
WITH paired AS (  -- the pairs that verdicts were reached on: no smoke, canary, fresh or retuned run is among them
    SELECT id, baseline, verdict_rung AS rung, sigma, unnest(pairs) AS pair
    FROM experiments
    WHERE role = 'experiment' AND verdict IS NOT NULL AND ($trunk = '' OR baseline = $trunk)
), apart AS (
    SELECT
        id, baseline, rung, sigma, pair.seed AS seed, pair.trunk AS trunk_metric,
        pair.difference - avg(pair.difference) OVER (PARTITION BY id) AS above
    FROM paired
    WHERE isfinite(pair.difference)
    QUALIFY count(*) OVER (PARTITION BY id) > 1
), runs_of_trunk AS (
    SELECT baseline, rung, seed, any_value(trunk_metric) AS metric FROM apart GROUP BY baseline, rung, seed
), off AS (
    SELECT
        *,
        (metric - avg(metric) OVER same) / nullif(stddev_samp(metric) OVER same, 0) AS off_in_sd
    FROM runs_of_trunk
    WINDOW same AS (PARTITION BY baseline, rung)
)
SELECT
    a.baseline AS trunk,
    a.rung,
    a.seed,
    count(*) AS experiments,
    avg(a.above) AS above_own_mean,
    avg(a.above / nullif(a.sigma, 0)) AS above_in_sigma,
    avg((a.above > 1e-9 * coalesce(a.sigma, 0))::INTEGER) AS share_above,
    any_value(off.metric) AS trunk_metric,
    any_value(off.off_in_sd) AS trunk_off_in_sd
FROM apart a
JOIN off ON off.baseline = a.baseline AND off.rung = a.rung AND off.seed = a.seed
GROUP BY a.baseline, a.rung, a.seed
ORDER BY round(abs(above_in_sigma), 6) DESC NULLS LAST, a.baseline, a.rung, a.seed
