-- title: Findings
-- description: What detectors found and nobody has acknowledged, the worst first; acknowledged ones too with all = true
-- param: experiment text = '' Only this experiment; empty for all
-- param: all boolean = false Notes, and what is acknowledged, too
-- param: limit integer = 200 How many findings
SELECT
    f.id AS finding,
    f.severity,
    e.id AS experiment,
    f.about,
    f.rule,
    f.place,
    f.sentence,
    f.evidence,
    f.acknowledged_by,
    f.acknowledged_why,
    e.verdict,
    make_timestamp((f.t * 1e6)::BIGINT) AS at_utc
FROM findings f
LEFT JOIN shards s ON s.id = f.about
LEFT JOIN experiments e ON e.id = coalesce(s.experiment, f.about)
WHERE ($experiment = '' OR e.id = $experiment)
    AND ($all OR (f.severity != 'note' AND (f.acknowledged IS NULL OR f.severity = 'never kept')))
ORDER BY
    f.acknowledged IS NOT NULL AND f.severity != 'never kept',
    list_position(['never kept', 'stop', 'bars a keep', 'asks', 'warning', 'note'], f.severity),
    f.t DESC, f.id
LIMIT $limit
