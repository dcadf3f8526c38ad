// p50 and p99 over time: a chart of the library where its package is installed, else lines as SVG.

import { percentileLines } from "/charts.js";
import { at, fill, number } from "/parts.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const LINES = { p50: { colour: "--accent", style: 0 }, p99: { colour: "--alarm", style: 2 } };

let chart = null, lines = {}, points = [], drawn = "", loading = null;

// The library comes after the page can be used: nothing waits for it.
const library = () => loading ||= import("/chart-library.js")
  .then(() => window.LightweightCharts, () => undefined);

// `found` is [seconds ago, p50, p99] in milliseconds, oldest first, null where there is a gap.
export async function percentiles(found, now_s) {
  // By its values: their times waver by what two clocks are read apart.
  const text = JSON.stringify(found.map(([, p50, p99]) => [p50, p99]));
  if (text === drawn) return;
  drawn = text;
  points = found.map(([age, p50, p99]) => ({ at_s: Math.round(now_s - age), p50, p99 }))
    .filter((point, i, all) => !i || point.at_s > all[i - 1].at_s);
  at("latency-chart").setAttribute("aria-label", label());
  at("latency-said").textContent = said(newest());
  table();
  const charts = await library();
  if (text !== drawn) return;
  if (charts) timed(charts);
  else at("latency-chart").replaceChildren(percentileLines(points));
}

const newest = () => points.findLast((point) => point.p50 !== null);

function label() {
  const last = newest();
  if (!last) return "No latency yet";
  const minutes = Math.round(Math.max(60, last.at_s - points[0].at_s) / 60);
  return `Latency of the last ${minutes} minutes; newest p50 ${number(last.p50, 1)} ms, ` +
    `p99 ${number(last.p99, 1)} ms`;
}

function said(point) {
  return point ? `p50 ${number(point.p50, 1)} ms (line), p99 ${number(point.p99, 1)} ms (dashed)`
    : "No latency yet";
}

const milliseconds = (ms) => `${number(ms, ms < 10 ? 1 : 0)} ms`;
const clock = (at_s) => new Date(at_s * 1000).toLocaleTimeString("en-GB");

function table() {
  at("latency-rows").replaceChildren(...[...points].reverse().map((point) => {
    const row = document.createElement("tr");
    fill(row, [clock(point.at_s), number(point.p50, 1), number(point.p99, 1)], [false, true, true]);
    return row;
  }));
}

function timed(charts) {
  if (!chart) begin(charts);
  for (const name of Object.keys(LINES)) {
    lines[name].setData(points.map((point) => point[name] === null ? { time: point.at_s }
      : { time: point.at_s, value: point[name] }));
  }
  chart.timeScale().fitContent();
}

function begin(charts) {
  const into = at("latency-chart");
  into.replaceChildren();
  chart = charts.createChart(into, {
    autoSize: true,
    handleScroll: false,
    handleScale: false,
    // Its logo would bring an inline style, which the page allows nobody: the link below names it.
    layout: { attributionLogo: false },
    localization: { timeFormatter: clock, priceFormatter: milliseconds },
    rightPriceScale: { borderVisible: false },
    timeScale: { borderVisible: false, timeVisible: true, tickMarkFormatter: clock },
  });
  for (const [name, { style }] of Object.entries(LINES)) {
    lines[name] = chart.addSeries(charts.LineSeries, {
      lineWidth: 2, lineStyle: style, priceLineVisible: false, lastValueVisible: false,
      autoscaleInfoProvider: (original) => fromZero(original()),
    });
  }
  chart.subscribeCrosshairMove(({ time }) => {
    const point = points.find((one) => one.at_s === time && one.p50 !== null);
    at("latency-said").textContent = point ? `${clock(time)}: ${said(point)}`
      : said(newest());
  });
  DARK.addEventListener("change", paint);
  paint();
  at("latency-by").hidden = false;
}

function fromZero(info) {
  if (info) info.priceRange.minValue = 0;
  return info;
}

function paint() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const line = { color: of("--line") };
  chart.applyOptions({
    layout: { background: { type: "solid", color: of("--card") }, textColor: of("--soft") },
    grid: { vertLines: { visible: false }, horzLines: line },
  });
  for (const [name, { colour }] of Object.entries(LINES)) {
    lines[name].applyOptions({ color: of(colour) });
  }
}
