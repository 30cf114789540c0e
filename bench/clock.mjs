// Two clocks, in ns. Wall time is what a user waits for. Processor time of the whole process tells what one thread achieves while
// it runs, on a machine whose processors are busy with other things; it says nothing about several threads.

/** @typedef {"wall" | "cpu"} Clock */

/** @type {{ readonly [C in Clock]: () => number }} */
export const clocks = {
  wall: () => performance.now() * 1e6,
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) * 1e3;
  },
};
