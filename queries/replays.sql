-- title: Replays
-- description: Experiments that were judged again on a moved trunk: verdict and effect before and after; > 0 is better than the trunk of that time
-- picture: scatter effect_before effect_after
SELECT
    old.id AS before,
    new.id AS after,
    new.hypothesis,
    old.baseline AS trunk_before,
    new.baseline AS trunk_after,
    old.verdict AS verdict_before,
    new.verdict AS verdict_after,
    old.effect AS effect_before,
    new.effect AS effect_after,
    new.effect - old.effect AS change,
    new.state
FROM experiments new
JOIN experiments old ON old.id = new.replay_of
ORDER BY new.seq DESC, new.id
