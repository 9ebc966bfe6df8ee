-- title: Second reader and people
-- description: By reader: how often its predicted approval agreed with what a person then decided; a lower Brier score is better
WITH first_decision AS (  -- of a person, on the very diff that was read
    SELECT target, diff_hash, arg_min(action, t) AS action, min(t) AS t
    FROM decisions
    WHERE who_kind = 'person' AND action IN ('approve', 'decline', 'revise')
    GROUP BY target, diff_hash
), read AS (
    SELECT r.reader, r.model, r.p_approve AS p, (d.action = 'approve')::INTEGER AS approved, len(r.flags) AS flags
    FROM readings r
    JOIN first_decision d ON d.target = r.proposal AND d.diff_hash = r.diff_hash
    WHERE r.p_approve IS NOT NULL
)
SELECT
    reader,
    model,
    count(*) AS diffs,
    avg(approved) AS approved,
    avg(p) AS predicted,
    avg(((p >= 0.5) = (approved = 1))::INTEGER) AS agreement,
    avg((p - approved) ** 2) AS brier,
    avg(approved) * (1 - avg(approved)) AS brier_of_base_rate,
    avg(flags) FILTER (approved = 1) AS flags_when_approved,
    avg(flags) FILTER (approved = 0) AS flags_when_not
FROM read
GROUP BY reader, model
ORDER BY diffs DESC, reader, model
