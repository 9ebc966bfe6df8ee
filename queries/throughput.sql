-- title: Throughput regressions
-- description: Experiments that train slower than the trunk on the same seeds and rung, by the last tokens/s that their runs wrote
-- param: slower number = 0.05 How much slower, as a share of the trunk's
-- param: limit integer = 100 How many experiments, the slowest first
WITH speed AS (
    SELECT f.experiment, f.rung, f.setup, f.seed, s.last AS tokens_per_s
    FROM finals f
    JOIN summaries s ON s.shard = f.shard
    WHERE s.metric = 'tokens_per_s' AND isfinite(s.last) AND s.last > 0
)
SELECT
    e.id AS experiment,
    e.hypothesis,
    e.category,
    e.verdict,
    m.rung,
    count(*) AS seeds,
    median(t.tokens_per_s) AS trunk_tokens_per_s,
    median(m.tokens_per_s) AS tokens_per_s,
    median(m.tokens_per_s / t.tokens_per_s) AS ratio,
    e.effect
FROM experiments e
JOIN speed m ON m.experiment = e.id
JOIN speed t ON t.experiment = e.baseline AND t.rung = m.rung AND t.seed = m.seed AND t.setup IS NOT DISTINCT FROM m.setup
WHERE e.role = 'experiment'
GROUP BY e.id, e.hypothesis, e.category, e.verdict, e.effect, m.rung
HAVING ratio < 1 - $slower
ORDER BY ratio, e.id, m.rung
LIMIT $limit
