-- title: Leaderboard
-- description: Experiments, best first: verdict, effect on the trunk with its interval, evidence, cost, final metric over the seeds
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
    evidence,
    bar,
    shrunk,
    n AS pairs,
    minutes,
    mean,
    sd,
    seeds,
    sigma,
    mode
FROM leaderboard
ORDER BY board_place, rank
LIMIT $limit
