-- title: Duplicates
-- description: Proposals that make a change which was proposed before, what became of the first one, and who repeated it
-- param: limit integer = 200 How many repeats, the latest first
SELECT
    p.id AS proposal,
    p.proposer,
    p.state,
    p.hypothesis,
    f.id AS first,
    f.proposer AS first_proposer,
    f.hypothesis AS first_hypothesis,
    f.state AS first_state,
    e.id AS experiment,
    e.verdict,
    e.effect,
    count(*) OVER (PARTITION BY p.duplicate_of) AS repeats,
    make_timestamp((p.created * 1e6)::BIGINT) AS created_utc
FROM proposals p
LEFT JOIN proposals f ON f.id = p.duplicate_of
LEFT JOIN experiments e ON e.id = f.experiment
WHERE p.duplicate_of IS NOT NULL
ORDER BY p.created DESC, p.id
LIMIT $limit
