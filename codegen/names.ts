/** The namer of text targets: every identifier of a text goes through here, so that no local hides a word of the language. */

/** Words of a list in running text. */
export const wordsOf = (text: string): readonly string[] => text.split(/\s+/).filter((w) => w !== "");

/**
 * Gives each name of a kernel its identifier: the same one wherever it is used, so scopes stay as they are. `taken` are the words
 * of the language and of the text around a kernel's body. Ask first for what must keep its name if possible.
 */
export function namesAvoiding(...words: readonly (readonly string[])[]): (name: string) => string {
  const taken = new Set(words.flat());
  const known = new Map<string, string>();
  return (name) => {
    const before = known.get(name);
    if (before !== undefined) return before;
    // Two underscores in front, and one alone, are kept by the languages; a digit in front is nobody's.
    const plain = name
      .replace(/[^A-Za-z0-9_]/g, "_")
      .replace(/^_+/, "")
      .replace(/^(?=[0-9]|$)/, "x");
    let free = plain;
    for (let i = 2; taken.has(free); i++) free = `${plain}_${i}`;
    taken.add(free);
    known.set(name, free);
    return free;
  };
}
