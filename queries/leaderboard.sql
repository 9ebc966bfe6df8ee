-- title: Leaderboard
-- description: Experiments, best first: verdict, effect on the trunk with its interval, final metric over the seeds
-- param: limit integer = 50 How many experiments
SELECT
    rank,
    experiment,
    hypothesis,
    category,
    verdict,
    effect,
    lo,
    hi,
    n AS pairs,
    mean,
    sd,
    seeds
FROM leaderboard
ORDER BY rank
LIMIT $limit
