// The header of a gguf file from anywhere: tensors within the file, or a clear refusal.
#include "kv/gguf/gguf.hh"

#include <sys/mman.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kv::Fd fd(memfd_create("gguf", 0));
  if (write(fd.number(), data, size) != static_cast<ssize_t>(size)) return 0;
  unsigned sum = 0;
  try {
    const kv::GgufFile file(kv::Mapping(fd.number(), size, "fuzz"), "fuzz");
    for (const char* key : {"a", "general.alignment", "tokenizer.ggml.tokens"}) {
      try {
        sum += static_cast<unsigned>(file.texts(key).size() + file.integers(key).size());
      } catch (const kv::Error&) {
      }
    }
    for (const auto& tensor : file.tensors()) {
      // The last byte: what lies outside the mapping shows.
      if (!tensor.bytes.empty()) sum += std::to_integer<unsigned>(tensor.bytes.back());
    }
  } catch (const kv::Error&) {
  }
  return sum == 0xFFFFFFFF ? 1 : 0;
}
