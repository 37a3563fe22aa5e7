"""The CSS of a report: light and dark by the reader's own setting, readable on a phone and on paper."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2330; --quiet: #697184; --line: #e4e6eb; --rail: #eceef2;
  --good: #16794a; --good-soft: #e3f4ea; --bad: #b3261e; --bad-soft: #fdeceb; --wait: #8a5a00; --wait-soft: #fdf3dc;
  --accent: #2b5fd9;
  --text: #8468d8; --encode: #64748b; --stage1: #2f74e6; --preview: #8b95a7; --stage2: #129a95; --temporal: #d39211;
  --decode: #dc5a3c; --other: #a9b1bf; --budget: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151b; --card: #1a1e26; --ink: #e6e9ef; --quiet: #98a1b3; --line: #2c323e; --rail: #262c37;
    --good: #5fd39a; --good-soft: #15321f; --bad: #ff8f85; --bad-soft: #3a1a18; --wait: #f0c060; --wait-soft: #362a12;
    --accent: #86abff;
    --text: #a48df0; --stage1: #5b97ff; --preview: #7f8aa0; --stage2: #35c3bb; --temporal: #eab54a; --decode: #f27d5f;
    --other: #5a6476; --budget: #ff8f85;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 1060px; padding: 40px 24px 56px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { font-size: 27px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 10px;
  overflow-wrap: anywhere; }
h1.long { font-size: 18px; font-weight: 550; line-height: 1.45; }
h1 details summary { cursor: pointer; }
h2 { font-size: 16px; font-weight: 650; margin: 0 0 4px; }
p { margin: 0 0 12px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.quiet, .note { color: var(--quiet); }
.note { font-size: 13px; margin-bottom: 14px; max-width: 108ch; }
code, .code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 12.5px; }
.code { border: 1px solid var(--line); border-radius: 4px; padding: 0 3px; font-size: 0.75em; color: var(--quiet); }
.meta { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; color: var(--quiet); font-size: 14px; }
.badge { border-radius: 999px; padding: 1px 11px 2px; font-weight: 600; font-size: 13px; }
.badge.done { color: var(--good); background: var(--good-soft); }
.badge.failed { color: var(--bad); background: var(--bad-soft); }
.badge.interrupted, .badge.running { color: var(--wait); background: var(--wait-soft); }
section, .figures { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 22px;
  margin-top: 18px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 16px 22px; }
.figures div { min-width: 0; }
.figures b { display: block; font-size: 21px; font-weight: 650; letter-spacing: -0.01em; line-height: 1.3; }
.figures span { color: var(--quiet); font-size: 13px; display: block; }
.problem { border-color: var(--bad); }
.problem h2 { color: var(--bad); }
.sheet { display: grid; gap: 4px; grid-template-columns: repeat(4, 1fr); border-radius: 8px; overflow: hidden;
  margin: 10px 0 8px; }
.sheet img { display: block; width: 100%; height: auto; background: var(--rail); }
.sheet.two { grid-template-columns: repeat(2, 1fr); }
.whole img { display: block; max-width: 100%; border-radius: 8px; margin: 10px 0; }
.video + .video { margin-top: 22px; }
.video h3 { font-size: 14px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.video p { color: var(--quiet); font-size: 13px; margin: 0; overflow-wrap: anywhere; }
svg { display: block; overflow: visible; }
svg .c-text { fill: var(--text); } svg .c-encode { fill: var(--encode); } svg .c-stage1 { fill: var(--stage1); }
svg .c-preview { fill: var(--preview); } svg .c-stage2 { fill: var(--stage2); }
svg .c-temporal { fill: var(--temporal); } svg .c-decode { fill: var(--decode); } svg .c-other { fill: var(--other); }
svg line { vector-effect: non-scaling-stroke; }
.gantt .row { display: grid; grid-template-columns: 76px 1fr; align-items: center; min-height: 30px; }
.gantt .name { font-size: 14px; }
.gantt .box { position: relative; border-radius: 4px; background: var(--rail); height: 22px; }
.gantt .track { width: 100%; height: 22px; }
.gantt .box > span { position: absolute; top: 0; font-size: 12px; line-height: 22px; white-space: nowrap; }
.gantt .after { padding-left: 6px; } .gantt .before, .gantt .inside { padding-right: 6px; }
.gantt .inside { color: #fff; text-shadow: 0 0 3px #0009; }
.gantt .failed, .gantt .retried { opacity: 0.55; }
.gantt .loading { fill: var(--card); opacity: 0.45; }
.gantt .step { stroke: var(--card); stroke-width: 1; opacity: 0.7; }
.axis { position: relative; height: 20px; font-size: 12px; color: var(--quiet); }
.axis span { position: absolute; top: 3px; white-space: nowrap; }
.axis .mark { color: var(--wait); top: 3px; border-left: 1px dashed var(--wait); padding-left: 4px; }
.memory { display: grid; grid-template-columns: 76px 1fr 86px; column-gap: 0; margin-top: 8px; }
.memory .box { position: relative; height: 290px; }
.memory .plot { width: 100%; height: 100%; }
.memory .yaxis { position: relative; font-size: 12px; color: var(--quiet); height: 290px; }
.memory .yaxis span { position: absolute; transform: translateY(-50%); white-space: nowrap; right: 8px; }
.memory .grid { stroke: var(--line); stroke-width: 1; }
.memory .area { fill-opacity: 0.55; } .memory .peak { fill-opacity: 0.16; }
.memory .predicted { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 3 3; opacity: 0.75; }
.memory .budget { stroke: var(--budget); stroke-width: 2; }
.memory .session { stroke: var(--wait); stroke-width: 1; stroke-dasharray: 3 3; }
.memory .stackbox { margin-left: 22px; }
.memory .stack { stroke: var(--card); stroke-width: 1; vector-effect: non-scaling-stroke; }
.memory .sum { position: absolute; left: 0; right: 0; text-align: center; transform: translateY(-115%); font-size: 12px;
  font-weight: 650; white-space: nowrap; }
.memory .under { text-align: right; font-size: 12px; color: var(--quiet); padding-top: 3px; line-height: 1.25; }
.budget-word { position: absolute; left: 8px; transform: translateY(-110%); color: var(--budget); font-size: 12px;
  font-weight: 600; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12.5px; color: var(--quiet);
  margin: 12px 0 0 76px; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; }
.legend .line { height: 0; border-radius: 0; border-top: 2px dashed var(--ink); width: 18px; vertical-align: 3px; }
i.c-text { background: var(--text); } i.c-encode { background: var(--encode); }
i.c-stage1 { background: var(--stage1); }
i.c-preview { background: var(--preview); } i.c-stage2 { background: var(--stage2); }
i.c-temporal { background: var(--temporal); } i.c-decode { background: var(--decode); }
i.c-other { background: var(--other); }
.steps { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 20px 28px; margin-top: 12px; }
figure { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; font-size: 13px;
  margin-bottom: 6px; }
figcaption span { color: var(--quiet); }
.bars { width: 100%; height: 84px; border-bottom: 1px solid var(--line); }
.bars .median { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; opacity: 0.6; }
.scroll { overflow-x: auto; margin-top: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 500; color: var(--quiet); font-size: 12.5px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
tr:last-child td, tr:last-child th { border-bottom: 0; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.wide { min-width: 130px; vertical-align: middle; }
td.held { min-width: 110px; }
.bullet { width: 100%; height: 12px; } .bullet .rail { fill: var(--rail); } .bullet .marker { fill: var(--ink); }
.over { color: var(--bad); font-weight: 600; }
.settings th { width: 190px; font-size: 14px; font-weight: 400; }
.settings th { vertical-align: top; }
.settings td, .keys td { overflow-wrap: anywhere; }
.keys code { color: var(--quiet); }
ul.remarks { margin: 8px 0 0; padding: 0; list-style: none; }
ul.remarks li { padding: 7px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
ul.remarks li:last-child { border-bottom: 0; }
ul.remarks b { font-weight: 600; margin-right: 8px; }
.error b, .retry b { color: var(--bad); }
.warning b, .stalled b { color: var(--wait); }
pre { margin: 8px 0 0; padding: 11px 14px; background: var(--rail); border-radius: 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
footer { color: var(--quiet); font-size: 12.5px; margin-top: 22px; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  body { padding: 22px 12px 36px; }
  h1 { font-size: 21px; }
  section, .figures { padding: 16px 14px; border-radius: 10px; }
  .sheet { grid-template-columns: repeat(2, 1fr); }
  .memory { grid-template-columns: 58px 1fr 62px; } .gantt .row { grid-template-columns: 62px 1fr; }
  .memory .stackbox { margin-left: 12px; } .legend { margin-left: 0; }
  .memory .box, .memory .yaxis { height: 220px; }
  .settings th { width: 40%; }
}
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; }
  body { max-width: none; padding: 0; font-size: 12px; }
  section, .figures { break-inside: avoid; border-color: #ccc; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
