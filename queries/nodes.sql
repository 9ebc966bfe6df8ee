-- title: Nodes and GPUs
-- description: By node and GPUs of a cluster: how shards ended there, and how long they took beside all others of their rung; > 1 is slower, the slowest first
WITH usual AS (
    SELECT rung, setup, median(ended - started) AS seconds
    FROM shards
    WHERE outcome = 'finished' AND NOT smoke AND ended > started
    GROUP BY rung, setup
)
SELECT
    s.node,
    s.gpus,
    count(*) AS shards,
    count(*) FILTER (s.outcome = 'finished') AS finished,
    count(*) FILTER (s.outcome IN ('preempted', 'killed', 'ended-early')) AS taken_away,
    count(*) FILTER (s.outcome IN ('node-lost', 'lost')) AS lost,
    count(*) FILTER (s.outcome NOT IN ('finished', 'preempted', 'killed', 'ended-early', 'node-lost', 'lost')) AS failed,
    count(*) FILTER (s.outcome NOT IN ('finished', 'preempted', 'killed', 'ended-early')) / count(*) AS failed_share,
    median((s.ended - s.started) / 60) FILTER (s.outcome = 'finished' AND NOT s.smoke) AS median_minutes,
    median((s.ended - s.started) / nullif(u.seconds, 0))
        FILTER (s.outcome = 'finished' AND NOT s.smoke AND s.resumes IS NULL) AS relative_time,
    arg_max(s.detail, (s.ended, s.id)) FILTER (s.outcome NOT IN ('finished', 'preempted', 'killed', 'ended-early'))
        AS latest_failure
FROM shards s
LEFT JOIN usual u ON u.rung = s.rung AND u.setup IS NOT DISTINCT FROM s.setup
WHERE s.node IS NOT NULL AND s.outcome IS NOT NULL AND s.retune IS NULL
GROUP BY s.node, s.gpus
ORDER BY relative_time DESC NULLS LAST, failed_share DESC, s.node, s.gpus
