// JSON Lines from anywhere: a document or a clear refusal.
#include "kv/documents/documents.hh"

#include <sys/mman.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kv::Fd fd(memfd_create("jsonl", 0));
  if (write(fd.number(), data, size) != static_cast<ssize_t>(size)) return 0;
  lseek(fd.number(), 0, SEEK_SET);
  try {
    kv::JsonlReader reader(kv::Input::open(fmt::format("/proc/self/fd/{}", fd.number())));
    while (const auto document = reader.next()) kv::file_name_of(document->id);
  } catch (const kv::Error&) {
  }
  return 0;
}
