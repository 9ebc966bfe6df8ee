-- title: Retunes
-- description: Experiments and trunk each at their own best learning rate: what came of it, beside the effect at the given rate; > 0 is better
-- picture: scatter effect mean
SELECT
    r.id AS retune,
    r.experiment,
    e.hypothesis,
    r.rung,
    r.state,
    nullif(r.label, '') AS label,
    r.trunk_best,
    r.best,
    e.verdict,
    e.effect,
    r.mean,
    r.lo,
    r.hi,
    r.n AS pairs,
    r.who,
    make_timestamp((r.ended * 1e6)::BIGINT) AS ended_utc
FROM retunes r
LEFT JOIN experiments e ON e.id = r.experiment
ORDER BY r.began DESC, r.id
