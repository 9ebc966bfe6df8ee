-- title: Shortlist
-- description: Solid experiments on the present trunk, by gain after allowing for luck per hour of shards; the headline of fresh pairs beside it
-- param: limit integer = 20 How many experiments
WITH spent AS (
    SELECT experiment, sum(ended - started) AS seconds
    FROM shards
    WHERE NOT smoke AND retune IS NULL
    GROUP BY experiment
), found AS (
    SELECT coalesce(s.experiment, f.about) AS id, count(*) AS findings
    FROM findings f
    LEFT JOIN shards s ON s.id = f.about
    GROUP BY 1
)
SELECT
    row_number() OVER (ORDER BY e.state = 'vetoed', e.shrunk / s.seconds DESC NULLS LAST, e.id) AS place,
    e.id AS experiment,
    e.hypothesis,
    e.state,
    e.shrunk,
    e.effect,
    s.seconds AS shard_seconds,
    e.shrunk / s.seconds * 3600 AS gain_per_hour,
    e.headline,
    e.headline_lo,
    e.headline_hi,
    e.headline_n AS fresh_pairs,
    e.signoff,
    coalesce(f.findings, 0) AS findings,
    e.branch
FROM experiments e
LEFT JOIN spent s ON s.experiment = e.id
LEFT JOIN found f ON f.id = e.id
WHERE e.verdict = 'solid'
    AND e.state IN ('judged', 'signed', 'vetoed')
    AND e.baseline = (SELECT any_value(trunk_arm) FROM lab)
ORDER BY place
LIMIT $limit
