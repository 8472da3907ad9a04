// Keeps a piece of an open page up to date: the server renders it, this asks for it again while it says `data-live`.
const PAUSE_MS = 500;
const FAILURES_MAX = 20;

function follow(node, failures) {
  if (!node.dataset.live || failures > FAILURES_MAX) return;
  setTimeout(() => refresh(node, failures), PAUSE_MS * (failures + 1));
}

async function refresh(node, failures) {
  let answer;
  try {
    answer = await fetch(node.dataset.live, { headers: { 'X-Fragment': '1', Accept: 'text/html' }, credentials: 'same-origin' });
  } catch {
    follow(node, failures + 1);
    return;
  }
  if (answer.status === 401 || answer.status === 404) {
    location.reload();
    return;
  }
  if (!answer.ok) {
    follow(node, failures + 1);
    return;
  }
  const next = new DOMParser().parseFromString(await answer.text(), 'text/html').body.firstElementChild;
  if (node.contains(document.activeElement) || node.querySelector('details[open]')) {
    follow(node, 0);  // somebody is about to press a button in it
    return;
  }
  if (!next.dataset.live && node.dataset.then === 'reload') {
    location.reload();
    return;
  }
  node.replaceWith(next);
  follow(next, 0);
}

for (const node of document.querySelectorAll('[data-live]')) follow(node, 0);
