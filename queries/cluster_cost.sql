-- title: What the cluster cost
-- description: By day (UTC) and node: shards that were preempted or lost, how many went on from a checkpoint, and minutes that had to be run again
WITH reached AS (
    SELECT shard, max(last_step) AS step FROM summaries GROUP BY shard
), began AS (  -- the step that a shard went on from
    SELECT shard, number AS step FROM shard_facts WHERE key = 'resumed_at' AND isfinite(number)
), ran AS (
    SELECT
        s.id, s.node, s.outcome, s.started, s.ended - s.started AS seconds,
        n.id AS next_one,
        -- of the steps that it made itself, those after the one that the next attempt went on from
        CASE
            WHEN s.outcome NOT IN ('preempted', 'node-lost', 'lost') THEN 0.0
            WHEN n.id IS NULL THEN 1.0
            ELSE least(1.0, greatest(0.0, (r.step - b.step) / nullif(r.step - coalesce(a.step, -1), 0)))
        END AS again
    FROM shards s
    LEFT JOIN shards n ON n.resumes = s.id
    LEFT JOIN reached r ON r.shard = s.id
    LEFT JOIN began a ON a.shard = s.id
    LEFT JOIN began b ON b.shard = n.id
    WHERE s.node IS NOT NULL AND s.started IS NOT NULL AND s.ended IS NOT NULL
)
SELECT
    make_timestamp((started * 1e6)::BIGINT)::DATE AS day,
    node,
    count(*) AS shards,
    count(*) FILTER (outcome = 'preempted') AS preempted,
    count(*) FILTER (outcome = 'node-lost') AS node_lost,
    count(*) FILTER (outcome = 'lost') AS lost,
    count(next_one) AS went_on,
    sum(seconds) / 60 AS ran_minutes,
    sum(seconds * again) / 60 AS again_minutes,
    sum(seconds * again) / nullif(sum(seconds), 0) AS again_share
FROM ran
GROUP BY day, node
ORDER BY day, node
