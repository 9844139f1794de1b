// The call tree: from the root down, opened row by row, by mouse, finger or keys.
import {columnsFor, element, valueCells} from './table.js';
import {baseName} from './units.js';

const childrenAtFirst = 100, matchesOpened = 200, hotPart = 0.5, nameShown = 300;

const sortedChildren = (node) => node.children.slice().sort((a, b) => b.value - a.value);

/** Rows to open at first: from the root down, while one child has most of it. */
function hotPath(root) {
  const ids = [];
  for (let node = root; node; node = node.children.find((c) => c.value > hotPart * node.value))
    ids.push(node.id);
  return ids;
}

/** What is above the largest of what the search has found. */
function aboveMatches(root) {
  const found = [], ids = new Set(), walk = [root];
  while (walk.length) {
    const node = walk.pop();
    if (node.match) found.push(node);
    else walk.push(...node.children);
  }
  found.sort((a, b) => b.value - a.value);
  for (const node of found.slice(0, matchesOpened))
    for (let up = node.parent; up; up = up.parent) ids.add(up.id);
  return ids;
}

export class CallTree {
  /** on: {pick(fn), hover(node|null)} */
  constructor(place, on) {
    this.place = place;
    this.on = on;
    this.open = null;     // ids, once the person or the first drawing has opened some
    this.all = new Set();  // ids whose children are all listed
    this.current = '';     // the id of the row that has the keys
    this.searched = this.zoomed = '';
    place.addEventListener('keydown', (event) => this.key(event));
  }

  /** zoomed: the node that the graph shows alone, or null: its row is shown, and has the keys. */
  draw(root, look, wanted, zoomed) {
    this.root = root;
    this.look = look;
    if (!this.open) this.open = new Set(hotPath(root));
    if (zoomed && zoomed.id !== this.zoomed) {
      this.current = zoomed.id;
      for (let up = zoomed; up; up = up.parent) this.open.add(up.id);
    }
    this.zoomed = zoomed ? zoomed.id : '';
    const search = wanted ? wanted.source : '';
    if (search && search !== this.searched)
      for (const id of aboveMatches(root)) this.open.add(id);
    this.searched = search;
    this.again(false);
  }

  again(focus) {
    const columns = columnsFor(this.look);
    this.rows = [];
    this.nodes = new Map();
    this.add(this.root, 1, columns);
    if (!this.nodes.has(this.current)) this.current = this.root.id;
    const head = element('tr', {});
    for (const column of columns) {
      const look = {scope: 'col', className: column.wide ? 'wide' : ''};
      head.append(element('th', look, column.label));
      if (column.share) head.append(element('th', {scope: 'col', className: 'wide'}, '%'));
    }
    head.append(element('th', {scope: 'col', className: 'name'}, 'Function'));
    const label = `Call tree, ${this.look.type}: arrow keys move and open, Enter shows callers`;
    const table = element(
        'table', {role: 'treegrid', ariaLabel: label}, element('thead', {}, head),
        element('tbody', {}, ...this.rows));
    this.place.replaceChildren(element('div', {className: 'scroll'}, table));
    this.mark(focus);
  }

  add(node, level, columns) {
    const open = this.open.has(node.id) && node.children.length > 0;
    this.rows.push(this.row(node, level, open, columns));
    this.nodes.set(node.id, node);
    if (!open) return;
    const children = sortedChildren(node);
    const shown = this.all.has(node.id) ? children : children.slice(0, childrenAtFirst);
    for (const child of shown) this.add(child, level + 1, columns);
    if (shown.length < children.length)
      this.rows.push(this.moreRow(node, level + 1, children.length - shown.length, columns));
  }

  row(node, level, open, columns) {
    const row = element('tr', {ariaLevel: String(level), tabIndex: -1});
    row.dataset.id = node.id;
    if (node.children.length) row.setAttribute('aria-expanded', String(open));
    valueCells(row, node, columns, this.look);
    const twisty = element('span', {className: 'twisty', ariaHidden: 'true'});
    twisty.onclick = () => this.toggle(node, !open);
    const cut = node.name.length > nameShown ? `${node.name.slice(0, nameShown)}…` : node.name;
    const name = element('button', {tabIndex: -1, title: node.name}, cut);
    name.onclick = () => node.fn ? this.on.pick(node.fn) : this.toggle(node, !open);
    const module = node.fn ? node.fn.module : '';
    const above = node.parent && node.parent.fn ? node.parent.fn.module : '';
    const cell = element('td', {className: 'name'}, twisty, name);
    if (module !== above) cell.append(element('small', {}, baseName(module)));
    cell.style.setProperty('--level', String(Math.min(level - 1, 40)));
    if (this.root.value) cell.style.setProperty('--part', `${100 * node.value / this.root.value}%`);
    row.append(cell);
    row.classList.toggle('match', !!node.match);
    row.onmouseenter = () => this.on.hover(node);
    row.onfocus = () => {
      this.current = node.id;
      this.on.hover(node);
    };
    return row;
  }

  moreRow(node, level, count, columns) {
    const button = element('button', {}, `${count.toLocaleString('en')} more`);
    button.onclick = () => {
      this.all.add(node.id);
      this.again(true);
    };
    const cell = element('td', {className: 'name'}, element('span', {className: 'twisty'}), button);
    cell.style.setProperty('--level', String(Math.min(level - 1, 40)));
    const before = columns.map((c) => element('td', {className: c.wide ? 'wide' : ''}));
    const shares = columns.filter((c) => c.share).map(() => element('td', {className: 'wide'}));
    return element('tr', {className: 'rest', ariaLevel: String(level)}, ...before, ...shares, cell);
  }

  toggle(node, open) {
    if (open) this.open.add(node.id);
    else this.open.delete(node.id);
    this.current = node.id;
    this.again(true);
  }

  /** The one row that the tab key finds. */
  mark(focus) {
    for (const row of this.rows) {
      const here = row.dataset.id === this.current;
      if (!row.classList.contains('rest')) row.tabIndex = here ? 0 : -1;
      if (here && focus) row.focus();
    }
  }

  key(event) {
    const row = event.target instanceof HTMLElement ? event.target.closest('tr[data-id]') : null;
    if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
    const node = this.nodes.get(row.dataset.id), isOpen = row.ariaExpanded === 'true';
    const listed = this.rows.filter((each) => each.dataset.id), at = listed.indexOf(row);
    const go = (next) => next && next.focus();
    switch (event.key) {
      case 'ArrowDown':
        go(listed[at + 1]);
        break;
      case 'ArrowUp':
        go(listed[at - 1]);
        break;
      case 'Home':
        go(listed[0]);
        break;
      case 'End':
        go(listed[listed.length - 1]);
        break;
      case 'ArrowRight':
        if (isOpen) go(listed[at + 1]);
        else if (node.children.length) this.toggle(node, true);
        break;
      case 'ArrowLeft':
        if (isOpen) this.toggle(node, false);
        else if (node.parent) go(listed.find((each) => each.dataset.id === node.parent.id));
        break;
      case 'Enter':
        if (node.fn) this.on.pick(node.fn);
        break;
      default:
        return;
    }
    event.preventDefault();
    this.mark(false);
  }
}
