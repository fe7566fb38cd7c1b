/** The charts of a host; what Prometheus keeps for each is in /etc/prometheus/rules/history.yml. */

/** In their order: unit as in format.js, and the roles that have it where not every host does. */
export const CHARTS = [
  { key: 'users', title: 'Users', unit: '', roles: ['core'] },
  { key: 'requests', title: 'Requests by class of answer', unit: 'per second' },
  { key: 'latency', title: 'Time to answer requests', unit: 'seconds' },
  { key: 'sockets', title: 'Clients of socket.io', unit: '', roles: ['core'] },
  { key: 'database', title: 'The database answers after', unit: 'seconds', roles: ['core'] },
  { key: 'replication', title: 'Replication: seconds behind', unit: 'seconds', roles: ['registry'] },
  { key: 'keys', title: 'Keys in the registry’s database', unit: '', roles: ['registry'] },
  { key: 'load', title: 'Load', unit: '' },
  { key: 'cpu', title: 'CPU by kind', unit: 'share' },
  { key: 'memory', title: 'Memory', unit: 'bytes' },
  { key: 'swap', title: 'Swap in use', unit: 'bytes' },
  { key: 'swapping', title: 'Pages swapped', unit: 'per second' },
  { key: 'containers', title: 'Memory of containers', unit: 'bytes', roles: ['core', 'registry', 'web'] },
  { key: 'space', title: 'Disk space in use', unit: 'share' },
  { key: 'iops', title: 'Disk operations', unit: 'per second' },
  { key: 'disk', title: 'Share of time a disk is busy', unit: 'share' },
  { key: 'bytes', title: 'Network traffic', unit: 'bytes/s' },
  { key: 'packets', title: 'Network packets', unit: 'per second' },
  { key: 'errors', title: 'Network errors and drops', unit: 'per second' },
];
