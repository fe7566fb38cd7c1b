/** What the page shows: the platform, a host, and what to do about an alert. */
import { chart, PERIODS } from './chart.js';
import { CHARTS } from './charts.js';
import { drawn, element, table } from './dom.js';
import { count, duration, moment, number, quantity } from './format.js';
import { get, range } from './prometheus.js';
import { STATES } from './state.js';

const DAY = 86400;
/** How old, in seconds, verify's last looks may be, at a host's services and from outside: as VerifyMissed and VerifyPlatformMissed have it. */
const LOOKS = 960;
const PLATFORM_LOOKS = 2880;

function badge(state) {
  const { word, sign, look } = STATES[state];
  return element('span', { class: look }, element('span', { 'aria-hidden': 'true' }, `${sign} `), word);
}

function link(host) {
  return element('a', { href: `#${new URLSearchParams({ host })}` }, host);
}

function section(id, title, ...children) {
  return element('section', { 'aria-labelledby': id, 'data-key': id }, element('h2', { id }, title), ...children);
}

// -- alerts ----------------------------------------------------------------------------------------------------------

function alertItem(alert, now) {
  const critical = alert.severity === 'critical';
  const { summary, description, runbook } = alert.annotations;
  return element('li', { class: `finding ${critical ? 'critical' : ''}`, 'data-key': JSON.stringify(Object.entries(alert.labels).sort()) },
    element('h3', {},
      element('span', { class: critical ? 'missed' : 'unsure' }, critical ? '✕ critical' : '! warning'), ' ', summary ?? alert.name),
    description && element('p', {}, description),
    element('p', { class: 'source' }, alert.host && [link(alert.host), ' · '], `${alert.name}, for ${duration(now - alert.since)}, since ${moment(alert.since)}`,
      runbook && [' · ', element('a', { href: `#${new URLSearchParams({ runbook: alert.name })}` }, 'what to do', element('span', { class: 'unseen' }, ` about ${alert.name}`))]));
}

function alertList(alerts, now) {
  return alerts.length ? element('ul', { class: 'alerts' }, alerts.map((alert) => alertItem(alert, now))) : element('p', {}, 'None fires.');
}

// -- the platform ----------------------------------------------------------------------------------------------------

let picture;

/** Return the plan's drawing with the state of each host written into its box. */
async function platformPicture(hosts) {
  // Its colours are the page's, whose policy would refuse its own.
  picture ??= new DOMParser().parseFromString((await get('/platform.svg', 'text')).replace(/<style>[^<]*<\/style>/, ''), 'image/svg+xml').documentElement;
  const svg = document.importNode(picture, true);
  // As a part of the page and not an image, its links can be reached.
  svg.removeAttribute('width');
  svg.removeAttribute('height');
  svg.setAttribute('role', 'group');
  for (const box of svg.querySelectorAll('[data-host]')) {
    const { host } = box.dataset;
    const state = STATES[hosts[host] ?? 'unknown'];
    const [rect, , note] = box.children;
    rect.classList.add(state.look);
    note.textContent = `${state.sign} ${state.word}`;
    const anchor = drawn('a', { href: `#${new URLSearchParams({ host })}`, 'aria-label': `${host}: ${state.word}` });
    box.replaceWith(anchor);
    anchor.append(box);
  }
  return element('figure', { class: 'drawing', tabindex: '0', role: 'group', 'aria-label': 'Drawing of the platform, scrollable' }, svg);
}

function fill(value, most) {
  const width = Math.max(0, Math.min(1, value / most));
  return drawn('svg', { class: 'fill', viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    drawn('rect', { class: 'whole', width: 100, height: 8 }), drawn('rect', { class: value > most ? 'over' : 'part', width: (100 * width).toFixed(1), height: 8 }));
}

function zoneSection(name, zone, { samples, hosts }) {
  const planned = zone.plan_users === null ? null : Math.ceil(zone.plan_users / zone.cores.length);
  const total = zone.cores.map((core) => samples.least('pryv_core_users', { core })).filter((users) => users !== undefined);
  const users = total.reduce((sum, one) => sum + one, 0);
  const rows = zone.cores.map((core) => {
    const own = samples.least('pryv_core_users', { core });
    const limit = zone.limit_per_core;
    return [
      element('span', {}, link(core), zone.draining.includes(core) && element('span', { class: 'tag' }, 'drains')),
      badge(hosts[core] ?? 'unknown'),
      own === undefined ? 'unknown' : number(own),
      planned === null ? 'none' : number(planned),
      limit === null ? 'none' : number(limit),
      own === undefined || limit === null ? '' : element('span', {}, fill(own, limit), ` ${quantity(own / limit, 'share')}`),
    ];
  });
  const against = zone.plan_users === null ? 'no requirements are written down' : `${number(zone.plan_users)} are planned`;
  return element('div', { 'data-key': `zone-${name}` }, element('h3', {}, `Privacy zone ${name}`),
    element('p', {}, total.length ? `${count(users, 'user')}; ${against}.` : `How many users there are is not known; ${against}.`),
    table(`Cores of zone ${name}`, ['core', 'state', 'users', 'planned', 'limit', 'full'], rows, [2, 3, 4]));
}

function ago(time, now, limit) {
  if (time === undefined) return 'never';
  return element('span', { class: now - time > limit ? 'missed' : null }, `${duration(now - time)} ago`);
}

function answer(value, yes, no) {
  return value === undefined ? 'unknown' : element('span', { class: value ? 'ok' : 'missed' }, value ? `✓ ${yes}` : `✕ ${no}`);
}

function backupSection({ platform, samples, at }) {
  const rows = Object.entries(platform.backups).map(([host, keeper]) => [
    link(host), keeper ? link(keeper) : 'elsewhere',
    ago(samples.least('pryv_backup_time_seconds', { host }), at, samples.least('pryv_backup_oldest_seconds', { host })),
    answer(samples.least('pryv_backup_ok', { host }), 'made', 'failed'),
    ago(samples.least('pryv_drill_time_seconds', { of: host }), at, 8 * DAY), answer(samples.least('pryv_drill_ok', { of: host }), 'restored', 'failed'),
  ]);
  return section('backups', 'Backups', rows.length
    ? table('Newest backups, and when one was last restored to try it', ['host', 'kept on', 'newest', 'last one', 'drill', 'its result'], rows)
    : element('p', {}, 'No host is backed up by this toolkit.'));
}

/** Return what verify found at its last look, and when that was. */
function seen(problems, time, now, late) {
  return element('span', {}, answer(problems === undefined ? undefined : !problems, 'well', count(problems, 'problem')), ', ', ago(time, now, late));
}

/** Return what a host found at its last look at its own services. */
function inside(samples, host, now) {
  return seen(samples.least('pryv_verify_problems', { host }), samples.least('pryv_verify_time_seconds', { host }), now, LOOKS);
}

/** Return the worst that hosts that monitor found at their last look at a host from outside. */
function outside(samples, host, now) {
  const looks = samples.all('pryv_verify_platform_problems', { of: host });
  if (!looks.length) return 'unknown';
  const times = looks.map(({ labels }) => samples.least('pryv_verify_platform_time_seconds', { host: labels.host }));
  return seen(Math.max(...looks.map(({ value }) => value)), Math.min(...times), now, PLATFORM_LOOKS);
}

function upkeepSection({ platform, samples, at, hosts }) {
  const rows = Object.keys(platform.hosts).map((host) => {
    const end = samples.least('pryv_certificate_not_after_seconds', { host });
    const days = (end - at) / DAY;
    const reboot = samples.least('node_reboot_required', { host });
    // Both are told by the same program, which says nothing of updates while none waits.
    const updates = samples.sum('apt_upgrades_pending', { host }) ?? (reboot === undefined ? undefined : 0);
    return [
      link(host), platform.hosts[host].roles.join(', '), badge(hosts[host]), inside(samples, host, at), outside(samples, host, at),
      end === undefined ? 'unknown' : element('span', { class: days < 14 ? 'missed' : null }, count(Math.floor(days), 'day')),
      updates === undefined ? 'unknown' : number(updates),
      reboot === undefined ? 'unknown' : reboot ? element('span', { class: 'unsure' }, '! waits') : 'no',
    ];
  });
  return section('hosts', 'Hosts', table('State and upkeep of every host', ['host', 'roles', 'state', 'services, by verify', 'from outside, by verify', 'certificate', 'updates that wait', 'reboot'], rows, [6]));
}

/** The platform as a whole. */
export async function platformView(seen) {
  const { platform, alerts, hosts, at } = seen;
  return { title: platform.domain, content: [
    section('alerts', 'Alerts', alertList(alerts, at)),
    section('platform', 'Platform', await platformPicture(hosts)),
    section('zones', 'Users', Object.entries(platform.zones).map(([name, zone]) => zoneSection(name, zone, seen))),
    backupSection(seen),
    upkeepSection(seen),
  ] };
}

// -- a host ----------------------------------------------------------------------------------------------------------

/** Ask for the lines of a host's charts, and for their peaks where lines are means of hours and days. */
async function lines(host, period, end) {
  const quoted = JSON.stringify(host);
  const start = end - period.seconds;
  const ask = (query) => range(query.replace('HOST', () => quoted), start, end, period.step);
  const [means, peaks] = await Promise.all(period === PERIODS.hours ? [ask('avg_over_time(pryv_history{host=HOST}[5m])'), []] : [
    ask(`avg_over_time(pryv_history_hours{host=HOST, of="mean"}[${period.step}s])`),
    ask(`max_over_time(pryv_history_hours{host=HOST, of="peak"}[${period.step}s])`),
  ]);
  const grouped = (series) => Map.groupBy(series.map(({ labels, points }) => ({ name: labels.line ?? '', key: labels.chart, points }))
    .sort((one, other) => one.name.localeCompare(other.name, 'en', { numeric: true })), ({ key }) => key);
  return { means: grouped(means), peaks: grouped(peaks), time: { start, end, period } };
}

function periodLinks(host, chosen) {
  return element('nav', { 'aria-label': 'Period' }, Object.entries(PERIODS).map(([key, { name }]) => element('a', {
    href: `#${new URLSearchParams({ host, period: key })}`, 'aria-current': key === chosen ? 'true' : null,
  }, name)));
}

/** A host and its history. */
export async function hostView({ platform, samples, alerts, hosts, at }, { host, period, unfolded }) {
  if (!Object.hasOwn(platform.hosts, host)) return { title: 'No such host', content: [element('p', {}, `The platform has no host ${host}. `, element('a', { href: '#' }, 'Back to the platform'))] };
  const known = platform.hosts[host];
  const { means, peaks, time } = await lines(host, PERIODS[period], Math.ceil(at / PERIODS[period].step) * PERIODS[period].step);
  const shown = CHARTS.filter(({ key, roles }) => means.has(key) || !roles || roles.some((role) => known.roles.includes(role)));
  const booted = samples.least('node_boot_time_seconds', { host });
  const own = alerts.filter((alert) => alert.host === host);
  return { title: host, content: [
    element('p', { class: 'lead' }, badge(hosts[host]), `: ${known.roles.join(', ')}`, known.zone && `, privacy zone ${known.zone}`,
      booted && `, up for ${duration(at - booted)}`, '.'),
    own.length > 0 && section('alerts', 'Alerts', alertList(own, at)),
    section('history', 'History', periodLinks(host, period), element('p', { class: 'source' }, `Lines are ${PERIODS[period].points}. Times are your own.`),
      element('div', { class: 'charts' }, shown.map((about) => chart(about, means.get(about.key) ?? [], peaks.get(about.key) ?? [], time, unfolded.has(`chart-${about.key}-table`))))),
  ].filter(Boolean) };
}

// -- what to do ------------------------------------------------------------------------------------------------------

/** Return the part of a page in Markdown that is below a heading. */
function below(text, heading) {
  const rows = text.split('\n');
  const start = rows.findIndex((row) => row.replace(/^#+\s*/, '').replaceAll('`', '').trim() === heading && row.startsWith('#'));
  if (start < 0) return null;
  const depth = rows[start].match(/^#+/)[0].length;
  const length = rows.slice(start + 1).findIndex((row) => new RegExp(`^#{1,${depth}} `).test(row));
  return rows.slice(start + 1, length < 0 ? undefined : start + 1 + length).join('\n').trim();
}

/** Return a text with its code; links lead to other pages of the documentation, which are not here. */
function inline(text) {
  return text.replaceAll('\n', ' ').split(/(`[^`]+`)/).map((part) => (part.startsWith('`') && part.length > 1
    ? element('code', {}, part.slice(1, -1)) : part.replace(/\[([^\]]+)\]\(([^)]+)\)/g, '$1 ($2)')));
}

function block(text) {
  if (/^[-*] /.test(text)) return element('ul', {}, text.split(/\n(?=[-*] )/).map((item) => element('li', {}, inline(item.slice(2)))));
  if (/^( {4}|\||```)/.test(text)) return element('pre', { tabindex: '0' }, text.replace(/^```\w*\n|\n```$/g, '').replace(/^ {4}/gm, ''));
  return element('p', {}, inline(text));
}

/** What the runbooks say about an alert. */
export async function runbookView({ runbook }) {
  const text = below(await get('/runbook.md', 'text'), runbook);
  return { title: runbook, content: [
    ...(text === null ? [element('p', {}, `The runbooks have nothing about ${runbook}.`)] : text.split(/\n{2,}/).map(block)),
    element('p', { class: 'source' }, text !== null && 'From docs/operations/alerts.md. ', element('a', { href: '#' }, 'Back to the platform')),
  ] };
}
