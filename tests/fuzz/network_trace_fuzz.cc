// Files of measured networks and of tokens from anywhere: a trace or a clear refusal.
#include "kv/stream/link.hh"
#include "kv/stream/token_source.hh"

#include <sys/mman.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kv::Fd fd(memfd_create("trace", 0));
  if (write(fd.number(), data, size) != static_cast<ssize_t>(size)) return 0;
  const std::string path = fmt::format("/proc/self/fd/{}", fd.number());
  try {
    kv::read_windows(kv::Input::open(path));
  } catch (const kv::Error&) {
  }
  try {
    const kv::CapacityTrace trace = kv::read_capacity(kv::Input::open(path));
    kv::Capacity capacity(trace, 10'000);
    kv::TimeNs last = 0;
    for (kv::TimeNs now = 0; now < 10; ++now) {
      const auto leaves = capacity.send(now, 1000);
      if (leaves && *leaves < std::max(now, last)) std::abort();
      if (leaves) last = *leaves;
    }
  } catch (const kv::Error&) {
  }
  try {
    kv::read_token_trace(kv::Input::open(path), kv::Payload::kText);
  } catch (const kv::Error&) {
  }
  return 0;
}
