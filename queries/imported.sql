-- title: Imported runs
-- description: Runs that other programs made, best first within each source and segment; unverified, and no part of any verdict.
-- param: source text = '' Only sources whose name or id has this in it; empty for all
SELECT source, segment, place, metric, gain, measure, outcome, status, name, description, "commit", commit_state, seed, steps, run
FROM imported
WHERE $source = '' OR contains(source, $source) OR contains(import, $source)
ORDER BY source, import, segment, place NULLS LAST, n
