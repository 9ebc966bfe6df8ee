-- title: Decisions
-- description: Who decided what, when and why, the latest first
-- param: limit integer = 200 How many decisions
SELECT
    make_timestamp((d.t * 1e6)::BIGINT) AS at_utc,
    d.action,
    d.target,
    coalesce(p.hypothesis, e.hypothesis) AS hypothesis,
    d.who_kind AS kind,
    d.who,
    d.os_user || '@' || d.host AS account,
    nullif(d.why, '') AS why
FROM decisions d
LEFT JOIN proposals p ON p.id = d.target
LEFT JOIN experiments e ON e.id = d.target
ORDER BY d.t DESC, d.id
LIMIT $limit
