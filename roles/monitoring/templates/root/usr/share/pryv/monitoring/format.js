/** Numbers, times and durations as people read them. */

const DAY = 86400;

/** Write a number with at most three digits that tell something, in groups of three: 25'000, 0.05. */
export function number(value) {
  if (!Number.isFinite(value)) return 'unknown';
  const size = Math.abs(value);
  const rounded = size >= 100 ? Math.round(value) : Number(value.toPrecision(3));
  return rounded.toLocaleString('en-US', { maximumSignificantDigits: 15 }).replaceAll(',', "'");
}

function scaled(value, step, units) {
  let power = 0;
  while (Math.abs(value) >= step && power < units.length - 1) {
    value /= step;
    power += 1;
  }
  return `${number(value)} ${units[power]}`;
}

const UNITS = {
  '': number,
  share: (value) => `${number(value * 100)} %`,
  bytes: (value) => scaled(value, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']),
  'bytes/s': (value) => `${scaled(value, 1000, ['B', 'kB', 'MB', 'GB', 'TB'])}/s`,
  seconds: (value) => (Math.abs(value) < 1 && value ? `${number(value * 1000)} ms` : `${number(value)} s`),
};

/** Write a value in the unit of a chart; of other units the name is put behind the number. */
export function quantity(value, unit) {
  return Object.hasOwn(UNITS, unit) ? UNITS[unit](value) : `${number(value)} ${unit}`;
}

/** Write a value where there is little room: without the unit's name unless the number is nothing without it. */
export function short(value, unit) {
  return Object.hasOwn(UNITS, unit) ? quantity(value, unit) : number(value);
}

/** Say how long something takes or took, in seconds, minutes, hours or days. */
export function duration(seconds) {
  const size = Math.max(0, seconds);
  const [amount, unit] = size < 90 ? [size, 'second'] : size < 90 * 60 ? [size / 60, 'minute']
    : size < 2 * DAY ? [size / 3600, 'hour'] : [size / DAY, 'day'];
  const whole = Math.floor(amount);
  return `${number(whole)} ${unit}${whole === 1 ? '' : 's'}`;
}

/** Write a point in time, given in seconds, in the reader's own time zone. */
export function moment(seconds, options = { dateStyle: 'medium', timeStyle: 'short' }) {
  return new Date(seconds * 1000).toLocaleString('en-GB', options);
}

/** Write a count with its word: 1 host, 2 hosts. */
export function count(amount, word) {
  return `${number(amount)} ${word}${amount === 1 ? '' : 's'}`;
}
