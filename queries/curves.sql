-- title: Curve
-- description: What one shard wrote of one metric, in the order of the steps; a step written twice comes twice
-- param: shard text The shard, as in 0001.screen.s0.a1
-- param: metric text = loss The metric
-- param: limit integer = 1000 How many points
SELECT step, value, t - min(t) OVER () AS seconds
FROM points
WHERE shard = $shard AND metric = $metric
ORDER BY step, rowid
LIMIT $limit
