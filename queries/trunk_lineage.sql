-- title: Lineage of the trunk
-- description: Every trunk in order: the merge that made it, who proposed and who signed it, its own metric, and its gain on the trunk before
WITH merge AS (
    SELECT data->>'$.experiment' AS experiment, data->>'$.commit' AS "commit" FROM events WHERE type = 'merge.done'
), arm AS (
    SELECT *, row_number() OVER (ORDER BY created, length(id), id) AS place FROM experiments WHERE role = 'trunk'
), measured AS (
    SELECT f.experiment, f.rung, avg(f.metric) AS mean, stddev_samp(f.metric) AS sd, count(*) AS seeds
    FROM finals f
    JOIN arm ON arm.id = f.experiment AND arm.rung = f.rung
    GROUP BY f.experiment, f.rung, f.setup
    QUALIFY row_number() OVER (PARTITION BY f.experiment ORDER BY count(*) DESC, f.setup) = 1  -- one way of measuring
), gained AS (  -- on the seeds that both trunks have run, at the same rung
    SELECT arm.id, avg(CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN f.metric - b.metric ELSE b.metric - f.metric END) AS gain,
        count(*) AS pairs
    FROM arm
    JOIN arm before ON before.place = arm.place - 1
    JOIN finals f ON f.experiment = arm.id AND f.rung = arm.rung
    JOIN finals b ON b.experiment = before.id AND b.rung = f.rung AND b.seed = f.seed
        AND b.setup IS NOT DISTINCT FROM f.setup
    GROUP BY arm.id
), signer AS (
    SELECT target, arg_max(who, t) AS who FROM decisions WHERE action = 'sign' GROUP BY target
)
SELECT
    arm.id AS trunk,
    make_timestamp((arm.created * 1e6)::BIGINT) AS since_utc,
    left(arm."commit", 10) AS "commit",
    merge.experiment AS merged,
    e.hypothesis,
    p.proposer,
    signer.who AS signed_by,
    measured.rung,
    measured.seeds,
    measured.mean,
    measured.sd,
    gained.gain,
    gained.pairs
FROM arm
LEFT JOIN merge ON merge."commit" = arm."commit"
LEFT JOIN experiments e ON e.id = merge.experiment
LEFT JOIN proposals p ON p.id = e.proposal
LEFT JOIN signer ON signer.target = merge.experiment
LEFT JOIN measured ON measured.experiment = arm.id
LEFT JOIN gained ON gained.id = arm.id
ORDER BY arm.place
