// Runs beside the page, in a worker: the model and all else that takes long, so that the page answers meanwhile.

import { Failure } from "./files.js";
import { reduced } from "./pixels.js";
import { open } from "./session.js";
import { tokenizer } from "./tokens.js";

let page, model, tokens;

const TASKS = {
  async open(told, files) {
    page = told;
    // From a blob, as this worker is: the threads that it starts are then under the policy as well.
    const script = new Blob([files[page.runtime.script]], { type: "text/javascript" });
    model = await open(page, files, await import(URL.createObjectURL(script)));
    if (page.text) tokens = await tokenizer(page, files);
    return model.threads;
  },
  explain: (given, target) => model.explain(given, target),
  reduced: (blob) => reduced(blob, page.picture),
  tokens: (whole) => tokens(whole),
};

onmessage = async ({ data: { id, task, given } }) => {
  try {
    postMessage({ id, found: await TASKS[task](...given) });
  } catch (error) {
    postMessage({ id, why: error instanceof Failure ? error.message : String(error), foreseen: error instanceof Failure });
  }
};
