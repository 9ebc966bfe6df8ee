-- title: Findings by rule
-- description: Each detector's rule: how often it spoke, how often a person let it pass, and the verdicts of the experiments it was about
SELECT
    f.rule,
    f.severity,
    count(*) AS findings,
    count(DISTINCT e.id) AS experiments,
    count(f.acknowledged) AS acknowledged,
    count(DISTINCT e.id) FILTER (e.role = 'trunk') AS about_trunk,
    count(DISTINCT e.id) FILTER (e.verdict = 'solid') AS solid,
    count(DISTINCT e.id) FILTER (e.verdict = 'barred') AS barred,
    count(DISTINCT e.id) FILTER (e.verdict IN ('not-solid', 'harmful', 'broken')) AS failed,
    arg_max(f.id, (f.t, f.id)) AS latest,
    arg_max(f.sentence, (f.t, f.id)) AS latest_sentence
FROM findings f
LEFT JOIN shards s ON s.id = f.about
LEFT JOIN experiments e ON e.id = coalesce(s.experiment, f.about)
GROUP BY f.rule, f.severity
ORDER BY list_position(['never kept', 'stop', 'bars a keep', 'asks', 'warning', 'note'], f.severity), findings DESC, f.rule
