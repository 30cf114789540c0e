/** Checkpoints whose names are not the model's. */
import type { Checkpoint, CheckpointTensor } from "../checkpoint.ts";
import { safetensorsError } from "../safetensors.ts";

/**
 * What tensors are called in the model. As a record: a key that ends in a dot stands for all names that begin with it, "" for every name,
 * any other key for one whole name; the longest key that fits a name is taken, once. null leaves a tensor out. As a function: the name in
 * the model for the one in the file.
 */
export type Rename = Readonly<Record<string, string | null>> | ((name: string) => string | null);

/** A checkpoint under other names. @throws SafetensorsError "rename" naming every two tensors that would get the same one. */
export function renamed(checkpoint: Checkpoint, rename: Rename): Checkpoint {
  const nameOf = typeof rename === "function" ? rename : byRecord(rename);
  const tensors = new Map<string, CheckpointTensor>();
  const before = new Map<string, string>();
  const collisions: string[] = [];
  for (const [name, tensor] of checkpoint.tensors) {
    const to = nameOf(name);
    if (to === null) continue;
    const other = before.get(to);
    if (other === undefined) before.set(to, name);
    else collisions.push(`'${other}' and '${name}' would both be '${to}'`);
    tensors.set(to, tensor);
  }
  if (collisions.length > 0)
    throw safetensorsError(checkpoint, "rename", `by the rename ${collisions.slice(0, 20).join("; ")}`);
  return { ...checkpoint, tensors };
}

function byRecord(record: Readonly<Record<string, string | null>>): (name: string) => string | null {
  const map = new Map(Object.entries(record));
  return (name) => {
    const whole = map.get(name);
    if (whole !== undefined) return whole;
    for (let dot = name.lastIndexOf("."); dot >= 0; dot = dot === 0 ? -1 : name.lastIndexOf(".", dot - 1)) {
      const to = map.get(name.slice(0, dot + 1));
      if (to !== undefined) return to === null ? null : to + name.slice(dot + 1);
    }
    const all = map.get("");
    return all === undefined ? name : all === null ? null : all + name;
  };
}
