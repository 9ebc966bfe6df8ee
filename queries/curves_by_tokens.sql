-- title: Curves by tokens
-- description: One metric of an experiment and of its trunk on the same seeds over tokens seen, where the runs say how many they saw
-- param: experiment text The experiment, as in 0001
-- param: metric text = loss The metric
-- param: limit integer = 5000 How many points
-- picture: lines tokens value run
WITH arm AS (
    SELECT f.shard, f.seed, f.experiment, f.setup
    FROM experiments e
    JOIN finals f ON f.experiment IN (e.id, e.baseline) AND f.rung = coalesce(e.verdict_rung, e.rung)
    WHERE e.id = $experiment
), wanted AS (  -- only seeds that the experiment has run in the same setup
    SELECT a.*
    FROM arm a
    WHERE EXISTS (FROM arm b WHERE b.experiment = $experiment AND b.seed = a.seed AND b.setup IS NOT DISTINCT FROM a.setup)
), rate AS (
    SELECT shard, max(number) FILTER (key = 'tokens') / nullif(max(number) FILTER (key = 'steps'), 0) AS tokens_a_step
    FROM shard_facts
    WHERE shard IN (SELECT shard FROM wanted) AND key IN ('tokens', 'steps')
    GROUP BY shard
)
SELECT
    w.experiment || ' s' || w.seed AS run,
    w.experiment,
    w.seed,
    p.step,
    p.step * r.tokens_a_step AS tokens,
    p.value
FROM points p
JOIN wanted w ON w.shard = p.shard
LEFT JOIN rate r ON r.shard = p.shard
WHERE p.metric = $metric AND p.shard IN (SELECT shard FROM wanted)
QUALIFY row_number() OVER (PARTITION BY p.shard, p.step ORDER BY p.rowid DESC) = 1
ORDER BY w.experiment, w.seed, p.step
LIMIT $limit
