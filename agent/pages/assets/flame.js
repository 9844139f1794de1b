// A flame graph in an element: d3-flame-graph draws; colours, keys and words are ours.
import {hash} from './tree.js';
import {amount, baseName, share, signedAmount} from './units.js';

const d3 = /** @type {any} */ (window);  // what the bundle has put there
const rowHeight = 20, smallest = 1.2;  // pixels; narrower frames are not drawn

function number(text) { return parseInt(hash(text), 36) % 1000; }

/** @param {string} module @param {string} program */
export function moduleHue(module, program) {
  if (!module) return 0;
  if (module === program) return 28;
  return 70 + (number(baseName(module)) * 7) % 270;
}

/** Of a function: its module's colour, a little lighter or darker by its name. */
export function frameColor(node, look) {
  if (node.match) return '#e879f9';
  if (look.signed) {
    const change = look.compares ? node.cum[1] - node.cum[0] : node.cum[0];
    const part = node.value ? Math.max(-1, Math.min(1, change / node.value)) : 0;
    const light = 93 - 35 * Math.sqrt(Math.abs(part));
    return part > 0 ? `hsl(4 85% ${light}%)` :
        part < 0 ? `hsl(214 85% ${light}%)` :
                   'hsl(0 0% 88%)';
  }
  if (!node.fn) return '#c3cad3';
  const shade = number(node.name) % 11;
  const saturation = node.fn.module ? 68 : 6;
  return `hsl(${moduleHue(node.fn.module, look.program)} ${saturation}% ${66 + shade}%)`;
}

/** What is known of a node, in words. */
export function describe(node, look) {
  const total = look.total, unit = look.unit;
  let values;
  if (look.compares) {
    values =
        `${signedAmount(node.cum[1] - node.cum[0], unit)}: ${amount(node.cum[0], unit)} in A, ` +
        `${amount(node.cum[1], unit)} in B`;
  } else {
    values = `${amount(node.cum[0], unit)} (${share(node.cum[0], total)}), ` +
        `${amount(node.flat[0], unit)} of its own`;
  }
  if (node.cut[0] || node.cut[1])
    values += `, ${amount(node.cut[0] + node.cut[1], unit)} in parts too small to be listed`;
  let place = '';
  if (node.fn && node.fn.file) {
    place = node.fn.file;
    if (node.lines) {
      place += `:${node.lines[0]}`;
      if (node.lines[1] !== node.lines[0]) place += `–${node.lines[1]}`;
    }
  }
  return {name: node.name, values, place, module: node.fn ? node.fn.module : ''};
}

export class Flame {
  /** look: {total, unit, compares, signed, program}; on: {zoom(node), hover(node|null)} */
  constructor(element, on) {
    this.element = element;
    this.on = on;
    this.chart = null;
    this.cursor = null;
    element.tabIndex = 0;
    element.setAttribute('role', 'group');
    element.setAttribute(
        'aria-roledescription', 'flame graph: arrow keys move, Enter zooms, Escape goes back');
    element.addEventListener('keydown', (event) => this.key(event));
    element.addEventListener('click', (event) => this.clicked(event), true);
    element.addEventListener('mouseover', (event) => this.hover(event));
    element.addEventListener('mouseleave', () => this.on.hover(null));
  }

  hover(event) {
    this.on.hover(this.nodeAt(event));
  }

  nodeAt(event) {
    const frame = event.target instanceof Element ? event.target.closest('g.frame') : null;
    const found = frame && d3.select(frame).datum();
    return found ? found.data : null;
  }

  draw(root, look, rootBelow) {
    this.element.replaceChildren();
    this.look = look;
    this.root = root;
    this.zoomed = root;
    this.cursor = null;
    this.chart = d3.flamegraph()
                     .width(Math.max(200, this.element.clientWidth))
                     .cellHeight(rowHeight)
                     .minFrameSize(smallest)
                     .transitionDuration(0)
                     .inverted(!rootBelow)
                     .resetHeightOnZoom(true)
                     .minHeight(0)
                     .sort(false)
                     .setColorMapper((each) => frameColor(each.data, look))
                     .setLabelHandler((each) => each.data.name);
    d3.select(this.element).datum(root).call(this.chart);
  }

  /** Before d3 sees it: whoever shows the graph says what is zoomed into. */
  clicked(event) {
    const node = this.nodeAt(event);
    if (!node) return;
    event.stopPropagation();
    this.cursor = node;
    this.on.zoom(node);
  }

  /** The chart's own object for a node. */
  held(node) {
    const top = d3.select(this.element).datum();
    return top && top.descendants ? top.descendants().find((each) => each.data === node) : null;
  }

  zoomTo(node) {
    if (node === this.zoomed) return;
    const held = this.held(node);
    if (!held) return;
    this.chart.zoomTo(held);
    this.zoomed = node;
  }

  showCursor() {
    for (const frame of this.element.querySelectorAll('g.frame')) {
      const found = d3.select(frame).datum();
      const here = !!found && found.data === this.cursor;
      frame.classList.toggle('cursor', here);
      if (here) frame.scrollIntoView({block: 'nearest', inline: 'nearest'});
    }
    this.on.hover(this.cursor);
  }

  key(event) {
    if (!this.root || event.ctrlKey || event.altKey || event.metaKey) return;
    const at = this.cursor || this.zoomed || this.root;
    const next = this.nextFor(event.key, at);
    if (event.key === 'Enter' && this.cursor) this.on.zoom(this.cursor);
    else if (event.key === 'Escape') this.on.zoom(this.root);
    else if (!next) return;
    else this.cursor = next;
    event.preventDefault();
    this.showCursor();
  }

  nextFor(key, at) {
    const siblings = at.parent ? at.parent.children : [at], place = siblings.indexOf(at);
    const deeper = at.children.reduce((a, b) => (!a || b.value > a.value ? b : a), null);
    const below = this.chart && !this.chart.inverted();
    switch (key) {
      case 'ArrowDown':
        return below ? at.parent : deeper;
      case 'ArrowUp':
        return below ? deeper : at.parent;
      case 'ArrowLeft':
        return siblings[place - 1] || null;
      case 'ArrowRight':
        return siblings[place + 1] || null;
      case 'Home':
        return this.root;
      default:
        return null;
    }
  }
}
