-- title: Imported histories
-- description: Each import: its runs by how they ended, the best of its first segment, and how many of its lines were not understood
SELECT
    i.name AS source,
    i.format,
    i.runs,
    count(r.id) FILTER (r.outcome = 'finished') AS finished,
    count(r.id) FILTER (r.outcome != 'finished') AS failed,
    count(DISTINCT r.segment) AS segments,
    any_value(r.measure) FILTER (r.segment = 0) AS first_measure,
    any_value(r.metric) FILTER (r.segment = 0 AND r.place = 1) AS best_of_first,
    i.unit,
    i.total,
    i.left_out,
    i.not_understood,
    i.points,
    i.who,
    make_timestamp((i.t * 1e6)::BIGINT) AS imported_utc,
    i.id AS import
FROM imports i
LEFT JOIN (SELECT *, run AS id FROM imported) r ON r.import = i.id
GROUP BY i.name, i.format, i.runs, i.unit, i.total, i.left_out, i.not_understood, i.points, i.who, i.t, i.id
ORDER BY i.t DESC, i.id
