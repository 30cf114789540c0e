/** The language as text: reading it, printing it, laying it out. */
export { format } from "./format.ts";
export { print } from "./print.ts";
export { read } from "./read.ts";
