#include "kv/model/parallel.hh"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>

extern "C" void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags);

namespace kv {
namespace {

thread_local bool alone = false;

struct Job {
  std::int64_t count;
  const std::function<void(std::int64_t)>& body;
  std::atomic<std::int64_t> next = 0;
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  std::exception_ptr error = nullptr;

  void work() {
    try {
      for (auto i = next++; i < count; i = next++) body(i);
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
      next = count;
    }
  }
};

}  // namespace

void parallel_items(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  if (count <= 1 || alone || at::get_num_threads() == 1 || at::in_parallel_region()) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  Job job{count, body};
  GOMP_parallel([](void* data) { static_cast<Job*>(data)->work(); }, &job, 0, 0);
  if (job.error) std::rethrow_exception(job.error);
}

void parallel_ranges(std::int64_t count, std::int64_t grain,
                     const std::function<void(std::int64_t, std::int64_t)>& body) {
  parallel_items((count + grain - 1) / grain,
                 [&](std::int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); });
}

SpareCore::SpareCore() : before_(at::get_num_threads()) {
  if (before_ > 1) at::set_num_threads(before_ - 1);
}
SpareCore::~SpareCore() {
  if (before_ > 1) at::set_num_threads(before_);
}

void work_alone() { alone = true; }

// libgomp spins briefly when it knows of more threads than cores, and reads its environment before
// main(); so a second, small pool is made, which sleeps for ever.
void share_cores() {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  static std::once_flag once;
  std::call_once(once, [] {
    std::thread([] {
      GOMP_parallel([](void*) {}, nullptr, 2, 0);
      for (;;) ::pause();
    }).detach();
  });
}

}  // namespace kv
