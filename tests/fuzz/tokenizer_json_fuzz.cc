// A tokenizer.json from anywhere: a tokenizer that encodes and decodes, or a clear refusal.
#include "kv/base/error.hh"
#include "kv/tokenizer/tokenizer.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto tokenizer =
        kv::Tokenizer::from_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    const auto ids = tokenizer->encode("It's 12 \xF0\x9F\x91\x8D\n  x", true);
    tokenizer->decode(ids);
  } catch (const kv::Error&) {
  }
  return 0;
}
