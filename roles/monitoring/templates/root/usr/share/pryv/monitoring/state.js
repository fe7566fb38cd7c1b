/** How the platform is: what Prometheus says, beside what the inventory says there should be. */
import { moment } from './format.js';
import { firing, get, instant } from './prometheus.js';

/** The alert that always fires: without it, no other one would. */
const WATCHDOG = 'Watchdog';
/** How old, in seconds, the newest sample of a host may be, and what the host writes of itself. */
const STALE = 120;

/** One question for all that is shown of now. Of a host's targets, the time of the newest sample is asked besides. */
const NOW = `{__name__=~"${[
  'up', 'pryv_core_users', 'pryv_backup_time_seconds', 'pryv_backup_oldest_seconds', 'pryv_backup_ok', 'pryv_drill_time_seconds', 'pryv_drill_ok',
  'pryv_certificate_not_after_seconds', 'apt_upgrades_pending', 'node_reboot_required', 'node_boot_time_seconds',
  'pryv_metrics_time_seconds', 'pryv_verify_problems', 'pryv_verify_time_seconds', 'pryv_verify_platform_problems',
  'pryv_verify_platform_time_seconds',
].join('|')}"} or label_replace(max by (host) (timestamp(up)), "__name__", "sampled", "", "")`;

/** What a state is called, its sign, and the class that colours it; the worst first. */
export const STATES = {
  silent: { word: 'does not answer', sign: '✕', look: 'missed' },
  critical: { word: 'critical', sign: '✕', look: 'missed' },
  unknown: { word: 'tells nothing', sign: '?', look: 'unsure' },
  stale: { word: 'tells nothing new', sign: '?', look: 'unsure' },
  warning: { word: 'warning', sign: '!', look: 'unsure' },
  well: { word: 'well', sign: '✓', look: 'ok' },
};

/** The samples of now: those of a metric, optionally with certain labels. */
class Samples {
  constructor(samples) {
    this.byName = Map.groupBy(samples, ({ labels }) => labels.__name__);
  }

  all(name, labels = {}) {
    return (this.byName.get(name) ?? []).filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value));
  }

  /** The one value of a metric, of several the least; undefined where there is none. */
  least(name, labels) {
    const values = this.all(name, labels).map(({ value }) => value);
    return values.length ? Math.min(...values) : undefined;
  }

  sum(name, labels) {
    const found = this.all(name, labels);
    return found.length ? found.reduce((total, { value }) => total + value, 0) : undefined;
  }
}

function hostState(host, samples, alerts, now) {
  const up = samples.all('up', { host, job: 'node' });
  if (!up.length) return 'unknown';
  if (up.every(({ value }) => !value)) return 'silent';
  const written = samples.least('pryv_metrics_time_seconds', { host });
  if (now - samples.least('sampled', { host }) > STALE || (written !== undefined && now - written > STALE)) return 'stale';
  const severities = alerts.filter((alert) => alert.host === host).map(({ severity }) => severity);
  return severities.includes('critical') ? 'critical' : severities.length ? 'warning' : 'well';
}

/** Ask for everything, and judge it. Throws `Unanswered` where a part is not answered. */
export async function look() {
  const [platform, samples, all] = await Promise.all([get('/platform.json'), instant(NOW), firing()]);
  const now = Date.now() / 1000;
  const found = new Samples(samples);
  const alerts = all.filter(({ name }) => name !== WATCHDOG);
  const hosts = Object.fromEntries(Object.keys(platform.hosts).map((host) => [host, hostState(host, found, alerts, now)]));
  const newest = Math.max(...found.all('sampled').map(({ value }) => value));
  return { platform, samples: found, alerts, hosts, watched: all.length > alerts.length, age: now - newest, at: now };
}

/** Return the hosts that are in one of some states. */
export function hostsIn(hosts, ...states) {
  return Object.keys(hosts).filter((host) => states.includes(hosts[host]));
}

/** Say in a sentence or two how the platform is, and whether that is good, unsure or bad. */
export function verdict({ alerts, hosts, watched, age, at, platform }) {
  if (!Number.isFinite(age) || age > STALE) {
    const since = Number.isFinite(age) ? `The newest sample is of ${moment(at - age)}` : 'There are no samples of the last five minutes';
    return { look: 'bad', strong: 'Nobody knows.', text: `${since}: Prometheus runs, but collects nothing. How the platform is cannot be told from here.` };
  }
  const critical = alerts.filter(({ severity }) => severity === 'critical').length;
  const silent = hostsIn(hosts, 'silent', 'unknown', 'stale');
  const parts = [
    critical && `${critical} critical alert${critical > 1 ? 's' : ''}`,
    alerts.length > critical && `${alerts.length - critical} warning${alerts.length - critical > 1 ? 's' : ''}`,
    silent.length && `nothing new from ${silent.join(', ')}`,
    !watched && 'the watchdog is silent, so other alerts may be as well',
  ].filter(Boolean).join('; ');
  if (critical || silent.length) return { look: 'bad', strong: 'Not well.', text: `${parts}.` };
  if (parts) return { look: 'unsure', strong: 'Working, with something to look at.', text: `${parts}.` };
  return { look: '', strong: 'Well.', text: `All ${Object.keys(platform.hosts).length} hosts answer, and no alert fires.` };
}
