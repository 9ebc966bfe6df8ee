-- title: Brief
-- description: What held, what did not, what looks promising, what to try next and what worries, each with its experiments
-- param: experiments text = '' Only these, with commas between; empty for all that are judged
WITH batch AS (
    SELECT * FROM experiments
    WHERE role = 'experiment' AND verdict IS NOT NULL
        AND ($experiments = '' OR id IN (SELECT unnest(string_split($experiments, ','))))
), kinds AS (  -- over the whole history: a batch is too small to say which kind of idea pays
    SELECT
        category, count(*) AS judged, count(*) FILTER (verdict = 'solid') AS solid,
        list(id ORDER BY id) FILTER (verdict = 'solid') AS ids
    FROM experiments
    WHERE role = 'experiment' AND verdict IS NOT NULL AND verdict != 'undecided'
    GROUP BY category
), per_source AS (
    SELECT experiment, rung, setup, seed, unnest(map_entries(sources), recursive := true) FROM finals
), harmed AS (  -- worse on every seed, so that a source which merely wavers is none
    SELECT
        b.id, m.key AS source,
        max(CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN m.value - t.value ELSE t.value - m.value END)
            AS gain
    FROM batch b
    JOIN per_source m ON m.experiment = b.id AND m.rung = b.verdict_rung
    JOIN per_source t ON t.experiment = b.baseline AND t.rung = m.rung AND t.seed = m.seed AND t.key = m.key
        AND t.setup IS NOT DISTINCT FROM m.setup
    WHERE b.verdict = 'solid'
    GROUP BY b.id, m.key
    HAVING gain < 0
)
SELECT section, experiments, findings, text FROM (
    SELECT 1 AS place, effect AS weight, 'held' AS section, [id] AS experiments, []::VARCHAR[] AS findings, hypothesis AS text
    FROM batch WHERE verdict = 'solid'
    UNION ALL
    SELECT 2, effect, 'failed', [id], [], hypothesis FROM batch WHERE verdict IN ('not-solid', 'harmful', 'broken')
    UNION ALL  -- better by more than its own standard error, and not shown to be: more seeds would tell
    SELECT 3, effect, 'promising', [id], [], 'better by more than one standard error, and not shown to be solid: ' || hypothesis
    FROM batch WHERE verdict IN ('not-solid', 'undecided') AND effect > se
    UNION ALL
    SELECT 4, 1, 'next', [id], [], 'solid and not signed off: read it again, and sign it into the trunk' FROM batch
    WHERE verdict = 'solid' AND state = 'judged'
    UNION ALL
    SELECT 4, 1, 'next', [id], barred, 'its numbers are solid, and findings bar it: look at them, or try it without' FROM batch
    WHERE verdict = 'barred' AND state = 'judged'
    UNION ALL
    SELECT 4, solid / judged, 'next', ids, [], category || ': ' || solid || ' of ' || judged || ' judged are solid: more of this kind'
    FROM kinds
    WHERE solid > 0 AND category IN (SELECT category FROM batch)
        AND solid / judged >= (SELECT sum(solid) / sum(judged) FROM kinds)
    UNION ALL
    SELECT 5, 1, 'worry', [b.id], [f.id], f.sentence FROM findings f
    LEFT JOIN shards s ON s.id = f.about
    JOIN batch b ON b.id = coalesce(s.experiment, f.about)
    UNION ALL
    SELECT 5, -gain, 'worry', [id], [], 'solid on the whole, and worse on every seed on the source ' || source FROM harmed
)
ORDER BY place, weight DESC NULLS LAST, experiments, text
