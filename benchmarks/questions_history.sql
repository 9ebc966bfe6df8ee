-- A long history for benchmarks/questions.py: $n experiments, four shards each, on twenty trunks.

INSERT INTO lab BY NAME SELECT
    'lab' AS id, 'min' AS direction, 'val_bpb' AS metric, 'trunk-20' AS trunk_arm, 2 AS slots,
    ['screen', 'confirm'] AS rungs;

INSERT INTO proposals BY NAME SELECT
    printf('p%06d', i) AS id, 'approved' AS state, 'idea ' || i AS hypothesis,
    ['architecture', 'optimizer', 'schedule', 'data mix', 'systems'][1 + i % 5] AS category,
    ['claude', 'sweep', 'human'][1 + i % 3] AS proposer, hash(i)::VARCHAR AS diff_hash,
    [{'path': 'train.py', 'added': 2, 'removed': 1, 'status': 'M'},
    {'path': 'f' || i % 50 || '.py', 'added': 1, 'removed': 1, 'status': 'M'}] AS files,
    ['constant-only', 'local', 'structural'][1 + i % 3] AS change, random() / 50 AS predicted_effect,
    CASE WHEN i % 20 = 0 THEN printf('p%06d', i // 2) END AS duplicate_of, printf('%06d', i) AS experiment,
    CASE WHEN i % 50 = 0 THEN printf('p%06d', i - 1) END AS repairs,
    1.7e9 + 600 * i AS created, printf('r%05d', i // 5) AS round, CASE WHEN i % 17 = 0 THEN 'no-match' END AS refusal
    FROM range(1, $n + 1) t(i);

INSERT INTO experiments BY NAME SELECT
    'trunk-' || i AS id, 'trunk' AS role, 'running' AS state, 'trunk' AS hypothesis,
    'screen' AS rung, 'c' || i AS "commit", 1.7e9 + 600 * ($n // 20) * (i - 1) AS created FROM range(1, 21) t(i);

INSERT INTO experiments BY NAME SELECT
    printf('%06d', i) AS id, i AS seq, 'experiment' AS role,
    ['judged', 'merged', 'stopped', 'judged'][1 + i % 4] AS state, 'idea ' || i AS hypothesis,
    ['architecture', 'optimizer', 'schedule', 'data mix', 'systems'][1 + i % 5] AS category,
    printf('p%06d', i) AS proposal, 'trunk-' || (1 + i * 19 // $n) AS baseline, 'screen' AS rung, 'screen' AS verdict_rung,
    ['solid', 'not-solid', 'harmful', 'broken', 'undecided', 'barred'][1 + (hash(i) % 6)::INTEGER] AS verdict, random() / 10 - .05 AS effect,
    -.01 AS lo, .03 AS hi, .005 AS se, 3 AS n, .02 AS sigma, 20 * random() AS evidence, 20.0 AS bar, random() / 20 AS shrunk,
    180.0 AS seconds, 'tokens' AS compare, 1.0 AS tokens_ratio, 1.1 AS flops_ratio, random() / 10 - .05 AS effect_flops,
    random() / 10 - .05 AS effect_tokens, random() / 100 AS headline, -.01 AS headline_lo, .02 AS headline_hi, 3 AS headline_n,
    [{'seed': s, 'trunk': 2 + s / 50, 'candidate': 1.98 + s / 50, 'difference': random() / 50} for s in range(3)] AS pairs,
    CASE WHEN i % 10 = 0 THEN printf('%06d', i - 1) END AS replay_of, 1.7e9 + 600 * i AS created FROM range(1, $n + 1) t(i);

INSERT INTO shards BY NAME SELECT
    experiment || '.screen.s' || s || '.a1' AS id, experiment, s AS seed, 'screen' AS rung,
    1 AS attempt, 'ended' AS state, CASE WHEN hash(experiment || s) % 10 > 0 THEN 'finished' WHEN hash(experiment || s) % 20 = 0 THEN 'crashed' ELSE 'ended-early'
    END AS outcome, CASE WHEN outcome = 'finished' THEN 2 + hash(experiment || s) % 1000 / 1e4 END AS metric, metric AS reported,
    metric AS evaluated, MAP {'code': 1.5 + random() / 10, 'stories': 2.5 + random() / 10} AS sources,
    MAP {'hellaswag': random()} AS further, created + 60 * s AS started, started + 60 AS ended, false AS smoke, s = 3 AND experiment
    LIKE 'trunk%' AS canary, false AS fresh, 'a1b2' AS setup, 'lab1' AS host, '0.1' AS engine, 'val_bpb' AS metric_of,
    '300' AS budget, 'python 3.12' AS environment, 'val_bpb/screen/300/a1b2/ffff' AS board, false AS contended, seq
    FROM (SELECT id AS experiment, created, seq FROM experiments), range(4) t(s);

INSERT INTO summaries SELECT
    id, m, 50 + random(), 300, 1.0, 300, 0 FROM shards,
    (SELECT unnest(['loss', 'grad_norm', 'lr', 'tokens_per_s', 'attention_max']) AS m);

INSERT INTO shard_facts SELECT
    id, k, 1e6, NULL FROM shards, (SELECT unnest(['tokens', 'steps', 'parameters']) AS k);

INSERT INTO points SELECT
    id, m, step, step, random() FROM shards, range(20) t(step), (SELECT unnest(['loss', 'lr']) AS m);

INSERT INTO decisions BY NAME SELECT
    printf('d%06d', i) AS id, ['approve', 'approve', 'decline', 'sign'][1 + i % 4] AS action,
    printf('p%06d', i) AS target, hash(i)::VARCHAR AS diff_hash, ['ada', 'bob', 'eve'][1 + i % 3] AS who, 'person' AS who_kind,
    1.7e9 + 600 * i + 300 AS t FROM range(1, $n + 1) t(i);

INSERT INTO verdicts BY NAME SELECT
    3 * i + k AS event, 1.7e9 + 600 * i + 60 * k AS t, printf('%06d', i) AS experiment,
    CASE WHEN k < 2 THEN 'undecided' ELSE 'not-solid' END AS verdict, 'screen' AS rung,
    CASE WHEN i % 10 = 0 THEN 'runs on as a control: E 0.4' ELSE 'one more pair' END AS sentence
    FROM range(1, $n + 1) t(i), range(3) u(k);

INSERT INTO events SELECT
    i, 1.7e9 + i, CASE WHEN i % 500 = 0 THEN 'merge.done' ELSE 'shard.measured' END,
    '{"experiment":"' || printf('%06d', i // 30 + 1) || '","commit":"c' || i // 500 || '","tree":"t","source_tokens":{}}'
    FROM range(1, 30 * $n + 1) t(i);

INSERT INTO findings BY NAME SELECT
    'f' || i AS id, printf('%06d.screen.s0.a1', i) AS about, 'loss-spike' AS rule,
    'warning' AS severity, 'it jumped' AS sentence, 1.7e9 + 600 * i AS t FROM range(1, $n + 1) t(i);

INSERT INTO calls BY NAME SELECT
    'c' || i AS id, 'claude' AS proposer, 'opus' AS model, 'propose' AS purpose, 'done' AS state,
    1000 AS "input", 500 AS cache_read, 0 AS cache_write, 100 AS "output", 50 AS thinking, .1 AS usd, 1.7e9 + i * 600 AS began,
    1.7e9 + i * 600 + 30 AS ended FROM range($n) t(i);

INSERT INTO rounds BY NAME SELECT
    printf('r%05d', i) AS id, 'claude' AS proposer, 'done' AS state, 5 AS wanted, .5 AS usd,
    1.7e9 + i * 3000 AS began, 1.7e9 + i * 3000 + 60 AS ended FROM range($n // 5) t(i);

INSERT INTO readings BY NAME SELECT
    'v' || i AS id, printf('p%06d', i) AS proposal, hash(i)::VARCHAR AS diff_hash,
    'model' AS reader, 'opus' AS model, 'done' AS state, random() AS p_approve, random() AS p_solid FROM range(1, $n + 1) t(i);
