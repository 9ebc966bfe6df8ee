-- title: Decisions by person
-- description: Who decides what: diffs approved, declined, sent back, signatures, stops, and how many of the approved turned out solid
WITH outcome AS (
    SELECT * FROM experiments
    WHERE role = 'experiment' AND proposal IS NOT NULL AND verdict != 'undecided'
    QUALIFY row_number() OVER (PARTITION BY proposal ORDER BY length(id), id) = 1
), approved AS (  -- undone approvals have no experiment that was judged
    SELECT d.who, d.who_kind, count(DISTINCT e.id) AS judged, count(DISTINCT e.id) FILTER (e.verdict = 'solid') AS solid
    FROM decisions d
    JOIN outcome e ON e.proposal = d.target
    WHERE d.action = 'approve'
    GROUP BY d.who, d.who_kind
)
SELECT
    d.who,
    d.who_kind AS kind,
    count(*) AS decisions,
    count(*) FILTER (d.action = 'approve') AS approved,
    count(*) FILTER (d.action = 'decline') AS declined,
    count(*) FILTER (d.action = 'revise') AS sent_back,
    count(*) FILTER (d.action = 'sign') AS signed,
    count(*) FILTER (d.action = 'stop') AS stopped,
    count(*) FILTER (d.action = 'acknowledge') AS acknowledged,
    coalesce(any_value(a.judged), 0) AS judged,
    coalesce(any_value(a.solid), 0) AS solid,
    any_value(a.solid) / nullif(any_value(a.judged), 0) AS solid_share
FROM decisions d
LEFT JOIN approved a ON a.who = d.who AND a.who_kind = d.who_kind
GROUP BY d.who, d.who_kind
ORDER BY decisions DESC, d.who, d.who_kind
