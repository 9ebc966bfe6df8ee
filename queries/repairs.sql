-- title: Smokes and repairs
-- description: Experiments that broke at their smoke, what they said, and what became of the repair
-- param: limit integer = 200 How many, the latest first
WITH broke AS (
    SELECT experiment, arg_max(outcome, attempt) AS outcome, arg_max(detail, attempt) AS detail
    FROM shards
    WHERE smoke AND outcome NOT IN ('finished', 'killed', 'lost', 'ended-early')
    GROUP BY experiment
)
SELECT
    e.id AS experiment,
    p.proposer,
    e.hypothesis,
    broke.outcome,
    broke.detail,
    r.id AS repair,
    r.state AS repair_state,
    f.id AS repaired_experiment,
    f.verdict AS repaired_verdict,
    f.effect AS repaired_effect
FROM broke
JOIN experiments e ON e.id = broke.experiment
LEFT JOIN proposals p ON p.id = e.proposal
LEFT JOIN proposals r ON r.repairs = e.proposal
LEFT JOIN experiments f ON f.id = r.experiment
ORDER BY e.created DESC, e.id, r.id
LIMIT $limit
