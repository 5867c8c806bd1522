/** The lists that the server knows: unfinished uploads and finished files. */

import * as format from "./format.js";
import { announce, ask, newRow, notice } from "./page.js";

const PAGE = 20;

/** Uploads that were left in the middle, here or in another browser. */
export class UnfinishedList {
  /**
   * @param {{endpoint: string, expiresAfter: number,
   *   isCurrent: (url: string) => boolean, goOn: (file: File, url: string) => void,
   *   remembered: () => {url: string, name: string, size: number}[],
   *   forget: (url: string) => void}} page
   */
  constructor(page) {
    this.page = page;
    this.list = document.querySelector("#unfinished");
  }

  async load() {
    const response = await ask(this.page.endpoint);
    const uploads = await response.json();
    reconcile(
      this.list,
      uploads.filter(({ url }) => !this.page.isCurrent(url)),
      (upload) => this.row(upload),
    );
  }

  row(upload) {
    const known = this.page.remembered().find(({ url }) => url === upload.url);
    const name = known?.name ?? upload.filename;
    const length = upload.length ?? known?.size ?? null;
    const row = newRow("unfinished-row", name);
    const progress = row.querySelector("progress");
    progress.setAttribute("aria-label", `Sent of ${name}`);
    progress.value = length ? upload.offset / length : 0;
    const part = (selector) => row.querySelector(selector);
    part(".percent").textContent =
      length === null ? "" : `${format.percent(upload.offset, length)} %`;
    part(".amount").textContent =
      format.size(upload.offset) + (length === null ? "" : ` of ${format.size(length)}`);
    part(".since").textContent = this.lifeText(upload);
    const input = part("input");
    input.setAttribute("aria-label", `Pick the same file to go on: ${name}`);
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = "";
      if (file) this.pick(row, file, { ...upload, name, length });
    });
    part("[data-action=discard]").addEventListener("click", () =>
      remove(row, upload.url, "#unfinished-title", `${name} is discarded.`, () =>
        this.page.forget(upload.url),
      ),
    );
    return row;
  }

  lifeText(upload) {
    const last = upload.last_activity_at ?? upload.created_at;
    const { expiresAfter } = this.page;
    if (!expiresAfter) return `left ${format.ago(last)}`;
    const left = expiresAfter - (Date.now() - Date.parse(last)) / 1000;
    return `left ${format.ago(last)}, kept for ${format.duration(Math.max(left, 1))} more`;
  }

  pick(row, file, { url, name, filename, length }) {
    const names = [name, filename].map((text) => text.normalize("NFC"));
    const isSame =
      names.includes(file.name.normalize("NFC")) && (length ?? file.size) === file.size;
    if (!isSame) {
      const wanted = length === null ? name : `${name} (${format.size(length)})`;
      const got = `${file.name} (${format.size(file.size)})`;
      problem(row, `That is another file: ${got}. This upload goes on with ${wanted}.`);
      return;
    }
    row.remove();
    this.page.goOn(file, url);
  }
}

/** What is complete: to download or to delete. */
export class FinishedList {
  /** @param {{endpoint: string, onDeleted: (url: string) => void}} page */
  constructor(page) {
    this.page = page;
    this.list = document.querySelector("#finished");
    this.more = document.querySelector("#more");
    this.wanted = PAGE;
    this.more.addEventListener("click", () => {
      this.wanted += PAGE;
      this.load().catch((error) => notice(error.message));
    });
  }

  async load() {
    /** @type {any[]} */
    const uploads = [];
    let next = `${this.page.endpoint}?status=complete`;
    while (next) {
      const response = await ask(next);
      uploads.push(...(await response.json()));
      const link = response.headers.get("Link") ?? "";
      next = /<([^>]+)>\s*;\s*rel="?next/.exec(link)?.[1];
    }
    // The server lists the oldest first; a visitor looks for the newest.
    const newest = uploads.sort((one, other) =>
      other.completed_at.localeCompare(one.completed_at),
    );
    reconcile(this.list, newest.slice(0, this.wanted), (upload) => this.row(upload));
    this.more.hidden = newest.length <= this.wanted;
  }

  row(upload) {
    const row = newRow("finished-row", upload.filename);
    const part = (selector) => row.querySelector(selector);
    part(".amount").textContent = format.size(upload.length ?? upload.offset);
    part(".since").textContent = format.ago(upload.completed_at);
    part(".checksum").hidden = !upload.digest;
    const [algorithm, digest] = (upload.digest ?? ":").split(":");
    part(".hash-name").textContent = format.hashLabel(algorithm);
    part(".digest").textContent = digest;
    const download = part("[data-action=download]");
    download.hidden = !upload.file;
    if (upload.file) download.href = upload.file;
    part("[data-action=delete]").addEventListener("click", () =>
      remove(row, upload.url, "#finished-title", `${upload.filename} is deleted.`, () =>
        this.page.onDeleted(upload.url),
      ),
    );
    return row;
  }
}

/** Make the list show these uploads; rows that stay are not touched. */
function reconcile(list, uploads, makeRow) {
  const old = new Map([...list.children].map((row) => [row.dataset.url, row]));
  uploads.forEach((upload, index) => {
    const row = old.get(upload.url) ?? makeRow(upload);
    row.dataset.url = upload.url;
    old.delete(upload.url);
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
  for (const row of old.values()) row.remove();
}

async function remove(row, url, title, message, then) {
  try {
    await ask(url, { method: "DELETE" });
  } catch (error) {
    problem(row, error.message);
    return;
  }
  row.remove();
  then();
  announce(message);
  document.querySelector(title).focus();
}

function problem(row, text) {
  const line = row.querySelector(".problem");
  line.textContent = text;
  line.hidden = false;
}
