// A file of one text a line to a table of answers, in batches, with its progress.

import { classify } from "./api.js";

const BATCH = 32;
const MOST_BYTES = 20_000_000;
// One file at a time: a second one stops the first, and waits until it has.
let current = new AbortController();
let finished = Promise.resolve();
// Of the table, what is shown; all of it can be downloaded.
const SHOWN = 500;

function cell(tag, words) {
  return Object.assign(document.createElement(tag), { textContent: words });
}

// Quoted as RFC 4180 has it; what a spreadsheet would take for a formula gets an apostrophe.
function quoted(words) {
  const safe = /^[=+\-@\t\r]/.test(words) ? `'${words}` : words;
  return `"${safe.replaceAll('"', '""')}"`;
}

export async function answerFile(file, model, element) {
  const progress = element("progress"), words = element("progress-text");
  const [stop, download, region] = ["stop", "download", "table-region"].map(element);
  if (file.size > MOST_BYTES) {
    words.textContent = `${file.name} is larger than ${MOST_BYTES / 1e6} MB: give it in parts.`;
    return;
  }
  const lines = (await file.text()).split(/\r?\n/).filter((line) => line.trim());
  const before = finished;
  let finish;
  finished = new Promise((resolve) => (finish = resolve));
  current.abort();
  const stopped = new AbortController();
  current = stopped;
  await before;
  const stopIt = () => stopped.abort();
  stop.addEventListener("click", stopIt);
  Object.assign(progress, { hidden: false, max: Math.max(1, lines.length), value: 0 });
  [stop.hidden, download.hidden, region.hidden] = [false, true, false];
  const body = element("table").tBodies[0];
  body.replaceChildren();
  const csv = [];
  try {
    for (let start = 0; start < lines.length; start += BATCH) {
      const texts = lines.slice(start, start + BATCH);
      const answers = await classify(model, texts, stopped.signal);
      if (!csv.length) {
        const names = answers[0].map(([name]) => name).sort();
        const heads = ["text", "label", ...names];
        element("table").tHead.replaceChildren(document.createElement("tr"));
        element("table").tHead.rows[0].append(...heads.map((head) => Object.assign(cell("th", head), { scope: "col" })));
        csv.push(heads.map(quoted).join(","));
      }
      answers.forEach((row, place) => {
        const shares = [...row].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([, share]) => share);
        csv.push([quoted(texts[place]), quoted(row[0][0]), ...shares].join(","));
        if (body.rows.length >= SHOWN) return;
        const line = document.createElement("tr");
        line.append(cell("td", texts[place]), cell("td", row[0][0]), ...shares.map((share) => cell("td", `${(100 * share).toFixed(1)} %`)));
        body.append(line);
      });
      progress.value = start + texts.length;
      words.textContent = `${progress.value} of ${lines.length} lines answered`;
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    words.textContent += ", then stopped";
  } finally {
    finish();
    stop.removeEventListener("click", stopIt);
    stop.hidden = true;
    if (csv.length > 1) {
      URL.revokeObjectURL(download.href);
      download.href = URL.createObjectURL(new Blob([`${csv.join("\r\n")}\r\n`], { type: "text/csv" }));
      download.hidden = false;
    }
  }
  if (!lines.length) words.textContent = `${file.name} holds no text.`;
  if (csv.length - 1 > SHOWN) words.textContent += `; the first ${SHOWN} are shown`;
}
