-- title: Pairs to a verdict
-- description: By rung and verdict: how many pairs and shard-minutes it took to get there, and the evidence at the end
SELECT
    verdict_rung AS rung,
    verdict,
    count(*) AS experiments,
    min(n) AS least_pairs,
    median(n) AS median_pairs,
    max(n) AS most_pairs,
    median(seconds) / 60 AS median_minutes,
    median(evidence) FILTER (isfinite(evidence)) AS median_evidence,
    median(bar) FILTER (isfinite(bar)) AS median_bar
FROM experiments
WHERE role = 'experiment' AND verdict IS NOT NULL AND verdict != 'undecided'
GROUP BY verdict_rung, verdict
ORDER BY rung, list_position(['solid', 'barred', 'not-solid', 'harmful', 'broken'], verdict)
