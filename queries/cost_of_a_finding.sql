-- title: Cost of a finding
-- description: By proposer: shard-minutes and dollars in all and for each solid gain, what failed included; (trunk) is baselines and canaries
-- picture: bars proposer minutes_per_solid
WITH spent AS (  -- every second counts here, also that of smokes, fresh pairs, retunes and failures
    SELECT
        CASE WHEN e.role = 'trunk' THEN '(trunk)' ELSE coalesce(p.proposer, '(bundles)') END AS proposer,
        sum(s.ended - s.started) / 60 AS minutes
    FROM shards s
    JOIN experiments e ON e.id = s.experiment
    LEFT JOIN proposals p ON p.id = e.proposal
    WHERE s.ended IS NOT NULL AND s.started IS NOT NULL
    GROUP BY 1
), paid AS (  -- a call that was lost, or that has no price yet, counts with the most that it could cost
    SELECT proposer, sum(coalesce(usd, most_usd)) AS usd, count(*) FILTER (usd IS NULL AND most_usd IS NULL) AS unpriced
    FROM calls
    GROUP BY proposer
), gains AS (  -- a proposal that was solid on several trunks is one gain
    SELECT p.proposer, count(DISTINCT p.id) AS solid, count(DISTINCT p.id) FILTER (e.state = 'merged') AS merged
    FROM proposals p
    JOIN experiments e ON e.proposal = p.id
    WHERE e.verdict = 'solid'
    GROUP BY p.proposer
), each_one AS (
    SELECT proposer, minutes, usd, coalesce(unpriced, 0) AS unpriced, coalesce(solid, 0) AS solid, coalesce(merged, 0) AS merged
    FROM spent
    FULL JOIN paid USING (proposer)
    FULL JOIN gains USING (proposer)
)
SELECT
    coalesce(proposer, '(all)') AS proposer,
    sum(solid) AS solid,
    sum(merged) AS merged,
    sum(minutes) AS shard_minutes,
    sum(usd) AS usd,
    sum(unpriced) AS unpriced_calls,
    sum(minutes) / nullif(sum(solid), 0) AS minutes_per_solid,
    sum(usd) / nullif(sum(solid), 0) AS usd_per_solid
FROM each_one
GROUP BY GROUPING SETS ((proposer), ())
HAVING count(*) > 0
ORDER BY grouping(each_one.proposer), solid DESC, each_one.proposer
