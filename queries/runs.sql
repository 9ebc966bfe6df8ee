-- title: Runs
-- description: Every shard with its outcome and metric; gain > 0 is better than the trunk on the same seed
-- param: experiment text = '' Only this experiment; empty for all
-- param: limit integer = 500 How many shards, the latest first
SELECT run, experiment, hypothesis, rung, seed, attempt, state, outcome, metric, trunk_metric, gain, seconds, started, detail
FROM runs
WHERE $experiment = '' OR experiment = $experiment
ORDER BY started DESC NULLS FIRST, run
LIMIT $limit
