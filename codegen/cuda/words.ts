/** Words of C++ and CUDA that no identifier of a text may be, and the namer of a kernel's text. */
import { namesAvoiding, wordsOf } from "../names.ts";

const KEYWORDS = `
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const const_cast constexpr
continue decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int
long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast return
short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
union unsigned using virtual void volatile wchar_t while xor xor_eq`;

/** What CUDA declares and the text uses: a local of that name would hide it. */
const BUILTINS = `
__float_as_int __int_as_float __syncthreads blockDim blockIdx fabsf floorf fmaf fmaxf fminf gridDim log2f max min rintf sqrtf threadIdx
warpSize`;

/** The text around a kernel's body. */
const OWN = `group lane first_group heddle_shared i64`;

const TAKEN = [KEYWORDS, BUILTINS, OWN].flatMap(wordsOf);

/** The namer of a kernel's text; `reserved` are the words of the prelude. */
export const identifiers = (reserved: readonly string[]): ((name: string) => string) =>
  namesAvoiding(TAKEN, reserved);
