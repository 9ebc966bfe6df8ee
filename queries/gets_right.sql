-- title: What Claude gets right
-- description: By category and proposer: proposals, share solid, and predicted against measured effect (bias > 0 is better than foretold)
-- picture: bars category solid_share
WITH judged AS (  -- a proposal's first arm that was judged: what became of it on later trunks is another question
    SELECT * FROM experiments
    WHERE role = 'experiment' AND proposal IS NOT NULL AND verdict != 'undecided'
    QUALIFY row_number() OVER (PARTITION BY proposal ORDER BY length(id), id) = 1
), both_known AS (
    SELECT p.id, e.effect, p.predicted_effect AS predicted
    FROM proposals p
    JOIN judged e ON e.proposal = p.id
    WHERE isfinite(p.predicted_effect) AND isfinite(e.effect)
)
SELECT
    p.category,
    p.proposer,
    count(*) AS proposals,
    count(e.id) AS judged,
    count(*) FILTER (e.verdict = 'solid') AS solid,
    count(*) FILTER (e.verdict = 'solid') / nullif(count(e.id), 0) AS solid_share,
    count(b.id) AS with_prediction,
    avg(b.predicted) AS predicted,
    avg(b.effect) AS measured,
    avg(b.effect - b.predicted) AS bias,
    avg(abs(b.effect - b.predicted)) AS error,
    avg(((b.effect > 0) = (b.predicted > 0))::INTEGER) AS right_direction
FROM proposals p
LEFT JOIN judged e ON e.proposal = p.id
LEFT JOIN both_known b ON b.id = p.id
GROUP BY p.category, p.proposer
ORDER BY solid_share DESC NULLS LAST, judged DESC, p.category, p.proposer
