// Draws the charts over the still pictures that came with the page, and feeds them new numbers in place.
import { clock } from "./times.js";

const plots = new Map();

function colour(style) {
  const probe = document.createElement("span");
  probe.className = style;
  document.body.append(probe);
  probe.style.color = style ? "var(--tone)" : "var(--faint)";
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 || value === 0 ? Math.round(value).toLocaleString("en") : String(Math.round(value * 10) / 10);
}

// Where events are known to be missing, behind the lines.
function shade(plot) {
  const context = plot.ctx;
  context.save();
  context.fillStyle = plot.gapColour;
  for (const [start, end] of plot.gaps ?? []) {
    const left = plot.valToPos(Math.max(start, plot.scales.x.min), "x", true);
    const right = plot.valToPos(Math.min(end, plot.scales.x.max), "x", true);
    if (right >= left) context.fillRect(left, plot.bbox.top, Math.max(right - left, 2), plot.bbox.height);
  }
  context.restore();
}

function options(chart, width, legend) {
  const axis = colour("");
  const grid = { stroke: axis, width: 0.25 };
  return {
    width,
    height: 158,
    cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false }, sync: { key: "meadow" } },
    legend: { show: false },
    padding: [8, 28, 0, 0],
    scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
    axes: [
      { stroke: axis, grid: { show: false }, ticks: { show: false }, size: 24, font: "11px system-ui", space: 90,
        values: (plot, times) => times.map((at) => {
          const short = plot.scales.x.max - plot.scales.x.min < 300;
          return clock(at).slice(0, short ? 8 : 5);
        }) },
      { stroke: axis, grid, ticks: { show: false }, size: 40, font: "11px system-ui", space: 36,
        values: (_, values) => values.map(number) },
    ],
    series: [{}, ...chart.series.map((series) => {
      const tone = colour(`s-${series.style}`);
      return { label: series.label, stroke: tone, width: 1.5, fill: tone.replace(/^rgb\((.*)\)$/, "rgba($1, 0.10)"),
        points: { show: false }, spanGaps: false };
    })],
    hooks: {
      init: [(plot) => {
        plot.gaps = chart.gaps;
        plot.gapColour = colour("s-gap").replace(/^rgb\((.*)\)$/, "rgba($1, 0.18)");
      }],
      drawClear: [shade],
      setCursor: [(plot) => describe(plot, legend)],
    },
  };
}

function describe(plot, legend) {
  const index = plot.cursor.idx ?? plot.data[0].length - 1;
  const items = legend.querySelectorAll("b");
  items.forEach((item, n) => { item.textContent = number(plot.data[n + 1]?.[index]); });
  let at = legend.querySelector(".at");
  if (!at) {
    at = document.createElement("span");
    at.className = "at";
    legend.append(at);
  }
  const time = plot.data[0][index];
  at.textContent = plot.cursor.idx === null || time === undefined ? "" : clock(time);
}

function draw(element) {
  const chart = JSON.parse(element.dataset.chart);
  if (chart.times.length < 2) return;
  const data = [chart.times, ...chart.series.map((series) => series.values)];
  const known = plots.get(element);
  if (known && known.theme === document.documentElement.dataset.theme) {
    const zoomed = known.plot.scales.x.min > known.first || known.plot.scales.x.max < known.last;
    known.plot.gaps = chart.gaps;
    known.plot.setData(data, !zoomed);
    if (zoomed) known.plot.redraw();
    Object.assign(known, { first: chart.times[0], last: chart.times.at(-1) });
    return describe(known.plot, element.querySelector(".legend"));
  }
  known?.plot.destroy();
  const legend = element.querySelector(".legend");
  const width = element.clientWidth - 28;
  const plot = new window.uPlot(options(chart, width, legend), data);
  element.insertBefore(plot.root, legend);
  element.classList.add("drawn");
  plots.set(element, {
    plot, theme: document.documentElement.dataset.theme, first: chart.times[0], last: chart.times.at(-1),
  });
  return undefined;
}

export function redraw() {
  for (const [element, { plot }] of plots) {
    if (!element.isConnected) {
      plot.destroy();
      plots.delete(element);
    }
  }
  for (const element of document.querySelectorAll("[data-chart]")) draw(element);
}

function again() {
  for (const [element, { plot }] of plots) {
    plot.destroy();
    plots.delete(element);
    element.classList.remove("drawn");
  }
  redraw();
}

export function startCharts() {
  redraw();
  let timer = 0;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(again, 120); });
  document.addEventListener("meadow:theme", again);
  document.addEventListener("meadow:times", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
}
