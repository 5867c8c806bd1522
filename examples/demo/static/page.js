/** What all parts of the page share: rows, notices, and requests for the lists. */

const find = (selector) => document.querySelector(selector);

/** Tell those who cannot see it. */
export function announce(text) {
  find("#status").textContent = text;
}

/** A problem that belongs to no row; an empty text takes it away. */
export function notice(text) {
  const line = find("#notice");
  line.textContent = text;
  line.hidden = text === "";
}

/**
 * A row from a template, its buttons named after the file.
 *
 * @returns {HTMLElement}
 */
export function newRow(template, name) {
  const row = find(`#${template}`).content.firstElementChild.cloneNode(true);
  const title = row.querySelector(".name");
  title.textContent = name;
  title.title = name;
  title.id = `row-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  for (const control of row.querySelectorAll("button, a, input")) {
    control.setAttribute("aria-describedby", title.id);
  }
  return row;
}

/**
 * One request for a list or a removal.
 *
 * @returns {Promise<Response>}
 * @throws {Error} with a message fit to be shown.
 */
export async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { headers: { Accept: "application/json" }, ...options });
  } catch {
    throw new Error("The server cannot be reached. Is it running?");
  }
  if (!response.ok && response.status !== 404) {
    const body = await response.json().catch(() => null);
    throw new Error(`The server answered: ${body?.detail ?? `status ${response.status}`}`);
  }
  return response;
}
