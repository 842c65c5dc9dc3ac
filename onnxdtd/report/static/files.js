// Reads the files of the page, and tells how far it is.

export class Failure extends Error {} // whose message is one for a person

/** The bytes of each of the files, by name. `tell` hears how many bytes of how many are there. */
export async function read(files, tell) {
  const whole = files.reduce((sum, file) => sum + file.size, 0);
  const found = {};
  let before = 0;
  for (const { name, size } of files) {
    found[name] = await one(name, size, (bytes) => tell(before + bytes, whole));
    before += size;
  }
  return found;
}

async function one(name, size, tell) {
  const answer = await fetch(name).catch(() => null);
  if (!answer?.ok) {
    throw new Failure(`a file cannot be loaded, ${name}${answer ? ` (status ${answer.status})` : ""}: is the whole folder on the server?`);
  }
  const bytes = room(size);
  const reader = answer.body.getReader();
  let there = 0;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    if (there + piece.value.length > size) throw new Failure(`the file ${name} is not the one that belongs here: copy the folder again`);
    bytes.set(piece.value, there);
    there += piece.value.length;
    tell(there);
  }
  if (there < size) throw new Failure(`the file ${name} ends after ${there} of ${size} bytes: load the page again`);
  return bytes;
}

function room(size) {
  try {
    return new Uint8Array(size);
  } catch {
    throw new Failure("this device has not enough memory for the model");
  }
}

export const text = (bytes) => new TextDecoder().decode(bytes);

/** Bytes as people say it. */
export const amount = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
