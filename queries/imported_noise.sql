-- title: Noise of imported runs
-- description: Repeats of one configuration in an imported history: how far they lie apart, which is what its gains have to beat
-- param: source text = '' Only sources whose name or id has this in it; empty for all
-- picture: bars configuration sd
SELECT
    source,
    segment,
    "group" AS configuration,
    measure,
    count(metric) AS runs,
    count(*) - count(metric) AS without_metric,
    avg(metric) AS mean,
    stddev_samp(metric) AS sd,
    min(metric) AS lowest,
    max(metric) AS highest
FROM imported
WHERE ($source = '' OR contains(source, $source) OR contains(import, $source))
    AND "group" != '' AND (metric IS NULL OR isfinite(metric))
GROUP BY source, import, segment, "group", measure
HAVING count(metric) > 1
ORDER BY source, import, segment, runs DESC, configuration
