-- title: Noise
-- description: How much the trunk's metric moves from seed to seed, at each rung and in each setup: what an effect has to beat
-- picture: bars rung sd
SELECT
    f.experiment AS trunk,
    f.rung,
    count(*) AS seeds,
    avg(f.metric) AS mean,
    stddev_samp(f.metric) AS sd,
    min(f.metric) AS lowest,
    max(f.metric) AS highest,
    f.setup
FROM finals f
JOIN experiments e ON e.id = f.experiment
WHERE e.role = 'trunk'
GROUP BY f.experiment, f.rung, f.setup, e.created
ORDER BY e.created DESC, f.rung, seeds DESC, f.setup
