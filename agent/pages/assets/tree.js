// From the agent's answers (docs/views.md) to what is drawn: filtered, folded, merged, summed.
// One answer is side 0; of two that are compared, the older is side 0 and the newer side 1.

import {baseName} from './units.js';

/**
 * @typedef {{name: string, module: string, file: string, own: boolean, flat: number[],
 *   cum: number[], size: number}} Fn
 */
/**
 * @typedef {{name: string, fn: Fn|null, flat: number[], cum: number[], cut: number[], value:
 * number, lines: number[]|null, children: TreeNode[], parent: TreeNode|null, id: string, match?:
 * boolean}} TreeNode
 */

const systemPath = /^(\/usr)?\/lib(32|64|x32)?\/|^\[vdso\]$|libpprofagent\.so$/;
const libraryName = new RegExp(
    '^(std::|__gnu_cxx::|core::|alloc::|operator (new|delete)|' +
    '_start$|__libc_start|start_thread$|clone3?$|_dl_|<(alloc|core|std)::|' +
    '_*(malloc|calloc|realloc|free|memalign|posix_memalign|aligned_alloc)$)');

/** `int* std::copy<a, b>(int*)`: `std::copy<a, b>`. */
function withoutReturnType(name) {
  if (name.startsWith('operator ')) return name;
  let depth = 0, start = 0;
  for (let i = 0; i < name.length; i++) {
    const c = name[i];
    if (c === '(' && depth === 0) return name.slice(start, i);
    if (c === '<' || c === '(') depth++;
    else if (c === '>' || c === ')') depth--;
    else if (c === ' ' && depth === 0) start = i + 1;
  }
  return name.slice(start);
}

/** Whether a function is the program's own, not one of libraries that come with the system. */
export function isOwn(name, module, file, program) {
  if (name.startsWith('[') && !module) return false;  // where a stack was cut
  if (libraryName.test(withoutReturnType(name))) return false;
  if (file && (file.startsWith('/usr/include/') || file.startsWith('/rustc/'))) return false;
  return module === program || !systemPath.test(module || '/lib/');
}

/** A regular expression of the user's, or null; bad: called when it is none. */
export function expression(text, bad) {
  if (!text) return null;
  try {
    return new RegExp(text, 'i');
  } catch {
    if (bad) bad();
    return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
  }
}

/** @returns {TreeNode} */
function newNode(name, fn, parent) {
  const path = parent ? `${parent.id}/${name}` : '';
  return {
    name,
    fn,
    flat: [0, 0],
    cum: [0, 0],
    cut: [0, 0],
    value: 0,
    lines: null,
    children: [],
    parent,
    id: hash(path)
  };
}

/** A name for a place in the tree that fits into an URL: 53 bits of it. */
export function hash(text) {
  let low = 0x811c9dc5, high = 0x1b873593;
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193);
    high = Math.imul(high ^ text.charCodeAt(i), 0x85ebca6b);
  }
  return ((high >>> 0) & 0x1fffff).toString(36) + (low >>> 0).toString(36);
}

/** The profile's functions, each once, with what the filters say of it. Another build of a program
 * may lie elsewhere: modules are told apart by the ends of their paths. */
function readFunctions(answer, known, options) {
  return answer.functions.map((each) => {
    const module = each.module === null ? '' : answer.modules[each.module];
    const key = `${each.name}\0${baseName(module)}\0${each.file || ''}`;
    let fn = known.get(key);
    if (!fn) {
      const own = isOwn(each.name, module, each.file, answer.program);
      fn = {
        name: each.name,
        module,
        file: each.file || '',
        own,
        flat: [0, 0],
        cum: [0, 0],
        size: 0,
        hidden: (options.hide && options.hide.test(each.name)) ||
            (options.show && !options.show.test(each.name)) || (options.own && !own),
        focused: !options.focus || options.focus.test(each.name),
        ignored: options.ignore && options.ignore.test(each.name)
      };
      known.set(key, fn);
    }
    return fn;
  });
}

function childOf(places, parent, fn) {
  let children = places.get(parent);
  if (!children) places.set(parent, children = new Map());
  let child = children.get(fn);
  if (!child) {
    child = newNode(fn.name, fn, parent);
    children.set(fn, child);
    parent.children.push(child);
  }
  return child;
}

function addLines(node, lines) {
  if (!lines) return;
  node.lines = node.lines ? [Math.min(node.lines[0], lines[0]), Math.max(node.lines[1], lines[1])] :
                            lines.slice();
}

function addAnswer(root, places, known, answer, type, side, options) {
  const functions = readFunctions(answer, known, options);
  const v = answer.sample_types.findIndex((each) => each.type === type);
  if (v < 0) return;
  const target = [], focused = [], ignored = [];
  answer.nodes.forEach((node, i) => {
    if (node.parent === null) {
      target[i] = root;
      focused[i] = !options.focus;
      ignored[i] = false;
    } else {
      const fn = functions[node.function], above = target[node.parent];
      focused[i] = focused[node.parent] || fn.focused;
      ignored[i] = ignored[node.parent] || !!fn.ignored;
      if (fn.hidden || (options.fold && above.fn === fn)) target[i] = above;
      else target[i] = childOf(places, above, fn);
      if (!fn.hidden) addLines(target[i], node.lines);
    }
    if (!focused[i] || ignored[i]) return;
    target[i].flat[side] += node.flat[v];
    if (node.cut) target[i].cut[side] += node.cut[v];
  });
}

/** Nodes, parents first. @param {TreeNode} root */
export function allNodes(root) {
  const nodes = [root];
  for (let i = 0; i < nodes.length; i++) nodes.push(...nodes[i].children);
  return nodes;
}

/** Sums from the leaves up; what is nothing is left out. Sizes are without signs. */
function addUp(root) {
  const nodes = allNodes(root);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i];
    node.children = node.children.filter((child) => child.value > 0);
    node.children.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    for (const side of [0, 1]) {
      node.cum[side] = node.flat[side] + node.cut[side];
      node.value += Math.abs(node.flat[side]) + Math.abs(node.cut[side]);
      for (const child of node.children) node.cum[side] += child.cum[side];
    }
    for (const child of node.children) node.value += child.value;
  }
}

/** flat and cum of each function: a stack counts once, however often the function is on it. */
function sumFunctions(root, known) {
  const on = new Map();
  const walk = [[root, false]];
  while (walk.length) {
    const [node, leaving] = walk.pop();
    const fn = node.fn;
    if (leaving) {
      on.set(fn, on.get(fn) - 1);
      continue;
    }
    if (fn) {
      const times = on.get(fn) || 0;
      for (const side of [0, 1]) {
        fn.flat[side] += node.flat[side];
        if (!times) fn.cum[side] += node.cum[side];
      }
      if (!times) fn.size += node.value;
      on.set(fn, times + 1);
      walk.push([node, true]);
    }
    for (const child of node.children) walk.push([child, false]);
  }
  return [...known.values()].filter((fn) => fn.size > 0);
}

/**
 * What is drawn of one answer, or of two that are compared.
 * folded: how many functions are left out because they are of libraries.
 * @returns {{root: TreeNode, functions: Fn[], compares: boolean, folded: number}}
 */
export function buildTree(answers, type, options) {
  const root = newNode('all', null, null), places = new Map(), known = new Map();
  answers.forEach((answer, side) => addAnswer(root, places, known, answer, type, side, options));
  addUp(root);
  const folded = options.own ? [...known.values()].filter((fn) => !fn.own).length : 0;
  return {root, functions: sumFunctions(root, known), compares: answers.length > 1, folded};
}

function copyInto(places, target, node) {
  for (const side of [0, 1]) {
    target.flat[side] += node.flat[side];
    target.cut[side] += node.cut[side];
  }
  addLines(target, node.lines);
  const walk = node.children.map((child) => [target, child]);
  while (walk.length) {
    const [above, child] = walk.pop();
    const copy = childOf(places, above, child.fn);
    for (const side of [0, 1]) {
      copy.flat[side] += child.flat[side];
      copy.cut[side] += child.cut[side];
    }
    addLines(copy, child.lines);
    for (const next of child.children) walk.push([copy, next]);
  }
}

/**
 * What a function calls, and what calls it, over all the places where it stands.
 * @param {TreeNode} root @param {string} name
 */
export function pivot(root, name) {
  const callees = newNode(name, null, null), callers = newNode(name, null, null);
  const below = new Map(), above = new Map();
  const walk = [root];
  while (walk.length) {
    const node = walk.pop();
    if (node.fn && node.name === name) {  // the outermost; those inside are part of it
      copyInto(below, callees, node);
      callees.fn = callers.fn = node.fn;
      let at = callers;
      for (let up = node.parent; up && up.fn; up = up.parent) at = childOf(above, at, up.fn);
      for (const side of [0, 1]) at.flat[side] += node.cum[side];
      continue;
    }
    walk.push(...node.children);
  }
  addUp(callees);
  addUp(callers);
  return {callees, callers};
}

/** Marks what the expression finds; the sum of the outermost of them. */
export function markMatches(root, wanted) {
  let sum = 0;
  const walk = [[root, false]];
  while (walk.length) {
    const [node, inside] = walk.pop();
    node.match = !!(wanted && node.fn && wanted.test(node.name));
    if (node.match && !inside) sum += node.value;
    for (const child of node.children) walk.push([child, inside || node.match]);
  }
  return sum;
}

/** flamegraph.pl's form of what is shown. */
export function collapsed(root) {
  const lines = [];
  for (const node of allNodes(root)) {
    const own = node.flat[0] + node.cut[0];
    if (!node.fn || !own) continue;
    const names = [];
    for (let at = node; at.fn; at = at.parent)
      names.push(at.name.replace(/;/g, ':').replace(/\s/g, ' '));
    lines.push(`${names.reverse().join(';')} ${own}`);
  }
  return lines.join('\n') + '\n';
}
