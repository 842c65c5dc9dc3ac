// Tokens of a text, as Python's tokenizers makes them.

import { Failure, text as decoded } from "./files.js";

/** A function that makes tokens { id, kind, name, special } of a text. Fails where they are not Python's. */
export async function tokenizer({ text, runtime }, files) {
  if (!text.tokenizer) return (whole) => letters(whole).map(([letter, id]) => ({ id, kind: 0, name: letter, special: false }));
  try {
    const { Tokenizer } = await import(`./${runtime.tokens}`);
    const made = new Tokenizer(JSON.parse(decoded(files[text.tokenizer])), {});
    const ids = (whole, more) => made.encode(whole, { add_special_tokens: more }).ids;
    const other = text.probes.find((probe) => ids(probe.whole, true).join() !== probe.ids.join());
    if (other) throw new Error(`“${other.whole}” has other tokens here than in Python`);
    return (whole) => {
      const { ids: found, tokens: names, token_type_ids: kinds } = made.encode(whole, { return_token_type_ids: true });
      const own = ids(whole, false);
      const before = found.findIndex((_, i) => found.slice(i, i + own.length).join() === own.join()); // as many are added in front
      return found.map((id, i) => ({ id, kind: kinds?.[i] ?? 0, name: names[i], special: i < before || i >= before + own.length }));
    };
  } catch (error) {
    throw new Failure(`the library that makes tokens in browsers does not serve this tokenizer: ${error.message}`);
  }
}

/** The bytes of a text in UTF-8, each with its letter. */
const letters = (whole) => [...whole].flatMap((letter) => [...new TextEncoder().encode(letter)].map((byte) => [letter, byte]));
