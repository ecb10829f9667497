// Lists of token ids.
#include "kv/convert/ids.hh"
#include "layout_fuzz.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kv::NamedBytes file(data, size);
  if (!file.whole()) return 0;
  try {
    for (const std::int32_t id : kv::read_ids(kv::Input::open(file.path()))) {
      if (id < 0) __builtin_trap();
    }
  } catch (const kv::Error&) {
  }
  return 0;
}
