-- The history of one lab as tables: an index that can be rebuilt from the ledger and the shards' own files.
-- Times are seconds since the epoch (DOUBLE); views show them as TIMESTAMP in UTC. No table has an index or a key:
-- the store replaces rows by id inside a transaction, and columns scan faster than indexes pay.

CREATE TABLE IF NOT EXISTS meta (key VARCHAR, number BIGINT);

CREATE TABLE IF NOT EXISTS lab (
    id VARCHAR, seq BIGINT, name VARCHAR, root VARCHAR, metric VARCHAR, direction VARCHAR, unit VARCHAR,
    compare VARCHAR, scored_by VARCHAR, trunk VARCHAR, trunk_arm VARCHAR, rungs VARCHAR[], seeds BIGINT[],
    slots BIGINT, isolation VARCHAR, ask VARCHAR, proposer VARCHAR, phase VARCHAR, config_error VARCHAR,
    detectors_active VARCHAR[], detectors_asleep STRUCT(detector VARCHAR, missing VARCHAR[])[]
);

CREATE TABLE IF NOT EXISTS proposals (
    id VARCHAR, seq BIGINT, state VARCHAR, hypothesis VARCHAR, mechanism VARCHAR, prediction VARCHAR,
    category VARCHAR, proposer VARCHAR, parent VARCHAR, diff_hash VARCHAR,
    files STRUCT(path VARCHAR, added BIGINT, removed BIGINT, status VARCHAR)[],
    risks VARCHAR[], refusal VARCHAR, detail VARCHAR, why VARCHAR, decided_by VARCHAR, experiment VARCHAR,
    created DOUBLE, change VARCHAR, fingerprint VARCHAR, duplicate_of VARCHAR, origin VARCHAR, round VARCHAR,
    predicted_effect DOUBLE, replaces VARCHAR, replaced_by VARCHAR, co_author VARCHAR, deferred DOUBLE,
    repairs VARCHAR
);

-- each time that a model was asked; `state` is asking, done, or how it failed
CREATE TABLE IF NOT EXISTS rounds (
    id VARCHAR, seq BIGINT, proposer VARCHAR, state VARCHAR, detail VARCHAR, category VARCHAR, retry_at DOUBLE,
    wanted BIGINT, added VARCHAR[], note VARCHAR, usd DOUBLE, began DOUBLE, ended DOUBLE,
    revises VARCHAR, repairs VARCHAR
);

-- every call of a model, failed ones too, in tokens and dollars; `thinking` is part of `output`; `round` may be a brief, a
-- reading or an audit too, as `purpose` says
CREATE TABLE IF NOT EXISTS calls (
    id VARCHAR, seq BIGINT, round VARCHAR, proposer VARCHAR, model VARCHAR, effort VARCHAR, purpose VARCHAR,
    state VARCHAR, detail VARCHAR, stop_reason VARCHAR, input BIGINT, cache_read BIGINT, cache_write BIGINT,
    output BIGINT, thinking BIGINT, usd DOUBLE, most_usd DOUBLE, request VARCHAR, reply VARCHAR, began DOUBLE,
    ended DOUBLE
);

-- what was written after a batch was judged; its words are a body (`cockpit brief`); `state` is writing, done, or how asking
-- the model failed: then it was filled from queries
CREATE TABLE IF NOT EXISTS briefs (
    id VARCHAR, seq BIGINT, state VARCHAR, writer VARCHAR, model VARCHAR, detail VARCHAR, category VARCHAR,
    retry_at DOUBLE, experiments VARCHAR[], upto BIGINT, body VARCHAR,
    claims STRUCT(section VARCHAR, experiments VARCHAR[])[], dropped BIGINT, usd DOUBLE, began DOUBLE, ended DOUBLE
);

-- second readers of diffs; predictions are NULL until the proposal is decided, and nowhere else in the history before that
CREATE TABLE IF NOT EXISTS readings (
    id VARCHAR, seq BIGINT, proposal VARCHAR, diff_hash VARCHAR, reader VARCHAR, model VARCHAR, state VARCHAR,
    detail VARCHAR, category VARCHAR, retry_at DOUBLE,
    flags STRUCT(kind VARCHAR, path VARCHAR, sentence VARCHAR)[],
    p_approve DOUBLE, p_solid DOUBLE, sealed VARCHAR, usd DOUBLE, began DOUBLE, ended DOUBLE, opened DOUBLE
);

-- role 'trunk' is the trunk at one commit, the arm that experiments are compared with; `barred` are the findings that make a
-- solid verdict read 'barred', `asks` those that are to be acknowledged before sign-off. Where it costs other than the trunk,
-- `flops_ratio` and its like are its cost over the trunk's, `effect_flops` and its like the effect at equal cost, `compare` the
-- one that `effect` is on, and `kappa` what ln(cost) is worth. `shrunk` is the gain of the pairs after allowing for luck
-- (docs/statistics.md); `headline` is the mean of the fresh pairs that a signature asked for, and stands in no verdict;
-- `signoff` is confirming, confirmed, vetoed or withdrawn. A `bundle` is of the experiments that it names, signed together: it has
-- no verdict, its `headline` stands beside `promised`, the sum of their shrunk gains; its parts are `merged_with` it.
-- `retuned` says what came of both sides at their own best learning rate (table `retunes`), which stands in no verdict either
CREATE TABLE IF NOT EXISTS experiments (
    id VARCHAR, seq BIGINT, role VARCHAR, state VARCHAR, hypothesis VARCHAR, category VARCHAR, proposal VARCHAR,
    branch VARCHAR, parent VARCHAR, baseline VARCHAR, "commit" VARCHAR, tree VARCHAR, rung VARCHAR,
    verdict VARCHAR, verdict_rung VARCHAR, effect DOUBLE, lo DOUBLE, hi DOUBLE, se DOUBLE, n BIGINT,
    sentence VARCHAR, evidence DOUBLE, bar DOUBLE, sigma DOUBLE, mode VARCHAR, shrunk DOUBLE, seconds DOUBLE,
    pairing VARCHAR, compare VARCHAR, kappa DOUBLE, tokens_ratio DOUBLE, flops_ratio DOUBLE, time_ratio DOUBLE,
    effect_tokens DOUBLE, effect_flops DOUBLE, effect_time DOUBLE,
    pairs STRUCT(seed BIGINT, trunk DOUBLE, candidate DOUBLE, difference DOUBLE)[],
    why VARCHAR, created DOUBLE, barred VARCHAR[], asks VARCHAR[],
    replay_of VARCHAR, moved_to VARCHAR, retest BOOLEAN,
    signoff VARCHAR, signoff_sentence VARCHAR, headline DOUBLE, headline_lo DOUBLE, headline_hi DOUBLE,
    headline_n BIGINT,
    headline_pairs STRUCT(seed BIGINT, trunk DOUBLE, candidate DOUBLE, difference DOUBLE)[],
    bundle VARCHAR[], promised DOUBLE, merged_with VARCHAR, retuned VARCHAR
);

-- both sides of an experiment at the same bracket of learning rates: `factors` of the rate in each side's code, each on the seeds
-- `tuning`; then pairs on other seeds, at each side's best. `state` is tuning, pairs, ended or withdrawn; `mean` > 0 is better
-- than the retuned trunk
CREATE TABLE IF NOT EXISTS retunes (
    id VARCHAR, seq BIGINT, experiment VARCHAR, baseline VARCHAR, rung VARCHAR, state VARCHAR, factors DOUBLE[],
    tuning BIGINT[], tried STRUCT(side VARCHAR, factor DOUBLE, mean DOUBLE)[], trunk_best DOUBLE, best DOUBLE,
    label VARCHAR, sentence VARCHAR, mean DOUBLE, lo DOUBLE, hi DOUBLE, n BIGINT,
    pairs STRUCT(seed BIGINT, trunk DOUBLE, candidate DOUBLE, difference DOUBLE)[],
    who VARCHAR, why VARCHAR, began DOUBLE, ended DOUBLE
);

-- a shard that did not finish has no metric: NULL, never 0 or 100; nor has a smoke, the short run before the first full one.
-- A canary repeats a run of the trunk, and stands in no pair; `fresh` ones were run for a signature, on seeds never used before.
-- One with a `scale` had its learning rate multiplied by that, for the retuning `retune`, at a rung of its own: `screen@0.5`
CREATE TABLE IF NOT EXISTS shards (
    id VARCHAR, seq BIGINT, experiment VARCHAR, seed BIGINT, rung VARCHAR, attempt BIGINT, state VARCHAR,
    outcome VARCHAR, metric DOUBLE, reported DOUBLE, sources MAP(VARCHAR, DOUBLE), slot BIGINT, started DOUBLE,
    ended DOUBLE, detail VARCHAR, smoke BOOLEAN, canary BOOLEAN, evaluated DOUBLE, fresh BOOLEAN, retune VARCHAR,
    scale DOUBLE, further MAP(VARCHAR, DOUBLE)
);

CREATE TABLE IF NOT EXISTS decisions (
    id VARCHAR, seq BIGINT, action VARCHAR, target VARCHAR, diff_hash VARCHAR, who VARCHAR, who_kind VARCHAR,
    os_user VARCHAR, host VARCHAR, why VARCHAR, t DOUBLE
);

-- what detectors noticed, and what an audit suspects in the trunk's code (then with a `mechanism`); `about` is a shard or an
-- experiment; `severity` is note, warning, asks, bars a keep, stop or never kept
CREATE TABLE IF NOT EXISTS findings (
    id VARCHAR, seq BIGINT, about VARCHAR, rule VARCHAR, severity VARCHAR, sentence VARCHAR, t DOUBLE,
    place VARCHAR, evidence MAP(VARCHAR, DOUBLE), acknowledged_by VARCHAR, acknowledged_why VARCHAR, acknowledged DOUBLE,
    mechanism VARCHAR
);

-- what several merges claimed beside what fresh pairs of the trunk before them and after them have measured, > 0 is better;
-- `state` is running, held, over-claimed, broke or void; `by` is headline, shrunk or nothing
CREATE TABLE IF NOT EXISTS audits (
    id VARCHAR, seq BIGINT, state VARCHAR, trunk_then VARCHAR, trunk_now VARCHAR, rung VARCHAR,
    claims STRUCT(experiment VARCHAR, claimed DOUBLE, within DOUBLE, "by" VARCHAR)[], claimed DOUBLE, within DOUBLE,
    audited DOUBLE, lo DOUBLE, hi DOUBLE, n BIGINT, pairs STRUCT(seed BIGINT, trunk_then DOUBLE, trunk_now DOUBLE, difference DOUBLE)[], sentence VARCHAR,
    began DOUBLE, ended DOUBLE
);

-- every verdict that was ever reached, by the numbers alone: findings bar the one in `experiments`. `event` is the number of its
-- ledger event, `n` counts pairs. Where judging is sequential `evidence` (E) is to reach `bar`; `seconds` is how long the
-- experiment's shards had run by then
CREATE TABLE IF NOT EXISTS verdicts (
    event BIGINT, t DOUBLE, experiment VARCHAR, baseline VARCHAR, rung VARCHAR, verdict VARCHAR, effect DOUBLE,
    lo DOUBLE, hi DOUBLE, se DOUBLE, n BIGINT, sentence VARCHAR,
    evidence DOUBLE, bar DOUBLE, sigma DOUBLE, mode VARCHAR, shrunk DOUBLE, seconds DOUBLE, pairing VARCHAR,
    compare VARCHAR, kappa DOUBLE, tokens_ratio DOUBLE, flops_ratio DOUBLE, time_ratio DOUBLE,
    effect_tokens DOUBLE, effect_flops DOUBLE, effect_time DOUBLE
);

-- the ledger; `data` is JSON
CREATE TABLE IF NOT EXISTS events (n BIGINT, t DOUBLE, type VARCHAR, data VARCHAR);

-- every number that a shard wrote, in the order it wrote them; NaN and infinities as they were
CREATE TABLE IF NOT EXISTS points (shard VARCHAR, metric VARCHAR, step BIGINT, t DOUBLE, value DOUBLE);

-- per shard and metric; `last` is the latest written, `min` is over finite values
CREATE TABLE IF NOT EXISTS summaries (
    shard VARCHAR, metric VARCHAR, last DOUBLE, last_step BIGINT, min DOUBLE, count BIGINT, nonfinite BIGINT
);

-- what a shard said of itself: tokens, parameters, peak memory
CREATE TABLE IF NOT EXISTS shard_facts (shard VARCHAR, key VARCHAR, number DOUBLE, text VARCHAR);

-- how far each shard's file was read, in bytes, and how many of its lines were garbage
CREATE TABLE IF NOT EXISTS offsets (shard VARCHAR, byte_offset BIGINT, garbage BIGINT);

-- the latest finished attempt of each seed; fresh ones, and those at a scaled learning rate, left out
CREATE OR REPLACE VIEW finals AS
SELECT experiment, rung, seed, id AS shard, metric, sources
FROM shards
WHERE outcome = 'finished' AND metric IS NOT NULL AND NOT smoke AND NOT canary AND NOT fresh AND retune IS NULL
QUALIFY row_number() OVER (PARTITION BY experiment, rung, seed ORDER BY attempt DESC) = 1;

-- what came of smokes; they are no results, and in none of the other views
CREATE OR REPLACE VIEW smokes AS
SELECT
    s.id AS run, s.experiment, e.role, e.hypothesis, s.seed, s.attempt, s.state, s.outcome, s.ended - s.started AS seconds,
    make_timestamp((s.started * 1e6)::BIGINT) AS started, s.detail, e.branch
FROM shards s
LEFT JOIN experiments e ON e.id = s.experiment
WHERE s.smoke;

-- every shard but smokes with what it tried; `gain` > 0 is better than the trunk on the same seed at the same rung
CREATE OR REPLACE VIEW runs AS
SELECT
    s.id AS run, s.experiment, e.role, e.hypothesis, e.category, p.proposer, s.rung, s.seed, s.attempt, s.state,
    s.outcome, s.metric, s.reported, f.metric AS trunk_metric,
    CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN s.metric - f.metric ELSE f.metric - s.metric END
        AS gain,
    s.ended - s.started AS seconds,
    make_timestamp((s.started * 1e6)::BIGINT) AS started,
    make_timestamp((s.ended * 1e6)::BIGINT) AS ended,
    s.detail, e.branch
FROM shards s
LEFT JOIN experiments e ON e.id = s.experiment
LEFT JOIN proposals p ON p.id = e.proposal
LEFT JOIN finals f ON f.experiment = e.baseline AND f.rung = s.rung AND f.seed = s.seed AND NOT s.fresh
WHERE NOT s.smoke;

-- experiments, best first, each on the latest trunk that it was replayed on: solid, undecided, not judged yet, barred, not
-- solid, harmful, broken; then by effect. `mean` and `sd` are of the metric over the seeds that finished at the rung of the
-- verdict; `minutes` is what all of the experiment's shards took
CREATE OR REPLACE VIEW leaderboard AS
WITH measured AS (
    SELECT
        e.id, avg(f.metric) AS mean, stddev_samp(f.metric) AS sd, count(f.metric) AS seeds,
        (SELECT sum(s.ended - s.started) / 60 FROM shards s WHERE s.experiment = e.id) AS minutes
    FROM experiments e
    LEFT JOIN finals f ON f.experiment = e.id AND f.rung = coalesce(e.verdict_rung, e.rung)
    GROUP BY e.id
)
SELECT
    row_number() OVER (
        ORDER BY
            list_position(['solid', 'undecided', '', 'barred', 'not-solid', 'harmful', 'broken'], coalesce(e.verdict, '')),
            e.effect DESC NULLS LAST, e.id
    ) AS rank,
    e.id AS experiment, e.hypothesis, e.category, p.proposer, e.state, coalesce(e.verdict_rung, e.rung) AS rung,
    e.verdict, e.effect, e.lo, e.hi, e.n, m.mean, m.sd, m.seeds, e.sentence, e.branch,
    e.evidence, e.bar, e.sigma, e.mode, e.shrunk, m.minutes, e.barred, e.asks
FROM experiments e
JOIN measured m ON m.id = e.id
LEFT JOIN proposals p ON p.id = e.proposal
WHERE e.role = 'experiment' AND e.state <> 'moved';
