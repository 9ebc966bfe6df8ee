"""The page's style: light or dark as the reader's system is, and black on white on paper."""

STYLE = """
:root { color-scheme: light dark; --bg: #fbfaf8; --fg: #1d2430; --dim: #667083; --rule: #dcdad4; --raised: #f2f0eb;
  --accent: #2f6690; --good: #2b7a4b; --bad: #b23a3a; --warn: #9a6700; --trunk: #8b8f98;
  --c0: #2f6690; --c1: #b2632f; --c2: #2b7a4b; --c3: #7a4ea3; --c4: #a33a6a; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171c; --fg: #d9dde4; --dim: #8d97a6; --rule: #2b313a; --raised: #1c2027;
  --accent: #7aa2c8; --good: #7fb98f; --bad: #e08585; --warn: #d9b36b; --trunk: #7b8494;
  --c0: #7aa2c8; --c1: #e0a072; --c2: #7fb98f; --c3: #b59ad6; --c4: #d98bb0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 2.5rem 1.5rem 5rem; background: var(--bg); color: var(--fg);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 3rem 0 .3rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 1.6rem 0 .3rem; font-weight: 600; }
p { margin: .3rem 0 .8rem; max-width: 75ch; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1.2rem 0 0; }
.dim, .none, .note { color: var(--dim); }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; background: var(--rule);
  border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; margin: 1.6rem 0 0; padding: 0; }
.tile { flex: 1 1 150px; background: var(--bg); padding: .7rem .9rem; margin: 0; display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
.tile dd { margin: 0; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25; }
.tile dt { color: var(--dim); font-size: .8rem; }
.table { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; }
th { text-align: left; font-weight: 600; color: var(--dim); }
thead th { vertical-align: bottom; }
th, td { padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th.n { text-align: right; }
.none { text-align: center; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.t { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.s { overflow-wrap: break-word; max-width: 26rem; }
td.wide { min-width: 14rem; }
.v { white-space: nowrap; }
.v.solid { color: var(--good); font-weight: 600; } .v.harmful, .v.broken, .v.barred { color: var(--bad); }
.v.not-solid, .v.undecided { color: var(--dim); }
details { margin: .4rem 0; font-size: .84rem; color: var(--dim); }
details table, details pre { color: var(--fg); }
summary { cursor: pointer; }
pre { background: var(--raised); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px; font-size: .8rem;
  line-height: 1.4; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.chart { width: 100%; height: auto; margin: .6rem 0; display: block; }
.chart text { font: 11.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--fg); }
.chart text.tick, .chart text.axis { fill: var(--dim); }
.chart .grid { stroke: var(--rule); } .chart .zero { stroke: var(--dim); }
.chart .equal { stroke: var(--dim); stroke-dasharray: 4 4; }
.chart .bar { stroke: currentColor; stroke-width: 1.6; }
.chart circle, .chart rect { fill: currentColor; } .chart .point { color: var(--accent); fill-opacity: .75; }
.chart g.flat { color: var(--dim); } .chart g.good text.value { fill: var(--good); }
.chart g.bad text.value { fill: var(--bad); }
.chart .line { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.chart .trunk { stroke: var(--trunk); } .chart .c0 { stroke: var(--c0); } .chart .c1 { stroke: var(--c1); }
.chart .c2 { stroke: var(--c2); } .chart .c3 { stroke: var(--c3); } .chart .c4 { stroke: var(--c4); }
@media print { :root { --bg: #fff; --fg: #000; --dim: #444; --rule: #bbb; --raised: #f4f4f4; --accent: #234e70; --good: #1c5c36;
    --bad: #8f2525; --warn: #6b4800; --trunk: #777; --c0: #234e70; --c1: #8a4a20; --c2: #1c5c36; --c3: #5d3a80; --c4: #80294f; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; } .table { overflow: visible; }
  h2, h3 { break-after: avoid; } tr, .chart, .tile { break-inside: avoid; } thead { display: table-header-group; } }
"""
