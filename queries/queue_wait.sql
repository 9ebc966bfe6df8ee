-- title: Waiting for a slot
-- description: By rung: minutes from approval to the first shard, and from one shard to the next of the same experiment, and how much of the time it ran
WITH ran AS (
    SELECT
        s.experiment, s.rung, s.started, s.ended,
        max(s.ended) OVER (
            PARTITION BY s.experiment ORDER BY s.started, s.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS ended_before,
        row_number() OVER (PARTITION BY s.experiment ORDER BY s.started, s.id) AS place
    FROM shards s
    JOIN experiments e ON e.id = s.experiment
    WHERE e.role = 'experiment' AND s.started IS NOT NULL AND NOT s.fresh AND s.retune IS NULL
), approved AS (
    SELECT target, max(t) AS t FROM decisions WHERE action = 'approve' GROUP BY target
)
SELECT
    r.rung,
    count(DISTINCT r.experiment) AS experiments,
    count(*) AS shards,
    round(median((r.started - a.t) / 60) FILTER (r.place = 1 AND r.started >= a.t), 2) AS first_wait_minutes,
    round(quantile_cont((r.started - a.t) / 60, 0.9) FILTER (r.place = 1 AND r.started >= a.t), 2) AS first_wait_p90,
    round(median(greatest(0, r.started - r.ended_before) / 60) FILTER (r.place > 1), 2) AS next_wait_minutes,
    round(quantile_cont(greatest(0, r.started - r.ended_before) / 60, 0.9) FILTER (r.place > 1), 2) AS next_wait_p90,
    round(sum(r.ended - r.started) / 60, 2) AS ran_minutes
FROM ran r
JOIN experiments e ON e.id = r.experiment
LEFT JOIN approved a ON a.target = e.proposal AND e.replay_of IS NULL
GROUP BY r.rung
ORDER BY shards DESC, r.rung
