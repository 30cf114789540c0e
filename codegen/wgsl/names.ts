/** WGSL's own words, which no identifier of a text may be. */
import { namesAvoiding, wordsOf } from "../names.ts";

/** WGSL §16.1, §16.2: keywords, and words kept for later. */
const KEYWORDS = `
alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if let loop override
requires return struct switch true var while
NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class co_await
co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval constexpr constinit crate
debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export extends extern external fallthrough filter
final finally friend from fxgroup get goto groupshared highp impl implements import inline instanceof interface layout lowp macro
macro_rules match mediump meta mod module move mut mutable namespace new nil noexcept noinline nointerpolation non_coherent
noncoherent noperspective null nullptr of operator package packoffset partial pass patch pixelfragment precise precision premerge
priv protected pub public readonly ref regardless register reinterpret_cast require resource restrict self set shared sizeof smooth
snorm static static_assert static_cast std subroutine super target template this thread_local throw trait try type typedef typeid
typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with writeonly yield`;

/** Builtins, and the words that the text around a kernel's body uses. */
const WORDS = `
abs all any array arrayLength atomic atomicAdd bitcast bool ceil clamp cos cross distance dot exp exp2 f16 f32 floor fma fract function
group groups i32 index invocation lane length log log2 low main max min mix modf most4 normalize pack2x16float params Params pow private
ptr reflect round sampler select sign sin smoothstep sqrt step sum4 storage storageBarrier subgroup_invocation_id subgroup_size
subgroupAdd subgroupBroadcastFirst subgroupElect subgroupShuffleXor Tables tables tan texture transpose trunc u32 uniform unpack2x16float vec2
vec2f vec2u vec3 vec3f vec3u vec4 vec4f vec4h vec4i vec4u workgroup workgroupBarrier workgroups workgroupUniformLoad`;

const TAKEN = [...wordsOf(KEYWORDS), ...wordsOf(WORDS)];

/** The namer of a shader; `reserved` are the words of its prologue and accessors. */
export const identifiers = (reserved: readonly string[] = []): ((name: string) => string) =>
  namesAvoiding(TAKEN, reserved);
