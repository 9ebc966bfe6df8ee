-- title: Failures
-- description: How shards failed: how often, how many of them at their smoke, at what cost, and the latest of each kind
SELECT
    outcome,
    count(*) AS shards,
    count(*) FILTER (smoke) AS at_smoke,
    count(DISTINCT experiment) AS experiments,
    count(*) / (SELECT count(*) FROM shards WHERE outcome IS NOT NULL AND NOT (smoke AND outcome = 'finished') AND retune IS NULL) AS share,
    round(sum(ended - started) / 60, 2) AS minutes,
    arg_max(id, (coalesce(ended, 0), id)) AS latest,
    arg_max(detail, (coalesce(ended, 0), id)) AS latest_detail
FROM shards
WHERE outcome NOT IN ('finished', 'ended-early') AND retune IS NULL
GROUP BY outcome
ORDER BY shards DESC, outcome
