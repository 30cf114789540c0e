// Stands after the text of a kernel, by the stub of NVRTC: what the stub of the driver asks of a module. KERNEL is the kernel's name.
HEDDLE_ENTRY(KERNEL)
namespace host {
template <typename T> struct Letter { static constexpr char of = '4'; };
template <typename T> struct Letter<In<T>> { static constexpr char of = 'p'; };
template <typename T> struct Letter<Out<T>> { static constexpr char of = 'p'; };
template <typename... A> inline const char* layout(void (*)(A...)) {
  static const char text[] = {Letter<A>::of..., 0};
  return text;
}
}  // namespace host
#define TEXT_OF(name) #name
#define NAME_OF(name) TEXT_OF(name)
extern "C" const char* heddle_layout() { return host::layout(KERNEL); }
extern "C" const char* heddle_name() { return NAME_OF(KERNEL); }
