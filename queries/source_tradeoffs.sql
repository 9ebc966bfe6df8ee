-- title: Trade-offs between sources
-- description: Judged experiments that gain on one data source and lose on another, on the same seeds as the trunk; > 0 is better
-- param: least number = 0 How much has to be gained on one source and lost on another
-- picture: scatter best_gain worst_gain
WITH per_seed AS (
    SELECT experiment, rung, setup, seed, unnest(map_entries(sources), recursive := true) FROM finals
), gain AS (
    SELECT
        e.id, m.rung, m.key AS source, count(*) AS seeds,
        avg(CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN m.value - t.value ELSE t.value - m.value END) AS gain
    FROM experiments e
    JOIN per_seed m ON m.experiment = e.id AND m.rung = e.verdict_rung
    JOIN per_seed t ON t.experiment = e.baseline AND t.rung = m.rung AND t.seed = m.seed AND t.key = m.key
        AND t.setup IS NOT DISTINCT FROM m.setup
    WHERE e.role = 'experiment' AND e.verdict IS NOT NULL AND isfinite(m.value) AND isfinite(t.value)
    GROUP BY e.id, m.rung, m.key
)
SELECT
    e.id AS experiment,
    e.hypothesis,
    e.verdict,
    g.rung,
    min(g.seeds) AS seeds,
    arg_max(g.source, g.gain) AS best_source,
    max(g.gain) AS best_gain,
    arg_min(g.source, g.gain) AS worst_source,
    min(g.gain) AS worst_gain,
    any_value(e.effect) AS effect
FROM gain g
JOIN experiments e ON e.id = g.id
GROUP BY e.id, e.hypothesis, e.verdict, g.rung
HAVING max(g.gain) > $least AND min(g.gain) < -$least
ORDER BY worst_gain, e.id
