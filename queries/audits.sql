-- title: Audits
-- description: What several merges claimed, all together, beside what fresh pairs of the trunk before and after them measured; > 0 is better
-- picture: scatter claimed audited
SELECT
    id AS audit,
    state,
    trunk_then,
    trunk_now,
    rung,
    len(claims) AS merges,
    claimed,
    within,
    audited,
    lo,
    hi,
    n AS pairs,
    audited / nullif(claimed, 0) AS share_held,
    make_timestamp((ended * 1e6)::BIGINT) AS ended_utc,
    sentence
FROM audits
ORDER BY began DESC, id
