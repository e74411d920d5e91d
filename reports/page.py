"""Style and script of the page. Neither loads anything: fonts are the system's, colours follow the system's theme."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f6f7f8; --ink: #16191d; --muted: #5c636d; --line: #d5d9de; --faint: #e6e8eb; --grey: #8a929c;
  --accent: #0067a5; --blue: #0072b2; --orange: #d08a00; --green: #00805d; --purple: #b0578c;
  --vermilion: #c44f00; --yellow: #9a8f00; --warn: #8a4b00; --warn-panel: #fff6e8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121417; --panel: #1b1e22; --ink: #eceef0; --muted: #a0a8b2; --line: #383e46; --faint: #2a2f35; --grey: #7d8691;
    --accent: #5ab4ea; --blue: #4ba3e0; --orange: #e9a93a; --green: #2fb98f; --purple: #d88ab8;
    --vermilion: #ee7b3c; --yellow: #d8cc45; --warn: #f0b86c; --warn-panel: #2b2115;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1080px; margin: 0 auto; padding: 56px 32px 72px; }
header p, section > p { max-width: 70ch; }
h1 { font-size: 34px; line-height: 1.2; font-weight: 650; letter-spacing: -0.02em; margin: 4px 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 21px; line-height: 1.3; font-weight: 620; letter-spacing: -0.01em; margin: 0 0 4px; }
h3 { font-size: 14px; font-weight: 620; margin: 0 0 6px; }
p { margin: 0 0 12px; }
section { margin-top: 64px; }
.quiet, .eyebrow { color: var(--muted); }
.eyebrow { font-size: 14px; margin: 0; overflow-wrap: anywhere; }
.source { font-size: 12px; font-weight: 500; color: var(--muted); white-space: nowrap; }
.stats { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 32px 0 24px; background: var(--line);
  border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.stats div { background: var(--page); padding: 18px 20px 16px; }
.stats dt { font-size: 13px; color: var(--muted); }
.stats dd { margin: 0; overflow-wrap: anywhere; }
.stats .value { font-size: 29px; line-height: 1.3; font-weight: 620; letter-spacing: -0.02em; }
.stats .value small { font-size: 17px; font-weight: 500; letter-spacing: 0; }
.stats .beside { font-size: 13px; color: var(--muted); }
.statement { font-size: 21px; font-weight: 600; line-height: 1.35; margin: 28px 0 8px; }
.note { background: var(--panel); border-radius: 10px; padding: 14px 18px; font-size: 14px; margin: 24px 0 0; max-width: none; }
.note.modelled { background: var(--warn-panel); }
.note.modelled b { color: var(--warn); }
.chart { height: 440px; margin-top: 8px; }
.chart.low { height: 340px; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0; margin: 16px 0 0; font-size: 13px;
  color: var(--muted); }
.keys li { display: flex; align-items: center; gap: 7px; }
.keys svg, .swatch { width: 14px; height: 14px; flex: none; }
.below { font-size: 13px; color: var(--muted); margin-top: 8px; }
.scroll { overflow-x: auto; margin-top: 24px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.4; }
th { text-align: right; font-weight: 500; font-size: 13px; color: var(--muted); vertical-align: bottom; padding: 6px 10px;
  border-bottom: 1px solid var(--line); }
td { text-align: right; padding: 7px 10px; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.text, th.text { text-align: left; }
tr.best td { font-weight: 620; }
tr.over td { color: var(--muted); }
.tag { font-size: 12px; font-weight: 500; color: var(--muted); margin-left: 8px; }
tr.best .tag { color: var(--accent); }
details { margin-top: 20px; }
summary { cursor: pointer; font-size: 14px; color: var(--accent); width: fit-content; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 3px; }
details .scroll { margin-top: 8px; }
.layers td { white-space: normal; vertical-align: top; }
.layers .name { overflow-wrap: anywhere; min-width: 180px; }
.layers small { display: block; font-size: 12.5px; color: var(--muted); }
.layers .option span { white-space: nowrap; }
.layers .option svg { width: 10px; height: 10px; margin-right: 8px; }
.layers .ms .source { display: none; }
.share { display: flex; align-items: center; gap: 10px; }
.bar { flex: 1; min-width: 70px; height: 8px; }
.bar i { display: block; height: 100%; border-radius: 2px; background: var(--accent); }
.share span:last-child { min-width: 46px; text-align: right; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 28px 40px; margin-top: 20px; }
.facts dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 16px; margin: 0; font-size: 14px; align-content: start; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 64px; padding-top: 16px; border-top: 1px solid var(--faint); font-size: 13px; color: var(--muted); }
@media (max-width: 720px) {
  main { padding: 32px 18px 48px; }
  h1 { font-size: 27px; }
  section { margin-top: 48px; }
  .stats { grid-template-columns: 1fr 1fr; margin-top: 24px; }
  .stats div { padding: 14px 14px 12px; }
  .stats .value { font-size: 24px; }
  .chart { height: 380px; }
  .chart.low { height: 300px; }
  .layers thead { display: none; }
  .layers, .layers tbody { display: block; }
  .layers tr { display: grid; grid-template-columns: 28px 1fr auto; gap: 2px 8px; padding: 10px 0;
    border-bottom: 1px solid var(--faint); }
  .layers td { display: block; border: 0; padding: 0; }
  .layers .index { grid-row: 1; }
  .layers .name { grid-column: 2; grid-row: 1; min-width: 0; }
  .layers .ms { grid-column: 3; grid-row: 1; text-align: right; }
  .layers .ms .source { display: block; }
  .layers .option { grid-column: 2 / 4; }
  .layers .part { grid-column: 2 / 4; }
  .layers .other { grid-column: 2 / 4; }
  .layers .other::before { content: "runner-up: "; color: var(--muted); }
}
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid-page; } }
"""

SCRIPT = """
'use strict';
(function () {
  const figures = JSON.parse(document.getElementById('figures').textContent);
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const touch = window.matchMedia('(pointer: coarse)').matches;

  function coloured(value, style) {
    if (typeof value === 'string' && value.startsWith('var(--')) return style.getPropertyValue(value.slice(4, -1)).trim();
    if (Array.isArray(value)) return value.map(function (item) { return coloured(item, style); });
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(function (entry) { return [entry[0], coloured(entry[1], style)]; }));
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const name of Object.keys(figures)) {
      const figure = coloured(figures[name], style);
      figure.layout.dragmode = touch ? false : 'zoom';
      Plotly.react(name, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  }

  draw();
  dark.addEventListener('change', draw);
})();
"""
