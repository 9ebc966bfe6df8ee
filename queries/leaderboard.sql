-- title: Leaderboard
-- description: Experiments board by board, best first: verdict, effect on the trunk with its interval, evidence, cost, final metric
-- param: metric text = '' Only boards of this metric; empty for all
-- param: rung text = '' Only this rung; empty for all
-- param: board text = '' Only this board (all that a comparison has to agree in), or one that begins so; empty for all
-- param: verdict text = '' Only this verdict; empty for all
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
    mode,
    claim,
    proposer,
    rung,
    board
FROM leaderboard
WHERE ($metric = '' OR metric = $metric) AND ($rung = '' OR rung = $rung) AND starts_with(board, $board)
    AND ($verdict = '' OR verdict = $verdict)
ORDER BY board_place, rank
LIMIT $limit
