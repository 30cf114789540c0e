/** The executables of a device, which end with it. */
import type { Executable, WeightSource } from "./device.ts";

/** `own`: with its weights, or not at all. */
export function ownedExecutables<E extends Executable>() {
  const open = new Set<E>();
  return {
    own: async (executable: E, weights?: WeightSource): Promise<E> => {
      try {
        await weights?.((index, data) => executable.setWeight(index, data));
      } catch (error) {
        await executable.dispose();
        throw error;
      }
      const kept: E = {
        ...executable,
        dispose: () => {
          open.delete(kept);
          return executable.dispose();
        },
      };
      open.add(kept);
      return kept;
    },
    dispose: async (): Promise<void> => {
      await Promise.all([...open].map((executable) => executable.dispose()));
    },
  };
}
