-- title: Frontier
-- description: Every merge in order: what it claimed, all claims so far, and beside them what audits have measured of them; > 0 is better
-- picture: lines merge claimed_so_far
WITH merge AS (
    SELECT row_number() OVER (ORDER BY n) AS merge, t, data->>'$.experiment' AS experiment
    FROM events
    WHERE type = 'merge.done'
), claim AS (  -- what fresh pairs confirmed, else the verdict's gain after allowing for luck, never more than was measured
    SELECT
        m.merge,
        m.t,
        m.experiment,
        e.hypothesis,
        e.baseline,
        CASE
            WHEN e.signoff = 'confirmed' AND e.headline IS NOT NULL THEN 'headline'
            WHEN coalesce(e.claim, 'gain') = 'gain' AND e.verdict = 'solid' AND e.shrunk IS NOT NULL THEN 'shrunk'
            ELSE 'nothing'  -- a speed-up or a simplification promises no lower loss
        END AS claimed_by,
        CASE claimed_by WHEN 'headline' THEN e.headline WHEN 'shrunk' THEN least(e.shrunk, e.effect) ELSE 0 END AS claimed
    FROM merge m
    LEFT JOIN experiments e ON e.id = m.experiment
), covered AS (
    SELECT id, unnest(claims).experiment AS experiment FROM audits WHERE audited IS NOT NULL
), audit AS (  -- stands at the last merge that it covers
    SELECT c.merge, a.id, a.state, a.claimed, a.audited, a.lo, a.hi
    FROM (SELECT v.id, max(c.merge) AS merge FROM covered v JOIN claim c ON c.experiment = v.experiment GROUP BY v.id) c
    JOIN audits a ON a.id = c.id
    QUALIFY row_number() OVER (PARTITION BY c.merge ORDER BY a.began DESC, a.id DESC) = 1
)
SELECT
    c.merge,
    make_timestamp((c.t * 1e6)::BIGINT) AS at_utc,
    c.experiment,
    c.hypothesis,
    c.baseline AS trunk_before,
    c.claimed_by,
    c.claimed,
    sum(c.claimed) OVER (ORDER BY c.merge) AS claimed_so_far,
    a.id AS audit,
    a.state AS audit_state,
    a.claimed AS audit_claimed,
    a.audited,
    a.lo AS audited_lo,
    a.hi AS audited_hi,
    sum(a.audited) OVER (ORDER BY c.merge) AS audited_so_far
FROM claim c
LEFT JOIN audit a ON a.merge = c.merge
ORDER BY c.merge
