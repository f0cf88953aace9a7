"""How a report looks: one style sheet, for a phone and a desk, for light and dark, for a screen and for paper."""

from __future__ import annotations

# Figures' colors in the dark, by what they are in the light (orchestration.figure.style); white is the card's ground.
DARK = {
    "004488": "7db3f0",
    "ddaa33": "e3b84e",
    "bb5566": "f08a9b",
    "6699cc": "a9cdf2",
    "997700": "c8a63a",
    "ee99aa": "f6c2cd",
    "000000": "c9ced6",
    "666666": "9aa2ad",
    "dddddd": "343a43",
    "ffffff": "1a1e24",
}

_VARIABLES = "".join(f" --f-{light}: #{dark};" for light, dark in DARK.items())

STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #ffffff; --ink: #1b2028; --soft: #525b68; --line: #dfe3e8; --link: #0b57a4;
  --accent: #0b57a4; --mark: #eef4fb; --bar: #b9d3ef; --bad: #a8321f; --shadow: 0 1px 2px #1018281a;
  --f-ffffff: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #101318; --card: #1a1e24; --ink: #e7eaee; --soft: #a5adb8; --line: #2e343d; --link: #8ec1fb;
    --accent: #8ec1fb; --mark: #1d2a3a; --bar: #2f4a68; --bad: #ff9d8a; --shadow: none;
   VARIABLES
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
main, header > div, nav > ul, body > footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
a { color: var(--link); text-underline-offset: .2em; text-decoration-thickness: .06em; }
a:hover { text-decoration-thickness: .14em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: -99rem; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip:focus { left: 1rem; top: 1rem; z-index: 9; background: var(--card); padding: .6rem 1rem; }
h1 { font-size: clamp(1.6rem, 1.1rem + 2.2vw, 2.4rem); line-height: 1.2; letter-spacing: -.015em; margin: .2rem 0 .5rem;
  text-wrap: balance; }
h2 { font-size: 1.4rem; line-height: 1.3; letter-spacing: -.01em; margin: 3rem 0 .35rem; }
h3 { font-size: 1.1rem; line-height: 1.35; margin: 2rem 0 .35rem; }
h4 { font-size: 1rem; line-height: 1.4; margin: 1.2rem 0 .3rem; }
p { margin: .35rem 0 .8rem; max-width: 46rem; }
.lead, figcaption, .note, caption, dt, body > footer, .legend { color: var(--soft); }
.note, figcaption, section footer { font-size: .875rem; }
.eyebrow { font-size: .8125rem; letter-spacing: .06em; text-transform: uppercase; color: var(--soft); margin: 0; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 2.2rem 0 1.4rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.3rem 0 0; }
.tiles div { border: 1px solid var(--line); border-radius: 10px; padding: .6rem .9rem; }
.tiles dt { font-size: .8125rem; }
.tiles dd { margin: 0; font-size: 1.3rem; font-weight: 600; letter-spacing: -.01em; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
nav { position: sticky; top: 0; z-index: 5; background: var(--card); border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: 1.4rem; list-style: none; overflow-x: auto; white-space: nowrap; scrollbar-width: none; }
nav a { display: block; padding: .7rem 0; text-decoration: none; font-size: .9375rem; }
nav a:hover { text-decoration: underline; }
.card, section > .scroll, .table { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  box-shadow: var(--shadow); }
.scroll, .table { overflow-x: auto; margin: .8rem 0; padding: .35rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9375rem; }
caption { text-align: left; padding: .5rem .9rem .4rem; font-size: .875rem; position: sticky; left: 0;
  max-width: calc(100vw - 2.2rem); }
th, td { padding: .42rem .9rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .word { text-align: left; }
td.word { white-space: normal; max-width: 24rem; }
thead th { font-size: .8125rem; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line);
  vertical-align: bottom; white-space: normal; min-width: 4.6rem; text-wrap: balance; }
tbody th { font-weight: 500; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody tr:hover > * { background: var(--mark); }
tbody + tbody { border-top: 2px solid var(--line); }
tbody + tbody td { white-space: normal; }
td a { text-decoration-color: var(--bar); }
.bar { display: inline-block; vertical-align: middle; width: 5rem; height: .55rem; border-radius: 3px;
  margin-left: .7rem; background: linear-gradient(to right, var(--bar) var(--share), transparent var(--share)); }
section footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 .6rem; margin: .4rem 0; }
section footer dd { margin: 0; }
section footer { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem;
  margin: 1rem 0; }
figure { margin: 0; padding: .9rem 1rem; min-width: 0; }
figure > :is(h3, h4) { margin: 0 0 .4rem; font-size: 1rem; }
figcaption { margin-top: .5rem; }
.plot { display: block; width: 100%; height: auto; }
.plot text { fill: var(--f-000000, #1b2028); }
.wide { overflow-x: auto; }
.wide .plot { margin: 0 auto; min-width: calc(var(--width) * 1.35px); max-width: calc(var(--width) * 2px); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; list-style: none; padding: 0; margin: .8rem 0;
  font-size: .9375rem; }
.legend svg { width: 2.2rem; height: .7rem; margin-right: .45rem; vertical-align: middle; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1rem;
  margin: 1rem 0; }
.pictures.narrow { grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.pictures img { display: block; max-width: 100%; height: auto; }
article { padding: .7rem 1.1rem .5rem; margin: .6rem 0; }
article:target, tr:target > * { outline: 3px solid var(--accent); outline-offset: -1px; background: var(--mark); }
article { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 1.5rem; align-items: baseline; }
article > :is(h3, h4) { margin: 0; font-size: 1rem; }
article > :is(details, .note) { grid-column: 1 / -1; }
article dl { margin: .1rem 0 .4rem; }
article dl > div { display: grid; grid-template-columns: 8.5rem minmax(0, 1fr); gap: .2rem 1rem;
  padding: .22rem 0; }
article dd { margin: 0; overflow-wrap: anywhere; }
.numbers { margin: 0; font-variant-numeric: tabular-nums; color: var(--soft); font-size: .9375rem; }
code, pre { font: .84em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem;
  margin: .5rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
pre code { font-size: inherit; }
summary { cursor: pointer; color: var(--link); padding: .35rem 0; width: fit-content; }
details > .inside { padding-top: .2rem; }
.bad { color: var(--bad); }
.pill { display: inline-block; font-size: .8125rem; padding: .05rem .6rem; border: 1px solid var(--line);
  border-radius: 99px; color: var(--soft); }
body > footer { padding-top: 2rem; padding-bottom: 3rem; font-size: .875rem; }
@media (max-width: 40rem) {
  main, header > div, nav > ul, body > footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.4rem; }
  article { grid-template-columns: minmax(0, 1fr); }
  article dl > div { grid-template-columns: minmax(0, 1fr); gap: 0; padding: .3rem 0; }
  th, td { padding: .42rem .65rem; }
  tbody th:first-child { position: sticky; left: 0; background: var(--card); min-width: 6.6rem; max-width: 9rem;
    white-space: normal; }
}
@media print {
  nav, .skip { display: none; }
  body { background: none; font-size: .8rem; }
  .card, .scroll, .table { box-shadow: none; overflow: visible; break-inside: avoid; }
}
""".replace("   VARIABLES", "   " + _VARIABLES)
