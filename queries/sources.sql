-- title: Per source
-- description: The metric per data source against the trunk on the same seeds; gain > 0 is better, a loss can hide in a mean
-- param: experiment text = '' Only this experiment; empty for all
WITH measured AS (
    SELECT experiment, rung, setup, seed, unnest(map_entries(sources), recursive := true) FROM finals
)
SELECT
    m.experiment,
    e.hypothesis,
    m.rung,
    m.key AS source,
    count(*) AS seeds,
    avg(m.value) AS mean,
    avg(t.value) AS trunk_mean,
    avg(CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN m.value - t.value ELSE t.value - m.value END) AS gain
FROM measured m
JOIN experiments e ON e.id = m.experiment AND e.role = 'experiment'
JOIN measured t ON t.experiment = e.baseline AND t.rung = m.rung AND t.seed = m.seed AND t.key = m.key
    AND t.setup IS NOT DISTINCT FROM m.setup
WHERE $experiment = '' OR m.experiment = $experiment
GROUP BY m.experiment, e.hypothesis, m.rung, m.key
ORDER BY m.experiment, m.rung, gain, m.key
