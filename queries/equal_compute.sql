-- title: Equal compute
-- description: Experiments that cost other than the trunk: their effect at equal tokens, FLOPs and time, and whether the sign depends on it
-- param: limit integer = 200 How many experiments
-- picture: scatter flops_ratio effect_flops
SELECT
    id AS experiment,
    hypothesis,
    verdict,
    baseline AS trunk,
    verdict_rung AS rung,
    compare AS judged_on,
    effect,
    tokens_ratio,
    effect_tokens,
    flops_ratio,
    effect_flops,
    time_ratio,
    effect_time,
    least(effect_tokens, effect_flops, effect_time) <= 0 AND greatest(effect_tokens, effect_flops, effect_time) > 0
        AS sign_depends
FROM experiments
WHERE role = 'experiment' AND compare IS NOT NULL
ORDER BY sign_depends DESC NULLS LAST, least(effect_tokens, effect_flops, effect_time) DESC NULLS LAST, id
LIMIT $limit
