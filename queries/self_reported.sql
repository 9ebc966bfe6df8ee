-- title: Self-reported against scored
-- description: Runs whose own figure differs from what the referee measured on the same text, the largest difference first
-- param: least number = 0 Only differences larger than this, in the metric's unit
-- param: limit integer = 200 How many runs
-- picture: scatter evaluated reported
SELECT
    s.id AS run,
    s.experiment,
    e.hypothesis,
    s.rung,
    s.seed,
    s.reported,
    s.evaluated,
    s.metric,
    s.reported - s.evaluated AS difference
FROM shards s
LEFT JOIN experiments e ON e.id = s.experiment
WHERE s.outcome = 'finished' AND NOT s.smoke AND isfinite(s.reported) AND isfinite(s.evaluated)
    AND abs(s.reported - s.evaluated) > $least
ORDER BY abs(difference) DESC, s.id
LIMIT $limit
