/** Questions to Prometheus, which is at this page's own address and read only. */

const PATIENCE = 10000;

/** What keeps the page from being answered, in words. */
export class Unanswered extends Error {}

/** Ask for a file or an answer of the monitoring host. */
export async function get(path, read = 'json') {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), headers: { Accept: '*/*' } });
  } catch (error) {
    throw new Unanswered(error.name === 'TimeoutError' ? 'it took longer than 10 seconds' : 'the monitoring host is not reached');
  }
  if (response.status === 401) throw new Unanswered('you are not signed in: load the page again');
  if (!response.ok) throw new Unanswered(`the answer was ${response.status}`);
  try {
    return await response[read]();
  } catch {
    throw new Unanswered('the answer is not one of Prometheus’');
  }
}

async function ask(path, parameters = {}) {
  const answer = await get(`/api/v1/${path}?${new URLSearchParams(parameters)}`);
  if (answer.status !== 'success') throw new Unanswered(String(answer.error ?? 'no reason was given'));
  return answer.data;
}

/** Return the samples of now that a question selects, each with its labels and its value. */
export async function instant(query) {
  const { result } = await ask('query', { query });
  return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}

/** Return the series between two times, with a point ([seconds, value]) each `step` seconds. */
export async function range(query, start, end, step) {
  const { result } = await ask('query_range', { query, start, end, step });
  return result.map(({ metric, values }) => ({ labels: metric, points: values.map(([time, value]) => [time, Number(value)]) }));
}

/** Return the alerts that fire, the worst and oldest first. */
export async function firing() {
  const { alerts } = await ask('alerts');
  return alerts.filter(({ state }) => state === 'firing').map(({ labels, annotations, activeAt }) => ({
    name: String(labels.alertname),
    severity: labels.severity ?? '',
    host: labels.host ?? '',
    labels,
    annotations: annotations ?? {},
    since: Date.parse(activeAt) / 1000,
  })).sort((one, other) => (one.severity === other.severity ? one.since - other.since : one.severity === 'critical' ? -1 : 1));
}
