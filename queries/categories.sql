-- title: What works
-- description: By category and proposer: how many experiments were judged, how many of them are solid or broke
SELECT
    e.category,
    p.proposer,
    count(*) AS judged,
    count(*) FILTER (e.verdict = 'solid') AS solid,
    count(*) FILTER (e.verdict = 'solid') / count(*) AS solid_share,
    count(*) FILTER (e.verdict = 'harmful') AS harmful,
    count(*) FILTER (e.verdict = 'broken') AS broken,
    max(e.effect) AS best_effect
FROM experiments e
LEFT JOIN proposals p ON p.id = e.proposal
WHERE e.role = 'experiment' AND e.verdict IS NOT NULL AND e.verdict != 'undecided'
GROUP BY e.category, p.proposer
ORDER BY solid_share DESC, judged DESC, e.category, p.proposer
