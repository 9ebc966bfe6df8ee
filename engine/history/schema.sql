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
-- `retuned` says what came of both sides at their own best learning rate (table `retunes`), which stands in no verdict either.
-- `claim` is gain, speed or simplification; a `control` ran to learn what is missed by not running its like
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
    bundle VARCHAR[], promised DOUBLE, merged_with VARCHAR, retuned VARCHAR,
    control BOOLEAN, claim VARCHAR
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
-- One with a `scale` had its learning rate multiplied by that, for the retuning `retune`, at a rung of its own: `screen@0.5`.
-- What runs have to agree in to be compared: `metric_of` is the name of the metric, `budget` the rung's as the lab writes it,
-- `setup` a hash of the lab's commands, data and evaluation, `environment` the interpreter, torch and GPU, `board` all of these
-- in short. `host` and `engine` (its version) started it; `contended`: a detector noted that something else had the machine.
-- On a cluster `node` and `gpus` are what it ran on; `resumes` is the attempt that was cut off, from whose checkpoint it went on
CREATE TABLE IF NOT EXISTS shards (
    id VARCHAR, seq BIGINT, experiment VARCHAR, seed BIGINT, rung VARCHAR, attempt BIGINT, state VARCHAR,
    outcome VARCHAR, metric DOUBLE, reported DOUBLE, sources MAP(VARCHAR, DOUBLE), slot BIGINT, started DOUBLE,
    ended DOUBLE, detail VARCHAR, smoke BOOLEAN, canary BOOLEAN, evaluated DOUBLE, fresh BOOLEAN, retune VARCHAR,
    scale DOUBLE, further MAP(VARCHAR, DOUBLE),
    setup VARCHAR, host VARCHAR, engine VARCHAR, metric_of VARCHAR, budget VARCHAR, environment VARCHAR, board VARCHAR,
    contended BOOLEAN, node VARCHAR, gpus VARCHAR, resumes VARCHAR
);

-- under what conditions shards were started, written down when they were first met or had changed: `event` is the number of
-- the ledger event, `data` and `evaluation` are hashes of what is trained on and of how it is scored
CREATE TABLE IF NOT EXISTS setups (
    event BIGINT, t DOUBLE, setup VARCHAR, rung VARCHAR, budget VARCHAR, metric VARCHAR, direction VARCHAR, data VARCHAR,
    evaluation VARCHAR, python VARCHAR, torch VARCHAR, gpu VARCHAR, host VARCHAR
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
    effect_tokens DOUBLE, effect_flops DOUBLE, effect_time DOUBLE, control BOOLEAN, claim VARCHAR
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

-- the latest finished attempt of each seed under each setup; fresh ones, and those at a scaled learning rate, left out. Two arms
-- are compared on the same rung, seed and setup
CREATE OR REPLACE VIEW finals AS
SELECT experiment, rung, seed, id AS shard, metric, sources, setup, budget, host, environment, board, contended
FROM shards
WHERE outcome = 'finished' AND metric IS NOT NULL AND NOT smoke AND NOT canary AND NOT fresh AND retune IS NULL
QUALIFY row_number() OVER (PARTITION BY experiment, rung, setup, seed ORDER BY attempt DESC) = 1;

-- what came of smokes; they are no results, and in none of the other views
CREATE OR REPLACE VIEW smokes AS
SELECT
    s.id AS run, s.experiment, e.role, e.hypothesis, s.seed, s.attempt, s.state, s.outcome, s.ended - s.started AS seconds,
    make_timestamp((s.started * 1e6)::BIGINT) AS started, s.detail, e.branch
FROM shards s
LEFT JOIN experiments e ON e.id = s.experiment
WHERE s.smoke;

-- every shard but smokes with what it tried; `gain` > 0 is better than the trunk on the same seed, rung and setup
CREATE OR REPLACE VIEW runs AS
SELECT
    s.id AS run, s.experiment, e.role, e.hypothesis, e.category, p.proposer, s.rung, s.seed, s.attempt, s.state,
    s.outcome, s.metric, s.reported, f.metric AS trunk_metric,
    CASE WHEN (SELECT any_value(direction) FROM lab) = 'max' THEN s.metric - f.metric ELSE f.metric - s.metric END
        AS gain,
    s.ended - s.started AS seconds,
    make_timestamp((s.started * 1e6)::BIGINT) AS started,
    make_timestamp((s.ended * 1e6)::BIGINT) AS ended,
    s.detail, e.branch, s.setup, s.budget, s.host, s.board, s.contended
FROM shards s
LEFT JOIN experiments e ON e.id = s.experiment
LEFT JOIN proposals p ON p.id = e.proposal
LEFT JOIN finals f ON f.experiment = e.baseline AND f.rung = s.rung AND f.seed = s.seed AND NOT s.fresh
    AND f.setup IS NOT DISTINCT FROM s.setup
WHERE NOT s.smoke;

-- the board that each arm stands on: that of its latest run at the rung of its verdict, or where it has none yet, of the latest
-- run there of any arm. What broke at its smoke stands where it would have run
CREATE OR REPLACE VIEW placed AS
WITH arms AS (
    SELECT id AS experiment, created, coalesce(nullif(verdict_rung, 'smoke'), rung) AS rung FROM experiments
), ran AS (
    SELECT
        experiment, rung, max(seq) AS seq,
        arg_max({'board': board, 'metric': metric_of, 'budget': budget, 'setup': setup, 'environment': environment}, seq) AS how
    FROM shards
    WHERE NOT smoke AND NOT canary AND NOT fresh AND retune IS NULL
    GROUP BY experiment, rung
), present AS (
    SELECT rung, arg_max(how, seq) AS how FROM ran GROUP BY rung
)
SELECT
    a.experiment, a.rung, a.created,
    coalesce(coalesce(r.how, p.how).board, '?/' || a.rung || '/?/?/?') AS board, coalesce(r.how, p.how).metric AS metric, coalesce(r.how, p.how).budget AS budget,
    coalesce(r.how, p.how).setup AS setup, coalesce(r.how, p.how).environment AS environment
FROM arms a
LEFT JOIN ran r ON r.experiment = a.experiment AND r.rung = a.rung
LEFT JOIN present p ON p.rung = a.rung;

-- experiments on their boards, each on the latest trunk that it was replayed on. `rank` counts within a board, best first: solid,
-- undecided, not judged yet, barred, not solid, harmful, broken; then by effect. `board_place` is 1 for the board that the lab
-- now works on, at its largest rung. `mean` and `sd` are of the metric over the seeds that finished at the rung of the verdict;
-- `minutes` is what all of the experiment's shards took, `contended` how many of its runs shared the machine
CREATE OR REPLACE VIEW leaderboard AS
WITH finished AS (
    SELECT experiment, rung, setup, avg(metric) AS mean, stddev_samp(metric) AS sd, count(*) AS seeds,
        count(*) FILTER (contended) AS contended
    FROM finals
    GROUP BY experiment, rung, setup
), spent AS (
    SELECT experiment, sum(ended - started) / 60 AS minutes FROM shards GROUP BY experiment
), known AS (
    SELECT any_value(metric) AS metric, any_value(direction) AS direction, any_value(rungs) AS rungs FROM lab
), directions AS (
    SELECT setup, rung, any_value(direction) AS direction FROM setups GROUP BY setup, rung
), boards AS (
    SELECT
        board, any_value(rung) AS rung, any_value(metric) AS metric, any_value(budget) AS budget, any_value(setup) AS setup,
        any_value(environment) AS environment, max(created) AS latest
    FROM placed
    WHERE experiment IN (SELECT id FROM experiments WHERE role = 'experiment' AND state <> 'moved')
    GROUP BY board
), used AS (  -- the rungs of one lab file belong together, and the latest of those files comes first
    SELECT *, max(latest) OVER (PARTITION BY metric, setup, environment) AS used FROM boards
), ordered AS (
    SELECT
        *,
        row_number() OVER (
            ORDER BY used DESC NULLS LAST, list_position((SELECT rungs FROM known), rung) DESC NULLS LAST, board
        ) AS place
    FROM used
)
SELECT
    row_number() OVER (
        PARTITION BY b.place
        ORDER BY
            list_position(['solid', 'undecided', '', 'barred', 'not-solid', 'harmful', 'broken'], coalesce(e.verdict, '')),
            CASE WHEN isfinite(e.effect) THEN e.effect END DESC NULLS LAST, e.id
    ) AS rank,
    e.id AS experiment, e.hypothesis, e.category, p.proposer, e.state, coalesce(e.verdict_rung, e.rung) AS rung,
    e.verdict, e.effect, e.lo, e.hi, e.n, f.mean, f.sd, coalesce(f.seeds, 0) AS seeds, e.sentence, e.branch,
    e.evidence, e.bar, e.sigma, e.mode, e.shrunk, s.minutes, e.barred, e.asks,
    b.board, coalesce(b.metric, (SELECT metric FROM known)) AS metric,
    coalesce(d.direction, (SELECT direction FROM known)) AS direction, b.budget, b.setup, b.environment,
    e.claim, e.control, coalesce(f.contended, 0) AS contended, b.place AS board_place
FROM experiments e
JOIN placed a ON a.experiment = e.id
JOIN ordered b ON b.board = a.board
LEFT JOIN directions d ON d.setup = b.setup AND d.rung = b.rung
LEFT JOIN finished f ON f.experiment = e.id AND f.rung = a.rung AND f.setup IS NOT DISTINCT FROM a.setup
LEFT JOIN spent s ON s.experiment = e.id
LEFT JOIN proposals p ON p.id = e.proposal
WHERE e.role = 'experiment' AND e.state <> 'moved';

-- what can be compared with each other: a board, and the experiments that stand on it
CREATE OR REPLACE VIEW comparable AS
SELECT
    board, any_value(metric) AS metric, any_value(direction) AS direction, any_value(rung) AS rung,
    any_value(budget) AS budget, any_value(setup) AS setup, any_value(environment) AS environment,
    count(*) AS experiments, count(verdict) AS judged, count(*) FILTER (verdict = 'solid') AS solid,
    arg_min(experiment, rank) AS best, min(board_place) AS board_place
FROM leaderboard
GROUP BY board;

-- where shards ran, and with what: one row for each setup, host, version of the engine and environment
CREATE OR REPLACE VIEW environments AS
WITH ran AS (
    SELECT s.setup, s.rung, s.host, s.engine, s.started, n.python, n.torch, n.gpu, n.data, n.evaluation
    FROM shards s
    ASOF LEFT JOIN setups n ON n.setup = s.setup AND n.rung = s.rung AND n.host = s.host AND n.t <= s.started
)
SELECT
    setup, host, engine, python, torch, gpu, data, evaluation,
    make_timestamp((min(started) * 1e6)::BIGINT) AS first_seen, make_timestamp((max(started) * 1e6)::BIGINT) AS last_seen,
    count(*) AS shards
FROM ran
GROUP BY setup, host, engine, python, torch, gpu, data, evaluation;
