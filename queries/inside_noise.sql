-- title: Keeps inside noise
-- description: What is solid, signed or merged though it is small against the noise or did not hold on fresh pairs, and why it is listed
-- param: sigmas number = 1 An effect smaller than so many seed-to-seed deviations counts as inside the noise
WITH kept AS (
    SELECT
        *,
        effect / nullif(sigma, 0) AS in_sigma,
        list_filter([
            CASE WHEN effect < $sigmas * sigma THEN printf('effect below %g sigma', $sigmas) END,
            CASE WHEN lo <= 0 THEN 'interval reaches zero' END,
            CASE WHEN headline_lo <= 0 THEN 'fresh pairs reach zero' END,
            CASE WHEN n < 3 THEN 'fewer than three pairs' END,
            CASE WHEN verdict != 'solid' THEN 'verdict is ' || verdict END
        ], lambda x: x IS NOT NULL) AS reasons
    FROM experiments
    WHERE role = 'experiment' AND bundle IS NULL
        AND (state IN ('signed', 'merged') OR (verdict = 'solid' AND state = 'judged'))
)
SELECT
    id AS experiment,
    hypothesis,
    state,
    baseline AS trunk,
    verdict_rung AS rung,
    effect,
    lo,
    hi,
    sigma,
    in_sigma,
    shrunk,
    headline,
    headline_lo,
    headline_hi,
    array_to_string(reasons, ', ') AS why
FROM kept
WHERE len(reasons) > 0
ORDER BY state != 'merged', in_sigma NULLS LAST, id
