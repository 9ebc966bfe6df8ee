-- title: Saved by ending early
-- description: By category: shards that the policy ended before their time, what they took, and what a whole run of their trunk takes more
WITH whole AS (
    SELECT experiment, rung, median(ended - started) AS seconds
    FROM shards
    WHERE outcome = 'finished' AND started IS NOT NULL AND NOT smoke AND retune IS NULL
    GROUP BY experiment, rung
)
SELECT
    e.category,
    count(*) AS shards,
    count(DISTINCT e.id) AS experiments,
    sum(s.ended - s.started) / 60 AS minutes_spent,
    sum(greatest(0, w.seconds - (s.ended - s.started))) FILTER (w.seconds IS NOT NULL) / 60 AS minutes_saved,
    minutes_saved * 60 / nullif(sum(w.seconds), 0) AS share_saved
FROM shards s
JOIN experiments e ON e.id = s.experiment
LEFT JOIN whole w ON w.experiment = e.baseline AND w.rung = s.rung
WHERE s.outcome = 'ended-early' AND s.started IS NOT NULL AND NOT s.smoke AND s.retune IS NULL
GROUP BY e.category
ORDER BY minutes_saved DESC NULLS LAST, e.category
