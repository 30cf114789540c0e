/** What `--weights` names: a file, an index of shards, or either of them on a server. */
import { inputError } from "../../runtime/input-error.ts";
import { fileCheckpoint } from "../../runtime/node.ts";
import type { FileCheckpoint } from "../../runtime/node.ts";
import { renamed, urlCheckpoint } from "../../runtime/sources.ts";

/** A server without ranges sends the whole file into memory; more than this is refused. */
const WHOLE_UP_TO = 2 ** 30;

/** `--rename FROM=TO`: a leading path that ends in a dot, "" for every name, or a whole name. */
export type Renames = Readonly<Record<string, string>>;

/** Opens a checkpoint. What it holds open is given back by `close`. */
export async function openWeights(argument: string, rename: Renames = {}): Promise<FileCheckpoint> {
  const remote = /^https?:\/\//i.test(argument);
  const checkpoint = remote
    ? { ...(await urlCheckpoint(argument, { wholeUpTo: WHOLE_UP_TO })), close: () => Promise.resolve() }
    : await fileCheckpoint(argument);
  try {
    for (const from of Object.keys(rename)) checkFits(argument, [...checkpoint.tensors.keys()], from);
    return { ...checkpoint, ...renamed(checkpoint, rename) };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** A wish that nothing fulfils is a slip. */
function checkFits(argument: string, names: readonly string[], from: string): void {
  const path = from === "" || from.endsWith(".");
  if (names.some((name) => (path ? name.startsWith(from) : name === from))) return;
  const dotted = !path && names.some((name) => name.startsWith(`${from}.`));
  throw inputError(
    `--rename: ${argument} has no tensor ${path ? `that begins with '${from}'` : `'${from}'`}${
      dotted ? `; for all that begin with '${from}.', write the dot` : ""
    }`,
  );
}
