// Drives the demo page in a real Chromium: node drive.mjs '{"scenario": ..., ...}'.

import { basename } from "node:path";

import { MIB, given, run, throttle } from "./chromium.mjs";

const row = (page) => page.locator("#current > li").first();
const button = (page, name) => row(page).getByRole("button", { name, exact: true });
const choose = (page, file) => page.setInputFiles("#choose", file);

async function reach(page, state, timeout = 60_000) {
  await page.waitForSelector(`#current > li[data-state="${state}"]`, { timeout });
}

async function percentAtLeast(page, least) {
  await page.waitForFunction(
    (least) => parseInt(document.querySelector("#current .percent")?.textContent) >= least,
    least,
    { polling: 20 },
  );
}

async function percent(page) {
  return parseInt(await row(page).locator(".percent").textContent());
}

async function finish(page) {
  await reach(page, "complete");
  await row(page).getByText("verified by the server").waitFor();
  return { digest: await row(page).locator(".digest").textContent() };
}

/** Counts the bytes that the requests of this page announce. */
function countSent(page) {
  const sent = { ranges: [] };
  page.on("request", (request) => {
    const range = request.headers()["content-range"];
    if (range) sent.ranges.push(range);
  });
  return sent;
}

const scenarios = {
  async whole(page) {
    await choose(page, given.file);
    const seen = await finish(page);
    const finished = page.locator("#finished > li", { hasText: basename(given.file) });
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      finished.getByRole("link", { name: "Download" }).click(),
    ]);
    return {
      ...seen,
      listed: await finished.locator(".digest").textContent(),
      downloaded: await download.path(),
      name: download.suggestedFilename(),
    };
  },

  async pause(page) {
    await throttle(page, 8 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 20);
    await button(page, "Pause").click();
    await reach(page, "paused");
    const pausedAt = await percent(page);
    await page.waitForTimeout(700);
    const still = await percent(page);
    const focused = await page.evaluate(() => document.activeElement.dataset.action);
    await button(page, "Resume").click();
    return { pausedAt, still, focused, ...(await finish(page)) };
  },

  async cut(page) {
    await throttle(page, 8 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 20);
    await page.getByRole("button", { name: "Cut the network" }).click();
    await reach(page, "retrying");
    const said = await row(page).locator(".state").textContent();
    return { said, ...(await finish(page)) };
  },

  async reload(page) {
    await throttle(page, 8 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 30);
    await page.reload();
    await page.waitForSelector("body[data-ready]");
    const left = page.locator("#unfinished > li");
    await left.waitFor();
    const kept = parseInt(await left.locator(".percent").textContent());
    await left.locator("input[type=file]").setInputFiles(given.other);
    const refusal = await left.locator(".problem").textContent();
    const sent = countSent(page);
    await left.locator("input[type=file]").setInputFiles(given.file);
    const seen = await finish(page);
    const unfinished = await page.locator("#unfinished > li").count();
    return { kept, refusal, unfinished, first: sent.ranges[0], ...seen };
  },

  /** The chooser at the top recognises the file as well, by what the browser kept. */
  async rechoose(page) {
    await throttle(page, 8 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 30);
    await page.reload();
    await page.waitForSelector("body[data-ready]");
    const sent = countSent(page);
    await choose(page, given.file);
    const seen = await finish(page);
    return { first: sent.ranges[0], ...seen };
  },

  /** What was remembered is gone on the server: the upload starts anew. */
  async gone(page) {
    await throttle(page, 8 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 30);
    await page.reload();
    await page.waitForSelector("body[data-ready]");
    await page.evaluate(async () => {
      for (const { url } of await (await fetch("/uploads/")).json()) {
        await fetch(url, { method: "DELETE" });
      }
    });
    const sent = countSent(page);
    await choose(page, given.file);
    const seen = await finish(page);
    return { first: sent.ranges[0], ...seen };
  },

  /** Same name and size, other bytes: told by the checksum, then sent anew. */
  async changed(page) {
    await throttle(page, 8 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 30);
    await page.reload();
    await page.waitForSelector("body[data-ready]");
    await throttle(page, -1);
    await page.locator("#unfinished input[type=file]").setInputFiles(given.other);
    await reach(page, "failed");
    const said = await row(page).locator(".state").textContent();
    await button(page, "Try again").click();
    return { said, ...(await finish(page)) };
  },

  async cancel(page) {
    await throttle(page, 4 * MIB);
    await choose(page, given.file);
    await percentAtLeast(page, 10);
    await button(page, "Cancel").click();
    await row(page).waitFor({ state: "detached" });
    await page.waitForFunction(async () => {
      const list = await (await fetch("/uploads/")).json();
      return list.length === 0;
    });
    const remembered = await page.evaluate(() => localStorage.length);
    return { remembered, rows: await page.locator("#current > li").count() };
  },

  async delete(page) {
    await choose(page, given.file);
    const seen = await finish(page);
    const finished = page.locator("#finished > li", { hasText: basename(given.file) });
    await finished.getByRole("button", { name: "Delete" }).click();
    await finished.waitFor({ state: "detached" });
    const said = await page.locator("#status").textContent();
    return { said, rows: await page.locator("#current > li").count(), ...seen };
  },

  async keyboard(page) {
    const steps = [];
    for (let step = 0; step < 3; step += 1) {
      await page.keyboard.press("Tab");
      steps.push(
        await page.evaluate(() => {
          const { activeElement: element } = document;
          const shown = element.closest(".button") ?? element;
          return { id: element.id, outline: getComputedStyle(shown).outlineStyle };
        }),
      );
    }
    return { steps };
  },

  /** No row and no control is wider than a phone, whatever the file is called. */
  async phone(page) {
    await page.setViewportSize({ width: 360, height: 740 });
    await choose(page, given.file);
    await finish(page);
    return page.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      outside: [...document.querySelectorAll("main *")]
        .filter((element) => element.getBoundingClientRect().right > 360.5)
        .filter((element) => !element.closest(".visually-hidden"))
        .map((element) => element.outerHTML.slice(0, 80)),
    }));
  },

  /** The module alone, against answers that a good server seldom gives. */
  async client(page) {
    const requests = [];
    const answers = []; // what the next uploads' requests get instead of the server
    await page.route(/\/uploads\/(?!static\/)/, async (route) => {
      const request = route.request();
      const headers = await request.allHeaders();
      requests.push({ method: request.method(), at: Date.now(), headers });
      const answer = answers.shift();
      if (answer === "lost") await route.abort();
      else if (answer) await route.fulfill(answer);
      else await route.continue();
    });
    await page.evaluate(async ({ module, endpoint }) => {
      const { ChunkedUpload } = await import(module);
      globalThis.run = (bytes, options = {}, act = () => {}) =>
        new Promise((resolve) => {
          const file = new File([new Uint8Array(bytes).fill(7)], `${options.name}.bin`);
          const retryDelays = [1, 1];
          const upload = new ChunkedUpload({ endpoint, file, retryDelays, ...options });
          const states = [];
          upload.addEventListener("state", ({ detail: { state } }) => {
            states.push(state);
            if (state === "complete" || state === "failed") {
              globalThis.last = upload;
              const { code, message } = upload.error ?? {};
              resolve({ states, code, message, ...upload.answer });
            }
          });
          upload.start();
          act(upload);
        });
    }, await page.evaluate(() => ({ ...document.body.dataset })));
    const unavailable = { status: 503, headers: { "Retry-After": "1" }, body: "{}" };
    const html = { status: 200, contentType: "text/html", body: "<h1>Log in</h1>" };
    const full = { status: 413, json: { detail: "Quota is used up" } };
    const seen = {};

    answers.push(unavailable);
    seen.busy = await page.evaluate(() => run(200_000, { name: "busy" }));
    seen.waited = requests[1].at - requests[0].at;

    answers.push("lost", "lost", "lost");
    seen.lost = await page.evaluate(() => run(10, { name: "lost" }));
    seen.again = await page.evaluate(async () => {
      last.resume();
      await new Promise((resolve) =>
        last.addEventListener("state", () => last.state === "complete" && resolve()),
      );
      return last.state;
    });

    answers.push(html);
    seen.html = await page.evaluate(() => run(10, { name: "html" }));
    answers.push(full);
    seen.full = await page.evaluate(() => run(10, { name: "full" }));

    const worker = /chunked-upload-hash/;
    await page.route(worker, (route) => route.abort(), { times: 1 });
    seen.unloaded = await page.evaluate(() => run(10, { name: "unloaded" }));

    requests.length = 0;
    seen.form = await page.evaluate(() =>
      run(200_000, { name: "form", multipart: true, csrfToken: "t0ken", chunkSize: 50_000 }),
    );
    seen.types = requests.map(({ headers }) => headers["content-type"]?.split(";")[0]);
    seen.tokens = requests.map(({ headers }) => headers["x-csrftoken"]);

    requests.length = 0;
    seen.early = await page.evaluate(() =>
      run(200_000, { name: "early \ud800 \u00e4" }, (upload) => {
        upload.pause();
        setTimeout(() => upload.resume(), 50);
      }),
    );
    seen.created = requests.filter(
      ({ method, headers }) => method === "PUT" && /bytes 0-/.test(headers["content-range"]),
    ).length;

    // The answer to the completion is lost; the repeat gets it again.
    await page.route(/\/uploads\/[-0-9a-f]{36}$/, async (route) => {
      if (route.request().method() !== "POST" || seen.dropped) return route.fallback();
      seen.dropped = true;
      await route.fetch();
      return route.abort();
    });
    seen.repeated = await page.evaluate(() => run(200_000, { name: "repeated" }));
    return seen;
  },

  async no_wasm(page) {
    await page.addInitScript(() => delete globalThis.WebAssembly);
    await page.reload();
    await page.waitForSelector("body[data-ready]");
    await choose(page, given.file);
    await reach(page, "failed");
    return { said: await row(page).locator(".state").textContent() };
  },
};

await run(scenarios, "body[data-ready]");
