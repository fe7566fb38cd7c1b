/** The page itself: which view is shown, and how it keeps up with the platform. */
import { PERIODS } from './chart.js';
import { element, patch } from './dom.js';
import { moment } from './format.js';
import { Unanswered } from './prometheus.js';
import { look, verdict } from './state.js';
import { hostView, platformView, runbookView } from './views.js';

const EVERY = 30000;
const place = Object.fromEntries(['heading', 'navigation', 'verdict', 'content', 'updated', 'pause'].map((id) => [id, document.getElementById(id)]));
/** Tables that the reader unfolded; when the platform was last seen; the number of the newest look. */
const unfolded = new Set();
let seenAt = null, newest = 0, timer;

/** What the address asks for. */
function wanted() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const period = parameters.get('period');
  return { host: parameters.get('host'), runbook: parameters.get('runbook'), period: Object.hasOwn(PERIODS, period ?? '') ? period : 'hours' };
}

function show(node, ...children) {
  patch(node, children.flat().map((child) => (child instanceof Node ? child : document.createTextNode(child))));
}

function showNavigation(names, chosen) {
  show(place.navigation, [['', 'Platform'], ...names.map((host) => [host, host])].map(([host, text]) => element('a', {
    href: host ? `#${new URLSearchParams({ host })}` : '#', 'aria-current': (chosen ?? '') === host ? 'page' : null,
  }, text)));
}

function showVerdict({ look: kind, strong, text }) {
  show(place.verdict, element('p', { class: `verdict ${kind}` }, element('strong', {}, strong), ` ${text}`));
}

/**
 * Say plainly what is not known any more; what was seen before stays, with its time, not an age that would be
 * read aloud anew each time.
 */
function showFailure(error) {
  const reason = error instanceof Unanswered ? error.message : `the page failed: ${error.message}`;
  const age = seenAt === null ? 'Nothing has been seen yet.' : `What is shown is of ${moment(seenAt)}.`;
  showVerdict({ look: 'bad', strong: 'Prometheus does not answer:', text: `${reason}. ${age} Alerts may not be sent either.` });
  document.title = 'Prometheus does not answer';
}

async function refresh({ moved = false } = {}) {
  clearTimeout(timer);
  const mine = ++newest;
  try {
    const { host, runbook, period } = wanted();
    const seen = await look();
    const view = runbook ? await runbookView({ runbook })
      : host ? await hostView(seen, { host, period, unfolded }) : await platformView(seen);
    // Another address was asked for meanwhile.
    if (mine !== newest) return;
    seenAt = seen.at;
    showVerdict(verdict(seen));
    showNavigation(Object.keys(seen.platform.hosts), host);
    show(place.heading, view.title);
    show(place.content, view.content);
    show(place.updated, `Seen at ${moment(seen.at, { timeStyle: 'medium' })}, in your time zone; every 30 seconds again.`);
    document.title = `${view.title}: ${verdict(seen).strong} Monitoring`;
    if (moved) place.heading.focus();
  } catch (error) {
    if (mine !== newest) return;
    showFailure(error);
  }
  if (place.pause.getAttribute('aria-pressed') === 'false') timer = setTimeout(refresh, EVERY);
}

addEventListener('hashchange', () => refresh({ moved: true }));
// The address says which view is shown: to follow this link would leave it, and move the focus when the other one is there.
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  place.content.focus();
});
// A page that nobody sees asks less often than each minute anyway; when it is seen again, it is to be new.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && place.pause.getAttribute('aria-pressed') === 'false') refresh();
});
document.addEventListener('toggle', ({ target }) => {
  if (!target.id || unfolded.has(target.id) === target.open) return;
  unfolded[target.open ? 'add' : 'delete'](target.id);
  refresh();
}, true);
place.pause.addEventListener('click', () => {
  const paused = place.pause.getAttribute('aria-pressed') === 'false';
  place.pause.setAttribute('aria-pressed', String(paused));
  if (paused) clearTimeout(timer);
  else refresh();
});
refresh();
