-- title: What works
-- description: By category and proposer: how many experiments were judged, how many of them are solid or broke
-- picture: bars category solid_share
WITH first_judged AS (  -- a replay on a moved trunk is no second experiment
    SELECT * FROM experiments
    WHERE role = 'experiment' AND verdict IS NOT NULL AND verdict != 'undecided'
    QUALIFY row_number() OVER (PARTITION BY coalesce(proposal, id) ORDER BY length(id), id) = 1
)
SELECT
    e.category,
    p.proposer,
    count(*) AS judged,
    count(*) FILTER (e.verdict = 'solid') AS solid,
    count(*) FILTER (e.verdict = 'solid') / count(*) AS solid_share,
    count(*) FILTER (e.verdict = 'harmful') AS harmful,
    count(*) FILTER (e.verdict = 'broken') AS broken,
    max(e.effect) FILTER (isfinite(e.effect)) AS best_effect
FROM first_judged e
LEFT JOIN proposals p ON p.id = e.proposal
GROUP BY e.category, p.proposer
ORDER BY solid_share DESC, judged DESC, e.category, p.proposer
