-- title: Spread by budget
-- description: How far seeds lie apart at each rung, pooled over all arms with two seeds or more: does noise shrink as runs get longer?
-- picture: bars rung sd
WITH arm AS (  -- runs of one arm, rung and setup: their own mean does not count as spread
    SELECT experiment, rung, setup, any_value(budget) AS budget, count(*) AS seeds, var_samp(metric) AS variance
    FROM finals
    WHERE isfinite(metric)
    GROUP BY experiment, rung, setup
    HAVING count(*) > 1
)
SELECT
    a.rung,
    a.budget,
    count(*) AS arms,
    sum(a.seeds) AS runs,
    sqrt(sum(a.variance * (a.seeds - 1)) / sum(a.seeds - 1)) AS sd,
    sqrt(sum(a.variance * (a.seeds - 1)) FILTER (e.role = 'trunk') / sum(a.seeds - 1) FILTER (e.role = 'trunk')) AS trunk_sd
FROM arm a
JOIN experiments e ON e.id = a.experiment
GROUP BY a.rung, a.budget
ORDER BY try_cast(a.budget AS DOUBLE) NULLS LAST, a.rung
