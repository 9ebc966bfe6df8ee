-- title: Failures
-- description: How shards failed: how often, at what cost in machine time, and the latest example of each kind
SELECT
    outcome,
    count(*) AS shards,
    count(DISTINCT experiment) AS experiments,
    count(*) / (SELECT count(*) FROM shards WHERE outcome IS NOT NULL) AS share,
    round(sum(ended - started) / 60, 2) AS minutes,
    arg_max(id, (coalesce(ended, 0), id)) AS latest,
    arg_max(detail, (coalesce(ended, 0), id)) AS latest_detail
FROM shards
WHERE outcome != 'finished'
GROUP BY outcome
ORDER BY shards DESC, outcome
