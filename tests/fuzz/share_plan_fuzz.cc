// A plan of kvshare from anywhere, and what profiling keeps to go on from; the first byte says
// which. A plan that is taken can be written, is read back as the same, and can be chosen from.
#include "kv/base/error.hh"
#include "kv/base/file.hh"
#include "kv/share/profile_state.hh"
#include "kv/share/share_plan.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace {

void read_plan(std::string_view text) {
  const kv::SharePlan plan = kv::parse_plan(text, "plan");
  const std::string json = kv::plan_json(plan);
  if (kv::plan_json(kv::parse_plan(json, "again")) != json) std::abort();
  kv::default_point(plan);
  kv::choose_point(plan, "layers:8");
  kv::choose_point(plan, "kld:0.02");
}

void read_state(std::string_view text) {
  const kv::Fd fd(memfd_create("state", 0));
  if (write(fd.number(), text.data(), text.size()) != std::ssize(text)) return;
  const kv::ProfileState state(fmt::format("/proc/self/fd/{}", fd.number()), "a pair");
  state.find("refined 3");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    data[0] % 2 == 0 ? read_plan(text) : read_state(text);
  } catch (const kv::Error&) {
  }
  return 0;
}
