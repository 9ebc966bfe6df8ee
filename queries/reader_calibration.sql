-- title: Second reader and results
-- description: By reader and predicted probability of a solid effect: how many of those that ran turned out solid
-- param: bins integer = 5 How many stretches the probabilities from 0 to 1 are cut into
WITH read AS (
    SELECT r.reader, r.model, r.p_solid AS p, (e.verdict = 'solid')::INTEGER AS solid, len(r.flags) AS flags
    FROM readings r
    JOIN proposals p ON p.id = r.proposal AND p.diff_hash = r.diff_hash
    JOIN experiments e ON e.id = p.experiment
    WHERE r.p_solid IS NOT NULL AND e.verdict IS NOT NULL AND e.verdict != 'undecided'
)
SELECT
    reader,
    model,
    least(floor(p * $bins), $bins - 1) / $bins AS from_p,
    count(*) AS experiments,
    avg(p) AS predicted,
    avg(solid) AS solid,
    avg((p - solid) ** 2) AS brier,
    avg(flags) AS flags
FROM read
GROUP BY reader, model, from_p
ORDER BY reader, model, from_p
