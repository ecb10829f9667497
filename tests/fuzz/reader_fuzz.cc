// A stream from anywhere, as it is and with its hashes mended: members and tiles, or a refusal.
#include "../unit/container_forge.hh"
#include "../unit/container_samples.hh"

namespace {

template <typename F>
void allow_refusal(F&& read) {
  try {
    read();
  } catch (const kv::Error&) {
  }
}

void read_all(const std::string& bytes) {
  const kv::samples::MemoryFile file(bytes);
  allow_refusal([&] {
    kv::Reader reader(file.input(), {.verify = true, .on_field = [](const kv::FieldNote&) {}});
    while (reader.next_member()) {
    }
  });
  allow_refusal([&] {
    const kv::IndexedFile indexed(file.path());
    for (std::size_t member = 0; member < indexed.members(); ++member) {
      indexed.tokens(member);
      indexed.importance(member);
      for (std::size_t i = 0; i < indexed.index(member).size(); ++i) indexed.tile(member, i);
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  read_all(bytes);
  read_all(kv::forge::mend(bytes));
  return 0;
}
