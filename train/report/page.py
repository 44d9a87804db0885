"""The report's skeleton: its style, and the few lines of script that answer to a pointer."""

from __future__ import annotations

from html import escape

# Nothing may be loaded from anywhere: the page is whole, and stays so when it is sent on.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

STYLE = """
:root{color-scheme:light;--ink:#1d2430;--soft:#5d6778;--line:#dfe4ec;--paper:#fff;--tint:#f5f7fa;--accent:#1f63b5}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main,header,nav{max-width:1160px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:27px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:20px;margin:44px 0 12px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:22px 0 8px}
p{margin:0 0 12px}
.sub,.unit,small,.lowest,.facts dt{color:var(--soft)}
.sub{overflow-wrap:anywhere}
.unit{font-weight:400;font-size:13px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(134px,1fr));gap:8px;margin:20px 0 14px;padding:0}
.tiles div{background:var(--tint);border-radius:8px;padding:10px 12px}
.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:0;white-space:nowrap;font-size:18px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.3}
.tiles small{display:block;white-space:normal;font-weight:400;font-size:12px}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px}
a{color:var(--accent)}
.note{background:#fff6e0;border-left:3px solid #d99a00;padding:6px 12px;margin:0 0 10px;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr));gap:22px 26px}
figure{margin:0;break-inside:avoid;min-width:0}
.chart figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 12px}
.chart h3{margin:0}
.chart svg{display:block;width:100%;height:auto}
.legend{display:flex;flex-wrap:wrap;gap:0 14px;font-size:13px}
.legend svg{display:inline-block;width:22px;margin-right:5px;vertical-align:2px}
output{display:block;min-height:1.5em;font-size:13px;color:var(--soft);font-variant-numeric:tabular-nums}
svg text{font-size:12.5px;fill:var(--soft);font-family:inherit}
svg polygon{opacity:.2}
svg polyline{fill:none;stroke-width:1.7;stroke-linejoin:round}
.grid{stroke:var(--line)}.axis{stroke:#8a94a4;fill:none}
.mark{stroke:#8a94a4;stroke-dasharray:3 3}.ring{fill:none;stroke:#1d2430;stroke-width:1.4}
.pointer{stroke:#1d2430;stroke-width:.8}
svg:focus-visible,button:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
svg:focus{outline-offset:2px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:4px 14px 4px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,.name{text-align:left!important}
thead th{border-bottom:2px solid #8a94a4}
tbody th{font-weight:500}
tbody tr:hover{background:var(--tint)}
th button{all:unset;cursor:pointer;font-weight:600}
th button::after{content:" \\2195";color:#a9b2c0}
th[aria-sort=ascending] button::after{content:" \\2191";color:inherit}
th[aria-sort=descending] button::after{content:" \\2193";color:inherit}
.bar{background:linear-gradient(90deg,#cfe0f5 var(--v),transparent var(--v)) 0 50%/100% 72% no-repeat;min-width:120px}
.swatch{display:inline-block;width:13px;height:13px;border:1px solid #0004;border-radius:3px;margin-right:7px;
vertical-align:-1px}
.trend{width:80px;height:18px;vertical-align:middle}.trend polyline{stroke:var(--accent)}
.scale{display:inline-block;width:60px;height:11px;border:1px solid var(--line);vertical-align:-1px}
.right{background:linear-gradient(90deg,#fff,#104e96)}.wrong{background:linear-gradient(90deg,#fff,#dc2828)}
.zoom{margin-left:10px;font:inherit;font-size:13px;padding:1px 10px;cursor:pointer}
.pair{display:flex;flex-wrap:wrap;gap:0 36px}.pair>*{min-width:0;max-width:100%}.pair h3{margin-top:10px}
.frame{fill:none;stroke:#8a94a4}tfoot th,tfoot td{border:0;border-top:2px solid #8a94a4;font-weight:600}
.matrix svg{display:block;width:var(--natural);max-width:100%;min-width:min(var(--natural),520px);height:auto}
.matrix.full svg{width:var(--natural);max-width:none}
.matrix text{font-size:inherit}.matrix .title{font-size:12px;fill:var(--ink)}
.matrix .dark{fill:#222}.matrix .light{fill:#fff}
.matrix rect{fill:none;stroke:none;pointer-events:none}
.matrix .on.cross{fill:#1d243014}.matrix .on.cell{stroke:#1d2430;stroke-width:1.5}
.chips span{display:inline-block;margin-right:16px;white-space:nowrap;font-size:14px}
.sample{margin-bottom:18px}
.sample figcaption{display:flex;flex-wrap:wrap;gap:0 12px;margin-bottom:4px;overflow-wrap:anywhere}
.panels{display:grid;grid-template-columns:repeat(4,1fr);gap:6px}
.panels img{display:block;width:100%;height:auto;border:1px solid var(--line)}
pre{background:var(--tint);padding:14px 18px;border-radius:8px;font:13px/1.45 ui-monospace,Menlo,Consolas,monospace;
columns:2 300px;white-space:pre-wrap;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:0}
.facts dd{margin:0;overflow-wrap:anywhere}
footer{max-width:1160px;margin:40px auto 30px;padding:0 20px;color:var(--soft);font-size:13px}
@media (max-width:640px){
body{font-size:14px}main,header,nav,footer{padding-left:14px;padding-right:14px}
.panels{grid-template-columns:repeat(2,1fr)}.tiles{grid-template-columns:repeat(auto-fit,minmax(104px,1fr))}
.tiles div{padding:8px 10px}.tiles dd{font-size:16px}th,td{padding-right:8px}.bar{min-width:84px}}
@media print{
nav,.zoom{display:none}body{font-size:11px}main,header{max-width:none}h2,h3{break-after:avoid}
.charts{grid-template-columns:1fr 1fr}th button::after{content:""}tr,.sample{break-inside:avoid}
.scroll{overflow:visible}.matrix svg{width:100%!important;min-width:0;max-width:min(100%,var(--natural))!important}}
"""

SCRIPT = """
'use strict';
const svgNS = document.querySelector('svg') && document.querySelector('svg').namespaceURI;
const show = v => v === null ? 'not finite' : Math.abs(v) >= 1e4 || Number.isInteger(v)
  ? Math.round(v).toLocaleString('en') : String(Number(v.toPrecision(4)));
const facts = box => JSON.parse(box.querySelector('script').textContent);
function place(svg, event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

for (const chart of document.querySelectorAll('.chart')) {
  const {box, scale, series} = facts(chart), svg = chart.querySelector('svg[tabindex]');
  const output = chart.querySelector('output'), resting = output.textContent;
  const marks = document.createElementNS(svgNS, 'g');
  svg.append(marks);
  const steps = [...new Set(series.flatMap(s => s.points.map(p => p[0])))].sort((a, b) => a - b);
  const x = step => box.left + (step - scale.first) / (scale.last - scale.first) * (box.right - box.left);
  const to = v => scale.log ? Math.log10(v) : v;
  const y = v => box.top + (to(scale.high) - to(v)) / (to(scale.high) - to(scale.low)) * (box.bottom - box.top);
  let at = -1;
  const draw = (name, attributes) => {
    const drawn = document.createElementNS(svgNS, name);
    for (const [key, value] of Object.entries(attributes)) drawn.setAttribute(key, value);
    marks.append(drawn);
  };
  const clear = () => { marks.replaceChildren(); output.textContent = resting; at = -1; };
  const point = index => {
    at = Math.max(0, Math.min(steps.length - 1, index));
    const step = steps[at];
    marks.replaceChildren();
    draw('line', {class: 'pointer', x1: x(step), x2: x(step), y1: box.top, y2: box.bottom});
    const said = [];
    for (const s of series) {
      const near = s.points.reduce((a, b) => Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a);
      if (near[1] !== null) draw('circle', {cx: x(near[0]), cy: y(near[1]), r: 3.2, fill: s.color});
      const range = near.length > 2 ? ` (${show(near[2])} to ${show(near[3])})` : '';
      const place = near[0] === step ? '' : ` (at ${near[0].toLocaleString('en')})`;
      said.push(`${s.name} ${show(near[1])}${range}${place}`);
    }
    output.textContent = `step ${step.toLocaleString('en')}: ${said.join(', ')}`;
  };
  svg.addEventListener('pointermove', event => {
    const step = scale.first + (place(svg, event).x - box.left) / (box.right - box.left) * (scale.last - scale.first);
    let nearest = 0;
    steps.forEach((s, i) => { if (Math.abs(s - step) < Math.abs(steps[nearest] - step)) nearest = i; });
    point(nearest);
  });
  svg.addEventListener('pointerleave', clear);
  svg.addEventListener('blur', clear);
  svg.addEventListener('keydown', event => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by) { event.preventDefault(); point(at < 0 ? (by < 0 ? steps.length - 1 : 0) : at + by); }
  });
}

for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, i) => {
    const cell = row.cells[i], text = cell.dataset.v;
    return text === undefined ? cell.textContent : text === '' ? null : Number(text);
  };
  heads.forEach((head, i) => head.querySelector('button')?.addEventListener('click', () => {
    const first = i === 0 || head.cellIndex === 1 && body.rows[0].cells[1].dataset.v === undefined;
    const up = head.ariaSort ? head.ariaSort === 'descending' : first;
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const order = (a, b) => typeof a === 'string' ? a.localeCompare(b) : a - b;
    const rows = [...body.rows].map(row => [value(row, i), row]);
    rows.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : up ? order(a, b) : order(b, a));
    body.append(...rows.map(pair => pair[1]));
  }));
}

for (const box of document.querySelectorAll('.matrix')) {
  const {cell, margin, names, rows} = facts(box), svg = box.querySelector('svg'), output = box.querySelector('output');
  const [row, column, one] = svg.querySelectorAll('rect'), size = names.length, side = cell * size;
  const sums = rows.map(pairs => pairs.reduce((sum, pair) => sum + pair[1], 0));
  let t = 0, p = 0;
  const put = (rect, x, y, width, height) => {
    for (const [key, value] of Object.entries({x, y, width, height})) rect.setAttribute(key, value);
    rect.classList.add('on');
  };
  const clear = () => {
    for (const rect of [row, column, one]) rect.classList.remove('on');
    output.textContent = '\\u00a0';
  };
  const point = () => {
    put(row, margin, margin + t * cell, side, cell);
    put(column, margin + p * cell, margin, cell, side);
    put(one, margin + p * cell, margin + t * cell, cell, cell);
    const count = (rows[t].find(pair => pair[0] === p) || [p, 0])[1];
    const share = sums[t] ? ` (${(100 * count / sums[t]).toFixed(2)}%)` : '';
    output.textContent = sums[t] ? `${count.toLocaleString('en')} of ${sums[t].toLocaleString('en')} pixels of `
      + `${names[t]}${share} were predicted as ${names[p]}` : `${names[t]} is in no label`;
  };
  svg.addEventListener('pointermove', event => {
    const at = place(svg, event), r = Math.floor((at.y - margin) / cell), c = Math.floor((at.x - margin) / cell);
    if (r < 0 || c < 0 || r >= size || c >= size) return clear();
    t = r; p = c; point();
  });
  svg.addEventListener('pointerleave', clear);
  svg.addEventListener('blur', clear);
  svg.addEventListener('keydown', event => {
    const by = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (!by) return;
    event.preventDefault();
    t = Math.max(0, Math.min(size - 1, t + by[0])); p = Math.max(0, Math.min(size - 1, p + by[1]));
    point();
  });
  const zoom = box.closest('section').querySelector('.zoom');
  const natural = parseFloat(svg.style.getPropertyValue('--natural'));
  const fits = () => { zoom.hidden = !box.classList.contains('full') && natural < 1.2 * svg.clientWidth; };
  zoom.addEventListener('click', () => {
    zoom.textContent = box.classList.toggle('full') ? 'fit width' : 'full size';
  });
  addEventListener('resize', fits);
  fits();
}
document.documentElement.dataset.script = 'ready';
"""


def page(title: str, header: str, sections: list[tuple[str, str]], footer: str) -> str:
    """The whole HTML. title: text; header, footer and (heading, content) of each section: HTML."""
    names = [heading.lower().replace(" ", "-") for heading, _ in sections]
    links = "".join(
        f'<a href="#{name}">{escape(heading)}</a>' for name, (heading, _) in zip(names, sections, strict=True)
    )
    body = "".join(
        f'<section id="{name}" aria-labeledby="h-{name}"><h2 id="h-{name}">{escape(heading)}</h2>{content}</section>'
        for name, (heading, content) in zip(names, sections, strict=True)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<header>{header}</header><nav aria-label="Sections">{links}</nav><main>{body}</main>'
        f"<footer>{footer}</footer><script>{SCRIPT}</script></body></html>\n"
    )
