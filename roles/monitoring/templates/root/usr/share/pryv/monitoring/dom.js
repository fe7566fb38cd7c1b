/** Elements, and how a page that is there becomes the one that is wanted. What comes from outside is always text. */

const SVG = 'http://www.w3.org/2000/svg';

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Make an element of HTML. Children are nodes or texts; attributes that are null or false are left out. */
export function element(name, attributes = {}, ...children) {
  return made(document.createElement(name), attributes, children);
}

/** Make an element of SVG. */
export function drawn(name, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, name), attributes, children);
}

function signature(node) {
  return `${node.nodeName} ${node.dataset?.key ?? ''}`;
}

function become(live, wanted) {
  if (live.nodeType === Node.TEXT_NODE) {
    if (live.data !== wanted.data) live.data = wanted.data;
    return;
  }
  for (const { name } of [...live.attributes]) if (!wanted.hasAttribute(name)) live.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  patch(live, wanted.childNodes);
}

/**
 * Make the children of a node those that are wanted. Nodes that are there stay, with their focus and their scrolling;
 * those with the same `data-key` belong together, the others by their order.
 */
export function patch(live, wanted) {
  const fresh = [...wanted];
  const there = new Map();
  for (const node of live.childNodes) {
    const key = signature(node);
    there.set(key, [...(there.get(key) ?? []), node]);
  }
  const kept = fresh.map((node) => there.get(signature(node))?.shift());
  for (const node of [...there.values()].flat()) node.remove();
  fresh.forEach((node, index) => {
    if (kept[index]) become(kept[index], node);
    const placed = kept[index] ?? node;
    if (live.childNodes[index] !== placed) live.insertBefore(placed, live.childNodes[index] ?? null);
  });
}

/** Make a table that scrolls by itself where it is too wide. Cells are nodes or texts; the first of a row is its heading. */
export function table(caption, columns, rows, numeric = []) {
  const kind = (index) => (numeric.includes(index) ? 'n' : null);
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `${caption}, scrollable` },
    element('table', {},
      element('caption', {}, caption),
      element('thead', {}, element('tr', {},
        columns.map((name, index) => element('th', { scope: 'col', class: kind(index) }, name)))),
      element('tbody', {}, rows.map((cells) => element('tr', {}, cells.map((cell, index) => (index
        ? element('td', { class: kind(index) }, cell)
        : element('th', { scope: 'row' }, cell))))))));
}
