-- Histories made by other programs, in tables of their own: unverified, in no verdict, and never on a board beside the lab's own
-- runs. Runs are compared within a segment of one import alone: one metric, one direction, one config of the source.

-- one row a source; where each of its `total` lines (values, records, rows: `unit`) went: `header`, `run` (tells of runs),
-- `measured` (holds points of curves), `comments`, `left_out` (of a kind that is not imported) and `not_understood`
CREATE TABLE IF NOT EXISTS imports (
    id VARCHAR, event BIGINT, t DOUBLE, name VARCHAR, format VARCHAR, body VARCHAR, size BIGINT, mapping VARCHAR,
    who VARCHAR, unit VARCHAR, total BIGINT, header BIGINT, run BIGINT, measured BIGINT, comments BIGINT,
    left_out BIGINT, not_understood BIGINT, runs BIGINT, points BIGINT, notes VARCHAR[]
);

-- stretches of a source with one metric and direction, 'min' or 'max'
CREATE TABLE IF NOT EXISTS imported_segments (
    import VARCHAR, segment BIGINT, name VARCHAR, metric VARCHAR, direction VARCHAR, unit VARCHAR, line BIGINT
);

-- a run that did not finish has no metric: NULL, whatever stood for it in the source (`stored`); `status` is the source's word,
-- `outcome` the lab's; `commit_state` is branch, dangling (no branch holds it) or missing, NULL where no repository was at hand;
-- `diff` is a body, of the commit against its `parent`; `params` is JSON
CREATE TABLE IF NOT EXISTS imported_runs (
    id VARCHAR, import VARCHAR, segment BIGINT, n BIGINT, line BIGINT, name VARCHAR, "group" VARCHAR, outcome VARCHAR,
    metric DOUBLE, stored VARCHAR, status VARCHAR, description VARCHAR, "commit" VARCHAR, commit_state VARCHAR,
    parent VARCHAR, diff VARCHAR, seed BIGINT, steps BIGINT, tokens DOUBLE, seconds DOUBLE, memory_gb DOUBLE, t DOUBLE,
    params VARCHAR, further MAP(VARCHAR, DOUBLE), detail VARCHAR
);

-- lines `line` to `last` that were not understood, and why
CREATE TABLE IF NOT EXISTS imported_problems (import VARCHAR, line BIGINT, last BIGINT, text VARCHAR, why VARCHAR);

-- points of the curves of imported runs; NaN and infinities as they were
CREATE TABLE IF NOT EXISTS imported_points (run VARCHAR, metric VARCHAR, step BIGINT, t DOUBLE, value DOUBLE);

-- per run and metric of the points; `last` is the latest in the source, `min` and `max` are over finite values
CREATE TABLE IF NOT EXISTS imported_summaries (
    run VARCHAR, metric VARCHAR, last DOUBLE, last_step BIGINT, min DOUBLE, max DOUBLE, count BIGINT, nonfinite BIGINT
);

-- imported runs with what they are measured by. `place` is within the segment, NULL for a run without a metric; `gain` > 0 is
-- better than the segment's first finished run; `best_before` the best metric of the runs before it
CREATE OR REPLACE VIEW imported AS
SELECT
    r.id AS run, i.name AS source, i.format, r.segment, s.metric AS measure, s.direction, s.unit, false AS verified,
    CASE WHEN r.metric IS NOT NULL THEN rank() OVER (
        PARTITION BY r.import, r.segment
        ORDER BY CASE WHEN s.direction = 'max' THEN -r.metric ELSE r.metric END NULLS LAST
    ) END AS place,
    r.metric,
    CASE WHEN s.direction = 'max' THEN 1 ELSE -1 END
        * (r.metric - first_value(r.metric IGNORE NULLS) OVER (PARTITION BY r.import, r.segment ORDER BY r.n)) AS gain,
    CASE WHEN s.direction = 'max' THEN max(r.metric) OVER before ELSE min(r.metric) OVER before END AS best_before,
    r.outcome, r.status, r.name, r."group", r.seed, r.description, r.detail, r.stored, r."commit", r.commit_state,
    r.diff, r.steps, r.tokens, r.seconds, r.memory_gb, make_timestamp((r.t * 1e6)::BIGINT) AS started, r.n, r.line,
    r.import
FROM imported_runs r
JOIN imports i ON i.id = r.import
LEFT JOIN imported_segments s ON s.import = r.import AND s.segment = r.segment
WINDOW before AS (
    PARTITION BY r.import, r.segment ORDER BY r.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
);
