"""The browser's address and history while pages change: the link says what was asked for last."""

import json
from typing import get_args

from semfreeze_dashboard.data.link import SharedLinkName

# Streamlit's server writes into the address of whatever page the browser is at by then. What it says of a page that one
# has left meanwhile would take values out of the link and put pages into the history that nobody opened.
#
# So an address that Back or Forward led to stays as it is, and one that a link led to loses no value, until the page is
# there or somebody changes something on it. The values of all pages go along from the start: Streamlit forgets those
# whose widgets the page before drew otherwise, and puts them back only once the next page is there. What changes the
# query of a page alone is no stop in the history.
#
# Another page or another run is shown from its top: Streamlit leaves the window where it was, often at the new page's
# end.
_SCRIPT = """<script>
window.semfreezeHistory ??= (() => {
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const shared = SHARED, acts = ['pointerdown', 'click', 'keydown', 'input', 'change', 'drop'];
  const names = url => [...url.searchParams.keys()];
  const toTop = () => document.querySelector('[data-testid=stMain]')?.scrollTo(0, 0);
  let held = null, since = 0, rested = 0;
  const hold = what => { held = what; since = performance.now(); rested = 0; };  // 'address' or 'values'

  const act = event => {
    if (event.altKey || event.metaKey || event.ctrlKey) return;  // Back by keys, or a link in another window
    const link = event.target.closest?.('a[href]');
    if (!link) held = null;
    else if (event.type === 'click' && link.origin === location.origin && link.target !== '_blank')
      hold('values');
  };
  for (const kind of acts) addEventListener(kind, act, true);
  addEventListener('popstate', () => hold('address'), true);
  setInterval(() => {
    const app = document.querySelector('[data-testid=stApp]');
    rested = app?.dataset.testScriptState === 'running' ? 0 : rested + 1;
    if (rested > 1 && performance.now() - since > 3000) held = null;
  }, 250);

  history.pushState = (data, title, text) => {
    const url = new URL(text ?? '', location), before = new URL(location);
    if (url.pathname === before.pathname) return history.replaceState(data, title, text);
    if (held === 'address') return;
    for (const name of shared.filter(name => !url.searchParams.has(name)))
      for (const value of before.searchParams.getAll(name)) url.searchParams.append(name, value);
    push(data, title, url);
    hold('values');
    toTop();
  };
  history.replaceState = (data, title, text) => {
    const url = new URL(text ?? '', location), before = new URL(location);
    if (held === 'address' || (held && names(before).some(name => !url.searchParams.has(name)))) return;
    replace(data, title, url);
    if (url.searchParams.get('run') !== before.searchParams.get('run')) toTop();
  };
  return true;
})();
</script>"""


def history_script() -> str:
    """The script that every page has, as HTML; it takes effect once in a window."""
    return _SCRIPT.replace("SHARED", json.dumps(["run", *get_args(SharedLinkName)]))
