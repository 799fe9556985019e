// What the page asks of its server: TensorFlow Serving's REST API, and nothing else.

export class Refused extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

let token = "";

export function setToken(value) {
  token = value.trim();
}

function parsed(text) {
  // TensorFlow Serving writes NaN and Infinity bare, which is no JSON.
  const bare = /(?<=[[:,]\s*)-?(?:NaN|Infinity)(?=\s*[,\]}])/g;
  for (const json of [text, text.replace(bare, "null")]) {
    try {
      return JSON.parse(json);
    } catch {
      continue;
    }
  }
  return undefined;
}

async function ask(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const request = body === undefined
    ? { headers, signal }
    : { method: "POST", headers, body: JSON.stringify(body), signal };
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
  const text = await response.text();
  const content = parsed(text);
  if (content === undefined) {
    throw new Refused(`The server answered ${response.status}, and no JSON.`, response.status);
  }
  if (!response.ok) throw new Refused(content.error ?? "The server refused.", response.status);
  return content;
}

const place = ({ name, version }) =>
  `v1/models/${encodeURIComponent(name)}/versions/${version}`;

// The versions that answer, the highest of each model first.
export async function models() {
  const { models } = await ask("v1/models");
  return models.flatMap(({ name, model_version_status: states }) =>
    states
      .filter(({ state }) => state === "AVAILABLE")
      .map(({ version }) => ({ name, version })));
}

// What a version can be asked: the names of its signatures, and whether it takes texts.
export async function abilities(model) {
  const { metadata } = await ask(`${place(model)}/metadata`);
  const signatures = metadata.signature_def.signature_def;
  const inputs = Object.keys(signatures.serving_default?.inputs ?? {});
  return { signatures: Object.keys(signatures), texts: inputs.length === 1 && inputs[0] === "text" };
}

// For each text its classes with their probabilities, the most probable one first.
export async function classify(model, texts, signal) {
  const examples = texts.map((text) => ({ text }));
  const { results } = await ask(`${place(model)}:classify`, { signature_name: "classify", examples }, signal);
  return results.map((row) => [...row].sort((a, b) => b[1] - a[1]));
}

export async function explain(model, text, signal) {
  const body = { signature_name: "explain", instances: [text] };
  const { predictions } = await ask(`${place(model)}:predict`, body, signal);
  return predictions[0];
}
