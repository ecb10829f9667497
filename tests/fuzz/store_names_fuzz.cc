// Names of files in stores.
#include "kv/convert/key_fields.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto parts = kv::store_name_parts({reinterpret_cast<const char*>(data), size});
    if (parts.empty() || parts[0].field != "engine") __builtin_trap();
  } catch (const kv::Error&) {
  }
  return 0;
}
