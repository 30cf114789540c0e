/** name "InputError": what a caller handed over does not fit; the message says what, and what would. */
export type InputError = Error & { readonly name: "InputError" };

export const inputError = (message: string): InputError =>
  Object.assign(new Error(message), { name: "InputError" as const });
