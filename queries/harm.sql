-- title: Harm by source
-- description: How far each trunk, and each experiment, stands from the campaign's first trunk on every data source, on the same seeds
-- param: trunks boolean = true Only the trunk's own history; false for the experiments too
WITH measured AS (
    SELECT f.experiment, f.rung, f.setup, f.seed, unnest(map_entries(f.sources), recursive := true) FROM finals f
),
first AS (
    SELECT id FROM experiments WHERE role = 'trunk' ORDER BY created, id LIMIT 1
)
SELECT
    e.id AS experiment,
    e.role,
    e.hypothesis,
    m.rung,
    m.key AS source,
    count(*) AS seeds,
    avg(b.value) AS first_trunk,
    avg(m.value) AS mean,
    avg(CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN b.value - m.value ELSE m.value - b.value END)
        AS worse_by
FROM measured m
JOIN experiments e ON e.id = m.experiment
JOIN measured b ON b.experiment = (SELECT id FROM first) AND b.rung = m.rung AND b.seed = m.seed AND b.key = m.key
    AND b.setup IS NOT DISTINCT FROM m.setup
WHERE e.id != (SELECT id FROM first) AND (NOT $trunks OR e.role = 'trunk')
GROUP BY e.id, e.role, e.hypothesis, e.created, m.rung, m.key
ORDER BY e.created, e.id, m.rung, worse_by DESC, m.key
