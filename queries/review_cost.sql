-- title: Review for each solid gain
-- description: By person: decisions on diffs, minutes of attention (from the decision before, or from when it came) for each solid gain
-- param: cap number = 10 A decision takes at most so many minutes: longer gaps are nights and meetings
WITH decided AS (
    SELECT
        d.who,
        d.action,
        d.t,
        d.target,
        p.created,
        lag(d.t) OVER (PARTITION BY d.who ORDER BY d.t, d.id) AS before
    FROM decisions d
    LEFT JOIN proposals p ON p.id = d.target
    WHERE d.who_kind = 'person'
), reviewed AS (
    SELECT *, greatest(0, least($cap, (t - greatest(created, coalesce(before, created))) / 60)) AS minutes
    FROM decided
    WHERE action IN ('approve', 'decline', 'revise') AND created IS NOT NULL
), gains AS (
    SELECT r.who, count(DISTINCT e.proposal) AS solid
    FROM reviewed r
    JOIN experiments e ON e.proposal = r.target
    WHERE r.action = 'approve' AND e.verdict = 'solid'
    GROUP BY r.who
)
SELECT
    r.who,
    count(*) AS diffs,
    count(*) FILTER (r.action = 'approve') AS approved,
    round(sum(r.minutes), 2) AS minutes,
    round(median(r.minutes), 2) AS median_minutes,
    round(median(r.t - r.created) / 60, 2) AS median_wait_minutes,
    coalesce(any_value(g.solid), 0) AS solid,
    round(sum(r.minutes) / nullif(any_value(g.solid), 0), 2) AS minutes_per_solid
FROM reviewed r
LEFT JOIN gains g ON g.who = r.who
GROUP BY r.who
ORDER BY diffs DESC, r.who
