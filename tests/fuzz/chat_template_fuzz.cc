// A chat template from anywhere: a prompt, or a clear refusal.
#include "kv/base/error.hh"
#include "kv/tokenizer/tokenizer.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kv::ChatTemplate chat =
      kv::recognise_chat_template({reinterpret_cast<const char*>(data), size});
  const kv::ChatMessage talk[] = {
      {"system", "S"}, {"user", " U "}, {"assistant", "A"}, {"user", ""}};
  for (const std::size_t first : {0u, 1u}) {
    try {
      kv::chat_prompt(chat, std::span(talk).subspan(first));
    } catch (const kv::Error&) {
    }
  }
  return 0;
}
