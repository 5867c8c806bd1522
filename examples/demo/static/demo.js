/** The demo page: files in, rows of three kinds, a network that can be cut. */

import { CurrentRow } from "./current.js";
import * as format from "./format.js";
import { FinishedList, UnfinishedList } from "./lists.js";
import { CuttableRequest, cut } from "./network.js";
import { announce, notice } from "./page.js";

const { endpoint, module, checksum, maxBytes, expiresAfter } = document.body.dataset;
const { ChunkedUpload } = await import(module);

/** A browser opens six connections to a server; some stay free for the lists. */
const AT_ONCE = 3;

const find = (selector) => document.querySelector(selector);

/** @type {CurrentRow[]} */
let rows = [];

const unfinished = new UnfinishedList({
  endpoint,
  expiresAfter: Number(expiresAfter),
  isCurrent: (url) => rows.some(({ upload }) => upload.url === url),
  goOn: (file, url) => add(file, url),
  remembered: () => ChunkedUpload.remembered(),
  forget: (url) => ChunkedUpload.forget(url),
});
const finished = new FinishedList({
  endpoint,
  onDeleted(url) {
    for (const row of rows.filter(({ upload }) => upload.url === url)) row.dismiss();
  },
});

/** Take files in: refuse what cannot be sent, leave out what is on its way already. */
function addAll(files) {
  notice("");
  for (const file of files) {
    const twin = rows.find(
      (row) => isSameFile(row.upload.file, file) && row.upload.state !== "complete",
    );
    if (twin) notice(`${file.name} is in the list already.`);
    else if (maxBytes && file.size > Number(maxBytes)) {
      notice(
        `${file.name} has ${format.size(file.size)}; ` +
          `the server takes at most ${format.size(Number(maxBytes))}.`,
      );
    } else add(file);
  }
}

function isSameFile(one, other) {
  return ["name", "size", "lastModified"].every((key) => one[key] === other[key]);
}

function add(file, uploadUrl) {
  const options = { chunkSize: Number(find("#chunk-size").value), checksum: checksum || null };
  let upload;
  try {
    upload = new ChunkedUpload({
      endpoint,
      file,
      uploadUrl,
      ...options,
      createRequest: () => new CuttableRequest(),
    });
  } catch (error) {
    notice(`This page cannot upload: ${error.message}.`);
    return;
  }
  const row = new CurrentRow(upload, options, { onChange: startNext, onGone: leave });
  rows.push(row);
  startNext();
}

function startNext() {
  const running = rows.filter((row) => row.isRunning).length;
  // Starting one calls this function again, so each call starts one at most.
  if (running < AT_ONCE) rows.find((row) => row.isWaiting)?.upload.start();
}

/** A row is complete, or is no longer there. */
function leave(row) {
  if (!row.element.isConnected) rows = rows.filter((other) => other !== row);
  startNext();
  void refresh();
}

let refreshed = Promise.resolve();

/** One after the other, so that an old answer never overwrites a new one. */
function refresh() {
  refreshed = refreshed
    .then(() => Promise.all([unfinished.load(), finished.load()]))
    .then(() => {}, (error) => notice(error.message));
  return refreshed;
}

function showLimits() {
  const parts = [];
  if (maxBytes) parts.push(`Up to ${format.size(Number(maxBytes))} each.`);
  if (expiresAfter) {
    parts.push(`Unfinished uploads are kept for ${format.duration(Number(expiresAfter))}.`);
  }
  find("#limits").textContent = parts.join(" ");
}

function listenForDrops() {
  const cover = find("#drop-cover");
  let depth = 0;
  const show = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    cover.hidden = depth === 0;
  };
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => hasFiles(event) && show(1));
  addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(0);
    const items = [...event.dataTransfer.items];
    const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory).length;
    const files = items
      .filter((item) => item.kind === "file" && !item.webkitGetAsEntry?.()?.isDirectory)
      .map((item) => item.getAsFile());
    addAll(files.filter(Boolean));
    if (folders) notice("Folders cannot be sent; drop the files that are in them.");
  });
}

find("#choose").addEventListener("change", ({ target }) => {
  addAll([...target.files]);
  target.value = "";
});

find("#cut").addEventListener("click", ({ currentTarget: button }) => {
  announce("The network is cut for five seconds.");
  cut((secondsLeft) => {
    button.setAttribute("aria-disabled", String(secondsLeft > 0));
    button.textContent = secondsLeft > 0 ? "Network is cut" : "Cut the network";
    find("#cut-note").textContent =
      secondsLeft > 0
        ? `back in ${format.duration(secondsLeft)}`
        : "for five seconds";
  });
});

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") void refresh();
});

showLimits();
listenForDrops();
await refresh();
document.body.dataset.ready = "true";
