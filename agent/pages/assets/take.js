// Taking a profile away: files made of what the page has, named NAME-PID-PROFILE.
import {fetchAnswer, isRecorded, ofTree, profileName} from './source.js';
import {element} from './table.js';
import {collapsed} from './tree.js';

function save(name, blob) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** @param {{process: {name: string, pid: number}, profile: string, file?: string}} answer */
export function fileName(answer, ending) {
  const {name, pid} = answer.process;
  const words = answer.file ? [name] : [name || 'process', pid, answer.profile].filter(Boolean);
  return words.join('-').replace(/[^A-Za-z0-9._-]+/g, '_') + ending;
}

function scriptText(text) {
  return text.replace(/^import .*$/gm, '')
      .replace(/^export /gm, '')
      .replace(/<\/(script)/gi, '<\\/$1');
}

/** The page with its scripts and its data in one file. */
async function standalone(answers, state) {
  const base = new URL('.', import.meta.url).href;
  const text = async (name) => (await fetch(base + name)).text();
  const modules = [
    'units.js', 'tree.js', 'state.js', 'source.js', 'take.js', 'flame.js', 'table.js', 'calls.js',
    'meaning.js', 'facts.js', 'file.js', 'dump.js', 'threads.js', 'sizes.js', 'view.js'
  ];
  const [library, style, ...ours] =
      await Promise.all(['d3-flame-graph.js', 'view.css', ...modules].map(text));
  const page =
      new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), 'text/html');
  for (const each of page.querySelectorAll('script, link[rel=stylesheet]')) each.remove();
  const kept = answers.map((answer) => ({...answer, blocks: null}));
  const data = JSON.stringify({answers: kept, state}).replace(/</g, '\\u003c');
  const own = ours.map(scriptText).join('\n').replace(/import\.meta\.url/g, '\'\'');
  return [
    '<!doctype html>\n<html lang="en">\n<head>', page.head.innerHTML, '<style>', style,
    '</style>\n</head>\n<body>', page.body.innerHTML, '<script type="application/json" id="saved">',
    data, '</script>\n<script>', scriptText(library), '</script>\n<script>{', own,
    '}</script>\n</body>\n</html>\n'
  ].join('');
}

/** For the shell, between quotes that need no escapes. */
const quoted = (text) => `'${text.replace(/'/g, '%27')}'`;

/** A speedscope that may read the profile, as PPROFAGENT_ORIGINS says. */
async function speedscope() {
  try {
    const {config} = await (await fetch('../health', {cache: 'no-store'})).json();
    return config.origins.split(/[ ,]+/).find((each) => /speedscope/.test(each)) || '';
  } catch {
    return '';  // of all processes of a tree
  }
}

/** pprof.me's limit; what is asked for to be below it. */
const most = 2 << 20, fits = 2000000;

/** Where else it can be looked at. @param {HTMLElement} place @param {number} seconds */
export async function showElsewhere(place, seconds) {
  const url = new URL(`../${encodeURIComponent(profileName)}`, location.href);
  if (isRecorded) url.search = `seconds=${seconds}`;
  const small = new URL(url);
  if (!ofTree) small.searchParams.set('max_bytes', String(fits));
  const line = `curl -so p.pb.gz ${quoted(small.href)} && pprofme upload p.pb.gz`;
  const origin = await speedscope();
  place.replaceChildren(
      'pprof.me: ', element('code', {}, line),
      '. The pages of flamegraph.com, speedscope.app and pprof.me take the .pb.gz too. ');
  if (origin)
    place.append(element(
        'a', {href: `${origin}/#profileURL=${encodeURIComponent(url.href)}`, target: '_blank'},
        'Open in speedscope'));
}

/** One that fits: its smallest parts are folded, as its comment says. */
function offerSmaller(size, answer, seconds) {
  const words = isRecorded ? 'record one that fits' : 'one that fits';
  const button = element('button', {id: 'take-smaller'}, words);
  button.onclick = async () => {
    const query = `${seconds ? `${seconds}&` : ''}max_bytes=${fits}`;
    save(fileName(answer, '.pb.gz'), await (await fetchAnswer(query)).blob());
  };
  document.getElementById('elsewhere')
      .append(
          ` This one has ${(size / 1e6).toFixed(1)} MB: pprof.me takes 2 MB. `,
          ofTree ? '' : button);
}

/**
 * @param {string} what @param {{answers: Object[], state: Object, root: Object, seconds: number}}
 *     shown
 */
export async function takeAway(what, shown) {
  const answer = shown.answers.find((each) => each.process.pid !== null) || shown.answers[0];
  const seconds = isRecorded ? `seconds=${shown.seconds}` : '';
  if (what === 'pb') {
    const blob = await (await fetchAnswer(seconds)).blob();
    save(fileName(answer, '.pb.gz'), blob);
    if (blob.size > most) offerSmaller(blob.size, answer, seconds);
  } else if (what === 'text') {
    const query = isRecorded ? `format=top&${seconds}` : 'debug=1';
    save(fileName(answer, '.txt'), await (await fetchAnswer(query)).blob());
  } else if (what === 'collapsed') {
    save(
        fileName(answer, '.collapsed.txt'),
        new Blob([collapsed(shown.root)], {type: 'text/plain'}));
  } else {
    save(
        fileName(answer, '.html'),
        new Blob([await standalone(shown.answers, shown.state)], {type: 'text/html'}));
  }
}
