-- title: Declined
-- description: Proposals that did not become experiments, and why: declined or sent back by a person, or refused by the machine
-- param: limit integer = 200 How many proposals, the latest first
SELECT
    id AS proposal,
    state,
    hypothesis,
    category,
    proposer,
    coalesce(why, concat_ws(': ', refusal, detail)) AS reason,
    decided_by,
    make_timestamp((created * 1e6)::BIGINT) AS created_utc
FROM proposals
WHERE state IN ('declined', 'revised', 'refused')
ORDER BY created DESC, id
LIMIT $limit
