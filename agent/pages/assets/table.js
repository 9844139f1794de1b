// The table of functions: what a flame graph holds, for eyes, keys and screen readers.
import {amount, baseName, share, signedAmount} from './units.js';

const rowsAtFirst = 200;

/**
 * @param {string} tag @param {Object} more @param {...(Node|string)} children
 * @returns {any} of the tag's own kind
 */
export function element(tag, more, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(more || {})) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const change = (key) => (fn) => fn[key][1] - fn[key][0];

/**
 * The values of a function, or of a node.
 * @returns {any[]}
 */
export function columnsFor(look) {
  if (look.compares) {
    return [
      {key: 'flat', label: 'Flat, change', of: change('flat'), signed: true},
      {key: 'cum', label: 'Cum, change', of: change('cum'), signed: true},
      {key: 'a', label: 'Cum in A', of: (fn) => fn.cum[0], wide: true},
      {key: 'b', label: 'Cum in B', of: (fn) => fn.cum[1], wide: true},
    ];
  }
  return [
    {key: 'flat', label: 'Flat', of: (fn) => fn.flat[0], share: true},
    {key: 'cum', label: 'Cum', of: (fn) => fn.cum[0], share: true},
  ];
}

/** Into a row: what the columns say of a function or a node. */
export function valueCells(row, of, columns, look) {
  for (const column of columns) {
    const value = column.of(of);
    const cell = element(
        'td', {className: column.wide ? 'wide' : ''},
        column.signed ? signedAmount(value, look.unit) : amount(value, look.unit));
    cell.dataset.value = String(value);
    if (!value) cell.classList.add('dim');
    if (column.signed && value) cell.classList.add(value > 0 ? 'more' : 'less');
    row.append(cell);
    if (column.share) row.append(element('td', {className: 'wide dim'}, share(value, look.total)));
  }
}

export class FunctionTable {
  /** on: {pick(fn), hover(fn|null)} */
  constructor(place, on) {
    this.place = place;
    this.on = on;
    this.sortBy = 'flat';
    this.all = false;
  }

  draw(functions, look, picked, wanted) {
    this.functions = functions;
    this.look = look;
    this.picked = picked;
    this.wanted = wanted;
    const columns = columnsFor(look);
    if (!columns.some((each) => each.key === this.sortBy) && this.sortBy !== 'name')
      this.sortBy = 'flat';
    const by = columns.find((each) => each.key === this.sortBy);
    const sorted = functions.slice().sort((a, b) => {
      const order = by ?
          Math.abs(by.of(b)) - Math.abs(by.of(a)) || Math.abs(b.cum[0]) - Math.abs(a.cum[0]) :
          0;
      return order || (a.name < b.name ? -1 : 1);
    });
    const found = wanted ? sorted.filter((fn) => wanted.test(fn.name)) : sorted;
    const shown = this.all ? found : found.slice(0, rowsAtFirst);
    const body = element('tbody', {}, ...shown.map((fn) => this.row(fn, columns)));
    const caption = element('caption', {className: 'hidden'}, 'Functions, ' + look.type);
    const table = element('table', {}, caption, this.head(columns), body);
    this.place.replaceChildren(element('div', {className: 'scroll'}, table));
    if (found.length > shown.length) {
      const more = element('button', {}, `all ${found.length.toLocaleString('en')} functions`);
      more.onclick = () => {
        this.all = true;
        this.again();
      };
      this.place.append(more);
    }
  }

  again() { this.draw(this.functions, this.look, this.picked, this.wanted); }

  head(columns) {
    const row = element('tr', {});
    const add = (key, label, more) => {
      const button = element('button', {}, label);
      button.onclick = () => {
        this.sortBy = key;
        this.again();
      };
      row.append(element(
          'th', {scope: 'col', 'aria-sort': this.sortBy === key ? 'descending' : 'none', ...more},
          button));
    };
    for (const column of columns) {
      add(column.key, column.label, {className: column.wide ? 'wide' : ''});
      if (column.share) row.append(element('th', {scope: 'col', className: 'wide'}, '%'));
    }
    add('name', 'Function', {className: 'name'});
    return element('thead', {}, row);
  }

  row(fn, columns) {
    const row = element('tr', {});
    valueCells(row, fn, columns, this.look);
    const button = element('button', {title: `${fn.name}\n${fn.file}`}, fn.name);
    button.onclick = () => this.on.pick(fn);
    row.append(
        element('td', {className: 'name'}, button, element('small', {}, baseName(fn.module))));
    row.classList.toggle('match', !!(this.wanted && this.wanted.test(fn.name)));
    row.classList.toggle('picked', fn.name === this.picked);
    row.onmouseenter = () => this.on.hover(fn);
    return row;
  }
}
