-- title: Winner's curse
-- description: What signed experiments showed when they were picked, after allowing for luck, and on fresh pairs; promised is a bundle's sum
-- picture: scatter shrunk headline
SELECT
    id AS experiment,
    hypothesis,
    state,
    signoff,
    baseline AS trunk,
    effect,
    shrunk,
    promised,
    headline,
    headline_lo,
    headline_hi,
    headline_n AS fresh_pairs,
    headline / nullif(coalesce(promised, effect), 0) AS share_held,
    coalesce(promised, shrunk) BETWEEN headline_lo AND headline_hi AS inside_interval
FROM experiments
WHERE role = 'experiment' AND headline IS NOT NULL
ORDER BY share_held NULLS LAST, id
