-- title: Files that matter
-- description: By file that diffs touch: proposals, how many were judged and solid, best effect in sigma, lines changed
-- picture: bars path solid_share
WITH judged AS (
    SELECT * FROM experiments
    WHERE role = 'experiment' AND proposal IS NOT NULL AND verdict != 'undecided'
    QUALIFY row_number() OVER (PARTITION BY proposal ORDER BY length(id), id) = 1
), touched AS (
    SELECT id, unnest(files, recursive := true) FROM proposals
)
SELECT
    t.path,
    count(DISTINCT t.id) AS proposals,
    count(DISTINCT e.id) AS judged,
    count(DISTINCT e.id) FILTER (e.verdict = 'solid') AS solid,
    count(DISTINCT e.id) FILTER (e.verdict = 'solid') / nullif(count(DISTINCT e.id), 0) AS solid_share,
    max(e.effect / nullif(e.sigma, 0)) FILTER (isfinite(e.effect)) AS best_in_sigma,
    median(t.added + t.removed) AS median_lines
FROM touched t
LEFT JOIN judged e ON e.proposal = t.id
GROUP BY t.path
ORDER BY judged DESC, proposals DESC, t.path
