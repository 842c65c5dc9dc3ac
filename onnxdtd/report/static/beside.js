// The page's side of worker.js.

import { Failure } from "./files.js";

/**
 * Starts the worker, and gives a function that has it do a task: `ask(task, given, moved)`, where the buffers in `moved` go over
 * to it. It starts from a blob, since such a worker is under the policy that this page has now, and one from an address under none.
 */
export function start() {
  const source = `import ${JSON.stringify(new URL("worker.js", import.meta.url))};`;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address, { type: "module" });
  const waiting = new Map();
  let count = 0, stopped = null;
  worker.onmessage = ({ data: { id, found, why, foreseen } }) => {
    const { done, failed } = waiting.get(id);
    waiting.delete(id);
    if (why === undefined) done(found);
    else failed(foreseen ? new Failure(why) : new Error(why));
  };
  worker.onerror = (event) => {
    stopped = new Failure(event.message ? `the model has stopped (${event.message}): load the page again`
      : "the worker in which the model runs cannot be started: try a newer browser, and see that the whole folder is on the server");
    for (const { failed } of waiting.values()) failed(stopped);
  };
  return (task, given, moved = []) => new Promise((done, failed) => {
    if (stopped) return failed(stopped);
    waiting.set(++count, { done, failed });
    worker.postMessage({ id: count, task, given }, moved);
  });
}
