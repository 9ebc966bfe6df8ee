-- title: Rounds of asking
-- description: Each time a proposer was asked: what was wanted, what came, how much of it could run, was judged solid, and its dollars
-- param: limit integer = 200 How many rounds, the latest first
WITH judged AS (
    SELECT * FROM experiments
    WHERE role = 'experiment' AND proposal IS NOT NULL AND verdict != 'undecided'
    QUALIFY row_number() OVER (PARTITION BY proposal ORDER BY length(id), id) = 1
), came AS (
    SELECT
        p.round,
        count(*) AS proposals,
        count(p.refusal) AS refused,
        count(p.duplicate_of) AS repeats,
        count(e.id) AS judged,
        count(*) FILTER (e.verdict = 'solid') AS solid
    FROM proposals p
    LEFT JOIN judged e ON e.proposal = p.id
    WHERE p.round IS NOT NULL
    GROUP BY p.round
)
SELECT
    r.id AS round,
    r.proposer,
    r.state,
    r.wanted,
    coalesce(c.proposals, 0) AS proposals,
    coalesce(c.refused, 0) AS refused,
    coalesce(c.repeats, 0) AS repeats,
    coalesce(c.judged, 0) AS judged,
    coalesce(c.solid, 0) AS solid,
    r.usd,
    round((r.ended - r.began) / 60, 2) AS minutes,
    make_timestamp((r.began * 1e6)::BIGINT) AS began_utc,
    nullif(r.detail, '') AS detail
FROM rounds r
LEFT JOIN came c ON c.round = r.id
ORDER BY r.began DESC, r.id
LIMIT $limit
