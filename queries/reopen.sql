-- title: Worth reopening
-- description: Near misses that were dropped: measured better by more than a standard error, or held back by their learning rate; nearest the bar first
-- param: limit integer = 50 How many experiments
WITH repeated AS (
    SELECT duplicate_of, count(*) AS times FROM proposals WHERE duplicate_of IS NOT NULL GROUP BY duplicate_of
)
SELECT
    e.id AS experiment,
    e.hypothesis,
    e.category,
    p.proposer,
    e.baseline AS trunk,
    e.verdict_rung AS rung,
    e.verdict,
    e.effect,
    e.se,
    e.effect / nullif(e.sigma, 0) AS in_sigma,
    e.n AS pairs,
    e.evidence / nullif(e.bar, 0) AS evidence_of_bar,
    e.retuned,
    coalesce(r.times, 0) AS proposed_again,
    e.branch
FROM experiments e
LEFT JOIN proposals p ON p.id = e.proposal
LEFT JOIN repeated r ON r.duplicate_of = e.proposal
WHERE e.role = 'experiment' AND e.state IN ('judged', 'stopped', 'conflicted')
    AND e.verdict IN ('not-solid', 'undecided')
    AND (e.effect > e.se OR e.retuned = 'held back by learning rate')
ORDER BY
    coalesce(e.retuned = 'held back by learning rate', false) DESC, evidence_of_bar DESC NULLS LAST,
    in_sigma DESC NULLS LAST, e.id
LIMIT $limit
