// The page: a text to one or two models, and a file of texts to a table.

import { abilities, classify, explain, models, Refused, setToken } from "./api.js";
import { answerPanel } from "./answer.js";
import { answerFile } from "./file.js";

const EXAMPLES = [
  "A slow start, but the last hour is one of the best things I have seen this year.",
  "I wanted to like it. The actors do what they can with a script that gives them nothing.",
  "Not bad at all!",
  "质量很好，送货也快，下次还会再来。",
];

const element = (id) => document.getElementById(id);
const known = new Map();
let running = new AbortController();

function say(words, isError = false) {
  const status = element("status");
  status.textContent = words;
  status.classList.toggle("error", isError);
}

function sayError(error) {
  if (error.name === "AbortError") return;
  if (error.code === 401) {
    element("token-field").hidden = false;
    element("token").focus();
    say("The server wants a token: give it, and ask again.", true);
    return;
  }
  say(error instanceof Refused ? error.message : `Something went wrong: ${error.message}`, true);
}

function chosen(id) {
  return known.get(element(id).value);
}

async function listModels() {
  const found = await models();
  const before = [element("model").value, element("other").value];
  known.clear();
  for (const model of found) {
    const { texts, signatures } = await abilities(model);
    if (!texts || !signatures.includes("classify")) continue;
    known.set(`${model.name}/${model.version}`, { ...model, explains: signatures.includes("explain") });
  }
  const option = (value, words) => Object.assign(document.createElement("option"), { value, textContent: words });
  const options = () => [...known].map(([key, { name, version }]) => option(key, `${name}, version ${version}`));
  element("model").replaceChildren(...options());
  element("other").replaceChildren(option("", "no other"), ...options());
  if (known.has(before[0])) element("model").value = before[0];
  if (known.has(before[1])) element("other").value = before[1];
  element("go").disabled = !known.size;
  if (!known.size) say("No model that takes texts is served.", true);
}

async function answer(model, text, signal) {
  const [shares] = await classify(model, [text], signal);
  if (!model.explains) return answerPanel(model, shares, null, "This model does not explain itself.");
  try {
    return answerPanel(model, shares, await explain(model, text, signal));
  } catch (error) {
    // Of a long text the attention may be more than a server gives.
    if (!(error instanceof Refused)) throw error;
    return answerPanel(model, shares, null, `No explanation: ${error.message}`);
  }
}

async function askAll(event) {
  event?.preventDefault();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  setToken(element("token").value);
  element("answers").setAttribute("aria-busy", "true");
  say("Asking …");
  try {
    if (!known.size) await listModels();
    if (!known.size) return;
    const asked = [chosen("model"), chosen("other")].filter(Boolean);
    const text = element("text").value;
    const panels = await Promise.all(asked.map((model) => answer(model, text, signal)));
    element("answers").replaceChildren(...panels);
    const said = panels.map((panel, place) => `${asked[place].name}: ${panel.querySelector(".label").textContent}`);
    say(`${said.join("; ")}.`);
  } catch (error) {
    sayError(error);
  } finally {
    if (!signal.aborted) element("answers").removeAttribute("aria-busy");
  }
}

element("ask").addEventListener("submit", askAll);
element("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) askAll(event);
});
element("file").addEventListener("change", async () => {
  setToken(element("token").value);
  const [file] = element("file").files;
  if (!file) return;
  try {
    if (!known.size) await listModels();
    if (!known.size) return;
    await answerFile(file, chosen("model"), element);
  } catch (error) {
    sayError(error);
  }
});
for (const text of EXAMPLES) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  button.addEventListener("click", () => {
    element("text").value = text;
    askAll();
  });
  element("examples").append(button);
}
listModels().catch(sayError);
