-- title: Refused by the machine
-- description: Why proposals could not be applied: by proposer and reason, how many, their share of all its proposals, the latest
SELECT
    p.proposer,
    p.refusal AS reason,
    count(*) AS proposals,
    count(*) / any_value(a.proposals) AS share,
    arg_max(p.id, (p.created, p.id)) AS latest,
    arg_max(p.detail, (p.created, p.id)) AS latest_detail
FROM proposals p
JOIN (SELECT proposer, count(*) AS proposals FROM proposals GROUP BY proposer) a ON a.proposer = p.proposer
WHERE p.refusal IS NOT NULL
GROUP BY p.proposer, p.refusal
ORDER BY proposals DESC, p.proposer, p.refusal
