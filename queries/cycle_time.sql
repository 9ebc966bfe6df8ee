-- title: Cycle time
-- description: From proposal to verdict, in minutes: waiting for a decision, waiting for a slot, running, in all
-- param: limit integer = 200 How many experiments, the slowest first
WITH approved AS (
    SELECT target, min(t) AS t FROM decisions WHERE action = 'approve' GROUP BY target
), began AS (
    SELECT experiment, min(started) AS t FROM shards GROUP BY experiment
), judged AS (
    SELECT experiment, min(t) AS t FROM verdicts WHERE verdict != 'undecided' GROUP BY experiment
)
SELECT
    e.id AS experiment,
    e.hypothesis,
    e.verdict,
    round((approved.t - p.created) / 60, 2) AS review_minutes,
    round((began.t - approved.t) / 60, 2) AS queue_minutes,
    round((judged.t - began.t) / 60, 2) AS run_minutes,
    round((judged.t - p.created) / 60, 2) AS total_minutes
FROM experiments e
JOIN proposals p ON p.id = e.proposal
JOIN judged ON judged.experiment = e.id
LEFT JOIN approved ON approved.target = p.id
LEFT JOIN began ON began.experiment = e.id
ORDER BY total_minutes DESC, e.id
LIMIT $limit
