// Tensors of transformers' caches.
#include "layout_fuzz.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kv::NamedBytes file(data, size);
  if (file.whole()) kv::import_any("transformers", file.path());
  return 0;
}
