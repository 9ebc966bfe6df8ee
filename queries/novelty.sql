-- title: Novel against incremental
-- description: By proposer and how deep the change goes: proposals, exact repeats, share solid, median effect in sigma, minutes for each solid gain
-- picture: bars change solid_share
WITH judged AS (
    SELECT * FROM experiments
    WHERE role = 'experiment' AND proposal IS NOT NULL AND verdict != 'undecided'
    QUALIFY row_number() OVER (PARTITION BY proposal ORDER BY length(id), id) = 1
), spent AS (
    SELECT e.proposal, sum(s.ended - s.started) / 60 AS minutes
    FROM shards s
    JOIN experiments e ON e.id = s.experiment
    WHERE e.proposal IS NOT NULL
    GROUP BY e.proposal
)
SELECT
    coalesce(p.change, '(not known)') AS change,
    p.proposer,
    count(*) AS proposals,
    count(p.duplicate_of) AS repeats,
    count(e.id) AS judged,
    count(*) FILTER (e.verdict = 'solid') AS solid,
    count(*) FILTER (e.verdict = 'solid') / nullif(count(e.id), 0) AS solid_share,
    median(e.effect / nullif(e.sigma, 0)) FILTER (isfinite(e.effect)) AS median_in_sigma,
    sum(s.minutes) AS shard_minutes,
    sum(s.minutes) / nullif(count(*) FILTER (e.verdict = 'solid'), 0) AS minutes_per_solid
FROM proposals p
LEFT JOIN judged e ON e.proposal = p.id
LEFT JOIN spent s ON s.proposal = p.id
GROUP BY 1, p.proposer
ORDER BY list_position(['structural', 'local', 'constant-only'], coalesce(any_value(p.change), '')) NULLS LAST, p.proposer
