/**
 * A chart of lines over time: an SVG that is read aloud as one sentence, a legend that tells lines apart by their dashes
 * as well as by their colours, and the same numbers as a table for who asks for it.
 */
import { drawn, element, table } from './dom.js';
import { moment, quantity, short } from './format.js';

const WIDTH = 480, HEIGHT = 180, LEFT = 64, RIGHT = 10, TOP = 10, BOTTOM = 24;
const COLOURS = 4;
const HOUR = 3600, DAY = 24 * HOUR;

/** The periods that charts show: seconds, seconds between points and what these are, and how times are written. */
export const PERIODS = {
  hours: { name: '6 hours', points: 'means of five minutes', seconds: 6 * HOUR, step: 5 * 60, tick: { hour: '2-digit', minute: '2-digit' } },
  week: { name: 'a week', points: 'means of hours; thin lines are their peaks', seconds: 7 * DAY, step: HOUR, tick: { weekday: 'short', day: 'numeric' } },
  year: { name: 'a year', points: 'means of days; thin lines are their peaks', seconds: 365 * DAY, step: DAY, tick: { month: 'short' } },
};

/** Return a round distance between at most `most` ticks up to a value. */
export function roundStep(highest, most) {
  const power = 10 ** Math.floor(Math.log10(highest / most));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => highest / step <= most);
}

/** Return the beginnings of hours, days or months in a period, as many as can be read. */
function times(start, end, period) {
  const at = new Date(start * 1000);
  at.setMinutes(0, 0, 0);
  if (period !== PERIODS.hours) at.setHours(0);
  if (period === PERIODS.year) at.setDate(1);
  const found = [];
  while (at / 1000 <= end) {
    if (at / 1000 >= start) found.push(at / 1000);
    if (period === PERIODS.hours) at.setHours(at.getHours() + 1);
    else if (period === PERIODS.week) at.setDate(at.getDate() + 1);
    else at.setMonth(at.getMonth() + 2);
  }
  return found;
}

/** Return the path of a line; where points are missing it is interrupted. */
function path(points, step, x, y) {
  let before = -Infinity;
  return points.filter(([, value]) => Number.isFinite(value)).map(([time, value]) => {
    const command = time - before > step * 1.5 ? 'M' : 'L';
    before = time;
    // A point without neighbours is drawn as well.
    return `${command}${x(time).toFixed(1)} ${y(value).toFixed(1)}${command === 'M' ? 'h2' : ''}`;
  }).join('');
}

/** Say a line in words. */
function told({ name, points }, unit) {
  const values = points.map(([, value]) => value).filter(Number.isFinite);
  if (!values.length) return `${name}: no data`;
  // A spread would be too long for a year of many points.
  const [least, most] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const [last, from, to] = [values.at(-1), least, most].map((value) => quantity(value, unit));
  return from === to ? `${name}: ${last}` : `${name}: ${last} last, ${from} to ${to}`;
}

function drawing(lines, peaks, unit, { start, end, period }, words) {
  const all = [...lines, ...peaks].flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  const most = all.reduce((high, value) => Math.max(high, value), 0) || 1;
  const step = roundStep(most, 4);
  const highest = Math.ceil(most / step) * step;
  const x = (time) => LEFT + (WIDTH - LEFT - RIGHT) * (time - start) / (end - start);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * Math.max(0, value) / highest;
  const body = [];
  for (let tick = 0; tick <= highest * 1.001; tick += step) {
    body.push(drawn('path', { class: 'grid', d: `M${LEFT} ${y(tick).toFixed(1)}H${WIDTH - RIGHT}` }),
      drawn('text', { class: 'tick', x: LEFT - 6, y: (y(tick) + 4).toFixed(1), 'text-anchor': 'end' }, short(tick, unit)));
  }
  for (const time of times(start, end, period)) {
    body.push(drawn('path', { class: 'grid', d: `M${x(time).toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}` }));
    if (x(time) < WIDTH - 24 && x(time) > LEFT + 12) {
      body.push(drawn('text', { class: 'tick', x: x(time).toFixed(1), y: HEIGHT - 6, 'text-anchor': 'middle' }, moment(time, period.tick)));
    }
  }
  const line = (kind) => ({ points }, index) => drawn('path', {
    class: `line ${kind} line${index % COLOURS} dash${Math.floor(index / COLOURS) % 3}`, d: path(points, period.step, x, y),
  });
  return drawn('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': words },
    body, peaks.map(line('peak')), lines.map(line('')));
}

function numbers(title, lines, unit) {
  const byTime = new Map();
  lines.forEach(({ points }, column) => points.forEach(([time, value]) => {
    byTime.set(time, byTime.get(time) ?? lines.map(() => NaN));
    byTime.get(time)[column] = value;
  }));
  const rows = [...byTime].sort(([one], [other]) => other - one)
    .map(([time, values]) => [moment(time), ...values.map((value) => (Number.isFinite(value) ? quantity(value, unit) : 'no data'))]);
  return table(`${title}, the latest first`, ['time', ...lines.map(({ name }) => name)], rows, lines.map((_, index) => index + 1));
}

/**
 * Make a chart.
 *
 * @param {{key: string, title: string, unit: string}} about what it shows; `unit` as in format.js
 * @param {{name: string, points: number[][]}[]} lines what is drawn
 * @param {{name: string, points: number[][]}[]} peaks the highest of each point's time, of the same lines; may be empty
 * @param {{start: number, end: number, period: object}} time what is shown, in seconds
 * @param {boolean} unfolded whether the table is shown
 */
export function chart({ key, title, unit }, lines, peaks, time, unfolded) {
  const id = `chart-${key}`;
  if (!lines.length) {
    return element('figure', { class: 'chart', 'data-key': id }, element('figcaption', {}, element('strong', {}, title)),
      element('p', { class: 'source' }, `No data of ${time.period.name}.`));
  }
  const words = lines.map((line) => told(line, unit));
  return element('figure', { class: 'chart', 'data-key': id },
    element('figcaption', {}, element('strong', {}, title)),
    drawing(lines, peaks, unit, time, `${title} over ${time.period.name}. ${words.join('; ')}.`),
    element('ul', { class: 'legend' }, lines.map((line, index) => element('li', {},
      drawn('svg', { viewBox: '0 0 24 8', 'aria-hidden': 'true' },
        drawn('path', { class: `line line${index % COLOURS} dash${Math.floor(index / COLOURS) % 3}`, d: 'M0 4H24' })),
      words[index]))),
    element('details', { 'data-key': `${id}-table`, id: `${id}-table`, open: unfolded },
      element('summary', {}, 'As a table', element('span', { class: 'unseen' }, `: ${title}`)),
      unfolded && numbers(title, lines, unit)));
}
