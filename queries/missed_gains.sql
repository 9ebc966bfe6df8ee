-- title: Missed gains
-- description: By category: of the controls, which run on where others are dropped, how many were solid after all, and how many gains dropping has cost
-- param: share number = 0.1 Which share of what is dropped runs on as a control
-- picture: bars category gains_estimated
WITH marked AS (  -- the policy also says so in the verdicts on the way
    SELECT experiment FROM verdicts GROUP BY experiment HAVING bool_or(control IS TRUE OR sentence LIKE 'runs on as a control%')
), judged AS (
    SELECT
        e.id, e.category, e.verdict IN ('solid', 'barred') AS gain,
        e.control IS TRUE OR m.experiment IS NOT NULL AS is_control
    FROM experiments e
    LEFT JOIN marked m ON m.experiment = e.id
    WHERE e.role = 'experiment' AND e.verdict IS NOT NULL AND e.verdict != 'undecided'
        AND (e.control IS TRUE OR m.experiment IS NOT NULL OR (
            e.verdict = 'not-solid' AND e.mode IS DISTINCT FROM 'fixed'
            AND NOT starts_with(e.sentence, 'not enough after')  -- this one ran to the last pair, and was not dropped
        ))
)
SELECT
    category,
    count(*) FILTER (NOT is_control) AS dropped,
    count(*) FILTER (is_control) AS controls,
    count(*) FILTER (is_control AND gain) AS gains,
    gains / nullif(controls, 0) AS gain_share,
    CASE WHEN controls > 0 THEN gains / nullif($share, 0) END AS gains_estimated,
    list(id ORDER BY id) FILTER (is_control AND gain) AS experiments
FROM judged
GROUP BY category
ORDER BY gains DESC, controls DESC, dropped DESC, category
