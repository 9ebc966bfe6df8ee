-- title: Predicted against measured
-- description: Each judged experiment's effect beside the one that its proposal foretold, the largest error first; > 0 is better
-- param: proposer text = '' Only this proposer; empty for all
-- param: limit integer = 500 How many experiments
-- picture: scatter predicted measured
SELECT
    e.id AS experiment,
    e.hypothesis,
    e.category,
    p.proposer,
    e.baseline AS trunk,
    e.verdict_rung AS rung,
    e.verdict,
    p.predicted_effect AS predicted,
    e.effect AS measured,
    e.lo,
    e.hi,
    e.effect - p.predicted_effect AS error,
    p.predicted_effect BETWEEN e.lo AND e.hi AS inside_interval
FROM experiments e
JOIN proposals p ON p.id = e.proposal
WHERE e.role = 'experiment' AND e.verdict != 'undecided'
    AND isfinite(p.predicted_effect) AND isfinite(e.effect)
    AND ($proposer = '' OR p.proposer = $proposer)
ORDER BY abs(error) DESC, e.id
LIMIT $limit
