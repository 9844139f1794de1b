// The page: what it holds, what the person does with it, and what is drawn then.
import {CallTree} from './calls.js';
import {readDump} from './dump.js';
import {legendOf, showDetail, showFacts, showNotes} from './facts.js';
import {readProfileFile} from './file.js';
import {Flame} from './flame.js';
import {liveOf, meaningOf} from './meaning.js';
import {drawSizes, hasSizes} from './sizes.js';
import {fetchAnswer, fetchProfile, fetchWhole, Recording} from './source.js';
import {isRecorded, ofTree, profileName} from './source.js';
import {emptyState, readState, writeState} from './state.js';
import {element, FunctionTable} from './table.js';
import {showElsewhere, takeAway} from './take.js';
import {ThreadTable} from './threads.js';
import {allNodes, buildTree, expression, markMatches, pivot} from './tree.js';
import {share} from './units.js';

/** @param {string} id @returns {any} of its own kind */
const by = (id) => document.getElementById(id);
/** @param {string} which @returns {any[]} of their own kinds */
const allOf = (which) => [...document.querySelectorAll(which)];
const views = [
  'heap', 'allocs', 'peak', 'leaks', 'mmap', 'profile', 'wall', 'block', 'mutex', 'goroutine',
  'threadcreate'
];
const titles = {profile: 'CPU profile', wall: 'wall clock'};
const textFields = ['focus', 'ignore', 'hide', 'show'], switches = ['own', 'fold', 'rootdown'];
const saved = by('saved') ? JSON.parse(by('saved').textContent) : null;

const page = {
  state: readState(),
  answer: null,  // the latest
  mark: null,    // side A
  other: null,   // side B while two are compared
  shown: null,   // what buildTree made of them
  dump: null,    // of threads, while they are listed
  whole: null,   // of the latest: the profile with sizes of blocks, as it comes
  recording: null,
  seconds: 10,
  loading: false,
  drawn: null,  // of what the last drawing was
};

const flame = new Flame(
    chartIn(by('flame')),
    {zoom: (node) => step({zoom: node.parent ? node.id : ''}), hover: tell});
const table = new FunctionTable(by('table'), {
  pick: (fn) => step({pick: fn.name, view: 'callers'}),
  hover: tell,
});
const calls = new CallTree(
    by('tree'), {pick: (fn) => step({pick: fn.name, view: 'callers'}), hover: tell});
const threads = new ThreadTable(by('threads'), {
  pick: (fn) => step({pick: fn.name, view: 'callers'}),
  filter: (tstate) => step({tstate}),
});
const hasThreads = !saved && !ofTree && ['goroutine', 'thread'].includes(profileName);
let callersFlame = null, calleesFlame = null;

function chartIn(place) {
  const chart = element('div', {className: 'chart'});
  place.append(chart);
  return chart;
}

// ---- state ----

function changed() {
  writeState(page.state, false);
  draw();
}

/** A change that the browser's back button takes back. */
function step(more) {
  Object.assign(page.state, more);
  const state = {...page.state};
  draw();
  setTimeout(() => writeState(state, true));  // it takes as long as drawing does
}

// ---- what is drawn ----

/** Of a node, a function, or nothing. */
function tell(node) { showDetail(by('detail'), node, page.shown && page.shown.look); }

function say(text) {
  by('message').hidden = !text;
  by('message').textContent = text || '';
}

function filterOf(name) {
  const field = by(name);
  field.classList.remove('bad');
  return expression(page.state[name], () => field.classList.add('bad'));
}

/** The sample types that all of them have. */
function typesOf(answers) {
  const [first, ...others] = answers.map((each) => each.sample_types.map((one) => one.type));
  return first.filter((type) => others.every((types) => types.includes(type)));
}

function lookOf(answers) {
  const latest = answers[answers.length - 1], common = typesOf(answers);
  const types = latest.sample_types.filter((each) => common.includes(each.type));
  const found = types.find((each) => each.type === page.state.type) ||
      types.find((each) => each.type === latest.default_sample_type) || types[types.length - 1];
  const totals = answers.map(
      ({sample_types: known, total}) => total[known.findIndex((each) => each.type === found.type)]);
  return {
    type: found.type,
    unit: found.unit,
    total: totals[totals.length - 1],
    compares: answers.length > 1,
    program: latest.program,
    meaning: meaningOf(profileName, found.type),
    totals
  };
}

/** Whether the frame that is zoomed into is all that is new; then it is drawn. */
function zoomOnly() {
  const drawn = JSON.stringify({...page.state, zoom: ''}), before = page.drawn;
  page.drawn = {drawn, answer: page.answer, mark: page.mark, other: page.other};
  if (!before || !page.shown || page.state.view !== 'flame') return false;
  for (const key of Object.keys(before))
    if (before[key] !== page.drawn[key]) return false;
  const node = zoomedIn(page.shown.root);
  flame.zoomTo(node || page.shown.root);
  tell(node);
  return true;
}

function draw() {
  if (zoomOnly()) return;
  const answers = page.other ? [page.mark, page.other] :
                               [page.answer || page.mark].filter(Boolean);
  showControls();
  if (!answers.length) return;
  const look = lookOf(answers), {state} = page;
  const options = {
    focus: filterOf('focus'),
    ignore: filterOf('ignore'),
    hide: filterOf('hide'),
    show: filterOf('show'),
    own: !!state.own,
    fold: !!state.fold
  };
  const shown = buildTree(answers, look.type, options);
  look.live = liveOf(answers, look.type, typesOf(answers), options);
  look.signed = look.compares || shown.functions.some((fn) => fn.cum[0] < 0);
  page.shown = {...shown, answers, look};
  const wanted = filterOf('q'), matched = markMatches(shown.root, wanted);
  by('matched').textContent =
      wanted && shown.root.value ? `${share(matched, shown.root.value)} matched` : '';
  showTypes(answers, look);
  showFacts(by('facts'), look, shown.root, answers);
  showNotes(by('notes'), answers, shown.folded);
  showTitle(page.answer || answers[0]);
  drawFlame(shown, look);
  drawCallers(shown, look);
  by('tree').hidden = state.view !== 'tree';
  if (state.view === 'tree') calls.draw(shown.root, look, wanted, zoomedIn(shown.root));
  drawThreads(shown.functions, wanted);
  by('table').hidden = ['callers', 'tree', 'threads'].includes(state.view);
  if (!by('table').hidden) table.draw(shown.functions, look, state.pick, wanted);
}

/** The node that is zoomed into, or null. */
function zoomedIn(root) {
  const {zoom} = page.state;
  return (zoom && allNodes(root).find((node) => node.id === zoom)) || null;
}

function drawFlame(shown, look) {
  by('flame').hidden = page.state.view !== 'flame';
  if (page.state.view !== 'flame') return;
  flame.draw(shown.root, look, !!page.state.rootdown);
  const zoomed = zoomedIn(shown.root);
  if (zoomed) flame.zoomTo(zoomed);
  tell(zoomed);
  const old = by('legend');
  if (old) old.remove();
  by('flame').append(legendOf(shown.functions, look));
}

function drawCallers(shown, look) {
  const place = by('callers'), {state} = page;
  place.hidden = state.view !== 'callers';
  if (place.hidden) return;
  const biggest = shown.functions.slice().sort((a, b) => b.size - a.size).find((fn) => fn.own) ||
      shown.functions[0];
  const name = shown.functions.some((fn) => fn.name === state.pick) ? state.pick :
      biggest                                                       ? biggest.name :
                                                                      '';
  if (!name) return place.replaceChildren('Nothing was sampled.');
  const both = pivot(shown.root, name), wanted = filterOf('q');
  markMatches(both.callers, wanted);
  markMatches(both.callees, wanted);
  const choose = element('select', {ariaLabel: 'Function'});
  for (const fn of shown.functions.slice().sort((a, b) => b.size - a.size).slice(0, 500))
    if (![...choose.options].some((each) => each.value === fn.name))
      choose.add(new Option(fn.name.slice(0, 200), fn.name));
  choose.value = name;
  choose.onchange = () => step({pick: choose.value});
  place.replaceChildren(element('h2', {}, 'Callers of ', choose));
  const on = {zoom: (node) => node.fn && step({pick: node.name}), hover: tell};
  callersFlame = new Flame(chartIn(place), on);
  callersFlame.draw(both.callers, look, true);
  place.append(element('h2', {}, 'What it calls'));
  calleesFlame = new Flame(chartIn(place), on);
  calleesFlame.draw(both.callees, look, false);
  showSizes(place, name, look);
}

/** Of one state, not of a change; a look that is a little later than what is shown. */
async function showSizes(place, name, look) {
  const answer = page.answer || page.mark, inside = element('div', {id: 'sizes'});
  if (look.compares || !hasSizes(look.type)) return;
  if (!answer.blocks && (saved || answer.file || answer.duration_nanos)) return;
  place.append(inside);
  if (!page.whole || page.whole.of !== answer)
    page.whole = {of: answer, profile: answer.blocks ? answer : fetchWhole()};
  try {
    const whole = await page.whole.profile;
    if (whole.blocks) drawSizes(inside, whole, name, look.type);
  } catch (error) {
    inside.textContent = `The sizes of blocks could not be had: ${error.message}`;
  }
}

function showTypes(answers, look) {
  const choose = by('type'), names = typesOf(answers);
  if ([...choose.options].map((each) => each.value).join() !== names.join())
    choose.replaceChildren(...names.map((name) => new Option(name.replace(/_/g, ' '), name)));
  choose.value = look.type;
}

/** Another look than the profile's, asked for when they are to be listed. */
function drawThreads(functions, wanted) {
  const place = by('threads');
  place.hidden = page.state.view !== 'threads';
  if (place.hidden || !hasThreads) return;
  if (page.dump) threads.draw(page.dump, functions, wanted, page.state.tstate);
  else loadThreads();
}

function showTitle({process, profile}) {
  const fromFile = process.pid === null && !ofTree;
  const words = fromFile ? '' : ofTree ? ` ${profile}` : ` ${profile}, pid ${process.pid}`;
  document.title = fromFile || ofTree ? process.name + words :
                                        `${process.name} (${process.pid}) ${profile}`;
  by('title').replaceChildren(
      element('span', {dir: 'auto'}, process.name || '?'),
      element('span', {className: 'dim'}, words));
}

function showControls() {
  const {state} = page;
  for (const name of switches) by(name).checked = !!state[name];
  for (const name of [...textFields, 'q'])
    if (document.activeElement !== by(name)) by(name).value = state[name];
  if (textFields.some((name) => state[name])) by('filters').open = true;
  for (const button of allOf('[data-view]'))
    button.setAttribute('aria-pressed', String(button.dataset.view === state.view));
  by('tools').hidden = by('filters').hidden = !page.answer && !page.mark;
  allOf('[data-view=threads]')[0].hidden = !hasThreads;
  by('rootdown-label').hidden = state.view !== 'flame';
  by('live-tools').hidden = !!saved || isRecorded;
  by('record-tools').hidden =
      !!saved || !!page.recording || ['goroutine', 'thread', 'threadcreate'].includes(profileName);
  by('record-label').textContent = isRecorded ? 'Record' : 'What comes in the next';
  by('recording').hidden = !page.recording;
  by('compare-tools').hidden = !!saved;
  by('mark').hidden = !page.answer;
  by('compare').hidden = !page.mark;
  by('compare').textContent = page.other ? 'End comparison' :
      isRecorded                         ? 'Compare A with the next recording' :
                                           'Compare A with now';
  by('mark').textContent = page.mark ? 'Mark as A again' : 'Mark as A';
  by('take').hidden = !page.answer || !!saved;
  allOf('[data-take=text]')[0].hidden = ofTree;
}

// ---- what comes from the agent ----

function take(answer) {
  const apart = page.comparing && !typesOf([page.mark, answer]).length;
  page.other = page.comparing && !apart ? answer : null;
  page.comparing = !!page.other;
  page.answer = answer;
  say(apart ? `A has ${namesOf(page.mark)}; what has come has ${namesOf(answer)}.` : '');
  draw();
}

async function loadThreads() {
  try {
    page.dump = readDump(await (await fetchAnswer('debug=2')).text());
    draw();
  } catch (error) {
    say(`The threads could not be had: ${error.message}`);
  }
}

async function refresh() {
  if (page.loading || page.recording) return;
  page.loading = true;
  try {
    page.dump = null;
    take(await fetchProfile(0));
  } catch (error) {
    say(`The profile could not be had: ${error.message}`);
  } finally {
    page.loading = false;
  }
}

async function record(seconds) {
  page.seconds = seconds;
  if (!isRecorded)
    page.comparing = page.other = null;  // a change is not compared with a state
  page.recording = new Recording(seconds, (part, left) => {
    by('progress').value = part;
    by('left').textContent = part < 1 ? `${left} s` : 'names are read';
  });
  say('');
  showControls();
  try {
    const answer = await page.recording.done;
    page.recording = null;
    take(answer);
  } catch (error) {
    page.recording = null;
    say(error.name === 'AbortError' ? '' : `The recording failed: ${error.message}`);
  }
  showControls();
}

let liveTimer = 0;
async function live() {
  clearTimeout(liveTimer);
  const seconds = Number(by('live').value);
  if (!seconds) return;
  if (!document.hidden && !page.other) await refresh();
  liveTimer = setTimeout(live, seconds * 1000);
}

function compare() {
  page.comparing = !page.other;
  page.other = null;
  if (!page.comparing) return draw();
  return isRecorded ? record(page.seconds) : refresh();
}

/** The other side of a comparison: of a saved profile and what is shown, the older is A. */
async function compareWithFile(file) {
  let answer;
  try {
    answer = await readProfileFile(file);
    const here = page.answer || answer, types = typesOf([answer, here]);
    if (!types.length)
      throw new Error(`${file.name} has ${namesOf(answer)}; what is shown has ${namesOf(here)}.`);
  } catch (error) {
    return say(error.message);
  }
  say('');
  const later = page.answer && answer.time_nanos > page.answer.time_nanos;
  [page.mark, page.other] = later ? [page.answer, answer] : [answer, page.answer];
  page.comparing = true;  // with what is recorded next, where there is nothing yet
  draw();
}

const namesOf = (answer) => answer.sample_types.map((each) => each.type).join(', ');

function listenForFiles() {
  by('choose-file').onclick = () => by('file').click();
  by('file').onchange = () => {
    if (by('file').files.length) compareWithFile(by('file').files[0]);
    by('file').value = '';
  };
  const isFile = (event) => !saved && event.dataTransfer.types.includes('Files');
  const mark = (on) => document.body.classList.toggle('dropping', on);
  addEventListener('dragover', (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener('dragleave', (event) => event.relatedTarget || mark(false));
  addEventListener('drop', (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    mark(false);
    compareWithFile(event.dataTransfer.files[0]);
  });
}

// ---- what the person does ----

function listen() {
  by('type').onchange = () => step({type: by('type').value});
  for (const button of allOf('[data-view]'))
    button.onclick = () => step({view: button.dataset.view});
  for (const name of switches)
    by(name).onchange = () => step({[name]: by(name).checked ? '1' : '', zoom: ''});
  let waits = 0;
  for (const name of [...textFields, 'q'])
    by(name).oninput = () => {
      page.state[name] = by(name).value;
      clearTimeout(waits);
      waits = setTimeout(changed, 150);
    };
  by('reset').onclick = () => step(emptyState(page.state.type));
  by('refresh').onclick = refresh;
  by('live').onchange = live;
  for (const button of allOf('[data-seconds]'))
    button.onclick = () => record(Number(button.dataset.seconds));
  by('cancel').onclick = () => page.recording && page.recording.cancel();
  by('mark').onclick = () => {
    page.mark = page.answer;
    page.other = null;
    page.comparing = false;
    draw();
  };
  by('compare').onclick = compare;
  for (const button of allOf('[data-take]'))
    button.onclick = () => takeAway(button.dataset.take, {
                             answers: page.shown.answers,
                             state: page.state,
                             root: page.shown.root,
                             seconds: page.seconds
                           }).catch((error) => say(`It could not be saved: ${error.message}`));
  by('take').ontoggle = () => by('take').open && showElsewhere(by('elsewhere'), page.seconds);
  const restore = () => {
    page.state = readState();
    draw();
  };
  addEventListener('popstate', restore);
  addEventListener('hashchange', restore);
  addEventListener('resize', () => {
    page.drawn = null;
    draw();
  });
  addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.target instanceof HTMLInputElement) return;
    by('q').focus();
    event.preventDefault();
  });
}

function start() {
  listen();
  listenForFiles();
  if (page.state.own) writeState(page.state, false);  // remembered: what is shown stands in the URL
  if (saved) {
    if (!location.hash) Object.assign(page.state, saved.state);
    by('home').hidden = true;
    page.answer = saved.answers[saved.answers.length - 1];
    if (saved.answers.length > 1) [page.mark, page.other] = saved.answers;
    return draw();
  }
  by('title').textContent = titles[profileName] || profileName;
  if (ofTree) by('home').href = '../../../../';
  if (ofTree) by('home').lastElementChild.textContent = 'all processes';
  by('profiles').append(...views.map((name) => {
    const link = element('a', {href: name}, name === 'profile' ? 'cpu' : name);
    if (name === profileName) link.setAttribute('aria-current', 'page');
    return link;
  }));
  showControls();
  const seconds = Number(new URLSearchParams(location.hash.slice(1)).get('record'));
  if (seconds >= 1 && seconds <= 60) {  // the index asks for it
    writeState(page.state, false);
    return record(seconds);
  }
  if (!isRecorded) return refresh();
  by('facts').textContent = `Record for some seconds to see where ${
      profileName === 'wall' ? 'time goes, waiting included' : 'CPU time goes'}.`;
}

start();
