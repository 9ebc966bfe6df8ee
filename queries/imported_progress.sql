-- title: Progress of imported runs
-- description: The best metric so far in each segment of an imported history, at every run that improved on it
-- param: source text = '' Only sources whose name or id has this in it; empty for all
-- picture: lines n metric source
SELECT
    source,
    segment,
    n,
    metric,
    best_before,
    CASE WHEN direction = 'max' THEN metric - best_before ELSE best_before - metric END AS better_by,
    measure,
    direction,
    status,
    description,
    "commit"
FROM imported
WHERE ($source = '' OR contains(source, $source) OR contains(import, $source))
    AND isfinite(metric)
    AND (best_before IS NULL OR CASE WHEN direction = 'max' THEN metric > best_before ELSE metric < best_before END)
ORDER BY source, import, segment, n
