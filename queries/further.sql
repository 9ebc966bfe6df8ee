-- title: Further evaluations
-- description: The lab's further evaluations of experiments beside their trunk's on the same seeds; change is experiment less trunk, in their own unit
-- param: experiment text = '' Only this experiment; empty for all
WITH per_seed AS (
    SELECT f.experiment, f.rung, f.setup, f.seed, unnest(map_entries(s.further), recursive := true)
    FROM finals f
    JOIN shards s ON s.id = f.shard
)
SELECT
    e.id AS experiment,
    e.hypothesis,
    e.verdict,
    m.rung,
    m.key AS evaluation,
    count(*) AS seeds,
    avg(t.value) AS trunk,
    avg(m.value) AS mean,
    avg(m.value - t.value) AS change
FROM experiments e
JOIN per_seed m ON m.experiment = e.id
JOIN per_seed t ON t.experiment = e.baseline AND t.rung = m.rung AND t.seed = m.seed AND t.key = m.key
    AND t.setup IS NOT DISTINCT FROM m.setup
WHERE e.role = 'experiment' AND isfinite(m.value) AND isfinite(t.value) AND ($experiment = '' OR e.id = $experiment)
GROUP BY e.id, e.hypothesis, e.verdict, m.rung, m.key
ORDER BY e.id, m.rung, m.key
