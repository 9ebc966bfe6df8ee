-- title: Yield over time
-- description: Verdicts in their order, so many at a time: share solid and broken, median effect in sigma; does the campaign run dry?
-- param: at_a_time integer = 10 How many verdicts go together
-- picture: lines first solid_share
WITH final AS (  -- the first verdict of each experiment that decided anything
    SELECT v.experiment, min(v.event) AS event
    FROM verdicts v
    WHERE v.verdict != 'undecided'
    GROUP BY v.experiment
), numbered AS (
    SELECT row_number() OVER (ORDER BY f.event) - 1 AS place, e.verdict, e.effect / nullif(e.sigma, 0) AS in_sigma
    FROM final f
    JOIN experiments e ON e.id = f.experiment AND e.role = 'experiment'
)
SELECT
    place // greatest($at_a_time, 1) * greatest($at_a_time, 1) + 1 AS first,
    count(*) AS judged,
    count(*) FILTER (verdict = 'solid') AS solid,
    count(*) FILTER (verdict = 'solid') / count(*) AS solid_share,
    count(*) FILTER (verdict = 'broken') / count(*) AS broken_share,
    median(in_sigma) FILTER (isfinite(in_sigma)) AS median_in_sigma
FROM numbered
GROUP BY first
ORDER BY first
